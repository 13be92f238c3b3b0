"""Make a trained generator a shipped model: python benchmarks/ship_model.py RUN/model.safetensors NAME --reports auto.json known.json ...

Writes SRGAN3DLib/models/NAME.safetensors, its header completed with the figures of `srgan3d evaluate` reports, and the card NAME.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.checkpoint_header import MODELS_FOLDER, CheckpointHeader, file_hash
from SRGAN3DLib.evaluation.evaluation import means
from SRGAN3DLib.networks.checkpoint import Checkpoint

CITATIONS = (
    "Sanchez I., Vilaplana V.: Brain MRI super-resolution using 3D generative adversarial networks, arXiv 1812.11440.",
    "Hanke M. et al., Scientific Data 1:140003 (2014) (studyforrest).",
    "Lesjak Z. et al., Neuroinformatics (2017) (open_ms_data, CC-BY).",
)


def figures(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and worst gains by what the model was told of the blur, rounded as the card shows them."""
    told: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        name = report["blur_told"] + (f", {report['flips']} flips" if report.get("flips", 1) > 1 else "")
        name += f", noise {report['noise_told']}" if report.get("noise_told", "auto") != "auto" else ""
        told.setdefault(name, []).extend(report["scans"])
    by_told = {name: {k: {n: round(v, 4) for n, v in m.items()} for k, m in means(rows).items()} for name, rows in told.items()}
    scans = {name: sorted({row["scan"] for row in rows}) for name, rows in told.items()}
    return {"protocol": reports[0]["protocol"], "data": scans, "precision": reports[0]["scans"][0]["precision"], "by_blur_told": by_told}


def card(header: CheckpointHeader, sha256: str) -> str:
    g, metrics = header.generator, header.metrics
    low, high = header.spacing_range_mm
    lines = [f"# {header.name}", ""]
    lines += [
        f"{' x '.join(map(str, reversed(g.factors)))} super-resolution of {', '.join(header.contrasts)} heads; created {header.created}.",
        "",
    ]
    lines += [f"- **File**: `{header.name}.safetensors`, SHA-256 `{sha256}`, licence {header.licence}."]
    kind = f"{g.features} features, {g.blocks} residual blocks, norm {g.norm}, upsampling {g.upsampling}"
    lines += [
        f"- **Network**: {kind}, interpolation residual {g.interpolation_residual}, told the blur {g.blur_aware}, "
        f"told the noise {g.noise_aware}, made to give the scan back {header.back_projection}."
    ]
    made_for = f"{header.degradation.kind} blur (box, gaussian, k-space, and widths between)"
    lines += [f"- **Made for**: {made_for}, LR spacing {low:.2f} to {high:.2f} mm."]
    lines += ["- **Not for**: diagnosis. What it adds is inferred, not measured."]
    training = header.training
    lines += [f"- **Trained by**: `{training['command']}`"]
    lines += [f"- **Note**: {training['note']}"] if training["note"] else []
    lines += ["", "| training scan | subject | licence |", "|---|---|---|"]
    lines += [f"| {d['file']} | {d['subject']} | {d['licence']} |" for d in header.training_data]
    lines += ["", f"Measured in {metrics['precision']}. {metrics['protocol']}.", ""]
    lines += [f"- Blur {told}: {', '.join(scans)}." for told, scans in metrics["data"].items()] + [""]
    heads = ("told", "degradation", "mean gain, dB", "worst gain, dB", "over the smoothed cubic, dB", "mean SSIM gain", "mean PSNR, dB")
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for told, table in metrics["by_blur_told"].items():
        for kind, m in table.items():
            gains = f"{m['psnr_gain']:+.2f} | {m['worst_psnr_gain']:+.2f} | {m['psnr_gain_over_smoothed']:+.2f} | {m['ssim_gain']:+.4f}"
            lines.append(f"| {told} | {kind} | {gains} | {m['psnr']:.2f} |")
    lines += ["", "Choosing the step on these validation scans makes the figures a little kind to the model.", "", "Cite:", ""]
    return "\n".join(lines + [f"- {c}" for c in CITATIONS]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    parser.add_argument("--reports", type=Path, nargs="+", required=True)
    parser.add_argument("--command", required=True, help="the training command, for the card")
    parser.add_argument("--half", action="store_true", help="weights in fp16: half the size")
    parser.add_argument("--note", default="", help="what the command alone does not tell")
    args = parser.parse_args()
    trained = Checkpoint.load(args.checkpoint)
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in args.reports]
    for path, report in zip(args.reports, reports, strict=True):
        if report["sha256"] != trained.sha256:
            raise SystemExit(f"{path}: is a report of another file than {args.checkpoint}")
    training = {**trained.header.training, "command": args.command, "note": args.note}
    header = replace(trained.header, name=args.name, training=training, metrics=figures(reports), citation=" ".join(CITATIONS))
    MODELS_FOLDER.mkdir(exist_ok=True)
    target = MODELS_FOLDER / f"{args.name}.safetensors"
    tensors = {name: t.half() if args.half and t.is_floating_point() else t for name, t in trained.tensors.items()}
    Checkpoint(header, tensors).save(target)
    (MODELS_FOLDER / f"{args.name}.md").write_text(card(header, file_hash(target)), encoding="utf-8")
    print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
