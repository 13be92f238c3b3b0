"""Learning rates by hand."""

import pytest

from SRGAN3DLib.training.schedule import rate_share


def test_warm_up_cosine_and_end() -> None:
    assert rate_share(0, 10_000) == pytest.approx(1 / 300) and rate_share(149, 10_000) > 0.49
    assert abs(rate_share(5_000, 10_000) - (0.01 + 0.99 / 2)) < 1e-9
    assert abs(rate_share(10_000, 10_000) - 0.01) < 1e-9
    assert rate_share(0, 1) == 1.0  # a stage of one step has no warm-up
