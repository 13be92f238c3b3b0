"""The baselines: cell-centred, values by hand, the network's own trilinear, and the referee's."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
import torch

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.networks.generator import trilinear
from SRGAN3DLib.physics.interpolation import KINDS, interpolate, resample

each_kind = pytest.mark.parametrize("kind", KINDS)
each_factors = pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 2), (1, 1, 3), (2, 3, 4)], ids=str)


def line(*values: float) -> np.ndarray:
    return np.array(values, float).reshape(1, 1, -1)


def test_linear_by_hand() -> None:
    assert interpolate(line(0, 1, 5), (1, 1, 2), "linear").ravel().tolist() == [0, 0.25, 0.75, 2, 4, 5]
    wanted = [0, 0, 1 / 3, 2 / 3, 1, 7 / 3, 11 / 3, 5, 5]
    assert interpolate(line(0, 1, 5), (1, 1, 3), "linear").ravel().tolist() == pytest.approx(wanted)


def test_lanczos_by_hand() -> None:
    """The fine voxel a quarter cell right of cell 3 takes cells 1 to 6 by L(t) = sinc(t) sinc(t / 3)."""
    values = [2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0]

    def weight(t: float) -> float:
        return math.sin(math.pi * t) / (math.pi * t) * math.sin(math.pi * t / 3) / (math.pi * t / 3)

    weights = [weight(cell - 3.25) for cell in range(1, 7)]
    wanted = sum(w * v for w, v in zip(weights, values[1:7], strict=True)) / sum(weights)
    assert interpolate(line(*values), (1, 1, 2), "lanczos").ravel()[7] == pytest.approx(wanted)


def test_cubic_by_hand() -> None:
    """Far from its ends a spline of a parabola is the parabola: at 20.25 - 20 = 0.25 cells."""
    values = (np.arange(41.0) - 20) ** 2
    fine = interpolate(line(*values), (1, 1, 2), "cubic").ravel()
    assert fine[40:42].tolist() == pytest.approx([0.25**2, 0.25**2], abs=1e-6)
    assert fine[44:46].tolist() == pytest.approx([1.75**2, 2.25**2], abs=1e-6)


@each_kind
@each_factors
def test_shape_precision_and_constants(kind: str, factors: Factors) -> None:
    for dtype in (np.float32, np.float64):
        fine = interpolate(np.full((5, 6, 7), 3, dtype), factors, kind)
        assert fine.shape == (5 * factors[0], 6 * factors[1], 7 * factors[2]) and fine.dtype == dtype
        np.testing.assert_allclose(fine, 3, rtol=1e-5)


@each_kind
def test_cells_keep_their_place(kind: str) -> None:
    """Enlarging commutes with turning the image round: nothing has moved by part of a voxel."""
    array = np.random.default_rng(0).standard_normal((6, 7, 8))
    factors = (2, 3, 1)
    turned = interpolate(array[::-1, ::-1, ::-1], factors, kind)[::-1, ::-1, ::-1]
    np.testing.assert_allclose(interpolate(array, factors, kind), turned, atol=1e-9)
    spot = np.zeros((9, 9, 9))
    spot[4, 3, 5] = 1
    fine = interpolate(spot, (3, 3, 3), kind)
    assert np.unravel_index(fine.argmax(), fine.shape) == (13, 10, 16)  # the middle one of the cell's three


@each_factors
def test_linear_is_the_networks(factors: Factors) -> None:
    array = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)
    wanted = trilinear(torch.from_numpy(array)[None, None], factors)[0, 0]
    np.testing.assert_allclose(interpolate(array, factors, "linear"), wanted, atol=1e-5)


def test_an_unknown_kind() -> None:
    with pytest.raises(JobError, match="'nearest': choose from linear, cubic, lanczos"):
        interpolate(np.zeros((2, 2, 2)), (2, 2, 2), "nearest")


@pytest.mark.shared
@each_kind
@each_factors
def test_the_referee_interpolates_alike(referee: ModuleType, kind: str, factors: Factors) -> None:
    array = np.random.default_rng(0).standard_normal((7, 5, 9))
    wanted = referee.interpolate(array.T, factors[::-1], kind).T
    np.testing.assert_allclose(interpolate(array, factors, kind), wanted, atol=1e-9)


def test_resample_keeps_the_box() -> None:
    """A ramp stays the ramp at the new cells' centres, away from the border; coarser cells are the mean of what they cover."""
    ramp = (np.arange(20) + 0.5)[:, None, None] * np.ones((1, 6, 6))
    finer = resample(ramp, (33, 6, 6))
    assert finer.shape == (33, 6, 6)
    centres = (np.arange(33) + 0.5) * 20 / 33
    assert finer[5:-5, 0, 0] == pytest.approx(centres[5:-5], abs=3e-3)
    coarser = resample(ramp, (8, 6, 6))[:, 0, 0]
    assert coarser[:2] == pytest.approx([(0.5 + 1.5 + 2.5 / 2) / 2.5, (2.5 / 2 + 3.5 + 4.5) / 2.5])  # by hand: shares of 2.5 cells
    noise = np.random.default_rng(0).normal(size=(12, 15, 9))
    assert resample(noise, (4, 15, 3)) == pytest.approx(noise.reshape(4, 3, 15, 3, 3).mean(axis=(1, 4)))
    assert np.array_equal(resample(noise, (12, 15, 9)), noise)
