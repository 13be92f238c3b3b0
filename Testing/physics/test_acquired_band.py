"""The acquired band: a zero-filled axis is told from one with its whole band, and from a blurred one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from SRGAN3DLib.physics.acquired_band import acquired_band


def lines(smooth: float = 0.0) -> np.ndarray:
    """(20, 20, 96) lines with a spectrum that falls as anatomy's, bright tissue about 1."""
    field = np.cumsum(np.random.default_rng(0).standard_normal((20, 20, 96)), axis=-1) * 0.05
    field = ndimage.gaussian_filter1d(field, smooth, axis=-1) if smooth else field
    return np.asarray(0.6 + field - field.mean(), np.float32)


@pytest.mark.parametrize("band", [0.5, 0.65, 0.8])
def test_a_band_that_ends_is_found(band: float) -> None:
    spectrum = np.fft.rfft(lines(), axis=-1)
    spectrum[..., int(band * 48) + 1 :] = 0
    assert acquired_band(np.fft.irfft(spectrum, 96, axis=-1).astype(np.float32)) == pytest.approx(band, abs=0.06)


@pytest.mark.parametrize("smooth", [0.0, 0.4, 0.6])
def test_a_smooth_fall_is_no_end(smooth: float) -> None:
    assert acquired_band(lines(smooth)) is None


def test_too_short_or_dark_lines_say_nothing() -> None:
    assert acquired_band(lines()[..., :20]) is None
    assert acquired_band(np.zeros((20, 20, 96), np.float32)) is None
