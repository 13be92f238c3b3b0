"""The synthesis tables, by one command: python benchmarks/synthesis_table.py DATA WORK [--only NAME ...] [--score]

DATA is a folder with `paired/` and `train/` (open_ms_data patients with T1w, T2w and FLAIR; the Visible Human's head with T1w, T2w and
CT). Leave-one-patient-out for T1w + T2w -> FLAIR and T1w -> T2w, and the Visible Human with slabs of slices kept apart, both ways. Each
fold is an ordinary run of `srgan3d train --task synthesis` in WORK; the same command again goes on where it was stopped. It ends with
WORK/synthesis.json, benchmarks/results/synthesis.md and one picture a subject in WORK/pictures.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.configs import GeneratorConfig, TrainConfig
from SRGAN3DLib.contract.events import Event, Log
from SRGAN3DLib.contract.synthesis import InputImage, OutputImage, SynthesisConfig, ct_output

PATIENTS = {"x07": "paired", "x19": "paired", "x26": "train", "l01": "train"}
ONE_GRID = (
    "x07",
    "x19",
    "x26",
)  # brains on the MNI grid; l01 is a whole head in thick slices
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
    found.append(Fold("flair-x07-one-grid", ("T1w", "T2w"), "FLAIR", tuple(p for p in ONE_GRID if p != "x07"), ("x07",), 1000))
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


# ---------------------------------------------------------------- scores
def score(data: Path, work: Path, fold: Fold) -> list[dict[str, Any]]:
    """One row for each subject that the fold never saw, and its picture in WORK/pictures."""
    from SRGAN3DLib.evaluation.synthesis_evaluation import score_pair
    from SRGAN3DLib.inference.synthesizer import Synthesizer
    from SRGAN3DLib.volumes.pairs import find_pairs

    pictures = work / "pictures" / fold.name
    pictures.mkdir(parents=True, exist_ok=True)
    synthesizer = Synthesizer.load(work / fold.name / "model.safetensors", "cpu", "fp32")
    pairs = find_pairs(table_of_pairs(data, work, fold, fold.test, f"{fold.name}-test"), fold.inputs)
    return [
        {"fold": fold.name, "inputs": fold.inputs, "target": fold.target, "train": fold.train, "steps": fold.steps}
        | score_pair(synthesizer, pair, pictures=pictures)
        for pair in pairs
    ]


def across_subjects(data: Path, work: Path, fold: Fold) -> dict[str, Any]:
    """The CT model on another head: its bone above 300 HU against that head's skull mask (Dice)."""
    from SRGAN3DLib.evaluation.synthesis import BONE_HU, dice
    from SRGAN3DLib.inference.synthesizer import Synthesizer
    from SRGAN3DLib.networks.checkpoint import Checkpoint
    from SRGAN3DLib.volumes.volume import Volume, read_labels

    trained = Checkpoint.load(work / fold.name / "model.safetensors")
    header = replace(trained.header, working_spacing_kji_mm=(5.0, 0.8594, 0.8594))  # the grid of the head it was trained on
    head = Volume.read(data / "train" / "seg3d-brain_T1w.nii.gz")
    skull = read_labels(data / "paired" / "seg3d-brain_skullmask.nii.gz").array > 0.5
    made = Synthesizer(replace(trained, header=header), "cpu", "fp32")({"T1w": head}).volume
    made.write(work / f"{fold.name}_on_seg3d.nii.gz", dtype="int16")
    return {"fold": fold.name, "head": "seg3d-brain", "bone_dice": dice(made.array > BONE_HU, skull)}


def report(work: Path, rows: list[dict[str, Any]], across: list[dict[str, Any]], result: Path) -> None:
    """WORK/synthesis.json and the table for people."""
    from SRGAN3DLib.evaluation.synthesis_evaluation import PROTOCOL, table_row

    (work / "synthesis.json").write_text(
        json.dumps({"protocol": PROTOCOL, "rows": rows, "across": across}, indent=1) + "\n", encoding="utf-8"
    )
    lines = ["# Synthesis: what was measured", "", "Made by `python benchmarks/synthesis_table.py DATA WORK`.", PROTOCOL + ".", ""]
    for target in dict.fromkeys(row["target"] for row in rows):
        hu = target == "CT"
        mine = [row for row in rows if row["target"] == target]
        lines += [f"## {target} from {' and '.join(mine[0]['inputs'])}" + (" (HU)" if hu else ""), ""]
        more = " air | soft tissue | bone | bone Dice |" if hu else ""
        lines.append(
            "| left out (trained on; steps) | MAE | best constant | best mapping | MAE / mapping | PSNR, dB | SSIM | MS-SSIM |" + more
        )
        lines.append("|---|---|---|---|---|---|---|---|" + ("---|---|---|---|" if hu else ""))
        lines += [table_row(f"{row['subject']} ({', '.join(row['train'])}; {row['steps']})", row, hu) for row in mine]
        lines.append("")
    lines += ["## Bone on another head", "", "| model | head | Dice of bone above 300 HU and the skull mask |", "|---|---|---|"]
    lines += [f"| {row['fold']} | {row['head']} | {row['bone_dice']:.3f} |" for row in across]
    result.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="some of the folds, by name, in this order")
    parser.add_argument("--score", action="store_true", help="score the folds that are trained, and train none")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    chosen = [fold for fold in folds() if not args.only or fold.name in args.only]
    chosen.sort(key=lambda fold: args.only.index(fold.name) if args.only else 0)
    if not args.score:
        for fold in chosen:
            train(args.data, args.work, fold)
    whole = [fold for fold in chosen if fold.test and (args.work / fold.name / "model.safetensors").exists()]
    rows = [row for fold in whole for row in score(args.data, args.work, fold)]
    across = [across_subjects(args.data, args.work, fold) for fold in whole if fold.target == "CT"]
    report(args.work, rows, across, Path(__file__).parent / "results" / "synthesis.md")


if __name__ == "__main__":
    main()
