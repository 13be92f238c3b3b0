"""AxisOrder: the order and the directions in which the axes of an array are taken. Every turn of an array in this project is one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from SRGAN3DLib.volumes.geometry import Geometry

T = TypeVar("T")
Box = tuple[tuple[int, int], ...]
DIRECTIONS = (("R", "L"), ("A", "P"), ("S", "I"))  # towards + and - along x, y, z of RAS


@dataclass(frozen=True)
class AxisOrder:
    """New axis n is the old axis `axes[n]` of (K, J, I), and runs the other way where `mirrored[n]`.

    >>> turned = AxisOrder((1, 0, 2), (False, False, True)).apply(np.arange(4).reshape(2, 1, 2))
    >>> turned.tolist()
    [[[1, 0], [3, 2]]]
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    mirrored: tuple[bool, bool, bool] = (False, False, False)

    @staticmethod
    def towards_ras(geometry: Geometry) -> AxisOrder:
        """The order in which the array's axes (K, J, I) lie nearest to (S, A, R): one for all 48 ways to store a scan."""
        cosines = geometry.directions.T[::-1, ::-1].round(9) + 0.0  # rows: axes K, J, I; columns: S, A, R

        def nearness(axes: tuple[int, ...]) -> tuple[float, ...]:
            """The sum of the cosines; where two orders are as near, the directions themselves decide, not how they are stored."""
            chosen = [cosines[old] * (-1 if cosines[old, new] < 0 else 1) for new, old in enumerate(axes)]
            return (round(sum(row[new] for new, row in enumerate(chosen)), 6), *np.concatenate(chosen).tolist())

        k, j, i = max(itertools.permutations(range(3)), key=nearness)
        return AxisOrder((k, j, i), (bool(cosines[k, 0] < 0), bool(cosines[j, 1] < 0), bool(cosines[i, 2] < 0)))

    @property
    def inverse(self) -> AxisOrder:
        """The order that undoes this one."""
        k, j, i = (self.axes.index(axis) for axis in range(3))
        return AxisOrder((k, j, i), (self.mirrored[k], self.mirrored[j], self.mirrored[i]))

    def then(self, axes: Sequence[int]) -> AxisOrder:
        """This order, and after it another order of the axes: new axis n is the axis `axes[n]` of this one."""
        k, j, i = axes
        return AxisOrder((self.axes[k], self.axes[j], self.axes[i]), (self.mirrored[k], self.mirrored[j], self.mirrored[i]))

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """The new axes that run the other way."""
        return tuple(axis for axis in range(3) if self.mirrored[axis])

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A view of `array` (K, J, I) in this order. No voxel is copied."""
        return np.flip(array.transpose(self.axes), self.mirrored_axes)

    def per_axis(self, values: Sequence[T]) -> tuple[T, T, T]:
        """One value an axis, over (K, J, I), in this order."""
        k, j, i = self.axes
        return (values[k], values[j], values[i])

    def box(self, box: Box, shape_kji: Sequence[int]) -> Box:
        """(start, stop) along each old axis of an array of `shape_kji` -> the same voxels along the new ones."""
        turned = zip(self.per_axis(box), self.per_axis(shape_kji), self.mirrored, strict=True)
        return tuple((n - stop, n - start) if mirrored else (start, stop) for (start, stop), n, mirrored in turned)


def direction_letters(geometry: Geometry) -> tuple[str, str, str]:
    """Where the axes K, J, I of a grid lead to, by their nearest anatomical direction: `("S", "A", "R")` for an array in RAS order."""
    order = AxisOrder.towards_ras(geometry).inverse
    k, j, i = (DIRECTIONS[2 - axis][int(mirrored)] for axis, mirrored in zip(order.axes, order.mirrored, strict=True))
    return (k, j, i)
