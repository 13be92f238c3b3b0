"""The indices of artefacts: 0 without, and as large as the fault that is put in."""

from __future__ import annotations

import numpy as np
import pytest

from SRGAN3DLib.physics.artefacts import artefact_indices
from SRGAN3DLib.physics.interpolation import interpolate


def test_a_pattern_on_the_coarse_grid_shows() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(100, 200, (40, 36, 38)).astype(np.float32)
    fine = interpolate(coarse, (2, 2, 2), "linear")
    clean = artefact_indices(coarse, fine, (2, 2, 2), 100.0)
    assert clean["checkerboard"] < 0.05 and clean["ringing"] == 0
    sign = np.indices(fine.shape).sum(axis=0) % 2 * 2.0 - 1
    means = fine.reshape(40, 2, 36, 2, 38, 2).mean(axis=(1, 3, 5))
    noise = float(np.std(fine - means.repeat(2, 0).repeat(2, 1).repeat(2, 2)))
    for strength in (5.0, 20.0):
        bad = artefact_indices(coarse, (fine + strength * sign).astype(np.float32), (2, 2, 2), 100.0)
        assert bad["checkerboard"] == pytest.approx(strength / np.hypot(strength, noise), rel=0.1)
        assert bad["checkerboard"] > clean["checkerboard"]


def test_overshoot_shows_and_a_constant_has_none() -> None:
    coarse = np.zeros((12, 12, 12), np.float32)
    coarse[6:] = 100
    fine = np.repeat(coarse, 2, 0)
    assert artefact_indices(coarse, fine, (2, 1, 1), 100.0) == {"checkerboard": 0.0, "ringing": 0.0}
    fine[12] += 10
    assert artefact_indices(coarse, fine, (2, 1, 1), 100.0)["ringing"] == pytest.approx(0.1 / np.sqrt(24))
    assert artefact_indices(np.ones((4, 4, 4)), np.ones((4, 4, 4)), (1, 1, 1), 0.0) == {"checkerboard": 0.0, "ringing": 0.0}
