"""Scans on disk: finds and describes what `--data` may name. Of the files themselves only headers are read.

Subject, contrast, licence and true axes come from a table where there is one, else from names and the spacing (`subjects`).
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import VolumeError

from .dicom_series import DicomSeries, matching, series_in
from .geometry import Geometry
from .subjects import Subject, guess_subjects
from .volume import READABLE, Volume, read_geometry

COLUMNS = ("file", "subject", "contrast", "licence", "truth_axes")  # of a table; only `file` must be there, other columns are ignored
TABLE = "volumes.csv"
TRUTH_RATIO = 1.5  # times the smallest spacing: a coarser axis is no ground truth, unless a table says that it is
BIDS_SUFFIXES = ("T1w", "T2w", "FLAIR", "PDw", "T2starw", "T2star", "inplaneT1", "inplaneT2", "PDT2", "PD", "FLASH", "angio")
_CONTRASTS = {suffix.lower(): suffix for suffix in BIDS_SUFFIXES} | {"t1": "T1w", "t2": "T2w", "pd": "PDw"}


@dataclass(frozen=True)
class Scan:
    """A scan on disk. `name` is its path below the folder of the data. A scan with a `problem` cannot be read, for that reason.

    `truth_kji`: the array axes on which it is ground truth at its own spacing; None: no table says so, its spacing tells (`truth`).
    `subject_source`: how the subject was found (a key of `subjects.SOURCES`). `series`: which DICOM series of the folder it is, as in
    `Volume.read`; None: the folder's only one, or no DICOM. `label`: its number (or UID) where the folder holds others, so that their
    names differ.
    """

    path: Path
    name: str
    subject: str
    contrast: str = ""
    licence: str = ""
    truth_kji: tuple[int, ...] | None = None
    problem: str = ""
    subject_source: str = ""
    series: str | None = None
    label: str = ""

    def truth(self, spacing_kji_mm: tuple[float, ...]) -> tuple[int, ...]:
        """The axes on which it is ground truth: as stated, else those no coarser than 1.5 times the finest."""
        return thin_axes(spacing_kji_mm) if self.truth_kji is None else self.truth_kji

    def geometry(self) -> Geometry:
        """Its grid, from the header. Raises `VolumeError`."""
        self._check()
        return read_geometry(self.path, self.series)

    def read(self) -> Volume:
        """Raises `VolumeError`, `ResourceError`."""
        self._check()
        return Volume.read(self.path, self.series)

    def size(self) -> int:
        """Bytes on disk, of a DICOM folder those of all its files; 0 where there is nothing."""
        try:
            files = [path for path in self.path.rglob("*") if path.is_file()] if self.path.is_dir() else [self.path]
            return sum(path.stat().st_size for path in files)
        except OSError:
            return 0

    def _check(self) -> None:
        if self.problem:
            raise VolumeError(f"{self.path}: {self.problem}")


@dataclass(frozen=True)
class _Found:
    """A path that holds a scan; `series`: which one of a DICOM folder; `of_many`: the folder holds others, so its name is not enough."""

    path: Path
    problem: str = ""
    series: str | None = None
    of_many: str = ""
    row: dict[str, str] | None = None
    dicom: tuple[DicomSeries, ...] = ()


def find_scans(data: str | Path, series: str | None = None, *, subject_pattern: str | None = None) -> list[Scan]:
    """The scans that `data` names, sorted by path, or in the order of the list. The one search of super-resolve, evaluate and train.

    A file; a DICOM folder; a folder of volumes, DICOM folders and BIDS datasets at any depth; a CSV with a column `file`; a `.txt`
    with a path a line (both relative to where they lie). A `volumes.csv` in the folder or just above it describes its scans. Absent
    files are listed, too: reading them says so. `series` chooses the DICOM series, as in `Volume.read`; a series whose files lie in
    several folders is one scan. `subject_pattern` (see `subjects.guess_subjects`) finds the subjects that no table names. Raises
    `VolumeError` if there is nothing, if no series fits, or if a table cannot be read, `JobError` for a bad pattern.
    """
    data = Path(data)
    if not data.exists():
        raise VolumeError(f"{data}: no such folder or file")
    listed = data.suffix.lower() or "." if data.is_file() else ""
    base = data if data.is_dir() else data.parent
    if listed == ".csv":
        found = [_Found(base / row["file"], "" if row["file"] else "a row without a file", series, row=row) for row in _read_table(data)]
    else:
        if listed == ".txt":
            found = [_Found(base / line, series=series) for line in _read_list(data)]
        else:
            found = [_Found(data, series=series)] if listed else _by_series(list(_walk(data, set())), data, series)
        rows = _rows_about(data)
        found = [replace(one, row=rows.get(one.path.resolve())) for one in found]
    if not found:
        raise VolumeError(f"{data}: holds no volume ({', '.join(READABLE)} or a folder of DICOM files)")
    scans, seen = [], set()
    subjects = guess_subjects([one.path for one in found], base, subject_pattern)
    for one, subject in zip(found, subjects, strict=True):
        place = (one.path.resolve(), one.of_many)
        scans.append(_scan(one, base, one.problem or ("listed twice" if place in seen else ""), subject))
        seen.add(place)
    return scans


def _by_series(found: list[_Found], data: Path, wanted: str | None) -> list[_Found]:
    """The finds of a walk, sorted; of its DICOM folders one for each series that is alone in its folder, or spread over several.

    A folder of several series stays one find, whose reading lists them, unless `wanted` chooses.
    """
    homes: dict[str, list[Path]] = {}
    for one in found:
        for series in one.dicom:
            homes.setdefault(series.uid, []).append(one.path)
    every = {series.uid: series for one in found for series in one.dicom}
    chosen, turn = _chosen(list(every.values()), data, wanted)
    done, seen = [], set()
    for one in found:
        own = [series for series in one.dicom if len(homes[series.uid]) == 1 or not series.uid]
        if not one.dicom:
            done.append(one)
        elif len(own) == 1 and own[0].uid in chosen:
            done.append(_Found(one.path, series=(own[0].uid + turn) or None))
        elif own and wanted is None:
            done.append(_Found(one.path))
        elif own:
            done += [_Found(one.path, series=series.uid + turn, of_many=series.key) for series in own if series.uid in chosen]
        for series in one.dicom:
            if series not in own and series.uid in chosen and series.uid not in seen:
                seen.add(series.uid)
                top = Path(os.path.commonpath([str(home) for home in homes[series.uid]]))
                done.append(_Found(top, series=series.uid + turn, of_many=series.key))
    return sorted(done, key=lambda one: (one.path, one.of_many))


def _chosen(series: list[DicomSeries], data: Path, wanted: str | None) -> tuple[set[str], str]:
    """(UIDs that fit, `:VOLUME` or nothing). Where there is one series only, its reading tells whether it fits."""
    if wanted is None or not series:
        return {one.uid for one in series}, ""
    fitting, turn = matching(series, wanted), ""
    if not fitting and (parts := re.fullmatch(r"(.+)(:\d+)", wanted)):
        fitting, turn = matching(series, parts[1]), parts[2]
    if not fitting:
        raise VolumeError(f"{data}: no DICOM series fits --series {wanted!r}; there are: {'; '.join(one.name for one in series[:12])}")
    return {one.uid for one in fitting}, turn


def thin_axes(spacing_kji_mm: tuple[float, ...]) -> tuple[int, ...]:
    """The array axes that are not much coarser than the finest."""
    return tuple(axis for axis, mm in enumerate(spacing_kji_mm) if mm <= TRUTH_RATIO * min(spacing_kji_mm) * (1 + 1e-6))


def truth_orders(truth_kji: tuple[int, ...], factors: Factors) -> tuple[tuple[int, int, int], ...]:
    """The orders of the array's axes (as in `AxisOrder.axes`) in which every axis that `factors` enlarge is ground truth.

    The order of the array itself comes first, if it is one of them.
    """
    orders = itertools.permutations(range(3))
    return tuple(o for o in orders if all(f == 1 or axis in truth_kji for f, axis in zip(factors, o, strict=True)))  # type: ignore[misc]


def in_truth_order(scan: Scan, volume: Volume, factors: Factors) -> tuple[Volume, list[int], list[str]]:
    """The volume with its axes in an order that can be judged: (volume, the array axes that `factors` enlarge, warnings).

    It is the first order in which every enlarged axis is ground truth. Where a table leaves no such order, the axes stay as they are if
    the enlarged ones are thin (those of a partly filled k-space, say), with a warning. Else raises `VolumeError`.
    """
    spacing = volume.geometry.spacing_kji_mm
    truth = scan.truth(spacing)
    orders, warnings = truth_orders(truth, factors), []
    enlarged = [axis for axis, f in enumerate(factors) if f > 1]
    if not orders:
        doubtful = [axis for axis in enlarged if axis not in truth]
        if not truth or not set(enlarged) <= set(thin_axes(spacing)):
            raise VolumeError(f"{scan.path}: {no_order(scan, spacing, factors)}")
        orders = ((0, 1, 2),)
        warnings.append(f"enlarged along {', '.join('KJI'[axis] for axis in doubtful)}, where it is not stated to be ground truth")
    return volume if orders[0] == (0, 1, 2) else volume.permute(orders[0]), [orders[0][axis] for axis in enlarged], warnings


def no_order(scan: Scan, spacing_kji_mm: tuple[float, ...], factors: Factors) -> str:
    """Why a scan cannot be ground truth for `factors`, as the end of a message."""
    axes = ", ".join("KJI"[axis] for axis in scan.truth(spacing_kji_mm)) or "no axis"
    source = "its table" if scan.truth_kji is not None else f"spacing {' x '.join(f'{mm:.3g}' for mm in spacing_kji_mm)} mm along K, J, I"
    count = sum(f > 1 for f in factors)
    return f"ground truth along {axes} only ({source}); {count} such ax{'is' if count == 1 else 'es'} must be there"


def _walk(folder: Path, seen: set[Path]) -> Iterator[_Found]:
    """Every volume and DICOM folder at any depth; hidden ones are left out, a BIDS dataset has its own rules."""
    if folder.resolve() in seen:  # links can lead in circles
        return
    seen.add(folder.resolve())
    try:
        children = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "~")))
        if _is_bids(children):
            yield from _walk_bids(folder)
            return
        if series := series_in(folder):
            yield _Found(folder, dicom=tuple(series))
    except OSError as error:
        yield _Found(folder, f"cannot be read ({error.strerror or error})")
        return
    for path in children:
        if path.is_dir():
            yield from _walk(path, seen)
        elif path.name.lower().endswith(READABLE):
            yield _Found(path)


def _is_bids(children: list[Path]) -> bool:
    subjects = [path for path in children if path.name.startswith("sub-") and path.is_dir()]
    named = any(path.name == "dataset_description.json" for path in children)
    return named or any((path / "anat").is_dir() or any(path.glob("ses-*/anat")) for path in subjects)


def _walk_bids(folder: Path) -> Iterator[_Found]:
    """The images of a BIDS dataset's anat/ folders; derivatives/ and sourcedata/ lie elsewhere. Source: BIDS 1.9, Anatomy imaging data."""
    for anat in sorted([*folder.glob("sub-*/anat"), *folder.glob("sub-*/ses-*/anat")]):
        for path in anat.iterdir():
            if not path.name.startswith((".", "~")) and path.name.lower().endswith(READABLE):
                suffix = _stem(path).rsplit("_", 1)[-1]
                known = suffix in BIDS_SUFFIXES
                yield _Found(path, "" if known else f"BIDS suffix {suffix!r}; one of {', '.join(BIDS_SUFFIXES)} must be there")


def _rows_about(data: Path) -> dict[Path, dict[str, str]]:
    """The rows of the nearest `volumes.csv` by file: in the folder (or beside the file), or up to two folders above."""
    for folder in (data, *data.resolve().parents[:2]):
        if (folder / TABLE).is_file():
            return {(folder / row["file"]).resolve(): row for row in _read_table(folder / TABLE)}
    return {}


def _read_table(table: Path) -> list[dict[str, str]]:
    """Its rows, with the columns of `COLUMNS` that it has."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [name for name in COLUMNS if name in (reader.fieldnames or ())]
            if "file" not in columns:
                raise VolumeError(f"{table}: has no column 'file'; known are {', '.join(COLUMNS)}")
            return [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise VolumeError(f"{table}: cannot be read ({error})") from None


def _read_list(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path}: cannot be read ({error})") from None
    return [line for line in lines if line and not line.startswith("#")]


def _scan(found: _Found, base: Path, problem: str, guess: Subject) -> Scan:
    path, row = found.path, found.row
    row, truth = row or {}, None
    if "truth_axes" in row:  # counted as NIfTI does: I, J, K
        axes = [axis for axis in re.split(r"[,; ]+", row["truth_axes"]) if axis]
        if set(axes) <= {"0", "1", "2"}:
            truth = tuple(sorted({2 - int(axis) for axis in axes}))
        else:
            problem = problem or f"truth_axes {row['truth_axes']!r} in its table; it must name some of 0,1,2 (axes I, J, K)"
    inside = path.is_relative_to(base) and path != base
    name = (path.relative_to(base) if inside else Path(path.name) if path == base else path).as_posix()
    name += f" (series {found.of_many})" if found.of_many else ""
    subject = Subject(row["subject"], "table") if row.get("subject") else guess
    contrast, problem = row.get("contrast") or contrast_named(path), problem or subject.problem
    licence = row.get("licence", "")
    return Scan(path, name, subject.name, contrast, licence, truth, problem, subject.source, found.series, found.of_many)


def _stem(path: Path) -> str:
    ending = next((ending for ending in READABLE if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def contrast_named(path: Path) -> str:
    """The contrast that a file's name ends with, in BIDS's words; empty where it ends with none."""
    return _CONTRASTS.get(re.split(r"[-_. ]", _stem(path))[-1].lower(), "")
