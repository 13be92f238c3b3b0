"""Resampling between grids equals SimpleITK's; a working grid keeps the box, and keeps the values where the spacing is the scan's."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from grids import FINE, MATRICES

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.volumes.geometry import Geometry, ras_from_lps
from SRGAN3DLib.volumes.resampling import WorkingGrid, inside, resample
from SRGAN3DLib.volumes.volume import Volume

KINDS = {"linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline, "nearest": sitk.sitkNearestNeighbor}


def image_of(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    image, lps, spacing = sitk.GetImageFromArray(array), ras_from_lps(geometry.ijk_to_ras), np.array(geometry.spacing_ijk_mm)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MATRICES)
def test_equals_simpleitk(name: str, kind: str) -> None:
    array = np.random.default_rng(0).normal(size=(12, 15, 18)).astype(np.float32)
    geometry = Geometry(array.shape, MATRICES[name])
    matrix = MATRICES[name].copy()
    matrix[:3, :3] = matrix[:3, :3] @ np.diag([0.7, 1.3, 0.9])
    matrix[:3, 3] += [-3, 2, 4]
    target = Geometry((14, 11, 16), matrix)
    made = resample(array, geometry, target, kind, -7.0)  # type: ignore[arg-type]
    wanted = sitk.Resample(
        image_of(array, geometry), image_of(np.zeros(target.shape_kji, np.float32), target), sitk.Transform(), KINDS[kind], -7.0
    )
    assert 0.2 < (made == -7).mean() < 0.6
    assert np.abs(made - sitk.GetArrayFromImage(wanted)).max() < 1e-4
    assert np.array_equal(made == -7, ~inside(geometry, target))


@pytest.mark.parametrize("name", MATRICES)
def test_a_working_grid_of_the_scans_own_spacing_changes_no_value(name: str) -> None:
    array = np.random.default_rng(1).normal(size=(6, 7, 8)).astype(np.float32)
    volume = Volume.from_array(array, MATRICES[name])
    grid = WorkingGrid.of(volume.geometry)
    assert grid.exact and grid.geometry.box_distance_mm(grid.turned) == 0
    taken = grid.take(volume)
    assert np.allclose(taken, resample(array, volume.geometry, grid.geometry), atol=1e-4)
    back, geometry = grid.give(taken)
    assert np.array_equal(back, array) and geometry == volume.geometry
    fine, geometry = grid.give(taken.repeat(2, axis=0), factors=(2, 1, 1))
    assert geometry.box_distance_mm(volume.geometry) < 1e-9 and fine.size == 2 * array.size


def test_a_working_grid_of_another_spacing_lies_about_the_same_centre() -> None:
    volume = Volume.from_array(np.random.default_rng(2).normal(size=(20, 24, 22)).astype(np.float32), FINE)
    grid = WorkingGrid.of(volume.geometry, (1.0, 1.0, 1.0))
    assert not grid.exact and grid.geometry.spacing_kji_mm == pytest.approx((1, 1, 1))
    middle = [g.corners_ras().mean(axis=0) for g in (grid.geometry, volume.geometry)]
    assert np.allclose(*middle, atol=1e-9)
    smooth = volume.with_array(np.full(volume.array.shape, 3.0, np.float32), volume.geometry)
    back, geometry = grid.give(grid.take(smooth), fill=3.0)
    assert geometry == volume.geometry and np.allclose(back, 3.0)


def test_within_two_percent_a_scan_keeps_its_voxels() -> None:
    geometry = Geometry((4, 5, 6), FINE)
    near = tuple(mm * 1.01 for mm in WorkingGrid.of(geometry).geometry.spacing_kji_mm)
    assert WorkingGrid.of(geometry, near).exact  # type: ignore[arg-type]


def test_an_unknown_interpolation_is_refused() -> None:
    geometry = Geometry((4, 4, 4), FINE)
    with pytest.raises(JobError, match="interpolation 'sinc': choose from nearest, linear, cubic"):
        resample(np.zeros((4, 4, 4), np.float32), geometry, geometry.refine((2, 2, 2)), "sinc")  # type: ignore[arg-type]
