"""The synthesis tables, by one command: python benchmarks/synthesis_table.py DATA WORK [--only NAME ...] [--train] [--score]

DATA is a folder with `paired/` and `train/` (open_ms_data patients with T1w, T2w and FLAIR; the Visible Human's head with T1w, T2w and
CT). Leave-one-patient-out for T1w + T2w -> FLAIR and T1w -> T2w, and the Visible Human with slabs of slices kept apart, both ways. Each
fold is an ordinary `srgan3d train --task synthesis` run in WORK; the same command again goes on where it was stopped. `--score` writes
WORK/synthesis.json, benchmarks/results/synthesis.md and one picture a fold.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.configs import GeneratorConfig, TrainConfig
from SRGAN3DLib.contract.events import Event, Log
from SRGAN3DLib.contract.synthesis import InputImage, OutputImage, SynthesisConfig, ct_output

PATIENTS = {"x07": "paired", "x19": "paired", "x26": "train", "l01": "train"}
# Slices of the Visible Human's T1w, in slabs with three unused slices between: A and B take turns from the neck to the vertex.
SLABS = {"A1": (0, 6), "B1": (9, 15), "A2": (18, 24), "B2": (27, 32), "low": (0, 14), "high": (17, 32)}
KNOWN = (0, 32)


@dataclass(frozen=True)
class Fold:
    """One training run: `test` names the subjects that it never sees."""

    name: str
    inputs: tuple[str, ...]
    target: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    steps: int


def folds() -> list[Fold]:
    found = []
    for name, inputs, target in (("flair", ("T1w", "T2w"), "FLAIR"), ("t2", ("T1w",), "T2w")):
        for left_out in PATIENTS:
            rest = tuple(patient for patient in PATIENTS if patient != left_out)
            found.append(Fold(f"{name}-{left_out}", inputs, target, rest, (left_out,), 1200))
    for name, train, test in (("a", ("A1", "A2"), ("B1", "B2")), ("b", ("B1", "B2"), ("A1", "A2"))):
        found.append(Fold(f"ct-{name}", ("T1w",), "CT", train, test, 1000))
    for train, test in (("low", "high"), ("high", "low")):
        found.append(Fold(f"ct-{train}", ("T1w",), "CT", (train,), (test,), 700))
    found.append(Fold("flair-all", ("T1w", "T2w"), "FLAIR", tuple(PATIENTS), (), 1200))
    found.append(Fold("ct-all", ("T1w",), "CT", ("whole",), (), 700))
    return found


def image(data: Path, work: Path, subject: str, contrast: str) -> Path:
    """The file of one image; a slab of the Visible Human is cut out of the scan into WORK."""
    if subject in PATIENTS:
        return data / PATIENTS[subject] / f"openms-{subject}_{contrast}.nii.gz"
    source = data / "paired" / ("vhf_CT_onT1.nii.gz" if contrast == "CT" else f"vhf_{contrast}.nii.gz")
    start, stop = SLABS.get(subject, KNOWN)
    path = work / "slabs" / f"vhf-{subject}_{contrast}.nii.gz"
    if not path.exists():
        from SRGAN3DLib.volumes.volume import Volume

        path.parent.mkdir(parents=True, exist_ok=True)
        volume = Volume.read(source)
        box = ((start, stop), *((0, n) for n in volume.array.shape[1:]))
        volume.with_array(volume.array[start:stop], volume.geometry.crop(box)).write(path, dtype="input")
    return path


def table_of_pairs(data: Path, work: Path, fold: Fold, subjects: tuple[str, ...], name: str) -> Path:
    path = work / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", *fold.inputs, "target", "licence"])
        for subject in subjects:
            licence = "CC-BY" if subject in PATIENTS else "public domain"
            writer.writerow([subject, *(image(data, work, subject, c) for c in (*fold.inputs, fold.target)), licence])
    return path


def configuration(data: Path, work: Path, fold: Fold) -> TrainConfig:
    """The run of a fold: small enough for one processor core."""
    inputs = tuple(InputImage(name, name) for name in fold.inputs)
    pairs = table_of_pairs(data, work, fold, fold.train, fold.name)
    network: dict[str, Any] = {"factors": (1, 1, 1), "input_channels": len(inputs), "upsampling": "subpixel", "norm": "batch"}
    if fold.target == "CT":
        generator = GeneratorConfig(coarse=(1, 4, 4), blocks=4, **network)
        synthesis = SynthesisConfig(inputs, ct_output(), patch_kji=(5, 96, 96), flips="left-right", outside_weight=0.05)
    else:
        generator = GeneratorConfig(features=16, blocks=4, **network)
        synthesis = SynthesisConfig(
            inputs, OutputImage(fold.target), (1.0, 1.0, 1.0), (32, 32, 32), contrast_spread=0.08, bias=0.1, blurred=0.1, noise=0.02
        )
    return TrainConfig(
        str(pairs), str(work / fold.name), generator=generator, synthesis=synthesis, steps=fold.steps, gan_steps=0, batch=2,
        learning_rate=2e-3, content="l1", ema=0.99, validate_every=fold.steps, save_every=100, preset="synthesis", device="cpu",
        precision="bf16",
    )  # fmt: skip


def train(data: Path, work: Path, fold: Fold) -> None:
    from SRGAN3DLib.training.synthesis_trainer import SynthesisTrainer

    def say(event: Event) -> None:
        if isinstance(event, Log):
            print(f"{fold.name}: {event.message}", flush=True)

    config = configuration(data, work, fold)
    done = work / fold.name / "report.md"
    if not done.exists():
        SynthesisTrainer(config, say).fit()
        print(f"{fold.name}: trained", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="some of the folds, by name")
    parser.add_argument("--steps", type=float, default=1.0, help="times the usual number of steps")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    chosen = [fold for fold in folds() if not args.only or fold.name in args.only]
    for fold in sorted(chosen, key=lambda fold: args.only.index(fold.name) if args.only else 0):
        train(args.data, args.work, replace(fold, steps=round(args.steps * fold.steps)))


if __name__ == "__main__":
    main()
