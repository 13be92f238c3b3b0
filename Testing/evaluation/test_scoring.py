"""The protocol, whole: crops, the best interpolation, gains; one report held against the referee's."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.evaluation.metrics import psnr
from SRGAN3DLib.evaluation.scoring import Case, crop_to_multiple
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.interpolation import KINDS, interpolate


def test_the_crop_is_at_the_high_end() -> None:
    array = np.arange(5 * 7 * 9).reshape(5, 7, 9)
    np.testing.assert_array_equal(crop_to_multiple(array, (2, 3, 4)), array[:4, :6, :8])
    assert crop_to_multiple(array, (1, 1, 1)).shape == array.shape


@pytest.mark.parametrize("kind", ["box", "gaussian", "kspace"])
def test_a_case(small_head: np.ndarray, kind: str) -> None:
    odd = small_head[:37, :47, :43]
    case = Case.make("made up", odd, (2, 2, 2), kind)
    np.testing.assert_array_equal(case.hr, odd[:36, :46, :42])
    np.testing.assert_allclose(case.lr, Degradation.named(kind, (2, 2, 2)).forward(odd), atol=1e-3)
    assert case.lr.shape == (18, 23, 21) and case.lr.flags.c_contiguous and case.hr.dtype == case.lr.dtype == np.float32
    scores = {name: psnr(case.hr, interpolate(case.lr, (2, 2, 2), name), case.mask, case.data_range) for name in KINDS}
    assert case.best_psnr == max(scores.values()) == scores[case.best_interpolation]
    assert case.gain(interpolate(case.lr, (2, 2, 2), case.best_interpolation)) == 0
    assert case.gain(interpolate(case.lr, (2, 2, 2), min(scores, key=lambda name: scores[name]))) < 0
    assert case.gain(case.hr) == np.inf
    half = (case.hr + interpolate(case.lr, (2, 2, 2), case.best_interpolation)) / 2  # half the error: 6.02 dB
    assert case.gain(half) == pytest.approx(20 * np.log10(2), abs=0.01)


def test_a_report(small_head: np.ndarray) -> None:
    case = Case.make("made up", small_head, (2, 2, 1), "box")
    best = interpolate(case.lr, (2, 2, 1), case.best_interpolation)
    report = case.report(best)
    assert (report["scan"], report["degradation"], report["factors_kji"]) == ("made up", "box", [2, 2, 1])
    assert report["psnr_gain"] == 0 and report["ssim_gain"] <= 0
    assert report["table"]["result"] == report["table"][case.best_interpolation]
    assert report["table"]["result"]["psnr"] == pytest.approx(case.best_psnr)
    assert report["sharpness"]["result"]["gradient"] < report["sharpness"]["truth"]["gradient"]
    replicated = np.repeat(np.repeat(case.lr, 2, axis=0), 2, axis=1)  # A+ of box gives the scan back
    assert case.report(replicated)["consistency_rms"] == pytest.approx(0, abs=1e-6)
    assert case.report(case.hr)["consistency_rms"] == pytest.approx(0, abs=1e-6)
    assert case.report(case.hr + case.data_range / 10)["consistency_rms"] == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("array", [np.zeros((20, 20, 20)), np.full((20, 20, 20), 5.0)], ids=["zero", "constant"])
def test_a_scan_without_a_head(array: np.ndarray) -> None:
    with pytest.raises(VolumeError, match=r"a scan\.nii: nothing to score"):
        Case.make("a scan.nii", array, (2, 2, 2), "box")


def test_a_scan_too_thin_to_score(small_head: np.ndarray) -> None:
    with pytest.raises(VolumeError, match=r"a scan\.nii: \(40, 10, 44\).*too thin to score; it must have 11 voxels"):
        Case.make("a scan.nii", small_head[:, 18:28], (2, 2, 2), "box")
    Case.make("a scan.nii", small_head[:, 18:30], (2, 2, 2), "box")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "kind", "factors", "noise"),
    [
        ("ds000240-01_T1w", "gaussian", (2, 2, 2), 0.0),
        ("fnndsc-adi_T1w", "box", (2, 2, 2), 4.0),
        ("philips-elition_T1w", "kspace", (2, 2, 2), 8.0),
        ("philips-elition_T1w", "gaussian", (3, 1, 2), 2.0),
    ],
)
def test_the_referee_reports_alike(referee: ModuleType, shared_data: Path, name: str, kind: str, factors: Factors, noise: float) -> None:
    """A crop of odd sizes; the result to judge is a sharpened interpolation."""
    image = nib.load(shared_data / "validation" / "isotropic" / f"{name}.nii.gz")
    hr_ijk = np.asarray(image.dataobj[60:125, 60:133, 50:107], float)
    case = Case.make(name, hr_ijk.T, factors, kind, noise, seed=3)
    linear, cubic = (interpolate(case.lr, factors, baseline) for baseline in ("linear", "cubic"))
    sr = cubic + 0.7 * (cubic - linear)
    ours = case.report(sr)
    lr_ijk = referee.degrade(referee.crop_to_multiple(hr_ijk, factors[::-1]), factors[::-1], kind)
    if noise:
        lr_ijk = referee.rician(lr_ijk, noise / 100 * referee.robust_range(hr_ijk), 3)
    np.testing.assert_allclose(case.lr.T, lr_ijk, atol=1e-6 * case.data_range)
    wanted = referee.score(hr_ijk, lr_ijk, sr.T.astype(float), factors[::-1])
    assert ours["best_interpolation"] == wanted["best_interpolation"]
    assert ours["table"]["smoothed"]["sigma"] == wanted["table"]["smoothed"]["sigma"]
    assert ours["psnr_gain_over_smoothed"] == pytest.approx(wanted["psnr_gain_over_smoothed"], abs=0.01)
    for row in (*KINDS, "result", "smoothed"):
        assert ours["table"][row]["psnr"] == pytest.approx(wanted["table"][row]["psnr"], abs=0.01)
        for figure in ("ssim", "nrmse", "mae"):
            assert ours["table"][row][figure] == pytest.approx(wanted["table"][row][figure], abs=0.001)
    assert ours["psnr_gain"] == pytest.approx(wanted["psnr_gain"], abs=0.01)
    assert ours["ssim_gain"] == pytest.approx(wanted["ssim_gain"], abs=0.001)
    assert case.gain(sr) == pytest.approx(wanted["psnr_gain"], abs=0.01)
    assert set(ours["sharpness"]) == set(wanted["sharpness"])
    for row, figures in wanted["sharpness"].items():
        assert ours["sharpness"][row] == pytest.approx(figures, rel=1e-3)
    assert ours["consistency_rms"] == pytest.approx(wanted["consistency_rms"][kind], abs=1e-5)
