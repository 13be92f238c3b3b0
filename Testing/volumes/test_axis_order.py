"""The order of axes: 48 ways to store a scan, one way to look at it."""

from __future__ import annotations

import numpy as np
import pytest
from grids import ALL_ORDERS, LEFT_HANDED, OBLIQUE, SHEARED, stored

from SRGAN3DLib.volumes.axis_order import AxisOrder, direction_letters
from SRGAN3DLib.volumes.geometry import Geometry


@pytest.mark.parametrize("matrix", [OBLIQUE, SHEARED, LEFT_HANDED], ids=["oblique", "sheared", "left-handed"])
def test_all_48_orders_are_seen_alike(matrix: np.ndarray) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4, 5))
    geometry = Geometry(array.shape, matrix)  # type: ignore[arg-type]
    seen = AxisOrder.towards_ras(geometry).apply(array)
    for order in ALL_ORDERS:
        turned, grid = stored(array, geometry, order)
        assert np.allclose(sorted(map(tuple, grid.corners_ras())), sorted(map(tuple, geometry.corners_ras())))
        assert np.array_equal(AxisOrder.towards_ras(grid).apply(turned), seen)


@pytest.mark.parametrize("order", ALL_ORDERS, ids=str)
def test_the_inverse_undoes(order: AxisOrder) -> None:
    array = np.arange(60).reshape(3, 4, 5)
    assert np.array_equal(order.inverse.apply(order.apply(array)), array)
    assert order.inverse.per_axis(order.per_axis("KJI")) == ("K", "J", "I")
    box = ((0, 2), (1, 3), (2, 5))
    cut = order.apply(array)[tuple(slice(*pair) for pair in order.box(box, array.shape))]
    assert np.array_equal(cut, order.apply(array[0:2, 1:3, 2:5]))
    assert order.inverse.box(order.box(box, array.shape), order.apply(array).shape) == box


def test_one_order_after_another() -> None:
    array, first = np.arange(60).reshape(3, 4, 5), AxisOrder((2, 0, 1), (True, False, True))
    assert np.array_equal(first.then((1, 2, 0)).apply(array), first.apply(array).transpose(1, 2, 0))


def test_a_view_is_no_copy() -> None:
    array = np.zeros((2, 3, 4))
    AxisOrder((2, 0, 1), (True, False, True)).apply(array)[0, 0, 0] = 1
    assert array.sum() == 1


def test_letters() -> None:
    assert direction_letters(Geometry((2, 3, 4), np.eye(4))) == ("S", "A", "R")
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    assert direction_letters(Geometry((2, 3, 4), lps)) == ("S", "P", "L")
    sagittal = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # I to the front, J to the feet, K to the right
    assert direction_letters(Geometry((2, 3, 4), sagittal)) == ("R", "I", "A")
