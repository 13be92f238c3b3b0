"""Geometry: where the voxels of a grid lie. A shape and the 4x4 matrix of voxel centres, IJK -> RAS in mm.

Arrays are (K, J, I); matrices act on (i, j, k, 1): column 0 is the step of one voxel along I. RAS: x to the right, y to
the front, z to the head. ITK, NRRD, MetaImage and DICOM use LPS; the one flip between the two is `ras_from_lps`.
docs/coordinates.md explains it in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.limits import SHEAR_TOLERANCE

_LEAST_SPACING_MM = 1e-6
_LARGEST_MM = 1e9
_LEAST_DETERMINANT = 1e-5  # of the unit axes: below it they lie in one plane


@dataclass(frozen=True, eq=False)
class Geometry:
    """A grid in space: `shape_kji` and `ijk_to_ras` (4x4 float64, voxel centres, mm; kept as a read-only copy).

    Oblique, sheared and left-handed matrices are all fine. Raises `VolumeError` that names the value if the matrix is not
    finite, not affine, singular, or has a zero column (zero spacing), or if the shape is not three positive numbers.
    Equal means the same numbers exactly; `box_distance_mm` says how far two grids lie apart.

    >>> thick = Geometry((10, 64, 64), np.diag([1.0, 1.0, 4.0, 1.0]))
    >>> fine = thick.refine((4, 1, 1))
    >>> fine.shape_kji, fine.spacing_ijk_mm, fine.ijk_to_ras[:3, 3].tolist()
    ((40, 64, 64), (1.0, 1.0, 1.0), [0.0, 0.0, -1.5])
    """

    shape_kji: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape_kji)
        if len(shape) != 3 or min(shape) < 1:
            raise VolumeError(f"shape {shape} (K, J, I): three positive numbers must be given")
        matrix = np.array(self.ijk_to_ras, np.float64) + 0.0  # + 0.0 turns -0.0 into 0.0, so that equal matrices hash alike
        _check_matrix(matrix)
        matrix.setflags(write=False)
        object.__setattr__(self, "shape_kji", shape)
        object.__setattr__(self, "ijk_to_ras", matrix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.shape_kji == other.shape_kji and np.array_equal(self.ijk_to_ras, other.ijk_to_ras)

    def __hash__(self) -> int:
        return hash((self.shape_kji, self.ijk_to_ras.tobytes()))

    @property
    def spacing_ijk_mm(self) -> tuple[float, float, float]:
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return (float(i), float(j), float(k))

    @property
    def spacing_kji_mm(self) -> tuple[float, float, float]:
        i, j, k = self.spacing_ijk_mm
        return (k, j, i)

    @property
    def directions(self) -> np.ndarray:
        """(3, 3): the unit axes I, J, K as columns, in RAS; not orthogonal where the grid is sheared."""
        return self.ijk_to_ras[:3, :3] / np.asarray(self.spacing_ijk_mm)

    @property
    def is_sheared(self) -> bool:
        cosines = self.directions.T @ self.directions - np.eye(3)
        return bool(np.abs(cosines).max() > SHEAR_TOLERANCE)

    @property
    def is_left_handed(self) -> bool:
        return bool(np.linalg.det(self.ijk_to_ras[:3, :3]) < 0)

    def corners_ras(self) -> np.ndarray:
        """(8, 3) mm: the corners of the box that the voxels fill, edge to edge (index -0.5 to n - 0.5 along each axis).

        Order: low before high, K changes fastest (corner 1 is high in K only).
        """
        i, j, k = ([-0.5, n - 0.5] for n in self.shape_kji[::-1])
        ijk = np.stack(np.meshgrid(i, j, k, indexing="ij"), axis=-1).reshape(8, 3)
        return ijk @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]

    def box_distance_mm(self, other: Geometry) -> float:
        """The largest distance between matching corners of two boxes."""
        return float(np.linalg.norm(self.corners_ras() - other.corners_ras(), axis=1).max())

    def refine(self, factors_kji: Factors) -> Geometry:
        """The grid with `factors` times the voxels in the very same box: M.S, S = diag(1/f) with shift (1/f - 1)/2."""
        k, j, i = _checked(factors_kji)
        return self._scaled((1 / k, 1 / j, 1 / i), (self.shape_kji[0] * k, self.shape_kji[1] * j, self.shape_kji[2] * i))

    def coarsen(self, factors_kji: Factors) -> Geometry:
        """The grid whose cells each hold `factors` voxels of this one, S = diag(f) with shift (f - 1)/2.

        Voxels beyond a multiple of the factors are cropped at the high end. Raises `VolumeError` where nothing would be left.
        """
        k, j, i = _checked(factors_kji)
        shape = (self.shape_kji[0] // k, self.shape_kji[1] // j, self.shape_kji[2] // i)
        if min(shape) < 1:
            raise VolumeError(f"shape {self.shape_kji} (K, J, I) cannot be reduced by the factors {tuple(factors_kji)}")
        return self._scaled((k, j, i), shape)

    def resampled(self, shape_kji: Sequence[int]) -> Geometry:
        """The grid of another shape in the very same box; its spacing is whatever that takes."""
        k, j, i = (int(n) for n in shape_kji)
        k_step, j_step, i_step = (n / new for n, new in zip(self.shape_kji, (k, j, i), strict=True))
        return self._scaled((k_step, j_step, i_step), (k, j, i))

    def crop(self, box_kji: Sequence[tuple[int, int]]) -> Geometry:
        """The grid of the voxels (start, stop) along K, J, I, where they are."""
        (k, k_end), (j, j_end), (i, i_end) = box_kji
        shift = np.eye(4)
        shift[:3, 3] = i, j, k
        return Geometry((k_end - k, j_end - j, i_end - i), self.ijk_to_ras @ shift)

    def permute(self, order_kji: Sequence[int]) -> Geometry:
        """The same voxels with the array's axes in another order, as `array.transpose(order_kji)` puts them; none moves."""
        if sorted(order_kji) != [0, 1, 2]:
            raise JobError(f"order {tuple(order_kji)} of (K, J, I): each of 0, 1, 2 must stand there once")
        k, j, i = order_kji
        columns = [2 - i, 2 - j, 2 - k, 3]  # the matrix counts I, J, K
        return Geometry((self.shape_kji[k], self.shape_kji[j], self.shape_kji[i]), self.ijk_to_ras[:, columns])

    def _scaled(self, step_kji: tuple[float, float, float], shape_kji: tuple[int, int, int]) -> Geometry:
        """Cell-centred: a new voxel is `step` old ones wide, so its first centre lies at (step - 1) / 2 old voxels."""
        step = np.asarray(step_kji[::-1], np.float64)
        scale = np.diag([*step, 1.0])
        scale[:3, 3] = (step - 1) / 2
        return Geometry(shape_kji, self.ijk_to_ras @ scale)


def ras_from_lps(matrix: np.ndarray) -> np.ndarray:
    """(4, 4) IJK -> LPS into IJK -> RAS, and back: x and y change sign. The project's only flip."""
    return np.array([[-1.0], [-1.0], [1.0], [1.0]]) * matrix


def volume_shape(sizes_ijk: Sequence[int]) -> tuple[int, int, int]:
    """(K, J, I) from a file's axis lengths, fastest first; axes of length 1 behind the third are dropped.

    Raises `VolumeError` for an image of more than one frame and for one that is flat (one voxel thin) along an axis.
    """
    sizes = [int(n) for n in sizes_ijk]
    shown = " x ".join(str(n) for n in sizes)
    if any(n != 1 for n in sizes[3:]):
        raise VolumeError(f"{len(sizes)}-D image ({shown}): one 3-D volume must be given")
    spatial = [*sizes, 1, 1, 1][:3]
    if min(spatial) < 1:
        raise VolumeError(f"an axis without voxels ({shown})")
    if min(spatial) < 2:
        raise VolumeError(f"2-D image ({shown}): a volume must have at least 2 voxels along each axis")
    return (spatial[2], spatial[1], spatial[0])


def slabs(shape_kji: tuple[int, ...], voxels: int = 2**20) -> Iterator[slice]:
    """Runs of K slices of about `voxels` voxels that together are the whole array: big arrays are handled one slab at a time."""
    step = max(1, voxels // (shape_kji[1] * shape_kji[2]))
    for start in range(0, shape_kji[0], step):
        yield slice(start, min(start + step, shape_kji[0]))


def _checked(factors_kji: Factors) -> Factors:
    if len(factors_kji) != 3 or any(int(f) != f or f < 1 for f in factors_kji):
        raise JobError(f"factors {tuple(factors_kji)} (K, J, I): three whole numbers of at least 1 must be given")
    return factors_kji


def _check_matrix(matrix: np.ndarray) -> None:
    if matrix.shape != (4, 4):
        raise VolumeError(f"IJK to RAS matrix of shape {matrix.shape}: it must be 4 x 4")
    if not np.isfinite(matrix).all():
        raise VolumeError(f"IJK to RAS matrix is not finite: {_show(matrix)}")
    if np.abs(matrix).max() > _LARGEST_MM:
        raise VolumeError(f"IJK to RAS matrix holds {np.abs(matrix).max():.3g} mm: no scan lies there")
    if not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise VolumeError(f"IJK to RAS matrix is not affine: its last row is {_show(matrix[3])}")
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if spacing.min() < _LEAST_SPACING_MM:
        raise VolumeError(f"voxel spacing {_show(spacing)} mm (I, J, K): it must be above 0")
    if abs(np.linalg.det(matrix[:3, :3] / spacing)) < _LEAST_DETERMINANT:
        raise VolumeError(f"IJK to RAS matrix is singular, its axes lie in one plane: {_show(matrix[:3, :3])}")


def _show(values: np.ndarray) -> str:
    return np.array2string(values, precision=6, separator=", ", max_line_width=10_000).replace("\n", "")
