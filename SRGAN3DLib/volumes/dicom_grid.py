"""The grid that slices make together: their order, a line fitted through their positions, and what may be assumed.

Works on `Frame`s, so classic and enhanced files get the same checks. All positions are LPS in mm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .dicom_part import Frame
from .geometry import Geometry, ras_from_lps

RELATIVE_TOLERANCE = 0.01  # of the slice spacing: how far a slice may lie from its place on the fitted line ...
TOLERANCE_MM = 0.01  # ... or this far: positions are often written with two decimals
_SAME_PLACE_MM = 1e-3
_SAME_AXES = 1e-4
_MOST_STACKS = 64
_MOST_TRIALS = 1_000_000  # frames looked at in search of what tells volumes apart


def stacks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames by size, orientation and voxel spacing, in the order of their first frames."""
    found: list[list[Frame]] = []
    for frame in frames:
        for stack in found:
            if _alike(stack[0], frame):
                stack.append(frame)
                break
        else:
            found.append([frame])
        if len(found) > _MOST_STACKS:
            raise VolumeError(f"slices of more than {_MOST_STACKS} orientations, sizes or voxel spacings in one series")
    return found


def _alike(one: Frame, other: Frame) -> bool:
    if one.part.size_ij != other.part.size_ij or (one.axes is None) != (other.axes is None):
        return False
    if (one.spacing_ij is None) != (other.spacing_ij is None) or (one.position is None) != (other.position is None):
        return False
    axes = one.axes is None or other.axes is None or float(np.abs(one.axes - other.axes).max()) <= _SAME_AXES
    spacing = one.spacing_ij is None or other.spacing_ij is None or np.allclose(one.spacing_ij, other.spacing_ij, rtol=1e-4, atol=1e-4)
    return bool(axes and spacing)


def volumes_of(stack: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    """The volumes in a stack whose slices may share positions, each with what tells it apart (empty for a single one).

    Raises `VolumeError` where slices share a position and nothing tells them apart.
    """
    places = _places(stack)
    most = int(np.bincount(places).max())
    if most == 1:
        return [("", list(stack))]
    names = sorted({name for frame in stack for name in frame.marks})
    varying = [name for name in names if len({frame.marks.get(name) for frame in stack}) > 1]
    for count in (1, 2, 3):
        if math.comb(len(varying), count) * len(stack) > _MOST_TRIALS:
            break
        for chosen in itertools.combinations(varying, count):
            groups: dict[tuple[str, ...], list[int]] = {}
            for n, frame in enumerate(stack):
                groups.setdefault(tuple(frame.marks.get(name, "") for name in chosen), []).append(n)
            if len(groups) == most and all(len(set(places[group])) == len(group) for group in groups.values()):
                return [(_label(chosen, values), [stack[n] for n in group]) for values, group in groups.items()]
    return _by_turns(stack, places, most)


def _label(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _by_turns(stack: Sequence[Frame], places: np.ndarray, most: int) -> list[tuple[str, list[Frame]]]:
    """Where every place has as many slices: the first of each, the second of each, ... by their instance numbers."""
    copies = len({(frame.part.sop_uid or str(frame.part.path), frame.number) for frame in stack}) < len(stack)
    if copies or (np.bincount(places) != most).any():
        at = int(np.bincount(places).argmax())
        shared = [frame for frame, place in zip(stack, places, strict=True) if place == at]
        copied = "the same image twice" if copies else "several frames or echoes?"
        where = "no position" if shared[0].position is None else f"{shared[0].position.tolist()} (LPS, mm)"
        raise VolumeError(f"{len(shared)} slices share a position ({', '.join(one.name for one in shared[:4])} at {where}): {copied}")
    order = sorted(range(len(stack)), key=lambda n: (stack[n].part.instance_number, stack[n].number))
    turns: list[list[Frame]] = [[] for _ in range(most)]
    seen = np.zeros(len(places), int)
    for n in order:
        turns[seen[places[n]]].append(stack[n])
        seen[places[n]] += 1
    return [(f"repetition {n + 1}", frames) for n, frames in enumerate(turns)]


def _places(stack: Sequence[Frame]) -> np.ndarray:
    """For every frame the number of its place along the normal; frames without a position are each at their own."""
    if stack[0].position is None:
        return np.arange(len(stack))
    heights = _positions(stack) @ _normal(stack[0])
    order = np.argsort(heights, kind="stable")
    places = np.empty(len(stack), int)
    places[order] = np.concatenate([[0], np.cumsum(np.diff(heights[order]) > _SAME_PLACE_MM)])
    return places


def grid(frames: Sequence[Frame]) -> tuple[list[Frame], Geometry, list[str]]:
    """(the frames in order along their normal, the grid that they make together, notes on what had to be assumed).

    The step from slice to slice is that of a line fitted through all positions, so a tilted gantry gives the sheared grid that it is.
    Raises `VolumeError` for missing and unevenly spaced slices, naming the place.
    """
    first, count = frames[0], len(frames)
    columns, rows = first.part.size_ij
    if count < 2 or columns < 2 or rows < 2:
        mosaic = " (a mosaic: its slices lie side by side in one picture; convert it with dcm2niix)" if first.part.mosaic else ""
        raise VolumeError(f"2-D image ({columns} x {rows} x {count}){mosaic}: a volume of at least 2 voxels along each axis must be there")
    axes, spacing, notes = _assumed_plane(first)
    lps = np.eye(4)
    lps[:3, :2] = axes * spacing
    if first.position is None:
        frames, lps[:3, 2], note = _assumed_line(frames, axes)
        notes.append(note)
    else:
        frames, lps[:3, 2], lps[:3, 3] = _fitted_line(frames)
        notes += _stated_spacing_notes(frames, float(np.linalg.norm(lps[:3, 2])))
    return list(frames), Geometry((count, rows, columns), ras_from_lps(lps)), notes


def _assumed_plane(frame: Frame) -> tuple[np.ndarray, tuple[float, float], list[str]]:
    """(axes (3, 2), spacing (I, J), notes): what the file does not state is assumed, and said."""
    notes = []
    axes, spacing = frame.axes, frame.spacing_ij
    if axes is None:
        axes = np.eye(3)[:, :2]
        notes.append("it states no orientation (ImageOrientationPatient): rows to the left and columns to the back are assumed")
    if spacing is None:
        spacing = (1.0, 1.0)
        notes.append("it states no voxel spacing (PixelSpacing): 1 mm is assumed")
    return axes, spacing, notes


def _assumed_line(frames: Sequence[Frame], axes: np.ndarray) -> tuple[list[Frame], np.ndarray, str]:
    """(frames in order, step, note) for slices without positions: by slice location, else in their order at the stated distance."""
    normal = np.cross(axes[:, 0], axes[:, 1])
    locations = [frame.part.slice_location for frame in frames]
    if len(frames) > 1 and None not in locations and len(set(locations)) == len(frames):
        ordered = [frames[n] for n in np.argsort(np.array(locations, float), kind="stable")]
        heights = np.sort(np.array(locations, float))
        _check_line(ordered, heights[:, None] * normal, normal)
        step = (heights[-1] - heights[0]) / (len(frames) - 1)
        return ordered, step * normal, f"it states no slice positions: its slice locations are used, {step:.4g} mm apart"
    mm = frames[0].part.slice_spacing_mm or frames[0].part.thickness_mm
    ordered = sorted(frames, key=lambda frame: (frame.part.instance_number, frame.number))
    how = "as stated" if mm else "which is assumed"
    note = f"it states no slice positions (ImagePositionPatient): its slices are taken in their order, {mm or 1.0:.4g} mm apart, {how}"
    return ordered, (mm or 1.0) * normal, note


def _fitted_line(frames: Sequence[Frame]) -> tuple[list[Frame], np.ndarray, np.ndarray]:
    """(frames in order, step, position of the first): the line that fits all positions best. Raises `VolumeError`."""
    normal = _normal(frames[0])
    order = np.argsort(_positions(frames) @ normal, kind="stable")
    ordered = [frames[n] for n in order]
    start, step = _check_line(ordered, _positions(ordered), normal)
    return ordered, step, start


def _check_line(frames: Sequence[Frame], positions: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(start, step) of the fitted line. Raises `VolumeError` naming the first slice that is missing, uneven or beside it."""
    index = np.arange(len(positions)) - (len(positions) - 1) / 2
    step = index @ positions / (index @ index)
    start = positions.mean(axis=0) + index[0] * step
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    off = np.linalg.norm(positions - (positions.mean(axis=0) + np.outer(index, step)), axis=1)
    if off.max() <= max(RELATIVE_TOLERANCE * float(np.linalg.norm(step)), TOLERANCE_MM):
        return start, step
    uneven = np.flatnonzero(np.abs(gaps - usual) > max(RELATIVE_TOLERANCE * usual, 2 * TOLERANCE_MM))
    if not uneven.size:
        worst = int(off.argmax())
        place = np.round(positions[worst], 4).tolist()
        raise VolumeError(f"{frames[worst].name} at {place} (LPS, mm) lies {off[worst]:.3g} mm beside the line of the others")
    at = int(uneven[0])
    missing = gaps[at] / usual
    heights = positions @ normal
    guess = ""
    if missing > 1.5 and abs(missing - round(missing)) < 0.05:
        guess = f": {round(missing) - 1} missing at {heights[at] + usual:.4g} mm?"
    raise VolumeError(
        f"uneven slices: {gaps[at]:.4g} mm between {heights[at]:.3f} and {heights[at + 1]:.3f} mm along the normal, "
        f"{usual:.4g} mm elsewhere ({uneven.size} such places in {len(frames)} slices){guess}"
    )


def _stated_spacing_notes(frames: Sequence[Frame], measured: float) -> list[str]:
    """A stated spacing that is a whole fraction of the measured one: perhaps every other slice was left out."""
    stated = frames[0].part.slice_spacing_mm
    if stated and round(measured / stated) >= 2 and abs(measured / stated - round(measured / stated)) < RELATIVE_TOLERANCE:
        return [f"its slices lie {measured:.4g} mm apart, but {stated:.4g} mm is stated: slices may be missing evenly"]
    return []


def _positions(frames: Sequence[Frame]) -> np.ndarray:
    """(N, 3) LPS in mm."""
    return np.array([frame.position for frame in frames])


def _normal(frame: Frame) -> np.ndarray:
    """The unit normal of the slice; along the head where no orientation is stated."""
    if frame.axes is None:
        return np.array([0.0, 0.0, 1.0])
    normal = np.cross(frame.axes[:, 0], frame.axes[:, 1])
    return np.asarray(normal / np.linalg.norm(normal))
