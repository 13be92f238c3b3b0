"""Pairs on disk: what `--pairs` may name. Of each subject the input images, the target image and, where there is one, a body mask.

Three layouts: a CSV (`subject, T1w, T2w, target, mask`, paths relative to it), a folder as SynthRAD 2023 and 2025 lay it out
(`Task1/brain/1BA001/{mr,ct,mask}.nii.gz`, `Task1/HN/1HNA001/{mr,ct,mask}.mha`; Task2 has `cbct`), and BIDS (`sub-*/**/sub-*_T1w.nii.gz`).
Files are found here; `training/laid_pair.py` reads them and `training/pair_checks.py` judges them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from SRGAN3DLib.contract.errors import VolumeError

from .volume import READABLE

NO_IMAGE = ("subject", "target", "mask", "licence")  # columns of a CSV that are no input
SYNTHRAD_INPUTS = ("mr", "cbct")
LAYOUTS = "a .csv (subject, one column an input, target, mask), a folder as SynthRAD's (case/mr, ct, mask), or a BIDS dataset"


@dataclass(frozen=True)
class Pair:
    """The files of one subject: `inputs` by name, in order. Of one with a `problem` no more than that is known."""

    subject: str
    inputs: dict[str, Path] = field(default_factory=dict)
    target: Path | None = None
    mask: Path | None = None
    licence: str = ""
    problem: str = ""
    subject_source: str = "table"

    @property
    def name(self) -> str:
        return self.subject

    @property
    def contrast(self) -> str:
        return "+".join(self.inputs)

    @property
    def path(self) -> Path:
        """The target's, which stands for the pair in `split.json` and in messages."""
        return self.target or Path(self.subject)

    @property
    def files(self) -> list[Path]:
        return [*self.inputs.values(), *(path for path in (self.target, self.mask) if path is not None)]

    def size(self) -> int:
        """Bytes on disk of all its files; 0 for a file that is gone."""
        return sum(path.stat().st_size for path in self.files if path.is_file())


def find_pairs(data: str | Path, inputs: tuple[str, ...] = (), target: str = "") -> list[Pair]:
    """The pairs that `data` names, sorted by subject (a CSV: in its order).

    `inputs` picks and orders the images by name; empty takes all of a CSV, `mr` of SynthRAD, and of BIDS those of the first subject.
    `target` names the target's column or BIDS suffix; empty takes `target`, SynthRAD's `ct`, BIDS's `ct`. Raises `VolumeError` where
    there is nothing, or a table cannot be read; a pair without all its files is listed with its problem.
    """
    data = Path(data)
    if not data.exists():
        raise VolumeError(f"{data}: no such folder or file; pairs are {LAYOUTS}")
    if data.is_file():
        if data.suffix.lower() != ".csv":
            raise VolumeError(f"{data}: not a table of pairs; pairs are {LAYOUTS}")
        pairs = _from_csv(data, inputs, target or "target")
    else:
        pairs = _from_synthrad(data, inputs, target or "ct") or _from_bids(data, inputs, target or "ct")
    if not pairs:
        raise VolumeError(f"{data}: holds no pair; pairs are {LAYOUTS}")
    seen: dict[str, Pair] = {}
    for pair in pairs:
        if pair.subject in seen:
            raise VolumeError(f"{data}: subject {pair.subject!r} stands there twice; give every pair a subject of its own")
        seen[pair.subject] = pair
    return pairs


def _from_csv(table: Path, inputs: tuple[str, ...], target: str) -> list[Pair]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or ()]
            rows = [{key.strip(): (value or "").strip() for key, value in row.items() if key is not None} for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise VolumeError(f"{table}: cannot be read ({error})") from None
    names = inputs or tuple(name for name in columns if name not in (*NO_IMAGE, target))
    for name in ("subject", target, *names):
        if name not in columns:
            raise VolumeError(f"{table}: has no column {name!r}; it has {', '.join(columns) or 'none'}")
    if not names:
        raise VolumeError(f"{table}: has no column of an input image, such as T1w; it has {', '.join(columns)}")
    return [_row(table, number, row, names, target) for number, row in enumerate(rows, 2)]


def _row(table: Path, number: int, row: dict[str, str], names: tuple[str, ...], target: str) -> Pair:
    subject = row["subject"] or f"line {number}"
    missing = [name for name in ("subject", *names, target) if not row[name]]
    if missing:
        return Pair(subject, problem=f"{table}: line {number} has no {', '.join(missing)}")
    mask = table.parent / row["mask"] if row.get("mask") else None
    pair = Pair(subject, {n: table.parent / row[n] for n in names}, table.parent / row[target], mask, row.get("licence", ""))
    return _existing(pair)


def _existing(pair: Pair) -> Pair:
    gone = [path for path in pair.files if not path.exists()]
    return Pair(pair.subject, problem=f"{gone[0]}: no such file (subject {pair.subject})") if gone else pair


def _from_synthrad(folder: Path, inputs: tuple[str, ...], target: str) -> list[Pair]:
    """Every folder at any depth that holds an image called as the target beside one called as an input."""
    pairs = []
    for case in sorted({path.parent for path in folder.rglob("*") if _stem(path) == target.lower()}):
        images = {stem: path for path in sorted(case.iterdir()) if (stem := _stem(path))}
        names = inputs or tuple(name for name in SYNTHRAD_INPUTS if name in images) or SYNTHRAD_INPUTS[:1]
        missing = [name for name in names if name.lower() not in images]
        if missing:
            pairs.append(Pair(case.name, problem=f"{case}: has no image called {', '.join(missing)} beside {target}"))
        else:
            found = {name: images[name.lower()] for name in names}
            pairs.append(Pair(case.name, found, images[target.lower()], images.get("mask")))
    return pairs


def _from_bids(folder: Path, inputs: tuple[str, ...], target: str) -> list[Pair]:
    """Subjects, or sessions of them, by the suffixes of their files. Source: BIDS 1.9; a CT has the suffix `ct` by common use."""
    pairs: list[Pair] = []
    names = inputs
    for subject in sorted(path for path in folder.glob("sub-*") if path.is_dir()):
        for place in sorted(path for path in subject.glob("ses-*") if path.is_dir()) or [subject]:
            label = subject.name if place == subject else f"{subject.name}_{place.name}"
            files = sorted(path for path in place.rglob("*") if _stem(path) and not path.name.startswith("."))
            by_suffix: dict[str, list[Path]] = {}
            for path in files:
                by_suffix.setdefault(_stem(path).rsplit("_", 1)[-1], []).append(path)
            if not names and target.lower() in by_suffix:
                names = tuple(_suffix_as_written(by_suffix[s][0]) for s in by_suffix if s not in (target.lower(), "mask"))
            pairs.append(_bids_pair(label, place, by_suffix, names, target))
    return pairs


def _bids_pair(label: str, place: Path, by_suffix: dict[str, list[Path]], names: tuple[str, ...], target: str) -> Pair:
    for name in (*names, target):
        found = by_suffix.get(name.lower(), [])
        if len(found) != 1:
            shown = f"{len(found)} images" if found else "no image"
            return Pair(label, problem=f"{place}: {shown} with the suffix {name}; exactly one is needed")
    if not names:
        return Pair(label, problem=f"{place}: no image beside {target}")
    mask = by_suffix.get("mask", [None])[0]
    return Pair(label, {name: by_suffix[name.lower()][0] for name in names}, by_suffix[target.lower()][0], mask)


def _stem(path: Path) -> str:
    """The file's name in lower case without a volume's extension; empty for anything else."""
    ending = next((ending for ending in READABLE if path.name.lower().endswith(ending)), "")
    return path.name.lower()[: -len(ending)] if ending else ""


def _suffix_as_written(path: Path) -> str:
    lower = _stem(path)
    return path.name[: len(lower)].rsplit("_", 1)[-1]
