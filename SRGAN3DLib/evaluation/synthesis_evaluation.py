"""Evaluate a synthesis model on pairs of subjects that it never saw: one table, one JSON, one picture a subject."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.contract.events import Log, Progress, Report
from SRGAN3DLib.contract.jobs import EvaluateJob
from SRGAN3DLib.inference.synthesizer import Synthesizer
from SRGAN3DLib.volumes.axis_order import AxisOrder
from SRGAN3DLib.volumes.files import make_folder, write_text
from SRGAN3DLib.volumes.pairs import Pair, find_pairs
from SRGAN3DLib.volumes.resampling import resample
from SRGAN3DLib.volumes.volume import Volume, read_labels

from .synthesis import body_mask, check_unit, scored_mask, synthesis_scores, target_scale
from .synthesis_pictures import synthesis_picture

PROTOCOL = (
    "result on the first input's grid, target brought there linearly; inside the subject's mask (without one: first input above 10 % of "
    "P99, closed, filled); HU: the field of view only, data range 3000; without a unit: target scaled to bright tissue = 1000, data range "
    "P99.9 - P0.1 inside the mask; best mapping: mean target in 256 quantile bins of one input, the better input"
)


def evaluate_synthesis(job: EvaluateJob, report: Report, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Score `job.model` on the pairs `job.data`; writes report.json, report.md and the pictures into `job.out`. Returns the report.

    Raises `VolumeError` where no pair can be scored; a pair of a training subject is never scored.
    """
    out = Path(job.out)
    folder, target = (out.parent, out) if out.suffix == ".json" else (out, out / "report.json")
    synthesizer = Synthesizer.load(job.model, job.device, job.precision, job.memory_limit)
    column = "" if Path(job.data).is_file() else synthesizer.output.contrast
    pairs = find_pairs(job.data, synthesizer.names, column)
    trained = {entry["subject"] for entry in synthesizer.header.training_data}
    make_folder(folder)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for index, pair in enumerate(pairs):
        report(Progress("evaluating", index, len(pairs)))
        try:
            if pair.subject in trained:
                raise VolumeError(f"{pair.path}: subject {pair.subject} was trained on; it is not scored")
            row = score_pair(synthesizer, pair, cancelled, job.flips, folder if job.panels else None)
        except VolumeError as error:
            report(Log(str(error), "warning"))
            failed.append(str(error))
            continue
        rows.append(row)
        report(Log(f"{row['subject']}: MAE {row['mae']:.1f}, {row['mae_against_mapping']:.3f} of the best mapping's"))
    if not rows:
        raise VolumeError(f"{job.data}: no pair could be scored ({'; '.join(failed)})")
    summary = {
        "task": "synthesis", "protocol": PROTOCOL, "model": synthesizer.header.name, "sha256": synthesizer.checkpoint.sha256,
        "unit": synthesizer.output.unit, "contrast": synthesizer.output.contrast, "flips": job.flips, "version": __version__,
        "mean": means(rows), "subjects": rows, "failed": failed,
    }  # fmt: skip
    write_text(target, json.dumps(summary, indent=1) + "\n")
    write_text(target.with_suffix(".md"), markdown(summary))
    return {**summary, "report": str(target)}


def score_pair(
    synthesizer: Synthesizer, pair: Pair, cancelled: Callable[[], bool] = lambda: False, flips: int = 1, pictures: Path | None = None
) -> dict[str, Any]:
    """Synthesise one subject's image and score it; the picture goes to the folder `pictures`."""
    if pair.problem or pair.target is None:
        raise VolumeError(pair.problem)
    images = {name: Volume.read(path) for name, path in pair.inputs.items()}
    truth = Volume.read(pair.target)
    output = synthesizer.output
    check_unit(truth, output)
    result = synthesizer(images, cancelled=cancelled, flips=flips)
    grid, hu = result.volume.geometry, output.unit == "HU"
    first = next(iter(images.values()))
    target = resample(truth.array, truth.geometry, grid, "linear", -1024.0 if hu else np.nan)
    known = np.isfinite(target)
    sources = {name: resample(image.array, image.geometry, grid, "linear", 0.0) for name, image in images.items()}
    if pair.mask is None:
        mask = body_mask(resample(first.array, first.geometry, grid))
    else:
        labels = read_labels(pair.mask)
        mask = resample(labels.array, labels.geometry, grid, "nearest") > 0.5
    if not hu:
        target = target_scale(truth, output).apply(target) * output.gain + output.offset
    target = np.where(known, target, output.fill)
    mask = scored_mask(mask & known, target, hu)
    if not mask.any():
        raise VolumeError(f"{pair.mask or pair.target}: subject {pair.subject}: the mask is empty, or the target is not known in it")
    row = synthesis_scores(target, result.volume.array, sources, mask, hu)
    info = result.info
    row = {"subject": pair.subject, **row, **{key: info[key] for key in ("device", "precision", "seconds", "warnings")}}
    if pictures is not None:
        order = AxisOrder.towards_ras(grid)
        turned = [np.asarray(order.apply(a)) for a in (result.volume.array, target, mask, *sources.values())]
        unit = " HU" if hu else ""
        synthesis_picture(
            pictures / f"{pair.subject.replace('/', '_')}.png", f"{pair.subject}: {output.contrast} by {synthesizer.header.name}",
            dict(zip(sources, turned[3:], strict=True)), turned[0], turned[1], turned[2], order.per_axis(grid.spacing_kji_mm), hu,
            f"MAE {row['mae']:.0f}{unit}; best mapping of one intensity {row['mae_best_mapping']:.0f}{unit}",
        )  # fmt: skip
    return row


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the subjects, and the worst ratio to the best mapping."""
    names = [name for name in ("mae", "psnr", "ssim", "ms_ssim", "mae_against_mapping", "bone_dice") if name in rows[0]]
    return {name: float(np.mean([row[name] for row in rows])) for name in names} | {
        "worst_mae_against_mapping": float(max(row["mae_against_mapping"] for row in rows))
    }


def markdown(summary: dict[str, Any]) -> str:
    """The report for people."""
    hu = summary["unit"] == "HU"
    lines = [f"# {summary['model']}: {summary['contrast']}", ""]
    lines += [f"Model file SHA-256 {summary['sha256']}; mirrored views: {summary['flips']}; SRGAN3D {summary['version']}.", ""]
    lines += [summary["protocol"] + ".", ""]
    more = " air | soft tissue | bone | bone Dice |" if hu else ""
    lines.append("| subject | MAE | best constant | best mapping | MAE / mapping | PSNR, dB | SSIM | MS-SSIM |" + more)
    lines.append("|---|---|---|---|---|---|---|---|" + ("---|---|---|---|" if hu else ""))
    for row in summary["subjects"]:
        lines.append(table_row(row["subject"], row, hu))
    lines += [f"\nNot scored: {line}" for line in summary["failed"]]
    return "\n".join(lines) + "\n"


def table_row(name: str, row: dict[str, Any], hu: bool) -> str:
    """One line of the table: MAE in HU, or in thousandths of bright tissue."""
    cells = [f"{row[key]:.1f}" for key in ("mae", "mae_best_constant", "mae_best_mapping")]
    cells += [f"{row['mae_against_mapping']:.3f}", f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", f"{row['ms_ssim']:.3f}"]
    if hu:
        cells += [f"{row['mae_of'][part]:.0f}" if row["mae_of"][part] is not None else "" for part in ("air", "soft", "bone")]
        cells.append(f"{row['bone_dice']:.3f}")
    return f"| {name} | {' | '.join(cells)} |"
