"""Inferred detail: what a scan did not determine of a result. (I - A⁺A) x, where A is the degradation that the scan went through.

A⁺A is the projection onto what A can see. A is separable, so it is one small matrix an axis, pinv(M) M; an axis that is not enlarged
has the identity.
"""

from __future__ import annotations

import numpy as np

from SRGAN3DLib.contract.errors import JobError

from .degradations import Degradation

SLAB_VOXELS = 2_000_000  # of the result at a time


def check_detail(operator: Degradation | None, why: str) -> None:
    """Raise a `JobError` now where the inferred detail could not be told after the work: the blur is not known, for the reason `why`."""
    if operator is None:
        raise JobError(f"detail map: what the scan determined cannot be told, because {why}; give the blur of the scan, as --blur box")


def inferred_detail(result: np.ndarray, operator: Degradation) -> np.ndarray:
    """(I - A⁺A) `result`, float32 (K, J, I), in slabs: beside the array that is returned only a slab is held.

    The border of A is mirrored at the border of the array. A region that is cut from a scan has another border than the whole: there
    the two differ. The difference falls off with the distance from the cut, as fast as the rows of pinv(M) do. It is below 1e-4 of the
    range from so many coarse voxels on: none for a box of one coarse voxel, 8 for a gaussian of one, 12 for a gaussian of 1.4, 25 for a
    band (sinc).
    """
    k, j, i = (_projection(matrix) for matrix in operator.matrices(result.shape))
    seen = np.empty(result.shape, np.float32)
    planes = max(1, SLAB_VOXELS // (result.shape[1] * result.shape[2]))
    for first in range(0, result.shape[0], planes):
        slab = np.asarray(result[first : first + planes], np.float32)
        slab = slab if i is None else slab @ i.T
        seen[first : first + planes] = slab if j is None else j @ slab
    rows = max(1, SLAB_VOXELS // (result.shape[0] * result.shape[2]))
    for first in range(0, result.shape[1], rows):
        slab = seen[:, first : first + rows]
        slab = slab if k is None else np.tensordot(k, slab, 1)
        seen[:, first : first + rows] = result[:, first : first + rows] - slab
    return seen


def _projection(matrix: np.ndarray) -> np.ndarray | None:
    """pinv(M) M as float32, (n, n); None for the identity."""
    if matrix.shape[0] == matrix.shape[1]:
        return None
    return np.asarray(np.linalg.pinv(matrix, rcond=1e-10) @ matrix, np.float32)
