"""Blobs that are put in are found again, by the right amount; none is found where none was put."""

from __future__ import annotations

import numpy as np
import pytest

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.evaluation.lesions import SITES, Blob, amplitude, lesion_markdown, lesion_rows, put, sites

SPACING = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def ball() -> np.ndarray:
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, 80)] * 3, indexing="ij")
    return np.where(k**2 + j**2 + i**2 < 0.9, 500.0, 0.0).astype(np.float32)


def test_the_amplitude_of_a_blob_is_its_contrast(ball: np.ndarray) -> None:
    for contrast in (0.3, -0.1):
        blob = Blob((40, 38, 42), 4.0, contrast)
        trace = put(ball, [blob], SPACING) - ball
        assert trace[40, 38, 42] == pytest.approx(contrast * 500)
        assert trace[42, 38, 42] == pytest.approx(contrast * 250)  # half its height at half its width
        assert amplitude(trace, ball, blob, SPACING) == pytest.approx(contrast)
        assert amplitude(trace + 7, ball, blob, SPACING) == pytest.approx(contrast)  # a constant is no blob
        assert amplitude(0.5 * trace, ball, blob, SPACING) == pytest.approx(contrast / 2)


def test_sites_are_apart_and_always_the_same(ball: np.ndarray) -> None:
    found = sites(ball, SPACING, 12, 2 * SITES, seed=3)
    assert found == sites(ball, SPACING, 12, 2 * SITES, seed=3) != sites(ball, SPACING, 12, 2 * SITES, seed=4)
    places = np.array(found)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(len(places))
    assert distances.min() >= 12 and (ball[tuple(places.T)] == 500).all()
    with pytest.raises(VolumeError, match="of 4000 sites"):
        sites(ball, SPACING, 20, 4000, seed=0)


def test_what_is_kept_and_what_is_invented(ball: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 5, ball.shape).astype(np.float32)
    restorers = {"all": lambda x: x, "half": lambda x: 250 + x / 2, "none": lambda x: np.full_like(x, 500.0)}
    rows = lesion_rows(ball, SPACING, lambda x: x + noise, restorers, sizes_mm=(3.0,), contrasts=(0.1, 0.4))
    for row in rows:
        assert row["kept"]["all"] == pytest.approx(1, abs=1e-4) and row["kept"]["half"] == pytest.approx(0.5, abs=1e-4)
        assert row["kept"]["none"] == 0 and row["invented"]["none"] < 0.005
        assert 0.002 < row["invented"]["all"] < 0.02
    assert "| 3 | 40 % | 1.00 | 0.50 | 0.00 |" in lesion_markdown(rows, (1, 1, 1))
