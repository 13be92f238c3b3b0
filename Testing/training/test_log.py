"""What a run writes down: no step twice, whatever was killed in between; the same in TensorBoard."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from SRGAN3DLib.contract.errors import ResourceError
from SRGAN3DLib.contract.events import Event, Log
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.training.log import TrainingLog, panel

ROW = {"loss": 0.5, "d_loss": 0.25, "d_real": 0.6, "d_fake": 0.4, "learning_rate": 1e-4, "d_learning_rate": 2e-4, "gradient_norm": 3.0}
TIMES = {"adversarial_share": 0.1, "seconds": 0.3, "waited": 0.1}


def accumulated(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return events


def test_a_resumed_log_has_every_step_once(tmp_path: Path, small_head: np.ndarray) -> None:
    case = Case.make("a", small_head, (2, 2, 2), "box")
    for first, last in ((0, 5), (3, 7)):  # killed after 5, its state was of step 3
        with TrainingLog(tmp_path, first, lambda event: None) as log:
            for step in range(first + 1, last + 1):
                log.step({"step": step, **ROW, **TIMES, "loss": float(first)}, 1000)
            log.validation({"step": last, "gain_box": 1.5, "high_band_ratio_box": 0.7, "gains": {"a box": 1.5}}, case, case.hr)
        if first == 0:
            with (tmp_path / "metrics.jsonl").open("a") as file:
                file.write('{"step": 6, "lo')
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    events = accumulated(tmp_path)
    losses = events.Scalars("loss/generator")
    assert [e.step for e in losses] == steps and [e.value for e in losses] == [0, 0, 0, 3, 3, 3, 3]
    assert events.Scalars("speed/hr_voxels_per_s")[0].value == pytest.approx(2500)
    assert events.Scalars("speed/data_wait_share")[0].value == pytest.approx(0.25)
    assert [(e.step, e.value) for e in events.Scalars("validation_gain/box")] == [(7, 1.5)]
    wanted = {"loss/discriminator", "discriminator/real", "discriminator/fake", "rate/generator", "rate/discriminator"}
    assert wanted | {"gradient/generator", "gradient/adversarial_share", "validation_high_band_ratio/box"} <= set(events.Tags()["scalars"])
    (image,) = events.Images(events.Tags()["images"][0])
    assert (image.width, image.height) == (3 * 44, 48)


def test_without_tensorboard_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    told: list[Event] = []
    with TrainingLog(tmp_path, 0, told.append) as log:
        log.step({"step": 1, **ROW, **TIMES}, 10)
    assert sum(isinstance(e, Log) and "tensorboard is not installed" in e.message for e in told) == 1
    assert not (tmp_path / "tensorboard").exists() and len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():  # Linux's own: every write finds the disk full
        return
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    log = TrainingLog.__new__(TrainingLog)
    log.run, log.board = tmp_path, None
    log.files = {"metrics": (tmp_path / "metrics.jsonl").open("a")}
    with pytest.raises(ResourceError, match=r"metrics\.jsonl: the disk is full$"):
        log.step({"step": 1, **ROW, **TIMES}, 10)


def test_the_panel_by_hand(small_head: np.ndarray) -> None:
    case = Case.make("a", small_head, (2, 2, 2), "gaussian")
    picture = panel(case, np.zeros_like(case.hr))
    assert picture.shape == (48, 3 * 44) and picture.min() >= 0 and picture.max() <= 1
    assert picture[:, 44:88].max() == 0 and picture[24, 88 + 22] == pytest.approx(picture[24, 22], abs=0.3)
