"""Facts that both sides of Slicer's border share stand in the contract, and both sides use them."""

from __future__ import annotations

import numpy as np
import pytest

from SRGAN3DLib.contract.limits import SHEAR_TOLERANCE, SPACING_MARGIN, outside_spacing
from SRGAN3DLib.volumes.geometry import Geometry


@pytest.mark.parametrize(("spacing", "outside"), [((0.86, 1, 1), False), ((0.84, 1, 1), True), ((1, 1, 4.59), False), ((1, 4.61, 1), True)])
def test_spacing_outside_the_training_range(spacing: tuple[float, ...], outside: bool) -> None:
    assert outside_spacing(spacing, (1.0, 4.0)) is outside and not outside_spacing(spacing, (0.0, 0.0))
    assert SPACING_MARGIN == 0.15


def test_a_grid_is_sheared_beyond_the_tolerance() -> None:
    for share, sheared in ((0.5, False), (2.0, True)):
        matrix = np.eye(4)
        matrix[0, 2] = share * SHEAR_TOLERANCE
        assert Geometry((4, 4, 4), matrix).is_sheared is sheared
