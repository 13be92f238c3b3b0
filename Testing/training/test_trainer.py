"""Training on real files: both stages, same seed same run, killed and resumed without a trace, bad steps left out."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from grids import FINE

from SRGAN3DLib.contract.checkpoint_header import read_layout
from SRGAN3DLib.contract.configs import DiscriminatorConfig, GeneratorConfig, TrainConfig, training_preset
from SRGAN3DLib.contract.errors import Cancelled, CheckpointError, DeviceError, JobError, ResourceError, SRGAN3DError, VolumeError
from SRGAN3DLib.contract.events import Event, Log
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Conditions, with_conditions
from SRGAN3DLib.training.loss_guard import TOLERATED
from SRGAN3DLib.training.report import write_report
from SRGAN3DLib.training.trainer import Trainer
from SRGAN3DLib.volumes.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("seconds", "waited")


@pytest.fixture
def data(tmp_path: Path, small_head: np.ndarray) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    Volume.from_array(small_head, FINE).write(folder / "one_T1w.nii.gz")
    Volume.from_array(small_head[::-1] * 2, FINE).write(folder / "two_T1w.nrrd")
    return folder


@pytest.fixture
def judges(tmp_path: Path, small_head: np.ndarray) -> Path:
    """Validation scans: of a subject who is not in `data`."""
    folder = tmp_path / "judges"
    folder.mkdir()
    Volume.from_array(small_head[:, ::-1], FINE).write(folder / "three_T1w.nii.gz")
    return folder


def config(data: Path, out: Path, **changes: object) -> TrainConfig:
    generator = GeneratorConfig(features=4, blocks=1, norm="none", upsampling="subpixel", blur_aware=True, interpolation_residual=True)
    sizes = {"steps": 6, "gan_steps": 4, "batch": 2, "patch": 8, "validate_every": 5, "validation_box": 32, "save_every": 3}
    judge = DiscriminatorConfig(features=4, dense=8)
    small = TrainConfig(str(data), str(out), generator=generator, discriminator=judge, device="cpu", precision="fp32", **sizes)  # type: ignore[arg-type]
    return dataclasses.replace(small, **changes)  # type: ignore[arg-type]


def rows(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def test_both_stages_and_what_they_leave(data: Path, judges: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    info = Trainer(config(data, run, validation=str(judges))).fit()
    lines = rows(run)
    assert [line["step"] for line in lines] == list(range(1, 11)) and info["steps"] == 10
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert all("d_loss" in line for line in lines[6:]) and not any("d_loss" in line for line in lines[:6])
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json",
        "split.json",
        "metrics.jsonl",
        "validation.jsonl",
        "state.safetensors",
        "model.safetensors",
        "model-sharp.safetensors",
        "tensorboard",
        "report.md",
        "curves.png",
        "validation_box.png",
        "validation_gaussian.png",
        "validation_kspace.png",
    }
    header = Checkpoint.load(run / "model.safetensors").header
    assert header.generator == config(data, run).generator and len(header.training_data) == 2
    validated = json.loads((run / "validation.jsonl").read_text().splitlines()[0])
    assert validated["step"] == 5 and set(validated) >= {"gain_box", "gain_gaussian", "gain_kspace"}


def test_same_seed_same_run(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Trainer(config(data, tmp_path / name)).fit()
    Trainer(config(data, tmp_path / "c", seed=1)).fit()
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")


def test_the_gradients_of_a_gan_step_are_those_of_equations_1_and_2(data: Path, tmp_path: Path) -> None:
    """One pass through D serves both networks; here each loss has its own, as it is written. D always sees HR and SR in one batch."""
    trainer = Trainer(config(data, tmp_path / "run", steps=0, gan_steps=5, gradient_clip=1e9, content="mse"))
    batch = trainer.data.batch(0)
    lr, hr, mtf, noise = map(torch.from_numpy, batch)
    g, d = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminator)
    sr = g(with_conditions(lr, g.config, Conditions(mtf, noise)))
    _, fake = d(torch.cat([hr, sr])).chunk(2)
    ((sr - hr).square().mean() + trainer.config.adversarial_weight * (fake - 1).square().mean()).backward()
    d.zero_grad()
    real, fake = d(torch.cat([hr, sr.detach()])).chunk(2)
    (0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()).backward()
    trainer.train_step(batch)
    for ours, plain in ((trainer.generator, g), (trainer.discriminator, d)):
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)


def test_the_adversarial_gradient_counts(data: Path, tmp_path: Path) -> None:
    """At the default weights the GAN pulls at G's output with at least 1 % of the whole gradient (the released code: 3e-8)."""
    Trainer(config(data, tmp_path / "run")).fit()
    shares = [line["adversarial_share"] for line in rows(tmp_path / "run") if "adversarial_share" in line]
    assert len(shares) == 4 and min(shares) > 0.01


@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_the_adversarial_gradient_counts_with_the_whole_discriminator(data: Path, tmp_path: Path, preset: str) -> None:
    """The presets' own networks and weights, small patches only. Measured over 15 steps: 0.41 to 0.79 (fast), 0.08 to 0.24 (paper).

    2 % is the bar: below it, a gradient is lost in the content gradient's own noise between batches.
    """
    whole = training_preset(preset, str(data), str(tmp_path / "run"))
    judge = dataclasses.replace(whole.discriminator, patch=(16, 16, 16))
    small = dataclasses.replace(whole, steps=2, gan_steps=3, batch=2, patch=8, discriminator=judge, device="cpu", precision="fp32")
    Trainer(small).fit()
    shares = [line["adversarial_share"] for line in rows(tmp_path / "run") if "adversarial_share" in line]
    assert len(shares) == 3 and min(shares) > 0.02 and max(shares) < 0.95


def test_the_discriminator_learns_to_tell(data: Path, tmp_path: Path) -> None:
    """Fine texture against its absence. With batch norm over HR and SR apart, D's outputs differ by less than 0.1 after as many steps."""
    rng = np.random.default_rng(0)
    for path in data.iterdir():
        volume = Volume.read(path)
        rough = volume.array * (1 + 0.08 * rng.standard_normal(volume.array.shape))
        volume.with_array(rough.astype(np.float32), volume.geometry).write(path)
    Trainer(config(data, tmp_path / "run", steps=0, gan_steps=30, discriminator_learning_rate=1e-3)).fit()
    last = rows(tmp_path / "run")[-5:]
    assert np.mean([row["d_real"] - row["d_fake"] for row in last]) > 0.4


def test_nothing_in_a_run_is_a_pickle(data: Path, tmp_path: Path) -> None:
    Trainer(config(data, tmp_path / "run")).fit()
    for path in (tmp_path / "run").iterdir():
        if path.suffix == ".safetensors":
            assert read_layout(path)[0]  # raises on a pickle
        elif path.suffix in (".json", ".jsonl"):
            text = path.read_text(encoding="utf-8")
            assert all(isinstance(json.loads(line), dict) for line in ([text] if path.suffix == ".json" else text.splitlines()))


def test_rates_by_hand(data: Path, tmp_path: Path) -> None:
    """400 steps: a warm-up of 40, half a cosine down to 1 %; then the second stage's own, warm-up 10 of 100."""
    trainer = Trainer(config(data, tmp_path / "run", steps=400, gan_steps=100, learning_rate=1.0, gan_learning_rate=0.5))

    def rate(step: int) -> float:
        trainer.step = step
        trainer._set_rates(step >= 400)
        return float(trainer.g_optimiser.param_groups[0]["lr"])

    assert rate(0) == pytest.approx(1 / 40) and rate(19) == pytest.approx(0.5, abs=0.01)
    assert rate(200) == pytest.approx(0.01 + 0.99 / 2) and rate(399) == pytest.approx(0.01, abs=1e-4)
    assert rate(400) == pytest.approx(0.05) and rate(450) == pytest.approx(0.5 * (0.01 + 0.99 / 2)) and rate(499) < 0.006
    assert trainer.d_optimiser is not None and trainer.d_optimiser.param_groups[0]["lr"] < 2e-6


def test_the_mean_network_by_hand(data: Path, tmp_path: Path) -> None:
    """EMA: after step s a share of min(ema, (1 + s) / (10 + s)) is kept."""
    trainer = Trainer(config(data, tmp_path / "run", ema=0.5))
    with torch.no_grad():
        trainer.ema.output.bias.fill_(1.0)
        trainer.generator.output.bias.fill_(3.0)
    trainer.step = 0
    trainer._update_ema()
    assert trainer.ema.output.bias.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    trainer.step = 1000
    trainer._update_ema()
    assert trainer.ema.output.bias.item() == pytest.approx((2.8 + 3) / 2)


def test_the_papers_run_resumes_alike(data: Path, tmp_path: Path) -> None:
    """Batch norm, flatten head, sigmoid, 32 features: every buffer and both optimisers are in the state."""

    def trainer(out: str) -> Trainer:
        judge = DiscriminatorConfig(features=4, dense=8, head="flatten", output="sigmoid", patch=(16, 16, 16))
        return Trainer(config(data, tmp_path / out, generator=GeneratorConfig(blocks=1), discriminator=judge, content="mse"))

    trainer("whole").fit()
    for stop in (2, 7):  # once in either stage
        killed = trainer("killed")
        with pytest.raises(Cancelled):
            killed.fit(cancelled=lambda one=killed, at=stop: one.step == at)
    trainer("killed").fit()
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    whole, resumed = (Checkpoint.load(tmp_path / name / "model-sharp.safetensors").tensors for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def train_command(data: Path, run: Path) -> list[str]:
    options = "--factors 2,2,2 --steps 24 --gan-steps 3 --batch 2 --patch 8 --save-every 4 --validate-every 100 --seed 5"
    common = [sys.executable, "-m", "SRGAN3DLib", "train", "--data", str(data), "--out", str(run), "--quiet"]
    return [*common, *options.split(), "--device", "cpu", "--precision", "fp32"]


def test_killed_twice_and_resumed_is_the_unkilled_run(data: Path, tmp_path: Path) -> None:
    """Real kills (-9) at random moments; the same command goes on, and the losses are those of the run that nobody killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(train_command(data, tmp_path / "whole"), check=True, cwd=ROOT, env=environment)
    run, dice = tmp_path / "killed", random.Random(9)
    for _ in range(2):
        child = subprocess.Popen(train_command(data, run), cwd=ROOT, env=environment)
        log = run / "metrics.jsonl"
        wanted = dice.randint(5, 9) + (len(log.read_text().splitlines()) if log.exists() else 0)
        while child.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < wanted):
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    subprocess.run(train_command(data, run), check=True, cwd=ROOT, env=environment)
    assert rows(run) == rows(tmp_path / "whole")
    whole, resumed = (Checkpoint.load(folder / "model-sharp.safetensors").tensors for folder in (tmp_path / "whole", run))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_cancel_saves_the_state(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(data, tmp_path / "run"))
    with pytest.raises(Cancelled, match="step 4"):
        trainer.fit(cancelled=lambda: trainer.step == 4)
    Trainer(config(data, tmp_path / "run")).fit()
    Trainer(config(data, tmp_path / "other")).fit()
    assert rows(tmp_path / "run") == rows(tmp_path / "other")


def test_a_torn_log_and_a_damaged_state(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer = Trainer(config(data, run))
    with pytest.raises(Cancelled):
        trainer.fit(cancelled=lambda: trainer.step == 4)
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')
    Trainer(config(data, run)).fit()
    assert [line["step"] for line in rows(run)] == list(range(1, 11))
    state = run / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"state.safetensors: truncated"):
        Trainer(config(data, run)).fit()


def test_steps_that_are_not_finite_change_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    trainer = Trainer(config(data, tmp_path / "run", steps=40, gan_steps=0), events.append)
    before = {name: t.clone() for name, t in trainer.generator.state_dict().items()}
    monkeypatch.setattr("SRGAN3DLib.training.trainer.content_loss", lambda kind, sr, hr: (sr - hr).abs().mean() * float("nan"))
    with pytest.raises(SRGAN3DError, match="lower --learning-rate"):
        trainer.fit()
    assert trainer.step == TOLERATED - 1
    assert all(torch.equal(before[name], t) for name, t in trainer.generator.state_dict().items())
    assert sum(isinstance(e, Log) and "step left out" in e.message for e in events) == TOLERATED


@pytest.mark.parametrize("adversarial", [False, True])
def test_a_bad_batch_leaves_no_trace_in_batch_norm(data: Path, tmp_path: Path, adversarial: bool) -> None:
    """The forward pass moves batch norm's means before anybody sees that the batch was bad."""
    sizes = {"steps": 0, "gan_steps": 9} if adversarial else {"steps": 9, "gan_steps": 0}
    trainer = Trainer(config(data, tmp_path / "run", generator=GeneratorConfig(features=4, blocks=1), **sizes))
    parts = [part for part in (trainer.generator, trainer.ema, trainer.discriminator) if part is not None]
    trainer.train_step(trainer.data.batch(0))
    before = [{name: t.clone() for name, t in part.state_dict().items()} for part in parts]
    batch = trainer.data.batch(1)
    losses = trainer.train_step(batch._replace(lr=np.full_like(batch.lr, np.nan)))
    assert math.isnan(losses["loss"]) and trainer.guard.bad == 1
    for old, part in zip(before, parts, strict=True):
        assert [name for name, t in part.state_dict().items() if not torch.equal(old[name], t)] == []
    assert math.isfinite(trainer.train_step(trainer.data.batch(2))["loss"]) and trainer.guard.bad == 0
    assert all(bool(t.isfinite().all()) for part in parts for t in part.state_dict().values())


def test_an_exploding_step_changes_nothing(data: Path, tmp_path: Path) -> None:
    """Finite, but more than 50 times the usual: left out, and the state of such a time is not saved."""
    told: list[Event] = []
    trainer = Trainer(config(data, tmp_path / "run", steps=0, gan_steps=99), told.append)
    trainer.guard.recent = {"loss": [1e-6] * 30}
    parts = [trainer.generator, trainer.ema, trainer.discriminator]
    before = [{name: t.clone() for name, t in part.state_dict().items()} for part in parts if part is not None]
    trainer.train_step(trainer.data.batch(0))
    for old, part in zip(before, parts, strict=True):
        assert part is not None and all(torch.equal(old[name], t) for name, t in part.state_dict().items())
    assert any(isinstance(e, Log) and e.level == "warning" and "50 times the usual 1e-06: step left out" in e.message for e in told)
    trainer.step = trainer.config.save_every
    trainer._milestones()
    assert trainer.guard.bad == 1 and not (tmp_path / "run" / "state.safetensors").exists()


@pytest.mark.parametrize("full", ["state", "metrics"])
def test_a_full_disk_loses_nothing(data: Path, tmp_path: Path, full: str) -> None:
    """A real limit on the size of files: one line that names the file and what is kept; without the limit the same run goes on."""
    import resource

    run = tmp_path / "run"
    first = Trainer(config(data, run))
    with pytest.raises(Cancelled):
        first.fit(cancelled=lambda: first.step == 4)
    before = (run / "state.safetensors").read_bytes()
    limit = 50_000 if full == "state" else (run / "metrics.jsonl").stat().st_size + 100
    second = Trainer(config(data, run))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(ResourceError, match=rf"{full}\.\w+: the disk is full; the state of step 4 is kept, and the same command"):
            second.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (run / "state.safetensors").read_bytes() == before and not list(run.glob(".srgan3d-*"))
    Trainer(config(data, run)).fit()
    Trainer(config(data, tmp_path / "whole")).fit()
    assert rows(run) == rows(tmp_path / "whole")


def test_half_precision_scales_its_loss(data: Path, tmp_path: Path) -> None:
    """Refused on the CPU for training; the scaler itself, tried there: an overflow is left out and the scale halves."""
    with pytest.raises(DeviceError, match="fp16 on cpu"):
        Trainer(config(data, tmp_path / "half", precision="fp16"))
    trainer = Trainer(config(data, tmp_path / "run"))
    trainer.dtype, trainer.scaler = torch.float16, torch.amp.GradScaler("cpu", init_scale=2.0**60)
    before = trainer.generator.output.bias.clone()
    trainer.train_step(trainer.data.batch(0))
    assert trainer.guard.bad == 1 and torch.equal(before, trainer.generator.output.bias) and trainer.scaler.get_scale() == 2.0**59
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.train_step(trainer.data.batch(0))
    assert trainer.guard.bad == 0 and not torch.equal(before, trainer.generator.output.bias)


def test_the_report_of_any_run(data: Path, tmp_path: Path) -> None:
    """Of one stopped on its way, too; of what is no run, an error."""
    trainer = Trainer(config(data, tmp_path / "run"))
    with pytest.raises(Cancelled):
        trainer.fit(cancelled=lambda: trainer.step == 4)
    text = write_report(tmp_path / "run").read_text()
    assert "step 4 of 10 reached" in text and "![loss" in text and "## Pictures" not in text
    with pytest.raises(JobError, match="not the folder of a training run"):
        write_report(data)


def test_a_spoilt_configuration_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for text in ("{", '{"data": 1}', "[]"):
        (tmp_path / "run" / "config.json").write_text(text)
        with pytest.raises(JobError, match=r"config\.json"):
            Trainer(config(data, tmp_path / "run"))
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match="cannot be made"):
        Trainer(config(data, tmp_path / "file"))


def test_a_state_of_other_networks_is_refused(data: Path, tmp_path: Path) -> None:
    for name, features in (("a", 4), ("b", 5)):
        generator = GeneratorConfig(features=features, blocks=1, norm="none")
        Trainer(config(data, tmp_path / name, generator=generator, steps=1, gan_steps=0)).fit()
    os.replace(tmp_path / "b" / "state.safetensors", tmp_path / "a" / "state.safetensors")
    generator = GeneratorConfig(features=4, blocks=1, norm="none")
    with pytest.raises(CheckpointError, match=r"state\.safetensors: not a state of this run"):
        Trainer(config(data, tmp_path / "a", generator=generator, steps=1, gan_steps=0)).fit()


def test_what_cannot_be_trained_on_is_named(tmp_path: Path, data: Path) -> None:
    (data / "bad.nii.gz").write_bytes(b"nothing")
    events: list[Event] = []
    Trainer(config(data, tmp_path / "run", steps=1, gan_steps=0), events.append).fit()
    assert any(isinstance(e, Log) and "skipped bad.nii.gz" in e.message for e in events)
    with pytest.raises(VolumeError, match="no scan fit for training"):
        Trainer(config(data, tmp_path / "large", patch=64))
    with pytest.raises(JobError, match="one value"):
        config(data, tmp_path / "one", batch=1)
    with pytest.raises(VolumeError, match="no such folder"):
        Trainer(config(tmp_path / "absent", tmp_path / "absent-run"))
    assert not (tmp_path / "absent-run").exists()


def test_a_scan_that_vanished_is_named_before_a_step(data: Path, tmp_path: Path) -> None:
    Trainer(config(data, tmp_path / "run", steps=1, gan_steps=0)).fit()
    (data / "two_T1w.nrrd").unlink()
    with pytest.raises(VolumeError, match=r"two_T1w\.nrrd .* is gone since the run began .*split\.json"):
        Trainer(config(data, tmp_path / "run", steps=1, gan_steps=0))
