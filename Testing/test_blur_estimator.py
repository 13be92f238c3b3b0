"""The blur estimator: orders blurs rightly, does not mind units, says nothing where it cannot know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from SRGAN3DLib.blur_estimator import axis_features, estimate_mtf
from SRGAN3DLib.degradations import Degradation
from SRGAN3DLib.volume import Volume


def test_features_do_not_mind_gain_and_offset(small_head: np.ndarray) -> None:
    assert np.allclose(axis_features(small_head, 0), axis_features(small_head * 7 - 300, 0), atol=2e-3)


def test_too_small_or_too_smooth() -> None:
    assert estimate_mtf(np.ones((8, 40, 40), np.float32)) is None
    assert estimate_mtf(np.zeros((40, 40, 40), np.float32)) is None


@pytest.mark.shared
@pytest.mark.parametrize("name", ["fnndsc-adi", "philips-elition", "ds000240-01"])
def test_orders_the_blurs_of_real_scans(shared_data: Path, name: str) -> None:
    """On scans it was not fitted on: gaussian < box < kspace, and the mean over the axes within 0.3 of the truth."""
    scan = Volume.read(shared_data / "validation" / "isotropic" / f"{name}_T1w.nii.gz").array
    means = []
    for kind in ("gaussian", "box", "kspace"):
        degradation = Degradation.named(kind, (2, 2, 2))
        estimate = estimate_mtf(degradation.forward(scan))
        assert estimate is not None
        means.append(float(np.mean(estimate)))
        assert abs(means[-1] - degradation.mtf[0]) < 0.3
    assert means[0] < means[1] < means[2]
