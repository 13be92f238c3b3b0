"""Fitting to one scan: the right axis, the right grid, resumed after a kill, what cannot be fitted refused."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from grids import OBLIQUE

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import GeneratorConfig, TrainConfig
from SRGAN3DLib.contract.errors import Cancelled, JobError, VolumeError
from SRGAN3DLib.contract.events import Event, Log, Progress
from SRGAN3DLib.contract.jobs import FitJob
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.training import fit as fitting
from SRGAN3DLib.training.fit import fit, in_order, slices_first
from SRGAN3DLib.training.own_detail import gains_db
from SRGAN3DLib.training.slices import SlicePatches, Slices, patch_size
from SRGAN3DLib.training.state import read_step
from SRGAN3DLib.volumes.geometry import Geometry
from SRGAN3DLib.volumes.scans import Scan
from SRGAN3DLib.volumes.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
FACTOR = 3
pytestmark = pytest.mark.usefixtures("one_thread")


def sliced(head: np.ndarray, axis: int) -> Volume:
    """The head on an isotropic oblique grid, in thick slices along one array axis."""
    unit = OBLIQUE.copy()
    unit[:3, :3] /= np.linalg.norm(unit[:3, :3], axis=0)
    how = Degradation.slice_profile(FACTOR, FACTOR, FACTOR, axis=axis)
    return Volume.from_array(how.forward(head), Geometry(head.shape, unit).coarsen(how.factors).ijk_to_ras)  # type: ignore[arg-type]


@pytest.fixture
def start(tmp_path: Path) -> str:
    """A small network to start from: its size makes the fit quick."""
    torch.manual_seed(0)
    config = GeneratorConfig(features=4, blocks=1, norm="none", upsampling="subpixel", blur_aware=True, interpolation_residual=True)
    from SRGAN3DLib.networks.generator import Generator

    Checkpoint(CheckpointHeader("tiny", config), Generator(config).state_dict()).save(tmp_path / "start.safetensors")
    return str(tmp_path / "start.safetensors")


def job(scan: Path, out: Path, start: str, steps: int = 30) -> FitJob:
    return FitJob(str(scan), str(out), init=start, steps=steps, device="cpu", precision="fp32")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shipped model to compare with: what is written is what was fitted."""
    monkeypatch.setattr(fitting, "_reference", lambda *_: None)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_any_axis(axis: int, small_head: np.ndarray, start: str, tmp_path: Path, alone: None) -> None:
    volume = sliced(small_head, axis)
    volume.write(tmp_path / "thick_T2w.nii.gz")
    volume = Volume.read(tmp_path / "thick_T2w.nii.gz")
    info = fit(job(tmp_path / "thick_T2w.nii.gz", tmp_path / "model.safetensors", start), lambda event: None)
    assert info["slice_axis"] == "KJI"[axis] and info["factor"] == FACTOR and info["steps"] == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "start.safetensors", "thick_T2w.nii.gz"]
    header = Checkpoint.load(tmp_path / "model.safetensors").header
    assert header.generator.factors == tuple(FACTOR if a == axis else 1 for a in range(3)) and header.contrasts == ("T2w",)
    assert header.training["fit"]["file"] == "thick_T2w.nii.gz" and len(header.training["fit"]["sha256"]) == 64
    result = SuperResolver.load(tmp_path / "model.safetensors", "cpu", "fp32")(volume)
    assert result.volume.geometry == volume.geometry.refine(header.generator.factors)
    assert np.allclose(result.volume.geometry.spacing_ijk_mm, 1, atol=1e-5) and not any(
        "spacing" in line for line in result.info["warnings"]
    )


def test_it_learns(small_head: np.ndarray, start: str, tmp_path: Path, alone: None) -> None:
    """The residual starts at trilinear interpolation; a few hundred steps of a tiny network leave that behind."""
    volume = sliced(small_head, 2)
    volume.write(tmp_path / "thick.nrrd")
    info = fit(job(tmp_path / "thick.nrrd", tmp_path / "model.safetensors", start, 250), lambda event: None)
    made = SuperResolver.load(tmp_path / "model.safetensors", "cpu", "fp32")(volume).volume.array
    plain = torch.nn.functional.interpolate(torch.from_numpy(volume.array)[None, None], scale_factor=(1.0, 1.0, 3.0), mode="trilinear")
    truth = small_head[:, :, : made.shape[2]]
    errors = [float(np.square(x - truth)[4:-4, 4:-4, 4:-4].mean()) for x in (made, plain[0, 0].numpy())]
    assert errors[0] < 0.98 * errors[1] and math.isfinite(info["own_gain_db"])


def test_patches_are_cut_from_the_degraded_slices(small_head: np.ndarray, tmp_path: Path) -> None:
    """LR is the degradation of HR along the network's K, in every order of the axes; nothing else differs."""
    volume = sliced(small_head, 0)
    slices = Slices.of(volume, None, None)
    generator = GeneratorConfig(slices.factors)
    config = TrainConfig("scan", str(tmp_path), generator=generator, patch=8, batch=4, gan_steps=0)
    data = SlicePatches(config, volume, slices, Scan(Path("scan"), "scan", "anna"))
    lr, hr, mtf, noise = data.batch(3)
    assert lr.shape == (4, 1, 8, 8, 8) and hr.shape == (4, 1, 24, 8, 8)
    assert all(np.array_equal(x, y) for x, y in zip(data.batch(3), (lr, hr, mtf, noise), strict=True))
    rows = slices.coarse_rows(24, 1.0)
    for one, two in zip(lr[:, 0], hr[:, 0], strict=True):
        again = np.tensordot(rows, two, axes=(1, 0))
        assert np.abs(again - one)[2:-2].max() < 0.05 * np.ptp(hr)  # the width jitters by a tenth
    assert set(np.unique(mtf[:, 1:])) <= {-1.0, 1.0}


def test_slices_wider_than_the_in_plane_voxels() -> None:
    """A factor below the ratio of spacings: in-plane axes are first brought to the wanted slices, whatever the phase."""
    slices = Slices((6.0, 1.0, 1.0), 2, 6.0)
    ramp = np.arange(60.0)
    assert np.allclose(slices.fine_rows(1, 60)[3:-3] @ ramp, (np.arange(20) * 3 + 1)[3:-3])
    assert np.allclose(slices.fine_rows(1, 60, 0.5)[3:-3] @ ramp, (np.arange(19) * 3 + 2.5)[3:-3])
    assert np.array_equal(Slices((6.0, 1.0, 1.0), 6, 6.0).fine_rows(1, 9), np.eye(9))


@pytest.mark.parametrize(
    ("factor", "thickness", "words"),
    [(1, None, "factor 1"), (9, None, "factor 9"), (None, 0.1, "thickness 0.1 mm"), (None, 99.0, "thickness 99")],
)
def test_nonsense_is_refused(factor: int | None, thickness: float | None, words: str, small_head: np.ndarray) -> None:
    with pytest.raises(JobError, match=words):
        Slices.of(sliced(small_head, 0), factor, thickness)


def test_scans_that_hold_nothing_to_learn_from(small_head: np.ndarray, start: str, tmp_path: Path) -> None:
    Volume.from_array(small_head, np.eye(4)).write(tmp_path / "iso.nii.gz")
    with pytest.raises(VolumeError, match=r"iso\.nii\.gz: voxels of 1\.00 x 1\.00 x 1\.00 mm: no axis is thick"):
        fit(job(tmp_path / "iso.nii.gz", tmp_path / "m.safetensors", start), lambda event: None)
    Volume.from_array(small_head[:, :12, :12], np.diag([1, 1, 3, 1.0])).write(tmp_path / "thin.nii.gz")
    with pytest.raises(VolumeError, match=r"thin\.nii\.gz: .*hold no patch"):
        fit(job(tmp_path / "thin.nii.gz", tmp_path / "m.safetensors", start), lambda event: None)
    assert main(["fit", str(tmp_path / "iso.nii.gz"), "-o", str(tmp_path / "none" / "m.safetensors")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iso.nii.gz", "start.safetensors", "thin.nii.gz"]


def test_cancelled_then_resumed(small_head: np.ndarray, start: str, tmp_path: Path, alone: None) -> None:
    """To the very weights of an unbroken fit; other options are not mixed in."""
    sliced(small_head, 0).write(tmp_path / "thick.nii.gz")
    seen: list[float] = []

    def report(event: Event) -> None:
        if isinstance(event, Progress):
            seen.append(event.done)

    out = tmp_path / "m.safetensors"
    with pytest.raises(Cancelled, match="the same command goes on"):
        fit(job(tmp_path / "thick.nii.gz", out, start), report, lambda: len(seen) >= 10)
    assert not out.exists() and (tmp_path / "m.safetensors.run").is_dir()
    with pytest.raises(JobError, match="other options"):
        fit(FitJob(str(tmp_path / "thick.nii.gz"), str(out), 4, init=start, steps=30), report)
    seen.clear()
    fit(job(tmp_path / "thick.nii.gz", out, start), report)
    assert seen[0] == 11
    fit(job(tmp_path / "thick.nii.gz", tmp_path / "whole.safetensors", start), report)
    one, two = Checkpoint.load(out), Checkpoint.load(tmp_path / "whole.safetensors")
    assert all(torch.equal(t, two.tensors[name]) for name, t in one.tensors.items())


def fitted_to(volume: Volume) -> SlicePatches:
    slices = Slices.of(volume, None, None)
    config = TrainConfig("scan", "run", generator=GeneratorConfig(slices.factors), patch=8, batch=4, gan_steps=0)
    data = SlicePatches(config, volume, slices, Scan(Path("scan"), "scan", "anna"))
    assert patch_size(slices, volume, data.block) >= 8
    return data


def test_no_patch_has_a_voxel_of_the_block_kept_apart(small_head: np.ndarray) -> None:
    """The block is made NaN: no LR interior and no HR patch may show it (the rows of a blur reach a few voxels over its border)."""
    data = fitted_to(sliced(small_head, 0))
    j, i = data.block.slices
    assert 0.15 < (j.stop - j.start) * (i.stop - i.start) / np.prod(data.array.shape[1:]) < 0.35
    marked = np.zeros_like(data.array)
    marked[:, j, i] = 1
    object.__setattr__(data.volumes[0], "array", marked)
    hr = np.concatenate([data.batch(step)[1] for step in range(40)])
    assert len(hr) == 160 and hr.max() == 0


def test_the_gain_is_measured_on_the_block_alone(small_head: np.ndarray) -> None:
    """A model that knows everything outside the block and nothing within gains nothing; one that knows the block is perfect there."""
    volume = sliced(small_head, 0)
    data = fitted_to(volume)
    truth: list[np.ndarray] = []

    def perfect(lr: np.ndarray) -> np.ndarray:
        return truth.pop(0)

    def zero(lr: np.ndarray) -> np.ndarray:
        return np.zeros((lr.shape[0] * FACTOR, *lr.shape[1:]), np.float32)

    from SRGAN3DLib.training.own_detail import _cases

    cases = list(_cases(data.array, data.slices, data.block))
    assert len(cases) == 2
    for (lr, hr, scored), axis in zip(cases, (1, 2), strict=True):
        assert hr.shape[0] == FACTOR * lr.shape[0] and 0 < scored.mean() < 0.6
        inside = scored.any(axis=(1, 2)).sum()
        assert inside <= data.block.end_ji[axis - 1] - data.block.first_ji[axis - 1]
    truth += [hr for _, hr, _ in cases]
    gains = gains_db(data.array, data.slices, data.block, {"perfect": perfect, "zero": zero})
    assert gains["perfect"] > 60 and gains["zero"] < 0


def test_one_scan_however_it_is_stored(small_head: np.ndarray) -> None:
    """Mirrored and with its axes exchanged, a scan gives the same patches."""
    volume = sliced(small_head, 1)
    turned = volume.permute((2, 0, 1))
    matrix = turned.geometry.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, 0] * (turned.array.shape[2] - 1)
    matrix[:3, 0] *= -1
    other = Volume.from_array(turned.array[:, :, ::-1], matrix)
    one, two = (fitted_to(in_order(v, slices_first(v))) for v in (volume, other))
    assert np.array_equal(one.array, two.array) and one.block == two.block
    assert all(np.array_equal(a, b) for a, b in zip(one.batch(5), two.batch(5), strict=True))


def test_the_better_model_is_kept(small_head: np.ndarray, start: str, tmp_path: Path) -> None:
    """After one step of nothing the shipped model of the factor is better: it is written, and said."""
    sliced(small_head, 0).write(tmp_path / "thick.nii.gz")
    said: list[Event] = []
    info = fit(job(tmp_path / "thick.nii.gz", tmp_path / "m.safetensors", start, 1), said.append)
    assert info["kept"] == "slice-x3" and info["gains_db"]["slice-x3"] == info["own_gain_db"] > info["gains_db"]["fitted"]
    assert any("slice-x3 is kept" in event.message for event in said if isinstance(event, Log))
    assert Checkpoint.load(tmp_path / "m.safetensors").header.generator.features == Checkpoint.load("slice-x3").header.generator.features
    result = SuperResolver.load(tmp_path / "m.safetensors", "cpu", "fp32")(Volume.read(tmp_path / "thick.nii.gz"))
    assert result.info["consistency"]["assumes"] == "slices 1.00 of their spacing thick, as fitted"


def test_back_projection_knows_the_thickness(small_head: np.ndarray, start: str, tmp_path: Path) -> None:
    """Of the scan that was fitted; a scan of other slices, and a blur that is named, are taken as for every model."""
    volume = sliced(small_head, 0)
    volume.write(tmp_path / "thick.nii.gz")
    asked = FitJob(str(tmp_path / "thick.nii.gz"), str(tmp_path / "m.safetensors"), thickness_mm=2.1, init=start, steps=1, device="cpu")
    assert fit(asked, lambda event: None)["thickness_mm"] == 2.1
    header = Checkpoint.load(tmp_path / "m.safetensors").header
    assert header.fitted_width(3.0) == pytest.approx(0.7, rel=1e-4) and header.fitted_width(4.0) is None
    resolver = SuperResolver.load(tmp_path / "m.safetensors", "cpu", "fp32")
    assert resolver(volume).info["consistency"]["assumes"] == "slices 0.70 of their spacing thick, as fitted"
    assert "as given" in resolver(volume, "box").info["consistency"]["assumes"]


def test_a_folder_that_fit_did_not_make(small_head: np.ndarray, start: str, tmp_path: Path) -> None:
    """Refused, and nothing in it is touched; in one of its own it leaves what others put there."""
    sliced(small_head, 0).write(tmp_path / "thick.nii.gz")
    asked, run = job(tmp_path / "thick.nii.gz", tmp_path / "m.safetensors", start, 2), tmp_path / "m.safetensors.run"
    run.mkdir()
    (run / "config.json").write_text("mine")
    with pytest.raises(JobError, match=r"did not make this one \(it has no fit\.json\)"):
        fit(asked, lambda event: None)
    assert (run / "config.json").read_text() == "mine"
    (run / "config.json").unlink()
    fit(asked, lambda event: None)
    assert run.is_dir() and not list(run.iterdir())  # it was there before, and stays
    run.rmdir()
    run.write_text("a file")
    with pytest.raises(JobError, match="a file lies where fit keeps its state"):
        fit(asked, lambda event: None)
    run.unlink()
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progress) and not (run / "notes.txt").exists():
            (run / "notes.txt").write_text("keep me")

    fit(asked, report)
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    assert any(isinstance(event, Log) and "other files lie there (notes.txt)" in event.message for event in events)


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"steps": 1e999}', '{"format_version": 2, "steps": -1}', "[" * 50_000, '{"steps": 30}']
)
def test_a_damaged_fit_json(text: str, small_head: np.ndarray, start: str, tmp_path: Path) -> None:
    sliced(small_head, 0).write(tmp_path / "thick.nii.gz")
    run = tmp_path / "m.safetensors.run"
    run.mkdir()
    (run / "fit.json").write_text(text)
    with pytest.raises(JobError, match=r"fit\.json: .*delete the folder"):
        fit(job(tmp_path / "thick.nii.gz", tmp_path / "m.safetensors", start), lambda event: None)
    assert (run / "fit.json").read_text() == text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_of_a_fit(number: signal.Signals, small_head: np.ndarray, start: str, tmp_path: Path) -> None:
    sliced(small_head, 0).write(tmp_path / "thick.nii.gz")
    out, run = tmp_path / "m.safetensors", tmp_path / "m.safetensors.run"
    command = [sys.executable, "-m", "SRGAN3DLib", "fit", str(tmp_path / "thick.nii.gz"), "-o", str(out)]
    command += ["--init", start, "--steps", "5000", "--device", "cpu", "--precision", "fp32"]

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    log = run / "metrics.jsonl"
    while child.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 3):
        time.sleep(0.02)
    child.send_signal(number)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130 and "the state is saved" in said and "Traceback" not in said, said
    assert read_step(run) == len(log.read_text().splitlines()) and not out.exists()
    assert not list(run.glob(".srgan3d-*")) and not list(run.glob("*.lock"))


def test_killed_then_resumed_by_the_same_command(small_head: np.ndarray, start: str, tmp_path: Path) -> None:
    """kill -9 amid a fit by minutes; the second run keeps the number of steps that the first one measured."""
    sliced(small_head, 0).write(tmp_path / "thick.nii.gz")
    out, run = tmp_path / "m.safetensors", tmp_path / "m.safetensors.run"
    command = [sys.executable, "-m", "SRGAN3DLib", "fit", str(tmp_path / "thick.nii.gz"), "-o", str(out)]
    command += ["--init", start, "--minutes", "0.05", "--device", "cpu", "--precision", "fp32", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (run / "state.safetensors").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (run / "state.safetensors").exists() and not out.exists()
    steps = json.loads((run / "fit.json").read_text())["steps"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == steps and "resumed" in done.stderr
    assert out.exists() and not run.exists()
