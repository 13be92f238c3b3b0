"""Flat regions of a scan: where all voxels around have one value, the result has that value, too.

A stripped or defaced scan has a background of exactly 0. A network would make small numbers of it, which mean nothing, which no file
format can pack, and which turn the mask "voxel above 0" into the whole box. No blur of a scanner reaches further than FLAT_REACH voxels:
where the scan is constant over that distance, the fine image that it came from was constant, too.
"""

from __future__ import annotations

import numpy as np

FLAT_REACH = 4  # voxels of the scan, along each axis


def flat_voxels(array: np.ndarray, reach: int = FLAT_REACH) -> np.ndarray:
    """Where all voxels of `array` (K, J, I) within `reach` voxels along each axis have one value: bool (K, J, I)."""
    from scipy import ndimage

    varied = np.zeros(array.shape, np.uint8)
    for axis in range(3):  # both voxels of every pair of neighbours that differ
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        differ = array[tuple(low)] != array[tuple(high)]
        varied[tuple(low)] |= differ
        varied[tuple(high)] |= differ
    for axis in range(3):
        ndimage.maximum_filter1d(varied, 2 * reach + 1, axis=axis, output=varied, mode="nearest")
    return varied == 0


def keep_flat(array: np.ndarray, result: np.ndarray, flat: np.ndarray) -> None:
    """Give the `flat` voxels of `array` (both (K, J, I)) their own value in `result` (K f, J f, I f), in place."""
    by_k, by_j, by_i = (fine // coarse for fine, coarse in zip(result.shape, array.shape, strict=True))
    for k in np.flatnonzero(flat.any(axis=(1, 2))):
        where, value = (np.repeat(np.repeat(plane[k], by_j, axis=0), by_i, axis=1) for plane in (flat, array))
        np.copyto(result[k * by_k : (k + 1) * by_k], value, where=where)
