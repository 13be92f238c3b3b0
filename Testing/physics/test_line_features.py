"""Line features: scale-free, blind to white noise that is known, from a bounded number of lines."""

from __future__ import annotations

import numpy as np
import pytest

from SRGAN3DLib.physics.blur_estimator import estimate_blur
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.line_features import BRIGHTEST, FEATURES, MOST_VOXELS, line_features, lines_along


def test_features_do_not_mind_gain_and_offset(small_head: np.ndarray) -> None:
    assert np.allclose(line_features(small_head), line_features(small_head * 7 - 300), atol=2e-3)
    assert line_features(small_head).shape == (FEATURES,)


def test_lines_run_along_the_axis_and_end_at_the_brightest(small_head: np.ndarray) -> None:
    scale = IntensityScale.fit(small_head)
    small_head[3:6, 4:8, 5] = scale.undo(2.0)
    lines = lines_along(small_head, 1, scale)
    assert lines.shape == (40, 44, 48) and lines.max() == BRIGHTEST and lines.dtype == np.float32


def test_a_few_extreme_voxels_are_bridged(small_head: np.ndarray) -> None:
    scale = IntensityScale.fit(small_head)
    wanted = lines_along(small_head, 1, scale)
    small_head[20:22, 22:24, 20:22] *= 50
    assert np.abs(lines_along(small_head, 1, scale) - wanted).max() < 0.5


def test_a_large_scan_is_looked_at_in_part() -> None:
    lines = lines_along(np.zeros((300, 280, 260), np.float32), 0, IntensityScale(0, 1))
    assert lines.shape[-1] == 300 and lines.size <= MOST_VOXELS


def test_known_noise_is_taken_from_the_spectrum(small_head: np.ndarray) -> None:
    noisy = small_head + np.random.default_rng(0).normal(0, 40, small_head.shape).astype(np.float32)
    clean, seen, blind = (line_features(a, sigma)[10:13].mean() for a, sigma in ((small_head, 0), (noisy, 40), (noisy, 0)))
    assert abs(seen - clean) < abs(blind - clean)


def test_a_flat_scan_gives_nothing() -> None:
    assert np.isnan(line_features(np.zeros((40, 40, 40), np.float32))).all()


@pytest.mark.filterwarnings("error")
def test_a_phantom_of_few_values_gives_no_warning() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1)
    phantom = ((grid[..., None, :] - rng.random((30, 3)) * 40) ** 2).sum(-1).argmin(-1) * 10.5
    assert estimate_blur(phantom.astype(np.float32), (2, 2, 2), (1, 1, 1)) is None
    assert estimate_blur((phantom > 100).astype(np.float32), (2, 2, 2), (1, 1, 1)) is None
