"""Bring a scan to another grid by the two matrices, and lay a scan on the grid that a synthesis model works on.

Arrays are (K, J, I), matrices IJK -> RAS of voxel centres, mm. The values equal SimpleITK's `Resample` with an identity transform and
`sitkLinear`, `sitkBSpline` or `sitkNearestNeighbor` (a test holds them together), for oblique, sheared and left-handed grids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import JobError

from .axis_order import AxisOrder
from .geometry import Geometry
from .volume import Volume

Interpolation = Literal["linear", "cubic", "nearest"]
ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
SAME_MM = 1e-3  # grids whose corners lie this near are one grid
SAME_SPACING = 0.02  # a scan within this share of the wanted spacing keeps its own voxels
_EDGE = 1e-6  # voxels


def resample(
    array: np.ndarray, geometry: Geometry, target: Geometry, interpolation: Interpolation = "linear", fill: float = 0.0
) -> np.ndarray:
    """`array` on `geometry` -> float32 on `target`; `fill` where `target` leaves the box of `geometry`.

    In the half voxel between the outermost centres and the box's faces the value is that of the edge. Raises `JobError` for an
    unknown interpolation.
    """
    from scipy import ndimage

    if interpolation not in ORDERS:
        raise JobError(f"interpolation {interpolation!r}: choose from {', '.join(ORDERS)}")
    if is_same_grid(geometry, target):
        return np.asarray(array, np.float32)
    matrix, offset = _index_map(geometry, target)
    mode = "mirror" if interpolation == "cubic" else "nearest"
    out = ndimage.affine_transform(
        np.asarray(array, np.float32), matrix, offset, target.shape_kji, np.float32, ORDERS[interpolation], mode=mode
    )
    out[~inside(geometry, target)] = fill
    return np.asarray(out, np.float32)


def inside(geometry: Geometry, target: Geometry) -> np.ndarray:
    """Bool on `target`: the voxels whose centres lie in the box of `geometry`."""
    matrix, offset = _index_map(geometry, target)
    axes = [np.arange(n, dtype=np.float64) for n in target.shape_kji]
    result = np.ones(target.shape_kji, bool)
    for row, shift, n in zip(matrix, offset, geometry.shape_kji, strict=True):
        place = row[0] * axes[0][:, None, None] + row[1] * axes[1][None, :, None] + row[2] * axes[2] + shift
        result &= (place >= -0.5 - _EDGE) & (place < n - 0.5 + _EDGE)
    return result


def is_same_grid(one: Geometry, other: Geometry) -> bool:
    return one.shape_kji == other.shape_kji and one.box_distance_mm(other) < SAME_MM


def _index_map(geometry: Geometry, target: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) and (3,) over (K, J, I): the place in `geometry` of a voxel of `target`."""
    ijk = np.linalg.solve(geometry.ijk_to_ras, target.ijk_to_ras)
    return ijk[2::-1, 2::-1], ijk[2::-1, 3]


# ---------------------------------------------------------------- the grid that a model works on
@dataclass(frozen=True)
class WorkingGrid:
    """Where a model works: the first input's box with its axes in the order nearest to RAS, at the spacing that the model was made for.

    `turned` is the first input's own grid in that order. Where it has the spacing wanted, `geometry` is `turned`, and nothing is
    interpolated.
    """

    source: Geometry
    order: AxisOrder
    turned: Geometry
    geometry: Geometry

    @staticmethod
    def of(source: Geometry, spacing_kji_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> WorkingGrid:
        """`spacing_kji_mm` along the turned axes; 0 keeps the scan's own, and so does a spacing within 2 % of it."""
        order = AxisOrder.towards_ras(source)
        turned = _mirror(source.permute(order.axes), order.mirrored_axes)
        return WorkingGrid(source, order, turned, _respaced(turned, spacing_kji_mm))

    @property
    def exact(self) -> bool:
        """Whether nothing is interpolated on the way from and to the source's grid."""
        return self.geometry is self.turned

    def take(self, volume: Volume, interpolation: Interpolation = "linear", fill: float = 0.0) -> np.ndarray:
        """A scan on any grid -> its float32 array on this one."""
        if self.exact and is_same_grid(volume.geometry, self.source):
            return np.ascontiguousarray(self.order.apply(volume.array))
        return resample(volume.array, volume.geometry, self.geometry, interpolation, fill)

    def give(
        self, array: np.ndarray, interpolation: Interpolation = "linear", fill: float = 0.0, factors: Factors = (1, 1, 1)
    ) -> tuple[np.ndarray, Geometry]:
        """An array `factors` (K, J, I of this grid) times as fine as this grid -> the array as many times as fine as the source's."""
        back = self.order.inverse
        target = self.source.refine(back.per_axis(factors))
        if self.exact:
            return np.ascontiguousarray(back.apply(array)), target
        return resample(array, self.geometry.refine(factors), target, interpolation, fill), target


def _mirror(geometry: Geometry, axes: tuple[int, ...]) -> Geometry:
    """The same voxels with the array's `axes` (of K, J, I) running the other way."""
    matrix = np.eye(4)
    for axis in axes:
        matrix[2 - axis, 2 - axis] = -1.0
        matrix[2 - axis, 3] = geometry.shape_kji[axis] - 1
    return Geometry(geometry.shape_kji, geometry.ijk_to_ras @ matrix) if axes else geometry


def _respaced(geometry: Geometry, spacing_kji_mm: tuple[float, float, float]) -> Geometry:
    """The grid about the same centre at another spacing; `geometry` itself where its spacing is near enough."""
    own = geometry.spacing_kji_mm
    wanted = [w if w and abs(w / o - 1) > SAME_SPACING else o for w, o in zip(spacing_kji_mm, own, strict=True)]
    if wanted == list(own):
        return geometry
    shape = [max(1, round(n * o / w)) for n, o, w in zip(geometry.shape_kji, own, wanted, strict=True)]
    step = np.array([w / o for w, o in zip(wanted, own, strict=True)])[::-1]  # I, J, K
    old, new = np.array(geometry.shape_kji[::-1], float), np.array(shape[::-1], float)
    scale = np.diag([*step, 1.0])
    scale[:3, 3] = (old - 1) / 2 - step * (new - 1) / 2
    return Geometry((shape[0], shape[1], shape[2]), geometry.ijk_to_ras @ scale)
