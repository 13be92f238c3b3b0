"""Fit a model to one anisotropic scan from its own in-plane detail: self-supervised through-plane super-resolution.

The idea is that of SMORE (Zhao et al. 2021) and ECLARE (Remedios et al. 2025): the fine in-plane axes are the truth; one of them,
blurred and thinned as the slices are, is the input. Patches are 3-D here, and the two fine axes take turns. The third axis of a patch
is the slice axis, its slices as they are: coarser than the fine axis that lies there when the network runs, but as sharp from one
voxel to the next. docs/how-it-works.md holds what other ways to fill it gave.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.checkpoint_header import catalogue, file_hash, find_model, read_header
from SRGAN3DLib.contract.configs import LARGEST_FACTOR, UNKNOWN_MTF, DegradationConfig, Factors, GeneratorConfig, TrainConfig, preset
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.events import Log, Report
from SRGAN3DLib.contract.jobs import DEFAULT_MODEL, FitJob
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.physics.degradations import FWHM_PER_SIGMA, AxisBlur
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.files import make_folder, write_text
from SRGAN3DLib.volumes.scans import Scan, find_scans, orders_allowed
from SRGAN3DLib.volumes.volume import Volume

from .datasets import FOREGROUND, TrainingSet, TrainingVolume, through
from .trainer import Trainer

ISOTROPIC = 1.25  # slices no thicker than this, in in-plane voxels, hold nothing to learn from
LARGEST_PATCH, SMALLEST_PATCH = 20, 6
BATCH, LEARNING_RATE = 2, 5e-4
WIDTH_JITTER = 0.1  # of the slice profile: its width is never known exactly
OWN_BATCHES, TIMED_STEPS = 8, 5
PROTOCOL = "PSNR over cubic interpolation on patches of the fitted scan's own in-plane detail, degraded as its slices are, dB"
CITATION = (
    "After the idea of Zhao C. et al.: SMORE, IEEE TMI 2021, doi 10.1109/TMI.2020.3037187, and Remedios S. et al.: ECLARE, arXiv 2503.11787"
)


@dataclass(frozen=True)
class Slices:
    """How a scan laid with its slices on K was sliced, and what is wanted of it; lengths in mm.

    One slice becomes `factor` of them; `thickness_mm` is the FWHM of a slice, `spacing_kji_mm` the scan's.
    """

    spacing_kji_mm: tuple[float, float, float]
    factor: int
    thickness_mm: float

    @staticmethod
    def of(volume: Volume, factor: int | None, thickness_mm: float | None) -> Slices:
        """Raises `VolumeError` for an isotropic scan, `JobError` for a factor or thickness that makes no sense."""
        spacing = volume.geometry.spacing_kji_mm
        fine = max(spacing[1:])
        if spacing[0] < ISOTROPIC * fine:
            shown = " x ".join(f"{s:.2f}" for s in sorted(spacing))
            raise VolumeError(
                f"{volume.path}: voxels of {shown} mm: no axis is thick against the two others, so there is nothing to learn from"
            )
        factor = factor or min(LARGEST_FACTOR, max(2, round(spacing[0] / fine)))
        if not 2 <= factor <= LARGEST_FACTOR:
            raise JobError(f"factor {factor}: 2 to {LARGEST_FACTOR} is wanted")
        thickness = thickness_mm or spacing[0]
        if not 0.1 <= thickness / spacing[0] <= 4:
            raise JobError(f"thickness {thickness} mm of slices {spacing[0]:.2f} mm apart: a tenth to four times of that is wanted")
        return Slices(spacing, factor, thickness)

    @property
    def factors(self) -> Factors:
        return (self.factor, 1, 1)

    @property
    def width(self) -> float:
        """FWHM of a slice in slice spacings: below 1 there are gaps."""
        return self.thickness_mm / self.spacing_kji_mm[0]

    def fine_rows(self, axis: int, n: int, phase: float = 0.0) -> np.ndarray:
        """(m, n): the in-plane axis as the wanted slices would show it; the identity where its own voxels are about that size.

        Where the wanted slices are wider, each is a gaussian of FWHM one of them. `phase` (0 to 1) of a step shifts their grid.
        """
        step = self.spacing_kji_mm[0] / self.factor / self.spacing_kji_mm[axis]
        if step < ISOTROPIC:
            return np.eye(n)
        m = int(n / step - phase)
        centres = (np.arange(m)[:, None] + 0.5 + phase) * step - 0.5
        rows = np.exp(-0.5 * ((np.arange(n)[None] - centres) / (step / FWHM_PER_SIGMA)) ** 2)
        return np.asarray(rows / rows.sum(axis=1, keepdims=True))

    def coarse_rows(self, m: int, width: float) -> np.ndarray:
        """(m // factor, m): what slices of FWHM `width` (in slice spacings) make of m wanted ones."""
        return AxisBlur("gaussian", width).matrix(m, self.factor)


class SlicePatches(TrainingSet):
    """Patches of one scan with its slices on K: LR is an in-plane axis degraded as the slices are, laid onto the network's K."""

    def __init__(self, config: TrainConfig, volume: Volume, slices: Slices, scan: Scan):
        self.config, self.slices, self.skipped = config, slices, []
        array = np.asarray(IntensityScale.fit(volume.array).apply(volume.array), np.float32)
        corners = np.argwhere(array[:, ::4, ::4] > FOREGROUND) * (1, 4, 4)
        if not len(corners):
            raise VolumeError(f"{volume.path}: nothing but background")
        ways = orders_allowed((1, 2), slices.factors)
        self.volumes = [TrainingVolume(scan, array, slices.spacing_kji_mm, corners, ways)]
        self.weights = np.ones(1)

    def _patch(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        volume, slices, p = self.volumes[0], self.slices, self.config.patch
        way = volume.orders[rng.integers(len(volume.orders))]
        at = volume.corners[rng.integers(len(volume.corners))] / np.array(volume.array.shape)  # 0 to 1
        low: list[np.ndarray] = [np.empty(0)] * 3  # by array axis
        high = list(low)
        for axis, n in enumerate(volume.array.shape):
            if axis == way[0]:
                fine = slices.fine_rows(axis, n, rng.random())
                coarse = slices.coarse_rows(len(fine), slices.width * rng.uniform(1 - WIDTH_JITTER, 1 + WIDTH_JITTER))
                start = _start(at[axis], len(coarse), p, rng)
                low[axis], high[axis] = coarse[start : start + p] @ fine, fine[start * slices.factor : (start + p) * slices.factor]
            else:
                start = _start(at[axis], n, p, rng)
                low[axis] = high[axis] = np.eye(p, n, start)
        flips = tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in range(3))
        lr, hr = (np.ascontiguousarray(through(volume.array, rows, 1e-4).transpose(way)[flips]) for rows in (low, high))
        return lr, hr, self._told(np.ones(3), rng)

    def _told(self, mtf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The slice profile is known; so that it matters not what `super-resolve` finds or is told, half hear nothing, half anything."""
        mtf[0] = rng.random()
        return np.full(3, UNKNOWN_MTF) if rng.random() < 0.5 else mtf


def _start(at: float, n: int, patch: int, rng: np.random.Generator) -> int:
    """The first of `patch` rows of `n` about the place `at` (0 to 1)."""
    return int(np.clip(at * n - patch * rng.random(), 0, n - patch))


# ---------------------------------------------------------------- the job
def fit(job: FitJob, report: Report, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Do the job; returns its facts. Raises `VolumeError`, `JobError`, `CheckpointError`, `Cancelled` (the run is kept)."""
    begun = time.monotonic()
    source, out, run = Path(job.input), Path(job.output), Path(job.output + ".run")
    if not out.absolute().parent.is_dir():
        raise JobError(f"{out}: its folder {out.parent} does not exist")
    volume = Volume.read(source, job.series)
    axis = int(np.argmax(volume.geometry.spacing_kji_mm))
    order = (axis, *(a for a in range(3) if a != axis))  # slices on K: as the networks are trained
    laid = volume.permute(order)  # type: ignore[arg-type]
    slices = Slices.of(laid, job.factor, job.thickness_mm)
    init, generator = _start_model(job.init, slices.factors)
    scan = next(iter(find_scans(source, job.series)))
    sha256 = hashlib.sha256(volume.array.tobytes()).hexdigest() if source.is_dir() else file_hash(source)
    config = TrainConfig(
        str(source), str(run), generator=generator, degradation=DegradationConfig("slice-profile", round(slices.width, 4)),
        steps=job.steps or 1, gan_steps=0, batch=BATCH, patch=_patch_size(slices, laid), learning_rate=LEARNING_RATE, save_every=50,
        seed=job.seed, device=job.device, precision=job.precision, init=init,
    )  # fmt: skip
    data = SlicePatches(config, laid, slices, scan)
    config = _with_budget(config, job, {"scan": sha256, "slices": asdict(slices)}, data, report)
    data.config = config
    target = slices.spacing_kji_mm[0] / slices.factor
    report(Log(f"{source.name}: slices along {'KJI'[axis]}, {slices.spacing_kji_mm[0]:.2f} -> {target:.2f} mm; {config.steps} steps"))
    trainer = Trainer(config, report, data)
    trainer.fit(cancelled)
    gain = _own_gain(trainer, data)
    if gain <= 0:
        report(Log(f"the model is no better than cubic interpolation on the scan's own detail ({gain:+.2f} dB)", "warning"))
    fact = {"fit": {"file": source.name, "sha256": sha256, **asdict(slices), "slice_axis_kji": axis}}
    _export(Checkpoint.load(run / "model.safetensors"), out, order, volume, fact, gain)
    shutil.rmtree(run)
    return {
        "output": str(out), "sha256": file_hash(out), "slice_axis": "KJI"[axis], "factor": slices.factor,
        "thickness_mm": slices.thickness_mm, "steps": config.steps, "init": init, "own_gain_db": round(gain, 3),
        "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def _start_model(init: str, factors: Factors) -> tuple[str | None, GeneratorConfig]:
    """The model to start from, None for none, and the network: that model's with the factors wanted."""
    if init == "none":
        return None, preset("fast", factors)
    if init == "auto":
        name = f"slice-x{max(factors)}"
        init = name if name in catalogue() else DEFAULT_MODEL
    return init, replace(read_header(find_model(init)).generator, factors=factors)


def _patch_size(slices: Slices, volume: Volume) -> int:
    """LR voxels along each side: as large as fits, whichever in-plane axis is degraded. Raises `VolumeError`."""
    shape = volume.array.shape
    coarse = [len(slices.fine_rows(axis, shape[axis], 1.0)) // slices.factor for axis in (1, 2)]
    size = min(LARGEST_PATCH, *coarse, *shape)
    if size < SMALLEST_PATCH:
        raise VolumeError(
            f"{volume.path}: {shape} voxels, slices first, hold no patch of {SMALLEST_PATCH} slices thinned by {slices.factor}"
        )
    return size


def _with_budget(config: TrainConfig, job: FitJob, facts: dict[str, Any], data: SlicePatches, report: Report) -> TrainConfig:
    """The configuration with its number of steps: given, or as many as fit into the minutes, or those of the run begun before."""
    path = Path(config.out) / "fit.json"
    facts |= {"minutes": None if job.steps else job.minutes}
    if path.exists():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            steps = int(old.pop("steps"))
        except (OSError, ValueError, KeyError, AttributeError):
            raise JobError(f"{path}: not readable; delete the folder to begin anew") from None
        if old != json.loads(json.dumps(facts)):
            raise JobError(f"{config.out}: a fit of another scan, or with other options, was left there; delete the folder to begin anew")
        return replace(config, steps=job.steps or steps, validate_every=job.steps or steps)
    steps = job.steps or max(1, round(60 * job.minutes / _seconds_a_step(config, data, report)))
    make_folder(config.out)
    write_text(path, json.dumps({**facts, "steps": steps}, indent=1) + "\n")
    return replace(config, steps=steps, validate_every=steps)


def _seconds_a_step(config: TrainConfig, data: SlicePatches, report: Report) -> float:
    """Measured on a throw-away trainer: the median of a few steps, their batches included."""
    report(Log("measuring the speed of a step"))
    times = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(replace(config, out=folder, steps=TIMED_STEPS), data=data)
        for step in range(TIMED_STEPS):
            begun = time.monotonic()
            trainer.train_step(data.batch(step))
            times.append(time.monotonic() - begun)
    return float(np.median(times[1:]))


def _own_gain(trainer: Trainer, data: SlicePatches) -> float:
    """dB over cubic interpolation on fresh patches of the scan itself, their borders left out."""
    import torch

    from SRGAN3DLib.networks.generator import with_blur

    errors = np.zeros(2)
    for number in range(OWN_BATCHES):
        lr, hr, _ = data.batch(trainer.total + number)
        with torch.no_grad():
            image = torch.from_numpy(lr).to(trainer.device)
            sr = trainer.ema(with_blur(image, None) if trainer.config.generator.blur_aware else image).float().cpu().numpy()
        for one, network, truth in zip(lr[:, 0], sr[:, 0], hr[:, 0], strict=True):
            inner = tuple(slice(n // 5, n - n // 5) for n in truth.shape)
            cubic = interpolate(one, data.slices.factors, "cubic")
            errors += [np.square(made[inner] - truth[inner], dtype=np.float64).sum() for made in (cubic, network)]
    return float(10 * np.log10(max(errors[0], 1e-12) / max(errors[1], 1e-12)))


def _export(trained: Checkpoint, out: Path, order: tuple[int, ...], volume: Volume, fact: dict[str, Any], gain: float) -> None:
    """The trained network laid out as the scan is, under its own name, with what it was made from."""
    spacing = volume.geometry.spacing_ijk_mm
    turned = trained.transposed(np.argsort(order).tolist())
    header = replace(
        turned.header, name=out.stem, spacing_range_mm=(min(spacing), max(spacing)), training=turned.header.training | fact,
        metrics={"protocol": PROTOCOL, "own_gain_db": round(gain, 3)}, citation=CITATION, created=datetime.date.today().isoformat(),
    )  # fmt: skip
    replace(turned, header=header).save(out)
