"""What may differ when a run goes on, and what happens to it when somebody ends it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from grids import FINE
from safetensors.torch import load_file, save_file
from untrained import save_untrained

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.contract.checkpoint_header import read_layout
from SRGAN3DLib.contract.configs import DegradationConfig, DiscriminatorConfig, GeneratorConfig, TrainConfig
from SRGAN3DLib.contract.errors import Cancelled, JobError
from SRGAN3DLib.contract.events import Event, Log
from SRGAN3DLib.training.run_lock import RunLock
from SRGAN3DLib.training.state import read_step
from SRGAN3DLib.training.trainer import Trainer
from SRGAN3DLib.volumes.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path, small_head: np.ndarray) -> Path:
    (tmp_path / "scans").mkdir()
    Volume.from_array(small_head, FINE).write(tmp_path / "scans" / "anna_T1w.nii.gz")
    return tmp_path / "scans"


def config(data: Path, run: Path, **changes: object) -> TrainConfig:
    generator = GeneratorConfig(features=4, blocks=1, norm="none", upsampling="subpixel", blur_aware=True, interpolation_residual=True)
    judge = DiscriminatorConfig(features=2, dense=4)
    small = TrainConfig(str(data), str(run), generator=generator, discriminator=judge, device="cpu", precision="fp32")
    sizes = {"steps": 3, "gan_steps": 0, "batch": 2, "patch": 8, "save_every": 2, "validate_every": 100, "validation_box": 24}
    return dataclasses.replace(small, **(sizes | changes))  # type: ignore[arg-type]


def steps_logged(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_more_steps_let_a_finished_run_go_on(data: Path, tmp_path: Path) -> None:
    """Content steps, and a GAN stage that was not there at first; the stage that is over stays as it was."""
    run = tmp_path / "run"
    Trainer(config(data, run)).fit()
    Trainer(config(data, run, steps=5)).fit()
    assert Trainer(config(data, run, steps=5, gan_steps=2)).fit()["steps"] == 7
    assert steps_logged(run) == list(range(1, 8)) and json.loads((run / "config.json").read_text())["gan_steps"] == 2
    with pytest.raises(JobError, match=r"begun with --steps 7 --gan-steps 2 \(now --steps 5 --gan-steps 2\): a run may grow longer"):
        Trainer(config(data, run, steps=3, gan_steps=2))
    with pytest.raises(JobError, match=r"in its GAN stage .*give --gan-steps 4"):
        Trainer(config(data, run, steps=7, gan_steps=2))
    assert Trainer(config(data, run, steps=5, gan_steps=4)).fit()["steps"] == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 1e-3}, r"--learning-rate 0\.0005 \(now 0\.001\)"),
        ({"batch": 3}, r"--batch 2 \(now 3\)"),
        ({"generator": GeneratorConfig((1, 2, 4))}, r"--factors 2,2,2 \(now 4,2,1\)"),
        ({"degradation": DegradationConfig("box")}, r"--degradation random \(now box\)"),
        ({"discriminator": DiscriminatorConfig(features=3, dense=4)}, r"--discriminator-features 2 \(now 3\)"),
        ({"r1_every": 3}, r"r1_every of its configuration 16 \(now 3\)"),
    ],
)
def test_the_option_that_differs_is_named(data: Path, tmp_path: Path, change: dict, words: str) -> None:
    """Before the scans are read: they are gone here."""
    run = tmp_path / "run"
    run.mkdir()
    from SRGAN3DLib.contract.configs import train_config_text

    (run / "config.json").write_text(train_config_text(config(data, run)))
    with pytest.raises(JobError, match=words + r".* --config .*config\.json to go on .*--init .*model\.safetensors"):
        Trainer(config(tmp_path / "gone", run, **change))


def test_going_on_needs_no_init_file(data: Path, tmp_path: Path) -> None:
    start = save_untrained(tmp_path / "start.safetensors")
    run = tmp_path / "run"
    Trainer(config(data, run, init=str(start))).fit()
    start.unlink()
    Trainer(config(data, run, init=str(start), steps=4)).fit()
    Trainer(config(data, run, steps=5)).fit()  # nor the option
    assert steps_logged(run) == [1, 2, 3, 4, 5]
    with pytest.raises(JobError, match=r"--init .*start\.safetensors \(now other\)"):
        Trainer(config(data, run, init="other", steps=5))


def test_one_process_a_run(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer = Trainer(config(data, run))
    with RunLock(run):
        for attempt in (trainer.fit, lambda: Trainer(config(data, run))):
            with pytest.raises(JobError, match="is at work in this folder"):
                attempt()
    trainer.fit()
    assert not (run / "in-use.lock").exists()


def test_a_run_whose_state_is_gone(data: Path, tmp_path: Path) -> None:
    """It would begin anew and write over its models; one that was killed before its first state does begin anew."""
    run = tmp_path / "run"
    Trainer(config(data, run, steps=4)).fit()
    model = (run / "model.safetensors").read_bytes()
    (run / "state.safetensors").unlink()
    with pytest.raises(JobError, match=r"state\.safetensors: is gone, though the run had reached step 4"):
        Trainer(config(data, run, steps=4))
    assert (run / "model.safetensors").read_bytes() == model
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:1]))
    assert Trainer(config(data, run, steps=4)).fit()["steps"] == 4


def test_stopped_amid_a_validation(data: Path, tmp_path: Path, small_head: np.ndarray) -> None:
    """The step is kept, and its validation is made up for."""
    (tmp_path / "judges").mkdir()
    Volume.from_array(small_head[:, ::-1], FINE).write(tmp_path / "judges" / "bert_T1w.nii.gz")
    changes = {"validation": str(tmp_path / "judges"), "steps": 4, "validate_every": 2}
    trainer, asked = Trainer(config(data, tmp_path / "run", **changes)), []

    def cancelled() -> bool:
        asked.append(trainer.step)
        return trainer.validation_due and len(asked) > 4

    with pytest.raises(Cancelled, match="stopped at step 2 of 4, the state is saved"):
        trainer.fit(cancelled)
    assert (tmp_path / "run" / "validation.jsonl").read_text() == "" and read_step(tmp_path / "run") == 2
    Trainer(config(data, tmp_path / "run", **changes)).fit()
    Trainer(config(data, tmp_path / "whole", **changes)).fit()
    one, two = ((tmp_path / name / "validation.jsonl").read_text() for name in ("run", "whole"))
    assert one == two and len(one.splitlines()) == 2


def test_the_subjects_are_shown(data: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    Trainer(config(data, tmp_path / "run", steps=1), events.append).fit()
    said = [event.message for event in events if isinstance(event, Log)]
    assert "1 subjects for training, 0 for validation (known from: the file's name)" in said and "  anna  train  anna_T1w.nii.gz" in said
    assert "| anna | train | 1 | the file's name |" in (tmp_path / "run" / "report.md").read_text()
    with pytest.raises(JobError, match="slice-profile: is what `fit` does"):
        Trainer(config(data, tmp_path / "other", degradation=DegradationConfig("slice-profile")))


def test_a_run_of_an_older_version(data: Path, tmp_path: Path) -> None:
    """Its files lack what was added since, and have what nothing reads any more."""
    run = tmp_path / "run"
    trainer = Trainer(config(data, run))
    with pytest.raises(Cancelled):
        trainer.fit(lambda: trainer.step == 2)
    old = json.loads((run / "config.json").read_text())
    old["degradation"]["fwhm"] = None
    (run / "config.json").write_text(json.dumps({key: old[key] for key in old if key not in ("format_version", "subject_pattern")}))
    split = json.loads((run / "split.json").read_text())
    for row in split["files"]:
        del row["subject_from"]
    (run / "split.json").write_text(json.dumps(split))
    facts = json.loads(read_layout(run / "state.safetensors")[1]["state"])
    tensors = load_file(run / "state.safetensors")
    kept = {key: facts[key] for key in ("step", "best_gain", "bad_steps")}
    save_file(tensors, run / "state.safetensors", {"state": json.dumps(kept)})
    assert Trainer(config(data, run)).fit()["steps"] == 3 and steps_logged(run) == [1, 2, 3]
    newer = json.loads((run / "config.json").read_text()) | {"format_version": 9}
    (run / "config.json").write_text(json.dumps(newer))
    with pytest.raises(JobError, match=r"config\.json: format version 9; this program reads 1 to 2"):
        Trainer(config(data, run))


# ------------------------------------------------------------ real signals
def command(data: Path, run: Path) -> list[str]:
    options = "--steps 5000 --gan-steps 0 --batch 1 --patch 6 --save-every 100000 --validate-every 100000 --device cpu --precision fp32"
    return [sys.executable, "-m", "SRGAN3DLib", "train", "--data", str(data), "--out", str(run), *options.split()]


def heed() -> None:
    """As at a terminal: a shell's background jobs ignore SIGINT, and so would be the suite's children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    run, log = tmp_path / "run", tmp_path / "run" / "metrics.jsonl"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command(data, run), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    while child.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 3):
        time.sleep(0.02)
    time.sleep(random.random() / 10)
    child.send_signal(number)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130 and "the state is saved" in said and "Traceback" not in said, said
    assert read_step(run) == steps_logged(run)[-1] >= 3
    assert not list(run.glob(".srgan3d-*")) and not (run / "in-use.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_fifty_ends_at_random_moments(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Each goes on where the last one ended: 130 with the state of the last step, and after a kill -9 at least a state that is whole."""
    run, dice, before = tmp_path / "run", random.Random(int(number)), 0
    words = [*command(data, run), "--quiet"]
    words[words.index("--save-every") + 1] = "5" if number == signal.SIGKILL else "100000"
    for _ in range(50):
        child = subprocess.Popen(
            words, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        begun = time.monotonic()
        while child.poll() is None and not (run / "in-use.lock").exists() and time.monotonic() - begun < 60:
            time.sleep(0.01)
        time.sleep(dice.random())
        child.send_signal(number)
        _, said = child.communicate(timeout=120)
        assert child.returncode == (-9 if number == signal.SIGKILL else 130), said
        step = read_step(run) or 0
        assert step >= before and "Traceback" not in said
        if number != signal.SIGKILL:
            assert not list(run.glob(".srgan3d-*")) and (not step or steps_logged(run)[-1] == step)
        before = step
    assert before > 0


def test_the_command_line_wins_over_the_configuration(tmp_path: Path) -> None:
    """Whatever is given counts, and nothing else changes."""
    import argparse

    from SRGAN3DLib.app.training_options import add_train, train_job
    from SRGAN3DLib.contract.configs import train_config_text, training_preset

    base = dataclasses.replace(
        training_preset("paper", "d", "o", "v"), device="cuda:1", precision="bf16", steps=30, gan_steps=10, seed=5, batch=7
    )
    (tmp_path / "base.json").write_text(train_config_text(base))

    def made(words: str) -> TrainConfig:
        parser = argparse.ArgumentParser()
        add_train(parser.add_subparsers())
        return train_job(
            parser.parse_args(["train", "--data", "d", "--out", "o", "--config", str(tmp_path / "base.json"), *words.split()])
        ).config

    assert made("") == base
    factors = made("--factors 1,2,4")
    assert factors.generator.factors == (4, 2, 1) and factors.discriminator.patch == (112, 56, 28)
    assert made("--degradation box").degradation.kind == "box"
    assert (made("--device cpu").device, made("--precision fp32").precision) == ("cpu", "fp32")
    assert made("--validation w").validation == "w" and made("--validation-share 0.2").validation is None
    assert (made("--steps 80").steps, made("--steps 80").gan_steps) == (60, 20)
    assert (made("--gan-steps 0").steps, made("--gan-steps 0").gan_steps) == (40, 0)
    assert made("--preset paper") == base
    for words in (
        "--preset fast",
        "--validation w --validation-share 0.2",
        "--gan-steps 41",
        "--steps 0",
        "--seed -1",
        "--learning-rate nan",
    ):
        with pytest.raises(JobError):
            made(words)


def test_nonsense_on_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words in ("--seed -1", "--learning-rate inf", "--learning-rate 1e400", "--steps -3", "--subject-pattern (", "--ema nan"):
        assert main(["train", "--data", str(data), "--out", str(tmp_path / "run"), *words.split()]) == 2
        assert words.split()[0][2:].replace("-", "") in capsys.readouterr().err.replace("_", "").replace("-", "")
    assert not (tmp_path / "run").exists()
