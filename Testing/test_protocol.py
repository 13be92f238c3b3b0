"""Our metrics, baselines and protocol: by hand, and against the referee."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from SRGAN3DLib.degradations import Degradation
from SRGAN3DLib.errors import VolumeError
from SRGAN3DLib.interpolation import KINDS, interpolate
from SRGAN3DLib.metrics import BORDER, all_metrics, head_mask, psnr, sharpness, truth_range
from SRGAN3DLib.protocol import Case, crop_to_multiple
from SRGAN3DLib.volume import Volume


def test_psnr_by_hand() -> None:
    hr, mask = np.zeros((12, 12, 12), np.float32), np.ones((12, 12, 12), bool)
    assert psnr(hr, hr + 0.1, mask, 1.0) == pytest.approx(20.0, abs=1e-5)  # 10 log10(1 / 0.01)
    assert psnr(hr, hr, mask, 1.0) == float("inf")
    figures = all_metrics(hr + np.arange(12), hr + np.arange(12) + 0.5, mask, 10.0)
    assert figures["nrmse"] == pytest.approx(0.05) and figures["mae"] == pytest.approx(0.05)


def test_mask_leaves_the_border_out(small_head: np.ndarray) -> None:
    mask = head_mask(small_head)
    assert mask[20, 24, 22] and not mask[:BORDER].any() and not mask[..., -BORDER:].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 3, 4)])
def test_interpolation_is_cell_centred(kind: str, factors: tuple[int, int, int]) -> None:
    """A ramp stays the same ramp on the finer grid, away from the border."""
    k, j, i = np.meshgrid(*(np.arange(24.0) for _ in range(3)), indexing="ij")
    fine = interpolate(k + 2 * j + 3 * i, factors, kind)
    centres = [(np.arange(24 * f) + 0.5) / f - 0.5 for f in factors]
    wanted = centres[0][:, None, None] + 2 * centres[1][:, None] + 3 * centres[2]
    inner = tuple(slice(8 * f, 16 * f) for f in factors)
    assert np.abs(fine - wanted)[inner].max() < (0.15 if kind == "lanczos" else 1e-3)
    assert np.allclose(interpolate(np.full((9, 9, 9), 7.0), factors, kind), 7)


def test_case_finds_the_best_and_its_gain(small_head: np.ndarray) -> None:
    case = Case.make("head", small_head[:39], (2, 2, 2), "gaussian")
    assert case.hr.shape == (38, 48, 44) and case.lr.shape == (19, 24, 22)
    best = max(KINDS, key=lambda kind: psnr(case.hr, interpolate(case.lr, (2, 2, 2), kind), case.mask, case.data_range))
    assert best == case.best_interpolation and case.gain(interpolate(case.lr, (2, 2, 2), best)) == pytest.approx(0, abs=1e-6)
    assert case.gain(case.hr + 1) > 5
    with pytest.raises(VolumeError, match="nothing to score"):
        Case.make("flat", np.zeros((20, 20, 20)), (2, 2, 2), "box")
    with pytest.raises(VolumeError, match="too thin"):
        Case.make("slab", small_head[:10], (2, 2, 2), "box")


@pytest.mark.shared
@pytest.mark.parametrize("degradation", ["box", "gaussian", "kspace"])
def test_agrees_with_the_referee(referee: ModuleType, shared_data: Path, degradation: str) -> None:
    scan = Volume.read(shared_data / "validation" / "isotropic" / "philips-elition_T1w.nii.gz").array[40:105, 60:160, 30:131]
    case = Case.make("scan", scan, (2, 2, 2), degradation)
    sr = interpolate(case.lr, (2, 2, 2), "cubic") * 1.01
    ours = case.report(sr)
    theirs = referee.score(scan.astype(np.float64), case.lr.astype(np.float64), sr.astype(np.float64), (2, 2, 2))
    for row in (*KINDS, "result"):
        assert ours["table"][row]["psnr"] == pytest.approx(theirs["table"][row]["psnr"], abs=0.01)
        for name in ("ssim", "nrmse", "mae"):
            assert ours["table"][row][name] == pytest.approx(theirs["table"][row][name], abs=0.001)
    assert ours["best_interpolation"] == theirs["best_interpolation"]
    assert ours["psnr_gain"] == pytest.approx(theirs["psnr_gain"], abs=0.01) and ours["ssim_gain"] == pytest.approx(
        theirs["ssim_gain"], abs=0.001
    )
    for name, figures in theirs["sharpness"].items():
        assert ours["sharpness"][name] == pytest.approx(figures, rel=1e-3)
    assert ours["consistency_rms"] == pytest.approx(theirs["consistency_rms"][degradation], rel=1e-3)


@pytest.mark.shared
def test_baselines_and_range_agree_with_the_referee(referee: ModuleType, small_head: np.ndarray) -> None:
    lr = Degradation.named("box", (2, 3, 2)).forward(crop_to_multiple(small_head, (2, 3, 2)).astype(np.float64))
    for kind in KINDS:
        assert np.abs(interpolate(lr, (2, 3, 2), kind) - referee.interpolate(lr, (2, 3, 2), kind)).max() < 1e-6
    assert truth_range(small_head) == pytest.approx(float(np.percentile(small_head, 99.9) - np.percentile(small_head, 0.1)))
    mask = head_mask(small_head)
    theirs = referee.sharpness(small_head.astype(np.float64), mask, 100.0)
    assert sharpness(small_head, mask, 100.0) == pytest.approx(theirs, rel=1e-6)
