"""Intensity scaling: air to about 0, bright tissue to about 1, whatever the units, the field of view or the size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SRGAN3DLib.physics.intensity import IntensityScale


def test_by_hand() -> None:
    """Air 10, tissue 110: P1 is 10, P99 of the foreground 110, whatever share of the field of view is air."""
    for share in (0.2, 0.5, 0.9):
        array = np.full((10, 10, 10), 110, np.float32)
        array.ravel()[: int(1000 * share)] = 10
        assert IntensityScale.fit(array) == IntensityScale(10, 100)


def test_the_foreground_lies_above_a_tenth() -> None:
    """0 to 99 once each: P1 = 0.99, P99 = 98.01; foreground from 11 on: 89 values, whose P99 is 11 + 0.99 * 88 = 98.12."""
    scale = IntensityScale.fit(np.arange(100, dtype=np.float32).reshape(4, 5, 5))
    assert scale.offset == pytest.approx(0.99) and scale.gain == pytest.approx(98.12 - 0.99)


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_a_constant_scan_has_gain_1(value: float) -> None:
    assert IntensityScale.fit(np.full((3, 4, 5), value, np.float32)) == IntensityScale(value, 1)


def test_undo_is_the_inverse(small_head: np.ndarray) -> None:
    scale = IntensityScale.fit(small_head)
    scaled = scale.apply(small_head)
    assert scaled.dtype == np.float32
    assert -0.1 < np.percentile(scaled, 1) < 0.1 and 0.9 < np.percentile(scaled, 99) < 1.1
    np.testing.assert_allclose(scale.undo(scaled), small_head, atol=1e-4)
    tensor = scale.apply(torch.from_numpy(small_head))
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor, scaled, atol=1e-6)


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.001, 0.0), (1.0, -1024.0), (20.0, 5000.0)])
def test_units_do_not_matter(small_head: np.ndarray, gain: float, offset: float) -> None:
    plain = IntensityScale.fit(small_head).apply(small_head)
    other = small_head.astype(np.float64) * gain + offset
    np.testing.assert_allclose(IntensityScale.fit(other).apply(other), plain, atol=1e-5)


def test_one_hot_voxel_does_not_matter(small_head: np.ndarray) -> None:
    plain = IntensityScale.fit(small_head)
    small_head[20, 20, 20] = 1e6
    assert IntensityScale.fit(small_head).gain == pytest.approx(plain.gain, rel=1e-3)


def test_a_large_scan_is_sampled() -> None:
    array = np.random.default_rng(0).gamma(2, 100, (4, 1400, 1400)).astype(np.float32)
    low, high = np.percentile(array, (1, 99))
    wanted = np.percentile(array[array > low + 0.1 * (high - low)], 99) - low
    scale = IntensityScale.fit(array)
    assert scale.offset == pytest.approx(low, rel=0.02) and scale.gain == pytest.approx(wanted, rel=0.01)
