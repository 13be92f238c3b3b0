"""Fit a model to one anisotropic scan from its own in-plane detail: self-supervised through-plane super-resolution.

The idea is that of SMORE (Zhao et al. 2021) and ECLARE (Remedios et al. 2025): the fine in-plane axes are the truth, and one of them,
blurred and thinned as the slices are, is the input (`slices.py`). A quarter of the plane is kept apart. It judges the fitted model and
the shipped model of the same factor, and the better one of the two is what the job writes.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.checkpoint_header import catalogue, file_hash, find_model, read_header
from SRGAN3DLib.contract.configs import (
    LARGEST_COUNT,
    DegradationConfig,
    Factors,
    GeneratorConfig,
    TrainConfig,
    preset,
    read_json,
    read_train_config,
)
from SRGAN3DLib.contract.errors import Cancelled, CheckpointError, JobError
from SRGAN3DLib.contract.events import Log, Report
from SRGAN3DLib.contract.job_values import DEFAULT_MODEL
from SRGAN3DLib.contract.jobs import FitJob
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.volumes.axis_order import AxisOrder
from SRGAN3DLib.volumes.files import make_folder, write_text
from SRGAN3DLib.volumes.scans import find_scans
from SRGAN3DLib.volumes.volume import Volume

from .own_detail import PROTOCOL, gains_db, model_of
from .run_folder import CONFIG, FIT, MODEL, STATE, remove_if_empty, remove_own_files
from .run_lock import RunLock, check_free
from .slices import SlicePatches, Slices, patch_size
from .trainer import Trainer

BATCH, LEARNING_RATE, SAVE_EVERY = 2, 5e-4, 50
TIMED_STEPS = 5
FIT_FORMAT = 2  # of fit.json; format 1 trained on the whole plane
LOCK = "fit.lock"
CITATION = (
    "After the idea of Zhao C. et al.: SMORE, IEEE TMI 2021, doi 10.1109/TMI.2020.3037187, and Remedios S. et al.: ECLARE, arXiv 2503.11787"
)
IsCancelled = Callable[[], bool]


def fit(job: FitJob, report: Report, cancelled: IsCancelled = lambda: False) -> dict[str, Any]:
    """Do the job; returns its facts. Raises `VolumeError`, `JobError`, `CheckpointError`, `Cancelled` (the run is kept)."""
    begun = time.monotonic()
    source, out, run = Path(job.input), Path(job.output), Path(job.output + ".run")
    if not out.absolute().parent.is_dir():
        raise JobError(f"{out}: its folder {out.parent} does not exist")
    check_folder(run)
    volume = Volume.read(source, job.series)
    order = slices_first(volume)
    ordered = in_order(volume, order)
    slices = Slices.of(ordered, job.factor, _thickness(job, volume, report))
    init, generator = _start_model(job.init, slices.factors, run)
    sha256 = hashlib.sha256(volume.array.tobytes()).hexdigest() if source.is_dir() else file_hash(source)
    config = TrainConfig(
        str(source), str(run), generator=generator, degradation=DegradationConfig("slice-profile"), steps=job.steps or 1, gan_steps=0,
        batch=BATCH, learning_rate=LEARNING_RATE, save_every=SAVE_EVERY, validate_every=LARGEST_COUNT, seed=job.seed, device=job.device,
        precision=job.precision, init=init,
    )  # fmt: skip
    patch_size(slices, ordered)  # a scan that is too small is refused before anything else is done with it
    data = SlicePatches(config, ordered, slices, next(iter(find_scans(source, job.series))))
    data.config = config = replace(config, patch=patch_size(slices, ordered, data.block))
    made_folder, steps = _begin(config, job, {"scan": sha256, "slices": asdict(slices)}, data, report, cancelled)
    data.config = config = replace(config, steps=steps)
    with RunLock(run, LOCK):
        fine = slices.spacing_kji_mm[0] / slices.factor
        report(Log(f"{source.name}: slices along {'KJI'[order.axes[0]]}, {slices.spacing_kji_mm[0]:.2f} -> {fine:.2f} mm; {steps} steps"))
        trainer = Trainer(config, report, data)
        trainer.fit(cancelled)
        _stop_if(cancelled, run)
        kept, gains = _better_model(trainer, data, report)
        _stop_if(cancelled, run)
        fact = {"fit": {"file": source.name, "sha256": sha256, **asdict(slices), "slice_axis_kji": order.axes[0], **gains}}
        _export(kept, out, volume, order, fact)
        remove_own_files(run)
    left = remove_if_empty(run) if made_folder else []
    if left:
        report(Log(f"{run}: other files lie there ({', '.join(left[:3])}), so the folder was left", "warning"))
    return {
        "output": str(out), "sha256": file_hash(out), "slice_axis": "KJI"[order.axes[0]], "factor": slices.factor,
        "thickness_mm": slices.thickness_mm, "steps": steps, "init": init, **gains, "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


# ---------------------------------------------------------------- the scan
def slices_first(volume: Volume) -> AxisOrder:
    """The order in which a scan is fitted: nearest to RAS, however it is stored, then its coarsest axis first."""
    order = AxisOrder.towards_ras(volume.geometry)
    axis = int(np.argmax(order.per_axis(volume.geometry.spacing_kji_mm)))
    return order.then((axis, *(a for a in range(3) if a != axis)))


def in_order(volume: Volume, order: AxisOrder) -> Volume:
    """The scan with its axes in `order`. Of the grid only the spacing is right: mirrored axes keep the direction of before."""
    return volume.with_array(np.ascontiguousarray(order.apply(volume.array)), volume.geometry.permute(order.axes))


def _thickness(job: FitJob, volume: Volume, report: Report) -> float | None:
    """The FWHM of a slice in mm: as given, else as the scan's header states it, else None."""
    stated = getattr(getattr(volume, "acquisition", None), "slice_thickness_mm", None)
    if job.thickness_mm is not None or stated is None:
        return job.thickness_mm
    report(Log(f"{job.input}: slices of {stated:g} mm, as its header says (--thickness gives another)"))
    return float(stated)


# ---------------------------------------------------------------- the run's folder
def check_folder(run: Path) -> None:
    """Raises `JobError` where `run` is not the folder of a fit, or another process works in it."""
    if not run.exists() and not run.is_symlink():
        return
    if not run.is_dir():
        raise JobError(f"{run}: a file lies where fit keeps its state; move it away, or choose another name for the model")
    check_free(run, LOCK)
    if not (run / FIT).exists():
        others = [path.name for path in run.iterdir() if not path.name.startswith(".srgan3d-") and path.name != LOCK]
        if others:
            raise JobError(
                f"{run}: fit keeps its state in a folder of that name, but did not make this one (it has no {FIT}); "
                "move it away, or choose another name for the model"
            )


def _begin(
    config: TrainConfig, job: FitJob, facts: dict[str, Any], data: SlicePatches, report: Report, cancelled: IsCancelled
) -> tuple[bool, int]:
    """(whether the run's folder is ours to remove, the steps): of the run begun before, or of a new one, whose facts are written down.

    The steps are as given, or as many as fit into the minutes. Raises `JobError` naming what differs from the run begun before.
    """
    run = Path(config.out)
    path = run / FIT
    facts |= {"format_version": FIT_FORMAT, "init": job.init, "seed": job.seed, "minutes": None if job.steps else job.minutes}
    if path.exists():
        old = _read_facts(path)
        for name, value in json.loads(json.dumps(facts)).items():
            if old.get(name) != value:
                raise JobError(
                    f"{run}: {_difference(name, old.get(name), value)}; repeat the first command, or delete the folder to begin anew"
                )
        return old["made_folder"] is True, job.steps or old["steps"]
    steps = job.steps or max(1, round(60 * job.minutes / _seconds_a_step(config, data, report, cancelled)))
    facts |= {"steps": steps, "made_folder": not run.exists()}
    make_folder(run)
    with RunLock(run, LOCK):
        write_text(path, json.dumps(facts, indent=1) + "\n")
    return bool(facts["made_folder"]), steps


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        old = read_json(path)
        version = old.get("format_version", 1)
        if version == FIT_FORMAT and isinstance(old["steps"], int) and 1 <= old["steps"] <= LARGEST_COUNT and "made_folder" in old:
            return dict(old)
    except (JobError, AttributeError, KeyError, TypeError) as error:
        raise JobError(f"{path}: not readable ({error}); put a copy of it back, or delete the folder to begin anew") from None
    remedy = "delete the folder to begin anew"
    if version != FIT_FORMAT:
        shown = ascii(version)[:20]
        raise JobError(
            f"{path}: format version {shown} of another fit; this program goes on with {FIT_FORMAT}: finish it with that one, or {remedy}"
        )
    raise JobError(f"{path}: its steps are no number from 1 to {LARGEST_COUNT}; put a copy of it back, or {remedy}")


def _difference(name: str, was: Any, now: Any) -> str:
    if name == "scan":
        return "a fit of another scan was begun there"
    if name == "slices":
        pairs = [(key, (was or {}).get(key) if isinstance(was, dict) else None, value) for key, value in now.items()]
        name, was, now = next(((key, a, b) for key, a, b in pairs if a != b), pairs[0])
    option = {"thickness_mm": "--thickness", "spacing_kji_mm": "the spacing"}.get(name, f"--{name}")
    return f"this fit was begun with other options: {option} {was} (now {now})"


def _seconds_a_step(config: TrainConfig, data: SlicePatches, report: Report, cancelled: IsCancelled) -> float:
    """Measured on a throw-away trainer: the median of a few steps, their batches included."""
    report(Log("measuring the speed of a step"))
    times = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(replace(config, out=folder, steps=TIMED_STEPS), data=data)
        for step in range(TIMED_STEPS):
            if cancelled():
                raise Cancelled("stopped before the first step; nothing was kept")
            begun = time.monotonic()
            trainer.train_step(data.batch(step))
            times.append(time.monotonic() - begun)
    return float(np.median(times[1:]))


def _stop_if(cancelled: IsCancelled, run: Path) -> None:
    if cancelled():
        raise Cancelled(f"{run}: stopped after the last step, the state is saved; the same command goes on from there")


# ---------------------------------------------------------------- the models
def _start_model(init: str, factors: Factors, run: Path) -> tuple[str | None, GeneratorConfig]:
    """The model to start from (None for none) and the network: that model's, with `factors`. A run begun before keeps its own."""
    if init == "auto":
        name = f"slice-x{max(factors)}"
        init = name if name in catalogue() else DEFAULT_MODEL
    if (run / STATE).exists() and (run / CONFIG).exists():
        return None if init == "none" else init, read_train_config(run / CONFIG).generator
    if init == "none":
        return None, preset("fast", factors)
    return init, replace(read_header(find_model(init)).generator, factors=factors)


def _better_model(trainer: Trainer, data: SlicePatches, report: Report) -> tuple[Checkpoint, dict[str, Any]]:
    """The fitted model or the shipped one, slices on K, whichever is better on the block kept apart; and what was measured."""
    fitted = Checkpoint.load(trainer.run / MODEL)
    candidates = {"fitted": fitted}
    shipped = f"slice-x{data.slices.factor}"
    other = _reference(shipped, trainer.config.init, data.slices.factors)
    if other is not None:
        candidates[shipped if shipped in catalogue() else "init"] = other
    models = {
        name: model_of(one.generator().to(trainer.device), one.header.generator, data.slices, trainer.device)
        for name, one in candidates.items()
    }
    gains = {name: round(gain, 3) for name, gain in gains_db(data.array, data.slices, data.block, models).items()}
    kept = max(gains, key=lambda name: gains[name])
    shown = ", ".join(f"{name} {gain:+.2f} dB" for name, gain in gains.items())
    report(Log(f"gain over cubic interpolation on detail that was kept apart: {shown}; {kept} is kept"))
    if gains[kept] <= 0:
        report(Log(f"no model is better than cubic interpolation on the scan's own detail ({shown})", "warning"))
    return candidates[kept], {"own_gain_db": gains[kept], "kept": kept, "gains_db": gains}


def _reference(shipped: str, init: str | None, factors: Factors) -> Checkpoint | None:
    """The shipped model of the factor, or the model that the fit started from if it has the factor, turned to have its slices on K."""
    for name in (shipped if shipped in catalogue() else None, init):
        if name is None:
            continue
        try:
            checkpoint = Checkpoint.load(name)
        except CheckpointError:
            if name == shipped:
                raise
            continue  # the file that the fit started from may be gone: the fit does not need it any more
        own = checkpoint.header.generator.factors
        if sorted(own) == sorted(factors):
            axis = int(np.argmax(own))
            return replace(checkpoint.transposed((axis, *(a for a in range(3) if a != axis))), path=checkpoint.path)
    return None


def _export(kept: Checkpoint, out: Path, volume: Volume, order: AxisOrder, fact: dict[str, Any]) -> None:
    """The network with its axes nearest to RAS, as `super-resolve` runs it, under its own name, with what it was made from."""
    spacing = volume.geometry.spacing_ijk_mm
    towards_ras = AxisOrder.towards_ras(volume.geometry)
    axes = [order.axes.index(axis) for axis in towards_ras.axes]
    turned = kept.transposed(axes)
    header = replace(
        turned.header, name=out.stem, spacing_range_mm=(min(spacing), max(spacing)), training=turned.header.training | fact,
        metrics={"protocol": PROTOCOL, "own_gain_db": fact["fit"]["own_gain_db"]}, citation=CITATION,
        created=datetime.date.today().isoformat(),
    )  # fmt: skip
    replace(turned, header=header).save(out)
