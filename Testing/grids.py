"""Matrices of every kind, and where other readers see a file's voxels."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from SRGAN3DLib.volumes.axis_order import AxisOrder
from SRGAN3DLib.volumes.geometry import Geometry, ras_from_lps


def rotation(x: float, y: float, z: float) -> np.ndarray:
    cx, cy, cz, sx, sy, sz = *np.cos([x, y, z]), *np.sin([x, y, z])
    return (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )


def grid(axes: np.ndarray, spacing: tuple[float, float, float] = (0.9, 1.1, 2.3)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = [-91.3, 45.7, 12.1]
    return matrix


OBLIQUE = grid(rotation(0.3, -0.2, 0.5))
FINE = grid(rotation(0.3, -0.2, 0.5), (1.0, 1.1, 1.2))  # no axis is thick
LEFT_HANDED = OBLIQUE @ np.diag([1, 1, -1, 1.0])
SHEARED = grid(rotation(0.3, -0.2, 0.5) @ np.array([[1, 0.2, 0.1], [0, 1, -0.15], [0, 0, 1]]))
MATRICES = {
    "oblique": OBLIQUE,
    "left-handed": LEFT_HANDED,
    "sheared": SHEARED,
    "sheared left-handed": SHEARED @ np.diag([-1, 1, 1, 1.0]),
    "half a turn": np.diag([-1.0, -1, 1, 1]),
    "nearly half a turn": grid(rotation(1e-4, 2e-4, np.pi - 3e-4)),
}


def seen_by_nibabel(path: Path) -> Geometry:
    image = nib.load(path)
    return Geometry(image.shape[::-1], image.affine)


def seen_by_sitk(path: Path) -> tuple[np.ndarray, Geometry]:
    image = sitk.ReadImage(str(path))
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image)
    return array, Geometry(array.shape, ras_from_lps(lps))


ALL_ORDERS = [
    AxisOrder(axes, mirrored) for axes in itertools.permutations(range(3)) for mirrored in itertools.product((False, True), repeat=3)
]


def stored(array: np.ndarray, geometry: Geometry, order: AxisOrder) -> tuple[np.ndarray, Geometry]:
    """The same scan as another program stores it: the array in `order`, with the matrix that keeps every voxel in its place."""
    ends = np.array([n - 1 if mirrored else 0 for n, mirrored in zip(order.per_axis(array.shape), order.mirrored, strict=True)])
    matrix = np.eye(4)
    for new, old in enumerate(order.axes):  # the matrix acts on (i, j, k)
        matrix[:3, 2 - new] = geometry.ijk_to_ras[:3, 2 - old] * (-1 if order.mirrored[new] else 1)
    matrix[:3, 3] = geometry.ijk_to_ras[:3, 3] - matrix[:3, :3] @ ends[::-1]
    turned = np.ascontiguousarray(order.apply(array))
    return turned, Geometry(turned.shape, matrix)  # type: ignore[arg-type]
