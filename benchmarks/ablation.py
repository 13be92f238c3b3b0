"""What raises quality per compute: python benchmarks/ablation.py --data TRAIN --validation VALIDATION [--steps 300] [--only NAME ...]

Trains one small network per row of `VARIANTS` (same seed, same number of steps and voxels a step), scores each on the central
boxes of the validation scans under box, gaussian and kspace blur, told the blur it has (known), what the scan says (estimated), nothing
(unknown) and another blur (wrong), and writes results/ablation.json and the table results/ablation.md.
A run already whole in --out is not repeated.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from SRGAN3DLib.contract.configs import TrainConfig, training_preset
from SRGAN3DLib.contract.job_values import DEGRADATIONS
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.training.log import read_log
from SRGAN3DLib.training.trainer import Trainer
from SRGAN3DLib.training.validation import validation_cases
from SRGAN3DLib.volumes.geometry import Geometry
from SRGAN3DLib.volumes.volume import Volume

WRONG = {"box": "kspace", "gaussian": "kspace", "kspace": "gaussian"}
BEGUN = {"unknown_blur": 0.2, "mtf_error": 0.2}  # as the shipped models were begun; their later runs were told the blur more exactly
TOLD: dict[str, Callable[[str], str]] = {
    "known": lambda kind: kind, "estimated": lambda kind: "auto", "unknown": lambda kind: "unknown", "wrong": WRONG.__getitem__,
}  # fmt: skip


def _network(**changes: object) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, generator=replace(config.generator, **changes))  # type: ignore[arg-type]


def _training(**changes: object) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, **changes)  # type: ignore[arg-type]


def _only(kind: str) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, degradation=replace(config.degradation, kind=kind))  # type: ignore[arg-type]


VARIANTS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "fast (as shipped)": _training(),
    "blind to the blur": _network(blur_aware=False),
    "gaussian blur only": _only("gaussian"),
    "never told 'unknown'": _training(unknown_blur=0.0),
    "told the exact blur always": _training(unknown_blur=0.0, mtf_error=0.0),
    "no interpolation residual": _network(interpolation_residual=False),
    "batch norm": _network(norm="batch"),
    "resize-conv upsampling": _network(upsampling="resize-conv"),
    "L1": _training(content="l1"),
    "MSE": _training(content="mse"),
    "wider: 48 features": _network(features=48),
    "deeper: 10 blocks": _network(blocks=10),
    "patches half as wide, 8 times as many": lambda c: replace(c, patch=c.patch // 2, batch=8 * c.batch),
}


def gains(model: Path, cases: list[Case], flips: int = 1, back: bool = True) -> dict[str, dict[str, float]]:
    """Told -> blur -> mean gain over the best interpolation, dB; the mean over `flips` mirrored views, back-projected or not."""
    resolver = SuperResolver.load(model, "cpu")
    table: dict[str, dict[str, list[float]]] = {told: {kind: [] for kind in DEGRADATIONS} for told in TOLD}
    for case in cases:
        lr = Volume(case.lr, Geometry(case.lr.shape, np.diag([2.0, 2, 2, 1])))
        for told, word in TOLD.items():
            result = resolver(lr, word(case.degradation), back_projection=back, flips=flips)
            table[told][case.degradation].append(case.gain(result.volume.array))
    return {told: {kind: float(np.mean(values)) for kind, values in row.items()} for told, row in table.items()}


def markdown(rows: list[dict], facts: str) -> str:
    lines = [
        "# Ablation",
        "",
        facts,
        "",
        "Gain over the best of linear, cubic and Lanczos, dB, by what the network was told of the blur.",
        "",
    ]
    lines += [
        "| variant | parameters | step, s | " + " | ".join(f"{t}: b / g / k" for t in TOLD) + " |",
        "|---|---|---|" + "---|" * len(TOLD),
    ]
    for row in rows:
        cells = [" / ".join(f"{row['gains'][told][kind]:+.2f}" for kind in DEGRADATIONS) for told in TOLD]
        lines.append(f"| {row['name']} | {row['parameters']} | {row['seconds_a_step']:.2f} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "b box, g gaussian, k kspace; wrong: box and gaussian told kspace, kspace told gaussian.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="the runs' folder (default: runs/ablation)")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--patch", type=int, default=20)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--box", type=int, default=80)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=tuple(VARIANTS), help="these rows alone")
    args = parser.parse_args()
    judged = replace(training_preset("fast", args.data, str(args.out), args.validation), validation_box=args.box)
    cases, rows = list(validation_cases(judged, args.out)), []
    facts = (
        f"`python benchmarks/ablation.py --data train --validation validation/isotropic --steps {args.steps} --patch {args.patch} "
        f"--batch {args.batch} --box {args.box}`; seed 0, x2, torch {torch.__version__}, {platform.machine()}, from scratch, short runs: "
        f"they rank beginnings, not ends. Told the blur to within {BEGUN['mtf_error']}, nothing of it in {BEGUN['unknown_blur']} of the "
        "patches, unless the row says otherwise. Step times are of a shared machine."
    )
    for number, (name, change) in enumerate(VARIANTS.items()):
        if args.only and name not in args.only:
            continue
        run = args.out / f"{number:02}"
        base = training_preset("fast", args.data, str(run))
        base = replace(base, steps=args.steps, gan_steps=0, patch=args.patch, batch=args.batch, validate_every=10**6)
        config = change(replace(base, **BEGUN))  # type: ignore[arg-type]
        begun = time.monotonic()
        trainer = Trainer(config)
        trainer.fit()
        times = [step["seconds"] for step in read_log(run / "metrics.jsonl")]
        parameters = sum(p.numel() for p in trainer.generator.parameters())
        row = {"name": name, "parameters": parameters, "seconds_a_step": float(np.median(times))}
        rows.append(row | {"gains": gains(run / "model.safetensors", cases)})
        if number == 0:
            rows.append(row | {"name": f"{name}, no back-projection", "gains": gains(run / "model.safetensors", cases, back=False)})
            rows.append(row | {"name": f"{name}, mean of 8 flips", "gains": gains(run / "model.safetensors", cases, flips=8)})
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
        args.results.mkdir(parents=True, exist_ok=True)
        (args.results / "ablation.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
        (args.results / "ablation.md").write_text(markdown(rows, facts), encoding="utf-8")
    print(markdown(rows, facts))


if __name__ == "__main__":
    main()
