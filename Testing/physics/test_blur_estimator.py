"""The blur estimator: orders blurs rightly, does not mind units, says nothing where it cannot know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from SRGAN3DLib.physics.blur_estimator import RANGE, SLOPE, axis_features, combine, estimate_mtf, inputs, mtf_of
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation
from SRGAN3DLib.volumes.volume import Volume


def test_features_do_not_mind_gain_and_offset(small_head: np.ndarray) -> None:
    assert np.allclose(axis_features(small_head, 0), axis_features(small_head * 7 - 300, 0), atol=2e-3)


def test_too_small_or_too_smooth() -> None:
    assert estimate_mtf(np.ones((8, 40, 40), np.float32)) is None
    assert estimate_mtf(np.zeros((40, 40, 40), np.float32)) is None


@pytest.mark.parametrize("shape", [(15, 40, 40), (40, 15, 40), (40, 40, 15)])
def test_a_short_axis_gives_no_estimate(shape: tuple[int, int, int]) -> None:
    assert estimate_mtf(np.random.default_rng(0).normal(500, 100, shape).astype(np.float32)) is None


@pytest.fixture
def fine_head(small_head: np.ndarray) -> np.ndarray:
    """The made-up head on a grid twice as fine, with texture down to the voxel: float32 (80, 96, 88)."""
    head = ndimage.zoom(small_head, 2, order=3)
    return np.asarray(head + 40 * ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(head.shape), 0.8), np.float32)


def estimate(array: np.ndarray, *blurs: AxisBlur) -> np.ndarray:
    found = estimate_mtf(Degradation((2, 2, 2), (blurs * 3)[:3]).forward(array))  # type: ignore[arg-type]
    assert found is not None
    return np.array(found)


def test_more_blur_gives_less_transfer(fine_head: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are those of real scans; on a made-up one box and kspace are both told from gaussian, not from each other."""
    monkeypatch.setattr("SRGAN3DLib.physics.blur_estimator.RANGE", (0.0, 1.0))  # the floor would hide what is looked at here
    gaussian, box, kspace = (estimate(fine_head, AxisBlur(kind)).mean() for kind in ("gaussian", "box", "kspace"))  # type: ignore[arg-type]
    assert gaussian + 0.05 < min(box, kspace)
    widths = [estimate(fine_head, AxisBlur("gaussian", width)).mean() for width in (0.7, 1.0, 1.4)]
    assert widths[0] > widths[1] + 0.03 and widths[1] > widths[2] + 0.03


def test_a_floor_and_a_ceiling(fine_head: np.ndarray) -> None:
    assert estimate(fine_head, AxisBlur("gaussian", 2.0)) == pytest.approx([RANGE[0]] * 3)


def test_axes_mostly_share_their_blur() -> None:
    assert combine(np.array([0.6, 0.7, 0.65])) == pytest.approx([0.625, 0.675, 0.65])
    assert combine(np.array([0.5])) == pytest.approx([0.5])
    assert combine(np.array([0.9, 0.5, 0.48])) == pytest.approx([0.7, 0.5, 0.49])
    assert combine(np.array([0.5, 0.9, 0.92])) == pytest.approx([0.8, 0.9, 0.91])


def test_an_axis_interpolated_before_does_not_decide() -> None:
    assert combine(np.array([0.3, 0.9, 0.92])) == pytest.approx([0.92] * 3)
    assert combine(np.array([0.72, 0.4, 0.31])) == pytest.approx([0.72] * 3)
    assert combine(np.array([1.3, 0.2, 0.3])) == pytest.approx([RANGE[1]] * 3)
    assert combine(np.array([0.35, 0.42, 0.45])) == pytest.approx([0.4, 0.42, 0.435])  # a soft scan, not an axis of its own


def test_the_networks_are_plain_layers() -> None:
    """By hand; and an input that is not there counts as the usual one."""
    one = [[[[1.0, 0.0], [0.0, -1.0]], [0.0, 0.5]], [[[2.0, 1.0], [9.0, 9.0]], [0.1, 9.0]]]
    fitted = {"centre": [1.0, 0.0], "scale": [2.0, 1.0], "networks": [one, one]}
    assert mtf_of(fitted, np.array([3.0, 2.0])) == pytest.approx(2 * 1 + SLOPE * (0.5 - 2) + 0.1)
    assert mtf_of(fitted, np.array([[np.nan, 99.0]])) == pytest.approx([SLOPE * (0.5 - 4) + 0.1])


def test_what_an_axis_is_told_by() -> None:
    features = np.array([[1.0, 2.0], [3.0, 5.0], [np.nan, 7.0]])
    assert inputs(features, 0, (4, 1, 1)) == pytest.approx([1, 2, 3, 5, 2, 0])  # the axis without features of its own is left out
    assert inputs(features, 1, (2, 2, 2)) == pytest.approx([3, 5, 1, 2, 1, 1])
    assert np.isnan(inputs(features[[2, 0, 2]], 1, (2, 2, 2))[2:4]).all()


def test_units_and_turns_do_not_matter(fine_head: np.ndarray) -> None:
    scan = Degradation.named("gaussian", (2, 2, 2)).forward(fine_head)
    wanted = estimate_mtf(scan)
    assert estimate_mtf(scan * 0.013) == pytest.approx(wanted, abs=1e-3)
    assert estimate_mtf(scan * 20 + 1000) == pytest.approx(wanted, abs=0.01)
    assert estimate_mtf(scan.transpose(2, 0, 1)) == pytest.approx([wanted[2], wanted[0], wanted[1]], abs=1e-4)  # type: ignore[index]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["fnndsc-adi", "philips-elition", "ds000240-01"])
def test_orders_the_blurs_of_real_scans(shared_data: Path, name: str) -> None:
    """On scans it was not fitted on: gaussian < box < kspace, and the mean over the axes within 0.12 of the truth."""
    scan = Volume.read(shared_data / "validation" / "isotropic" / f"{name}_T1w.nii.gz").array
    means = []
    for kind in ("gaussian", "box", "kspace"):
        degradation = Degradation.named(kind, (2, 2, 2))
        estimate = estimate_mtf(degradation.forward(scan))
        assert estimate is not None
        means.append(float(np.mean(estimate)))
        assert abs(means[-1] - degradation.mtf[0]) < 0.12
    assert means[0] < means[1] < means[2]
