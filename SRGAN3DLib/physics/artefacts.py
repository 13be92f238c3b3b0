"""Two indices of what a network can do wrong: a pattern that repeats with the coarse grid, and overshoot beside edges.

Both are taken from a block in the middle of the result, which costs a small part of a second. Both are 0 where there is no such fault.
They are figures to compare results with each other, not limits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LARGEST_BLOCK = 32  # coarse voxels along an axis


def artefact_indices(scan: np.ndarray, result: np.ndarray, factors_kji: Sequence[int], gain: float) -> dict[str, float]:
    """`scan` (K, J, I) and `result` (K f, J f, I f) of the same box; `gain` is the range of the scan.

    `checkerboard`: the RMS of the pattern that is the same in every coarse voxel, over the RMS of all detail finer than a coarse voxel.
    `ringing`: the RMS of what lies above the largest or below the smallest of the 27 coarse voxels around, over `gain`.
    """
    block = [slice(max(0, n // 2 - LARGEST_BLOCK // 2), n // 2 + LARGEST_BLOCK // 2) for n in scan.shape]
    coarse = np.asarray(scan[tuple(block)], np.float64)
    fine = np.asarray(
        result[tuple(slice(s.start * f, s.start * f + n * f) for s, n, f in zip(block, coarse.shape, factors_kji, strict=True))]
    )
    return {"checkerboard": _checkerboard(fine, factors_kji), "ringing": _overshoot(coarse, fine, factors_kji) / gain if gain > 0 else 0.0}


def _checkerboard(fine: np.ndarray, factors_kji: Sequence[int]) -> float:
    k, j, i = factors_kji
    cells = np.asarray(fine, np.float64).reshape(fine.shape[0] // k, k, fine.shape[1] // j, j, fine.shape[2] // i, i)
    detail = cells - cells.mean(axis=(1, 3, 5), keepdims=True)
    everything = float(np.sqrt(np.mean(np.square(detail))))
    pattern = detail.mean(axis=(0, 2, 4))
    return float(np.sqrt(np.mean(np.square(pattern)))) / everything if everything > 0 else 0.0


def _overshoot(coarse: np.ndarray, fine: np.ndarray, factors_kji: Sequence[int]) -> float:
    from scipy import ndimage

    low, high = ndimage.minimum_filter(coarse, 3, mode="nearest"), ndimage.maximum_filter(coarse, 3, mode="nearest")
    for axis, factor in enumerate(factors_kji):
        low, high = np.repeat(low, factor, axis), np.repeat(high, factor, axis)
    beyond = np.maximum(fine - high, 0) + np.maximum(low - fine, 0)
    return float(np.sqrt(np.mean(np.square(beyond))))
