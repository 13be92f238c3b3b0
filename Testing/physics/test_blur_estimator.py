"""The blur estimator: orders blurs rightly, does not mind units, says nothing where it cannot know."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from SRGAN3DLib.physics.blur_estimator import RANGE, SLOPE, BlurEstimate, answers, combine, comparable, estimate_blur, inputs
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.volume import Volume

CUBIC = (1.0, 1.0, 1.0)


def estimated(array: np.ndarray, factors: tuple[int, int, int] = (2, 2, 2), spacing: tuple[float, float, float] = CUBIC) -> BlurEstimate:
    found = estimate_blur(array, factors, spacing)
    assert found is not None
    return found


def test_too_small_or_too_smooth() -> None:
    assert estimate_blur(np.ones((8, 40, 40), np.float32), (2, 2, 2), CUBIC) is None
    assert estimate_blur(np.zeros((40, 40, 40), np.float32), (2, 2, 2), CUBIC) is None


@pytest.mark.parametrize("shape", [(15, 40, 40), (40, 15, 40), (40, 40, 15)])
def test_a_short_axis_gives_no_estimate(shape: tuple[int, int, int]) -> None:
    assert estimate_blur(np.random.default_rng(0).normal(500, 100, shape).astype(np.float32), (2, 2, 2), CUBIC) is None


@pytest.fixture
def fine_head(small_head: np.ndarray) -> np.ndarray:
    """The made-up head on a grid twice as fine, with texture down to the voxel: float32 (80, 96, 88)."""
    head = ndimage.zoom(small_head, 2, order=3)
    return np.asarray(head + 40 * ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(head.shape), 0.8), np.float32)


def estimate(array: np.ndarray, *blurs: AxisBlur) -> np.ndarray:
    return np.array(estimated(Degradation((2, 2, 2), (blurs * 3)[:3]).forward(array)).mtf_kji)  # type: ignore[arg-type]


def test_more_blur_gives_less_transfer(fine_head: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a made-up scan the order of gaussians is held; what tells box from gaussian is held on real scans, below."""
    monkeypatch.setattr("SRGAN3DLib.physics.blur_estimator.RANGE", (0.0, 1.0))  # the floor would hide what is looked at here
    widths = [estimate(fine_head, AxisBlur("gaussian", width)).mean() for width in (0.7, 1.0, 1.4, 2.0)]
    assert all(sharper > softer + 0.02 for sharper, softer in itertools.pairwise(widths))


def test_a_floor_and_a_ceiling() -> None:
    assert combine(np.array([0.1, 0.1, 0.1]), SURE)[0] == pytest.approx([RANGE[0]] * 3)
    assert combine(np.array([1.2, 1.3, 1.1]), SURE)[0] == pytest.approx([RANGE[1]] * 3)


SURE = np.full(3, 0.05)


def test_axes_mostly_share_their_blur() -> None:
    assert combine(np.array([0.6, 0.7, 0.65]), SURE)[0] == pytest.approx([0.625, 0.675, 0.65])
    assert combine(np.array([0.5]), SURE[:1])[0] == pytest.approx([0.5])
    assert combine(np.array([0.9, 0.5, 0.48]), SURE)[0] == pytest.approx([0.7, 0.5, 0.49])
    assert combine(np.array([0.5, 0.9, 0.92]), SURE)[0] == pytest.approx([0.8, 0.9, 0.91])


def test_an_axis_smoothed_before_does_not_decide_and_nothing_jumps() -> None:
    assert combine(np.array([0.3, 0.9, 0.92]), SURE)[0] == pytest.approx([0.92] * 3)
    assert combine(np.array([0.35, 0.42, 0.45]), SURE)[0] == pytest.approx(
        [0.385, 0.42, 0.435], abs=0.01
    )  # a soft scan, not an axis of its own
    softer = np.array([combine(np.array([value, 0.65, 0.71]), SURE)[0] for value in np.linspace(0.25, 0.55, 301)])
    assert np.abs(np.diff(softer, axis=0)).max() < 0.005  # it jumped from 0.39 to 0.71 where one axis crossed 0.40
    assert combine(np.array([0.5, 0.9, 0.7]), SURE)[1].min() >= 0.05


def test_the_networks_are_plain_layers() -> None:
    """By hand; and an input that is not there counts as the usual one."""
    one = [[[[1.0, 0.0], [0.0, -1.0]], [0.0, 0.5]], [[[2.0, 1.0], [0.0, 0.0]], [0.1, -2.0]]]
    fitted = {"centre": [1.0, 0.0], "scale": [2.0, 1.0], "networks": [one, one]}
    value, spread = answers(fitted, np.array([3.0, 2.0]))
    assert value == pytest.approx(2 * 1 + SLOPE * (0.5 - 2) + 0.1) and spread == pytest.approx(np.exp(-2.0))
    assert answers(fitted, np.array([[np.nan, 99.0]]))[0] == pytest.approx([SLOPE * (0.5 - 4) + 0.1])


def test_what_an_axis_is_told_by() -> None:
    features = np.array([[1.0, 2.0], [3.0, 5.0], [np.nan, 7.0]])
    assert inputs(features, 0, (4, 1, 1)) == pytest.approx([1, 2, 3, 5, 2, 0])  # the axis without features of its own is left out
    assert inputs(features, 1, (2, 2, 2)) == pytest.approx([3, 5, 1, 2, 1, 1])
    assert np.isnan(inputs(features[[2, 0, 2]], 1, (2, 2, 2))[2:4]).all()


def test_units_turns_and_bright_voxels_do_not_matter(fine_head: np.ndarray) -> None:
    scan = Degradation.named("gaussian", (2, 2, 2)).forward(fine_head)
    wanted = estimated(scan).mtf_kji
    assert estimated(scan * 0.013).mtf_kji == pytest.approx(wanted, abs=1e-3)
    assert estimated(scan * 20 + 1000).mtf_kji == pytest.approx(wanted, abs=0.01)
    assert estimated(scan.transpose(2, 0, 1)).mtf_kji == pytest.approx([wanted[2], wanted[0], wanted[1]], abs=1e-4)
    bright = scan.copy()
    bright[20:23, 20:23, 20:23] = 50 * scan.max()
    assert estimated(bright).mtf_kji == pytest.approx(wanted, abs=0.08)  # of a scan of 40 x 48 x 44; 0.44 became 0.80 on real ones


def zero_filled(scan: np.ndarray, band: float) -> np.ndarray:
    spectrum = np.fft.fftshift(np.fft.fftn(scan))
    for axis, n in enumerate(scan.shape):
        spectrum *= np.expand_dims(np.abs(np.arange(n) - n // 2) <= band * n / 2, [a for a in range(3) if a != axis])
    return np.abs(np.fft.ifftn(np.fft.ifftshift(spectrum))).astype(np.float32)


def test_a_zero_filled_scan_keeps_its_whole_band(fine_head: np.ndarray) -> None:
    found = estimated(zero_filled(Degradation.named("kspace", (2, 2, 2)).forward(fine_head), 0.6))
    assert found.mtf_kji == (1.0, 1.0, 1.0)
    assert found.band_kji == pytest.approx((0.6, 0.6, 0.6), abs=0.08)


def test_finer_axes_are_made_as_coarse_as_the_enlarged_one_will_be(fine_head: np.ndarray) -> None:
    assert comparable(fine_head, (2, 2, 2), (1, 1, 1)) is fine_head
    assert comparable(fine_head, (2, 1, 1), (2, 1, 1)) is fine_head
    seen = comparable(fine_head, (2, 1, 1), (6, 1, 1))
    assert seen.shape == (80, 32, 29) and seen.mean() == pytest.approx(fine_head.mean(), rel=1e-3)


def test_memory_is_bounded() -> None:
    array = np.random.default_rng(0).normal(500, 20, (320, 320, 320)).astype(np.float32)
    scale = IntensityScale.fit(array)
    tracemalloc.start()
    estimate_blur(array, (2, 2, 2), CUBIC, scale)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 110e6


def test_a_scan_without_noise_warns_of_nothing(fine_head: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate_blur(np.round(fine_head / 50) * 50, (2, 2, 2), CUBIC)
        estimate_blur(np.full((40, 40, 40), 7, np.float32), (2, 2, 2), CUBIC)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["fnndsc-adi", "philips-elition", "ds000240-01"])
def test_orders_the_blurs_of_real_scans(shared_data: Path, name: str) -> None:
    """On scans it was not fitted on: gaussian < box < kspace, and the mean over the axes within 0.12 of the truth."""
    scan = Volume.read(shared_data / "validation" / "isotropic" / f"{name}_T1w.nii.gz").array
    means = []
    for kind in ("gaussian", "box", "kspace"):
        degradation = Degradation.named(kind, (2, 2, 2))
        means.append(float(np.mean(estimated(degradation.forward(scan)).mtf_kji)))
        assert abs(means[-1] - degradation.mtf[0]) < 0.12
    assert means[0] < means[1] < means[2]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["other/seg3d-heart_GRE", "anisotropic/openms-l12_FLAIR", "anisotropic/openms-l20_FLAIR"])
def test_thick_slices_beside_a_fine_plane(shared_data: Path, name: str) -> None:
    """Their thickest axis taken as truth: compared with a plane of any fineness, 0.88 was said for 0.41."""
    scan = Volume.read(shared_data / "validation" / f"{name}.nii.gz")
    k, j, i = scan.geometry.spacing_kji_mm
    for kind in ("gaussian", "box", "kspace"):
        degradation = Degradation.named(kind, (2, 1, 1))
        found = estimated(degradation.forward(scan.array), (2, 1, 1), (2 * k, j, i))
        assert found.mtf_kji[0] == pytest.approx(degradation.mtf[0], abs=0.12)
