"""Evaluate a model by the protocol (method.md, section 5): every scan, every degradation, one table, one JSON, one picture each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.contract.events import Log, Progress, Report
from SRGAN3DLib.contract.jobs import EvaluateJob
from SRGAN3DLib.contract.result_info import blur_in_words
from SRGAN3DLib.inference.super_resolver import Result, SuperResolver
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.files import make_folder, write_text
from SRGAN3DLib.volumes.scans import find_scans, in_truth_order
from SRGAN3DLib.volumes.volume import Volume

from .pictures import comparison
from .scoring import Case

PROTOCOL = (
    "HR cropped to a multiple of the factors, degraded; scored inside the head mask, 4 HR voxels from the border left out, "
    "data range P99.9 - P0.1 of the truth; gain over the best of linear, cubic B-spline and Lanczos-3"
)


def evaluate(job: EvaluateJob, report: Report, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Score `job.model` on `job.data`; writes report.json, report.md and the pictures into `job.out`. Returns the report."""
    out = Path(job.out)
    folder, target = (out.parent, out) if out.suffix == ".json" else (out, out / "report.json")
    make_folder(folder)
    resolver = SuperResolver.load(job.model, job.device, job.precision, job.memory_limit)
    scans = find_scans(job.data, job.series)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for index, scan in enumerate(scans):
        try:
            truth, axes_kji, doubts = in_truth_order(scan, scan.read(), resolver.header.generator.factors)
            for done, degradation in enumerate(job.degradations):
                report(Progress("evaluating", index * len(job.degradations) + done, len(scans) * len(job.degradations)))
                row, result, case = score_one(resolver, truth, scan.name, degradation, job.blur, cancelled, flips=job.flips)
                row |= {"axes_kji": axes_kji, "warnings": doubts + row["warnings"]}
                rows.append(row)
                report(Log(f"{row['scan']} {degradation}: gain {row['psnr_gain']:+.2f} dB, SSIM {row['ssim_gain']:+.4f}"))
                for warning in row["warnings"]:
                    report(Log(f"{row['scan']} {degradation}: {warning}", "warning"))
                if job.panels:
                    name = scan.name.strip("/").replace("/", "_").split(".")[0]
                    picture(folder / f"{name}_{degradation}.png", case, result.volume.array, row)
        except VolumeError as error:
            report(Log(str(error), "warning"))
            failed.append(str(error))
    if not rows:
        raise VolumeError(f"{job.data}: no scan could be scored ({'; '.join(failed) or 'none found'})")
    summary = summary_of(resolver, rows, job.blur, failed, job.flips)
    write_text(target, json.dumps(summary, indent=1) + "\n")
    write_text(target.with_suffix(".md"), markdown(summary))
    return {**summary, "report": str(target)}


def summary_of(resolver: SuperResolver, rows: list[dict[str, Any]], blur: str, failed: list[str], flips: int = 1) -> dict[str, Any]:
    """What report.json holds: which model file was scored how, told what of the blur, and every row."""
    return {
        "protocol": PROTOCOL, "model": resolver.header.name, "sha256": resolver.checkpoint.sha256, "blur_told": blur, "flips": flips,
        "version": __version__, "mean": means(rows), "scans": rows, "failed": failed,
    }  # fmt: skip


def score_one(
    resolver: SuperResolver, truth: Volume, name: str, degradation: str, blur: str, cancelled: Callable[[], bool] = lambda: False,
    on_progress: Report = lambda event: None, flips: int = 1,
) -> tuple[dict[str, Any], Result, Case]:  # fmt: skip
    """Degrade one scan, super-resolve it, score it. The row says what the model was told of the blur, and whether that was right."""
    factors: Factors = resolver.header.generator.factors
    case = Case.make(name, truth.array, factors, degradation)
    lr = truth.with_array(case.lr, truth.geometry.coarsen(factors))
    name_told = degradation if blur == "known" else blur
    result = resolver(replace(lr, notes=()), name_told, on_progress, cancelled, factors_ijk=factors[::-1], flips=flips)
    row = case.report(result.volume.array)
    true_mtf = Degradation.named(degradation, factors).mtf
    told_mtf = result.info["blur"]["mtf_kji"]
    wrong = result.info["blur"]["source"] == "given" and any(
        f > 1 and abs(a - b) > 0.1 for a, b, f in zip(told_mtf, true_mtf, factors, strict=True)
    )
    warnings = [f"told blur {name_told}, degraded by {degradation}"] if wrong else []
    row |= {key: result.info[key] for key in ("blur", "device", "precision", "seconds", "tiles")}
    row |= {"true_mtf_kji": list(true_mtf), "blur_told_wrongly": wrong, "warnings": [*warnings, *result.info["warnings"]]}
    return row, result, case


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By degradation: mean and worst gain, mean SSIM gain, mean PSNR."""
    table = {}
    for kind in dict.fromkeys(row["degradation"] for row in rows):
        mine = [row for row in rows if row["degradation"] == kind]
        table[kind] = {
            "psnr_gain": float(np.mean([row["psnr_gain"] for row in mine])),
            "worst_psnr_gain": float(min(row["psnr_gain"] for row in mine)),
            "ssim_gain": float(np.mean([row["ssim_gain"] for row in mine])),
            "psnr": float(np.mean([row["table"]["result"]["psnr"] for row in mine])),
        }
    return table


def markdown(summary: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"# {summary['model']}", ""]
    how = f"blur told: {summary['blur_told']}; mirrored views: {summary['flips']}"
    lines += [f"Model file SHA-256 {summary['sha256']}; {how}; SRGAN3D {summary['version']}.", ""]
    lines += [
        summary["protocol"] + ".",
        "",
        "| scan | degradation | best of three, dB | SR, dB | gain, dB | SSIM gain | MTF told (K, J, I) | warnings |",
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for row in summary["scans"]:
        best = row["best_interpolation"]
        before, after = row["table"][best]["psnr"], row["table"]["result"]["psnr"]
        figures = f"{best} {before:.2f} | {after:.2f} | {row['psnr_gain']:+.2f} | {row['ssim_gain']:+.4f}"
        lines.append(f"| {row['scan']} | {row['degradation']} | {figures} | {blur_in_words(row['blur'])} | {'; '.join(row['warnings'])} |")
    lines += ["", "| degradation | mean gain dB | worst gain dB | mean SSIM gain |", "|---|---|---|---|"]
    lines += [f"| {k} | {m['psnr_gain']:+.2f} | {m['worst_psnr_gain']:+.2f} | {m['ssim_gain']:+.4f} |" for k, m in summary["mean"].items()]
    return "\n".join(lines) + "\n"


def picture(path: Path, case: Case, sr: np.ndarray, row: dict[str, Any]) -> None:
    """The comparison of one case."""
    best = case.best_interpolation
    captions = {
        name: f"{row['table'][key]['psnr']:.2f} dB, SSIM {row['table'][key]['ssim']:.3f}" for name, key in ((best, best), ("SR", "result"))
    }
    images = {best: interpolate(case.lr, case.factors, best), "SR": sr, "HR": case.hr}
    comparison(path, f"{case.name}, {case.degradation} x{'x'.join(map(str, case.factors))}", images, case.lr, case.factors, captions)
