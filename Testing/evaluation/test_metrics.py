"""Metrics: values by hand, and the referee's on real scans."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from SRGAN3DLib.evaluation.metrics import all_metrics, head_mask, phase_pattern, psnr, sharpness, truth_range
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.interpolation import interpolate

EVERYWHERE = np.ones((16, 16, 16), bool)


def test_psnr_by_hand() -> None:
    hr = np.zeros((2, 2, 2), np.float32)
    everywhere = np.ones(hr.shape, bool)
    assert psnr(hr, hr + 0.1, everywhere, 1.0) == pytest.approx(20, abs=1e-5)
    assert psnr(hr, hr + 0.1, everywhere, 10.0) == pytest.approx(40, abs=1e-5)
    sr = hr.copy()
    sr[0, 0, 0] = 0.8  # mse 0.64 / 8 = 0.08
    assert psnr(hr, sr, everywhere, 1.0) == pytest.approx(-10 * np.log10(0.08), abs=1e-5)
    assert psnr(hr, sr, sr == 0, 1.0) == np.inf  # the mask leaves the wrong voxel out
    assert psnr(hr, hr, everywhere, 1.0) == np.inf


def test_nrmse_mae_and_ssim_by_hand() -> None:
    hr = np.random.default_rng(0).uniform(0, 1, (16, 16, 16)).astype(np.float32)
    off = all_metrics(hr, hr + np.float32(0.3), EVERYWHERE, 2.0)
    assert off["nrmse"] == pytest.approx(0.15, rel=1e-5) and off["mae"] == pytest.approx(0.15, rel=1e-5)
    assert off["psnr"] == pytest.approx(-20 * np.log10(0.15), abs=1e-4)
    assert all_metrics(hr, hr, EVERYWHERE, 1.0)["ssim"] == pytest.approx(1)


def test_ssim_of_two_constants_by_hand() -> None:
    """Without variance only the means count: (2 a b + c1) / (a^2 + b^2 + c1), c1 = (0.01 range)^2."""
    a, b = np.full((16, 16, 16), 0.5, np.float32), np.full((16, 16, 16), 0.7, np.float32)
    assert all_metrics(a, b, EVERYWHERE, 1.0)["ssim"] == pytest.approx((2 * 0.35 + 1e-4) / (0.25 + 0.49 + 1e-4), abs=1e-6)


def test_truth_range_by_hand() -> None:
    assert truth_range(np.arange(1001.0).reshape(7, 11, 13)) == pytest.approx(998)  # 999 - 1


def test_head_mask_by_hand() -> None:
    hr = np.zeros((24, 24, 24), np.float32)
    hr[2:20, 6:18, 6:24] = 100
    hr[10:13, 10:13, 10:13] = 0  # a hole is filled
    hr[22, 2, 2] = 9.9  # below a tenth of P99: air
    wanted = np.zeros(hr.shape, bool)
    wanted[4:20, 6:18, 6:20] = True  # less four voxels at every face of the box
    np.testing.assert_array_equal(head_mask(hr), wanted)
    assert not head_mask(np.ones((8, 20, 20), np.float32)).any()  # nothing lies four voxels from both faces


def test_gradient_by_hand() -> None:
    k, j, i = np.meshgrid(*(np.arange(16.0),) * 3, indexing="ij")
    assert sharpness(2 * k + 3 * j - 6 * i, EVERYWHERE, 10.0)["gradient"] == pytest.approx(0.7)  # sqrt(4 + 9 + 36) / 10
    assert sharpness(np.where(i < 8, 0.0, 4.0), i == 7, 1.0)["gradient"] == pytest.approx(2)  # central difference of a step


@pytest.mark.parametrize("n", [32, 31])
def test_high_band_by_hand(n: int) -> None:
    k = np.arange(n)[:, None, None] + np.zeros((1, n, n))
    everywhere = np.ones(k.shape, bool)
    assert sharpness(np.cos(2 * np.pi * 0.125 * k), everywhere, 1.0)["high_band"] < 1e-3  # a quarter of Nyquist
    assert sharpness(np.cos(2 * np.pi * 0.40 * k), everywhere, 1.0)["high_band"] > 0.99
    both = np.cos(2 * np.pi * 0.125 * k) + np.cos(2 * np.pi * 0.40 * k)
    assert sharpness(both, everywhere, 1.0)["high_band"] == pytest.approx(0.5, abs=0.01)
    assert sharpness(both.T.copy(), everywhere, 1.0)["high_band"] == pytest.approx(0.5, abs=0.01)  # the halved axis of the transform


def test_blur_takes_sharpness_and_psnr(small_head: np.ndarray) -> None:
    mask, data_range = head_mask(small_head), truth_range(small_head)
    found = []
    for width in (0.6, 1.0, 1.6):
        blurred = small_head
        for axis in range(3):
            kernel = np.exp(-0.5 * (np.arange(-4, 5) / width) ** 2)
            blurred = np.apply_along_axis(np.convolve, axis, blurred, kernel / kernel.sum(), mode="same")
        found.append({**all_metrics(small_head, blurred, mask, data_range), **sharpness(blurred, mask, data_range)})
    for name in ("psnr", "ssim", "gradient", "high_band"):
        values = [one[name] for one in found]
        assert values == sorted(values, reverse=True), name
    for name in ("nrmse", "mae"):
        values = [one[name] for one in found]
        assert values == sorted(values), name


# ---------------------------------------------------------------- the referee
@pytest.mark.shared
@pytest.mark.parametrize("name", ["ds000240-01_T1w", "philips-elition_T1w"])
def test_the_referee_scores_alike(referee: ModuleType, shared_data: Path, name: str) -> None:
    image = nib.load(shared_data / "validation" / "isotropic" / f"{name}.nii.gz")
    hr = np.ascontiguousarray(np.asarray(image.dataobj[60:124, 60:132, 50:106], np.float32).T)
    np.testing.assert_array_equal(head_mask(hr)[4:-4, 4:-4, 4:-4], referee.head_mask(hr)[4:-4, 4:-4, 4:-4])
    mask, data_range = head_mask(hr), truth_range(hr)
    for kind in ("gaussian", "kspace"):
        sr = interpolate(Degradation.named(kind, (2, 2, 2)).forward(hr), (2, 2, 2), "cubic")
        ours = all_metrics(hr, sr, mask, data_range)
        wanted = referee.scores(hr.astype(float), sr.astype(float), mask, data_range)
        assert ours == pytest.approx(wanted, abs=1e-3)
        assert ours["psnr"] == pytest.approx(wanted["psnr"], abs=0.01) and 20 < ours["psnr"] < 60
        assert sharpness(sr, mask, data_range) == pytest.approx(referee.sharpness(sr.astype(float), mask, data_range), rel=1e-4)


def test_the_phase_pattern_is_the_lattice_in_flat_tissue() -> None:
    rng = np.random.default_rng(0)
    hr = np.full((24, 24, 24), 100, np.float32)
    hr[:, :, 12:] += rng.uniform(-30, 30, (24, 24, 12)).astype(np.float32)  # one half is not flat
    mask = np.ones(hr.shape, bool)
    assert phase_pattern(hr, hr, mask, 200.0, (2, 2, 2)) == pytest.approx(0, abs=1e-7)
    lattice = hr.copy()
    lattice[::2, :, :] += 0.4
    assert phase_pattern(hr, lattice, mask, 200.0, (2, 2, 2)) == pytest.approx(0.2 / 200, rel=1e-3)
    lattice = hr.copy()
    lattice[:, :, 12:] += 40 * (np.arange(12) % 2)  # where tissue is not flat, it does not count
    assert phase_pattern(hr, lattice, mask, 200.0, (1, 2, 2)) < 1e-6
    assert phase_pattern(hr, hr, np.zeros(hr.shape, bool), 200.0, (2, 2, 2)) == 0
