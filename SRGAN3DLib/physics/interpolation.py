"""The baselines: cell-centred linear, cubic B-spline and Lanczos-3 enlargement of (K, J, I) arrays (method.md, section 5)."""

from __future__ import annotations

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import JobError

KINDS = ("linear", "cubic", "lanczos")


def interpolate(array: np.ndarray, factors: Factors, kind: str) -> np.ndarray:
    """(K, J, I) -> (fK*K, fJ*J, fI*I) in the array's own precision; beyond the outermost cell centres the edge holds."""
    if kind == "lanczos":
        for axis, f in enumerate(factors):
            if f > 1:
                rows = _lanczos_rows(array.shape[axis], f).astype(array.dtype)
                array = np.moveaxis(np.tensordot(rows, array, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(array)
    if kind in ("linear", "cubic"):
        from scipy import ndimage

        order = 1 if kind == "linear" else 3
        return ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True, prefilter=order > 1)
    raise JobError(f"interpolation {kind!r}: choose from {', '.join(KINDS)}")


def resample(array: np.ndarray, shape_kji: tuple[int, int, int]) -> np.ndarray:
    """(K, J, I) -> `shape_kji` in the same physical box, cell-centred, axis by axis, in the array's own precision.

    An axis that becomes finer is interpolated by cubic B-splines; one that becomes coarser takes the mean over each new cell, so that
    nothing is aliased. An axis that keeps its length is not touched.
    """
    from scipy import ndimage

    for axis, (n, new) in enumerate(zip(array.shape, shape_kji, strict=True)):
        if new < n:
            rows = _mean_rows(n, new).astype(array.dtype)
            array = np.moveaxis(np.tensordot(rows, array, axes=(1, axis)), 0, axis)
        elif new > n:
            zoom = [new / n if a == axis else 1 for a in range(3)]
            array = ndimage.zoom(array, zoom, order=3, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(array)


def _mean_rows(n: int, new: int) -> np.ndarray:
    """(new, n): the share that each old cell has in each new one."""
    edges = np.arange(new + 1) * (n / new)
    old = np.arange(n)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return np.clip(overlap, 0, None) / (n / new)


def _lanczos_rows(m: int, factor: int, lobes: int = 3) -> np.ndarray:
    """(m * factor, m): each output cell takes the 2 * lobes nearest inputs, weights normalised to sum to 1."""
    centres = (np.arange(m * factor) + 0.5) / factor - 0.5
    taps = np.floor(centres)[:, None].astype(int) + np.arange(1 - lobes, lobes + 1)
    distance = taps - centres[:, None]
    weights = np.sinc(distance) * np.sinc(distance / lobes)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.zeros((m * factor, m))
    np.add.at(rows, (np.arange(m * factor)[:, None], np.clip(taps, 0, m - 1)), weights)
    return rows
