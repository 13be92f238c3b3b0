"""The noise estimator: right on known noise, with or without air; little memory, no warnings, no answer where it cannot know."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.noise_estimator import NoiseEstimate, estimate_noise
from SRGAN3DLib.volumes.volume import Volume

CUBIC = (1.0, 1.0, 1.0)


@pytest.fixture
def clean_head(small_head: np.ndarray) -> np.ndarray:
    """The made-up head on a finer grid, smooth within its tissues: float32 (80, 96, 88)."""
    return np.asarray(ndimage.gaussian_filter(ndimage.zoom(small_head, 2, order=1), 1.5), np.float32)


def rician(array: np.ndarray, sigma: float, correlation: float = 0.0, seed: int = 0) -> np.ndarray:
    """Rician noise; `correlation`: sigma in voxels of the filter that it went through."""
    rng = np.random.default_rng(seed)
    fields = []
    for _ in range(2):
        field = rng.standard_normal(array.shape)
        field = ndimage.gaussian_filter(field, correlation) if correlation else field
        fields.append(sigma * field / field.std())
    return np.asarray(np.hypot(array + fields[0], fields[1]), np.float32)


def estimate(array: np.ndarray) -> NoiseEstimate:
    found = estimate_noise(array, CUBIC)
    assert found is not None
    return found


@pytest.mark.parametrize("percent", [1, 2, 4, 8, 12])
def test_known_noise(clean_head: np.ndarray, percent: float) -> None:
    scan = rician(clean_head, percent / 100 * IntensityScale.fit(clean_head).gain)
    true = percent / 100 * IntensityScale.fit(clean_head).gain / IntensityScale.fit(scan).gain
    assert estimate(scan).sigma == pytest.approx(true, rel=0.15)
    assert estimate(scan).confidence > 0.5 and estimate(scan).correlated_kji == (False, False, False)


@pytest.mark.parametrize("percent", [2, 4, 8])
def test_a_masked_background_does_not_matter(clean_head: np.ndarray, percent: float) -> None:
    gain = IntensityScale.fit(clean_head).gain
    scan = np.where(clean_head < 0.1 * gain, 0, rician(clean_head, percent / 100 * gain)).astype(np.float32)
    found = estimate(scan)
    assert found.sigma == pytest.approx(percent / 100 * gain / IntensityScale.fit(scan).gain, rel=0.15) and found.source == "tissue"


def test_bright_voxels_and_units_do_not_matter(clean_head: np.ndarray) -> None:
    scan = rician(clean_head, 20)
    bright = scan.copy()
    bright[20:23, 30:33, 40:43] *= 50
    wanted = estimate(scan).sigma
    assert estimate(bright).sigma == pytest.approx(wanted, rel=0.05)
    assert estimate(scan * 0.013).sigma == pytest.approx(wanted, rel=1e-3)
    assert estimate(scan.transpose(2, 0, 1)).sigma == pytest.approx(wanted, rel=0.05)


def test_correlated_noise_is_noticed(clean_head: np.ndarray) -> None:
    gain = IntensityScale.fit(clean_head).gain
    scan = rician(clean_head, 0.05 * gain, correlation=0.6)
    found = estimate(scan)
    assert found.correlated_kji == (True, True, True)
    assert found.sigma == pytest.approx(0.05 * gain / IntensityScale.fit(scan).gain, rel=0.3)


def test_without_noise_it_says_little_and_warns_of_nothing(clean_head: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert estimate(clean_head).sigma < 0.006
        assert estimate_noise(np.zeros((40, 40, 40), np.float32), CUBIC) is None
        assert estimate_noise(np.ones((3, 40, 40), np.float32), CUBIC) is None


def test_memory_is_bounded() -> None:
    array = np.random.default_rng(0).normal(500, 20, (300, 300, 300)).astype(np.float32)
    scale = IntensityScale.fit(array)
    tracemalloc.start()
    estimate_noise(array, CUBIC, scale)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6


@pytest.mark.shared
@pytest.mark.parametrize("name", ["isotropic/philips-elition_T1w", "isotropic/fnndsc-adi_T1w", "other/mne-ecog_T1w"])
@pytest.mark.parametrize("kind", ["gaussian", "box", "kspace"])
def test_known_noise_on_real_scans(shared_data: Path, name: str, kind: str) -> None:
    scan = Volume.read(shared_data / "validation" / f"{name}.nii.gz").array
    scan = Degradation.named(kind, (2, 2, 2)).forward(scan)
    gain = IntensityScale.fit(scan).gain
    for percent in (1, 4, 8):
        noisy = rician(scan, percent / 100 * gain)
        assert estimate(noisy).sigma == pytest.approx(percent / 100 * gain / IntensityScale.fit(noisy).gain, rel=0.15)
