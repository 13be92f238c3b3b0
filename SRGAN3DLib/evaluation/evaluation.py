"""Evaluate a model by the protocol (method.md, section 5): every scan, every degradation, one table, one JSON, one picture each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.errors import Cancelled, SRGAN3DError, VolumeError, typed_error
from SRGAN3DLib.contract.events import Log, Progress, Report
from SRGAN3DLib.contract.jobs import EvaluateJob
from SRGAN3DLib.contract.result_info import blur_in_words, condition, noise_in_words
from SRGAN3DLib.inference.super_resolver import Result, SuperResolver
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.files import make_folder, write_text
from SRGAN3DLib.volumes.scans import Scan, find_scans, in_truth_order
from SRGAN3DLib.volumes.volume import Volume

from .lesion_check import lesion_report, lesion_table
from .pictures import comparison, picture_names
from .scoring import Case

PROTOCOL = (
    "HR cropped to a multiple of the factors, degraded; scored inside the head mask, 4 HR voxels from the border left out, "
    "data range P99.9 - P0.1 of the truth; gain over the best of linear, cubic B-spline and Lanczos-3"
)


def evaluate(job: EvaluateJob, report: Report, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Score `job.model` on `job.data`; writes report.json, report.md and the pictures into `job.out`. Returns the report.

    A scan that fails is listed, and the others are scored. `exit_code` is that of the worst failure; a scan that is not fit to be
    truth is no failure. Raises the error of the last scan where none could be scored.

    >>> evaluate(EvaluateJob("t1-x2", "no such folder", "out"), print)
    Traceback (most recent call last):
    SRGAN3DLib.contract.errors.VolumeError: no such folder: no such folder or file
    """
    out = Path(job.out)
    folder, target = (out.parent, out) if out.suffix == ".json" else (out, out / "report.json")
    resolver = SuperResolver.load(job.model, job.device, job.precision, job.memory_limit)
    scans = find_scans(job.data, job.series)
    make_folder(folder)
    rows: list[dict[str, Any]] = []
    lesions: list[dict[str, Any]] = []
    names, errors = picture_names([scan.name for scan in scans]), list[SRGAN3DError]()
    for index, scan in enumerate(scans):
        try:
            truth, axes_kji, doubts = in_truth_order(scan, scan.read(), resolver.header.generator.factors)
            conditions = [(noise, degradation) for noise in job.noise for degradation in job.degradations]
            for done, (noise, degradation) in enumerate(conditions):
                report(Progress("evaluating", index * len(conditions) + done, len(scans) * len(conditions)))
                case = Case.make(scan.name, truth.array, resolver.header.generator.factors, degradation, noise, job.seed)
                row, result = score_one(resolver, truth, case, job.blur, job.noise_told, cancelled, flips=job.flips)
                row |= {"axes_kji": axes_kji, "warnings": doubts + row["warnings"]}
                rows.append(row)
                report(Log(f"{row['scan']} {case.condition}: gain {row['psnr_gain']:+.2f} dB, SSIM {row['ssim_gain']:+.4f}"))
                for warning in row["warnings"]:
                    report(Log(f"{row['scan']} {case.condition}: {warning}", "warning"))
                if job.panels:
                    part = case.condition.replace(" % ", "").replace(" + ", "_")  # box_20noise
                    picture(folder / f"{names[index]}_{part}.png", case, result.volume.array, row)
                if job.lesions:
                    told: dict[str, Any] = {"blur": job.blur, "noise_told": job.noise_told, "flips": job.flips, "seed": job.seed}
                    lesions += lesion_table(resolver, truth, scan.name, degradation, noise, cancelled=cancelled, **told)
        except Exception as error:
            errors.append(_of_scan(error, scan))
            report(Log(str(errors[-1]), "warning"))
    failed = [str(error) for error in errors]
    if not rows:
        raise type(errors[-1])(f"{job.data}: no scan could be scored ({'; '.join(failed)})")
    summary = summary_of(
        resolver, rows, failed, {"blur_told": job.blur, "noise_told": job.noise_told, "flips": job.flips, "seed": job.seed}
    )
    if job.lesions:
        summary["lesions"] = lesions
    write_text(target, json.dumps(summary, indent=1) + "\n")
    write_text(target.with_suffix(".md"), markdown(summary) + (lesion_report(lesions) if lesions else ""))
    worst = max((error.exit_code for error in errors if not isinstance(error, VolumeError)), default=0)
    return {**summary, "report": str(target), "exit_code": worst}


def _of_scan(error: Exception, scan: Scan) -> SRGAN3DError:
    """The error that one scan may end in while the others are scored, with its file named; any other is raised."""
    known = typed_error(error)
    if isinstance(known, Cancelled) or not isinstance(known, SRGAN3DError):
        raise error
    return known if scan.name in str(known) else type(known)(f"{scan.path}: {known}")


def summary_of(resolver: SuperResolver, rows: list[dict[str, Any]], failed: list[str], how: dict[str, Any]) -> dict[str, Any]:
    """What report.json holds: which model file was scored `how` (told what of blur and noise, which mirrored views), and every row."""
    model = {"model": resolver.header.name, "sha256": resolver.checkpoint.sha256}
    return {"protocol": PROTOCOL, **model, **how, "version": __version__, "mean": means(rows), "scans": rows, "failed": failed}


def score_one(
    resolver: SuperResolver, truth: Volume, case: Case, blur: str = "auto", noise_told: str = "auto",
    cancelled: Callable[[], bool] = lambda: False, on_progress: Report = lambda event: None, flips: int = 1,
) -> tuple[dict[str, Any], Result]:  # fmt: skip
    """Super-resolve and score the `case` of one scan `truth`. The row says what the model was told of the blur and the noise."""
    factors, degradation = case.factors, case.degradation
    lr = truth.with_array(case.lr, truth.geometry.coarsen(factors))
    name_told = degradation if blur == "known" else blur
    if noise_told == "known":
        noise_told = f"{100 * case.sigma / IntensityScale.fit(case.lr).gain:.4f}"
    options: dict[str, Any] = {"noise": noise_told, "factors_ijk": factors[::-1], "flips": flips}
    result = resolver(replace(lr, notes=()), name_told, on_progress, cancelled, **options)
    row = case.report(result.volume.array)
    true_mtf = Degradation.named(degradation, factors).mtf
    told_mtf = result.info["blur"]["mtf_kji"]
    wrong = result.info["blur"]["source"] == "given" and any(
        f > 1 and abs(a - b) > 0.1 for a, b, f in zip(told_mtf, true_mtf, factors, strict=True)
    )
    warnings = [f"told blur {name_told}, degraded by {degradation}"] if wrong else []
    row |= {key: result.info[key] for key in ("blur", "noise", "device", "precision", "seconds", "tiles")}
    row |= {"true_mtf_kji": list(true_mtf), "blur_told_wrongly": wrong, "warnings": [*warnings, *result.info["warnings"]]}
    return row, result


def condition_of(row: dict[str, Any]) -> str:
    """The degradation of a row and, where there is some, the noise: `box`, `box + 4 % noise`."""
    return condition(row["degradation"], row.get("noise_percent", 0.0))


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By degradation and noise: mean and worst gain, mean gain over the smoothed interpolation, mean SSIM gain, mean PSNR."""
    table = {}
    for name in dict.fromkeys(map(condition_of, rows)):
        mine = [row for row in rows if condition_of(row) == name]
        table[name] = {
            "psnr_gain": float(np.mean([row["psnr_gain"] for row in mine])),
            "worst_psnr_gain": float(min(row["psnr_gain"] for row in mine)),
            "psnr_gain_over_smoothed": float(np.mean([row["psnr_gain_over_smoothed"] for row in mine])),
            "ssim_gain": float(np.mean([row["ssim_gain"] for row in mine])),
            "psnr": float(np.mean([row["table"]["result"]["psnr"] for row in mine])),
        }
    return table


def markdown(summary: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"# {summary['model']}", ""]
    how = f"blur told: {summary['blur_told']}; noise told: {summary['noise_told']}; mirrored views: {summary['flips']}"
    lines += [f"Model file SHA-256 {summary['sha256']}; {how}; SRGAN3D {summary['version']}.", ""]
    lines += [
        summary["protocol"] + ".",
        "",
        "| scan | degradation | best of three, dB | SR, dB | gain, dB | over smoothed, dB | SSIM gain | MTF told (K, J, I) | noise told | "
        "warnings |",
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    for row in summary["scans"]:
        best = row["best_interpolation"]
        before, after = row["table"][best]["psnr"], row["table"]["result"]["psnr"]
        gains = f"{row['psnr_gain']:+.2f} | {row['psnr_gain_over_smoothed']:+.2f} | {row['ssim_gain']:+.4f}"
        words = f"{blur_in_words(row['blur'])} | {noise_in_words(row['noise'])} | {'; '.join(row['warnings'])}"
        lines.append(f"| {row['scan']} | {condition_of(row)} | {best} {before:.2f} | {after:.2f} | {gains} | {words} |")
    lines += ["", "| degradation | mean gain dB | worst gain dB | mean gain over smoothed dB | mean SSIM gain |", "|---|---|---|---|---|"]
    for name, m in summary["mean"].items():
        gains = f"{m['psnr_gain']:+.2f} | {m['worst_psnr_gain']:+.2f} | {m['psnr_gain_over_smoothed']:+.2f}"
        lines.append(f"| {name} | {gains} | {m['ssim_gain']:+.4f} |")
    return "\n".join(lines) + "\n"


def picture(path: Path, case: Case, sr: np.ndarray, row: dict[str, Any]) -> None:
    """The comparison of one case."""
    best = case.best_interpolation
    captions = {
        name: f"{row['table'][key]['psnr']:.2f} dB, SSIM {row['table'][key]['ssim']:.3f}" for name, key in ((best, best), ("SR", "result"))
    }
    images = {best: interpolate(case.lr, case.factors, best), "SR": sr, "HR": case.hr}
    comparison(path, f"{case.name}, {case.condition} x{'x'.join(map(str, case.factors))}", images, case.lr, case.factors, captions)
