"""Boxes of voxels: (start, stop) along K, J, I."""

from __future__ import annotations

from collections.abc import Sequence

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.volumes.axis_order import Box


def region_box(roi_ijk: Sequence[Sequence[int]] | None, shape_kji: Sequence[int]) -> Box:
    """The box of a region given along I, J, K; the whole volume for None.

    Raises `JobError` for a region that is empty or leaves the volume.
    """
    if roi_ijk is None:
        return tuple((0, n) for n in shape_kji)
    box = tuple((int(start), int(stop)) for start, stop in reversed(list(roi_ijk)))
    if len(box) != 3 or any(not 0 <= start < stop <= n for (start, stop), n in zip(box, shape_kji, strict=True)):
        shown = ", ".join(f"{start}:{stop}" for start, stop in reversed(box))
        raise JobError(f"region {shown} (I, J, K): it must lie within the {' x '.join(map(str, reversed(shape_kji)))} voxels of the volume")
    return box


def grown(box: Box, by_kji: Sequence[int], shape_kji: Sequence[int]) -> Box:
    """The box with so many more voxels on either side, as far as the volume goes."""
    return tuple((max(0, start - r), min(n, stop + r)) for (start, stop), r, n in zip(box, by_kji, shape_kji, strict=True))


def slices(box: Box, within: Box | None = None, factors: Sequence[int] = (1, 1, 1)) -> tuple[slice, ...]:
    """The slices that cut `box` out of an array that covers `within` (None: the whole volume) on a grid `factors` times as fine."""
    firsts = [start for start, _ in within] if within else [0, 0, 0]
    return tuple(slice((start - o) * f, (stop - o) * f) for (start, stop), o, f in zip(box, firsts, factors, strict=True))
