"""DicomSeries: the DICOM files below a folder, sorted into series and volumes, and the choice of one of them.

Files that hold no scan (contours, presentation states, reports, directories, screenshots) are passed over and named in a note.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from SRGAN3DLib.contract.errors import VolumeError

from .dicom_file import is_dicom_file, one_line, uid_name
from .dicom_grid import stacks, volumes_of
from .dicom_part import SCANS, SEGMENTATIONS, DicomPart, Frame, peek_part, read_part

_MOST_LISTED = 12
CHOICE = "choose one with --series NUMBER, UID or a part of the description"


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """The frames of one volume, not yet in order. `label` tells it from others of its series; `problem`: why it is none."""

    series: DicomSeries
    frames: list[Frame]
    label: str = ""
    problem: str = ""

    @property
    def size(self) -> str:
        columns, rows = self.frames[0].part.size_ij if self.frames else self.series.parts[0].size_ij
        count = len(self.frames) or len(self.series.parts)
        return f"{count} slice{'s' if count != 1 else ''} of {columns} x {rows}"


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The files of one Series Instance UID that hold images."""

    parts: list[DicomPart]

    @property
    def uid(self) -> str:
        return self.parts[0].series_uid

    @property
    def key(self) -> str:
        """What chooses it on the command line: its number, or its UID where it has none."""
        number = self.parts[0].series_number
        return str(number) if number is not None else one_line(self.uid, 70) or "(no UID)"

    @property
    def name(self) -> str:
        return self.key + (f' "{self.parts[0].description}"' if self.parts[0].description else "")

    def volumes(self) -> list[DicomVolume]:
        """Those that its files hold. A file that cannot be read makes all of it unreadable: a slice would be missing in silence."""
        broken = next((part for part in self.parts if part.problem), None)
        if broken is not None:
            return [DicomVolume(self, [], problem=f"{broken.path.name}: {broken.problem}")]
        frames = [frame for part in self.parts for frame in part.frames]
        try:
            found = []
            alike = stacks(frames)
            for stack in alike:
                turned = f"{'another' if stack is not alike[0] else 'one'} orientation, size or spacing" if len(alike) > 1 else ""
                for label, members in volumes_of(stack):
                    found.append(DicomVolume(self, members, ", ".join(part for part in (turned, label) if part)))
        except VolumeError as error:
            return [DicomVolume(self, [], problem=str(error))]
        return found


@dataclass(frozen=True)
class DicomFolder:
    """The series below a folder, and notes on what was passed over."""

    series: list[DicomSeries]
    notes: tuple[str, ...]


def find_series(folder: Path, wanted: str | None = None) -> DicomFolder:
    """All DICOM files of `folder` and of the folders in it; with `wanted` only those of the series that fit, if any do.

    Raises `VolumeError` where there is no image series.
    """
    paths = list(dicom_files(folder))
    chosen = paths if wanted is None else _of_fitting_series(paths, wanted) or paths
    parts = [read_part(path) for path in chosen]
    unknown = next((part for part in parts if part.problem and not (part.sop_class and part.series_uid)), None)
    if unknown is not None:
        raise VolumeError(f"{unknown.path.name}: {unknown.problem}")
    images = [part for part in parts if part.is_image]
    scans = [part for part in images if part.sop_class in SCANS]
    images = scans or [part for part in images if part.frames or part.problem]
    if not images:
        if any(part.sop_class in SEGMENTATIONS for part in parts):
            raise VolumeError("a DICOM segmentation (label map): a scan must be there")
        others = f"; it holds {_passed_over(parts)}" if parts else ""
        raise VolumeError(f"a folder without a DICOM series{others}")
    images, scouts = _without_scouts(images)
    by_uid: dict[tuple[str, str], list[DicomPart]] = {}
    for part in images:
        by_uid.setdefault((part.study_uid, part.series_uid), []).append(part)
    used = {id(part) for part in (*images, *scouts)}
    rest = [part for part in parts if id(part) not in used]
    notes = [f"passed over: {_passed_over(rest)}"] if rest else []
    notes += [f"passed over: {len(scouts)} scout image{'s' if len(scouts) > 1 else ''} (localizer) in the series"] if scouts else []
    return DicomFolder([DicomSeries(members) for members in by_uid.values()], tuple(notes))


def _of_fitting_series(paths: Sequence[Path], wanted: str) -> list[Path]:
    """The files whose series fits by UID, number or description: found from their first attributes, so others cost little time."""
    by_uid: dict[str, list[DicomPart]] = {}
    for path in paths:
        part = peek_part(path)
        if part.is_image:
            by_uid.setdefault(part.series_uid, []).append(part)
    series = [DicomSeries(parts) for parts in by_uid.values()]
    fitting = matching(series, wanted) or matching(series, wanted.rpartition(":")[0] or wanted)
    return [part.path for one in fitting for part in one.parts]


def series_in(folder: Path) -> list[DicomSeries]:
    """The image series of the DICOM files that lie in `folder` itself, named only: their parts have no frames.

    Of pictures (secondary captures) beside scans nothing is told; a damaged file counts as a series without UID.
    """
    parts = [peek_part(path) for path in sorted(folder.iterdir()) if is_dicom_file(path)]
    images = [part for part in parts if part.is_image or part.problem]
    scans = [part for part in images if part.sop_class in SCANS]
    by_uid: dict[str, list[DicomPart]] = {}
    for part in scans or images:
        by_uid.setdefault(part.series_uid, []).append(part)
    return [DicomSeries(members) for members in by_uid.values()]


def dicom_files(folder: Path) -> Iterator[Path]:
    """Every DICOM file of the folder and the folders in it, in the order of their names; links to folders are not followed."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "~")))
        yield from (path for name in sorted(files) if is_dicom_file(path := Path(root) / name))


def _without_scouts(parts: Sequence[DicomPart]) -> tuple[list[DicomPart], list[DicomPart]]:
    """Localizer images that lie in a series of other images are set apart; a series of nothing else stays."""
    series_of_scans = {part.series_uid for part in parts if not _is_scout(part)}
    scouts = [part for part in parts if _is_scout(part) and part.series_uid in series_of_scans]
    apart = {id(part) for part in scouts}
    return [part for part in parts if id(part) not in apart], scouts


def _is_scout(part: DicomPart) -> bool:
    return "LOCALIZER" in part.image_type.upper().split("\\")


def _passed_over(parts: Sequence[DicomPart]) -> str:
    """What kinds of objects, and one name of each."""
    kinds = Counter(part.sop_class for part in parts)
    first = {part.sop_class: one_line(part.path.name, 60) for part in reversed(parts)}
    return ", ".join(f"{count} x {uid_name(kind) or 'unknown'} ({first[kind]})" for kind, count in kinds.most_common(6))


def choose(folder: DicomFolder, wanted: str | None) -> DicomVolume:
    """The one volume, or the one that `wanted` names: a number, a UID or a part of the description; `NUMBER:2` is its second volume.

    Raises `VolumeError` with the list of what is there, unless exactly one fits.
    """
    volumes = [volume for series in folder.series for volume in series.volumes()]
    fitting = volumes if wanted is None else _fitting(volumes, wanted)
    if len(fitting) == 1:
        if fitting[0].problem:
            raise VolumeError(fitting[0].problem)
        return fitting[0]
    if not fitting:
        raise VolumeError(f"no DICOM series fits --series {wanted!r}; there are: {_listed(volumes)}")
    count = len({id(volume.series) for volume in fitting})
    what = f"{count} DICOM series in one folder" if count > 1 else f"{len(fitting)} volumes in one DICOM series"
    if count == 1 and any("orientation" in volume.label for volume in fitting):
        what += " (slices of different orientation, size or voxel spacing)"
    fit = "" if wanted is None else f" fit --series {wanted!r}"
    raise VolumeError(f"{what}{fit}, {CHOICE}: {_listed(fitting)}")


def _fitting(volumes: Sequence[DicomVolume], wanted: str) -> list[DicomVolume]:
    """By UID, else by number, else by a part of the description or label; the whole text first, then without its `:VOLUME`."""
    found = [volume for volume in volumes if volume.series in matching([volume.series for volume in volumes], wanted)]
    found = found or [volume for volume in volumes if wanted.casefold() in volume.label.casefold()]
    head, _, tail = wanted.rpartition(":")
    if found or not (head and tail.isdecimal()):
        return found
    turn = int(tail) - 1
    return _fitting(volumes, head)[turn : turn + 1] if turn >= 0 else []


def matching(series: Sequence[DicomSeries], wanted: str) -> list[DicomSeries]:
    """The series of that UID, else of that number, else with that in their description (in any case of letters)."""
    by_uid = [one for one in series if one.uid == wanted]
    by_number = [one for one in series if str(one.parts[0].series_number) == wanted]
    return by_uid or by_number or [one for one in series if wanted.casefold() in one.parts[0].description.casefold()]


def _listed(volumes: Sequence[DicomVolume]) -> str:
    shown = []
    for volume in volumes[:_MOST_LISTED]:
        same = [other for other in volumes if other.series is volume.series]
        turn = f":{same.index(volume) + 1}" if len(same) > 1 else ""
        first = volume.series.parts[0]
        words = [f"{volume.series.key}{turn}"]
        words += [f'"{first.description}"'] if first.description else []
        words += [f"({volume.label})"] if volume.label else []
        mosaic = ", a mosaic of slices" if first.mosaic else ""
        shown.append(" ".join(words) + f": {volume.size}{mosaic}")
    more = f"; and {len(volumes) - _MOST_LISTED} more" if len(volumes) > _MOST_LISTED else ""
    return "; ".join(shown) + more
