"""Flat regions: found exactly, and given back exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grids import OBLIQUE

from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.physics.flat_regions import flat_voxels, keep_flat
from SRGAN3DLib.volumes.volume import Volume


def test_flat_is_what_has_one_value_within_reach() -> None:
    array = np.full((12, 12, 12), 3.0, np.float32)
    array[6, 6, 6] = 4
    reach = 2
    flat = flat_voxels(array, reach)
    for index in np.ndindex(array.shape):
        window = array[tuple(slice(max(0, at - reach - 1), at + reach + 2) for at in index)]
        if window.min() < window.max():
            continue  # within one more voxel: either answer is right there
        assert flat[index], index
    for index in np.argwhere(flat):
        window = array[tuple(slice(max(0, at - reach), at + reach + 1) for at in index)]
        assert window.min() == window.max()


def test_the_result_has_the_value_of_the_flat_voxel() -> None:
    array = np.zeros((8, 8, 8), np.float32)
    array[:2] = np.random.default_rng(0).normal(size=(2, 8, 8))
    array[2:, :, :] = -5
    result = np.ones((16, 24, 8), np.float32)
    flat = flat_voxels(array, 2)
    keep_flat(array, result, flat)
    assert flat.any()
    fine = flat.repeat(2, 0).repeat(3, 1)
    assert (result[fine] == -5).all() and (result[~fine] == 1).all()


@pytest.mark.parametrize("back_projection", [True, False])
@pytest.mark.parametrize("background", [0.0, -1000.0])
def test_background_of_a_stripped_scan_stays(tiny_model: Path, small_head: np.ndarray, background: float, back_projection: bool) -> None:
    scan = np.full((60, 64, 64), background, np.float32)
    scan[:16, :16, :16] = small_head[:16, :16, :16] + 1
    volume = Volume.from_array(scan, OBLIQUE)
    resolver = SuperResolver.load(tiny_model, "cpu", "fp32")
    whole = resolver(volume, "gaussian", back_projection=back_projection).volume.array
    assert (whole[2 * 21 :] == background).all() and (whole[:, 2 * 21 :] == background).all()
    region = resolver(volume, "gaussian", roi_ijk=((40, 60), (30, 64), (35, 60)), back_projection=back_projection).volume.array
    assert np.abs(region - whole[70:120, 60:128, 80:120]).max() < 1e-5 * np.ptp(scan)


def test_a_magnitude_scan_has_no_negative_result(tiny_model: Path, small_head: np.ndarray) -> None:
    resolver = SuperResolver.load(tiny_model, "cpu", "fp32")
    result = resolver(Volume.from_array(small_head, OBLIQUE), "box", back_projection=True, allow_negative=True)
    assert small_head.min() >= 0 > result.volume.array.min() and result.info["voxels_raised_to_zero"] == 0
    raised = resolver(Volume.from_array(small_head, OBLIQUE), "box", back_projection=True)
    assert raised.volume.array.min() == 0
    assert raised.info["voxels_raised_to_zero"] == np.count_nonzero(result.volume.array < 0)
    assert np.array_equal(raised.volume.array, np.maximum(result.volume.array, 0))
    signed = resolver(Volume.from_array(small_head - 5, OBLIQUE), "box", back_projection=True).volume.array
    assert signed.min() < -5
