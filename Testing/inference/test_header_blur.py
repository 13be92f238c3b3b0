"""What a header says of the blur: slice profiles and zero-filled planes, and nothing where it says nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from SRGAN3DLib.inference.header_blur import header_blur
from SRGAN3DLib.physics.degradations import AxisBlur

SHAPE = (24, 256, 256)


def facts(**stated: object) -> SimpleNamespace:
    nothing = {"slice_thickness_mm": None, "acquisition_matrix": None, "interpolated": None, "interpolated_slices": None}
    return SimpleNamespace(**(nothing | stated))


def test_thickness_gives_the_slice_profile() -> None:
    k, j, i = header_blur(facts(slice_thickness_mm=4.0), SHAPE, (5.0, 1.0, 1.0))
    assert k is not None and j is None and i is None
    assert (k.least, k.most) == pytest.approx((AxisBlur("gaussian", 0.8).mtf, AxisBlur("box", 0.8).mtf))
    assert "4 mm thick every 5 mm" in k.says


def test_thin_partitions_and_interpolated_slices() -> None:
    assert header_blur(facts(slice_thickness_mm=1.0), SHAPE, (1.0, 1.0, 1.0)) == (None, None, None)
    k, _, _ = header_blur(facts(slice_thickness_mm=3.0, interpolated_slices=True), SHAPE, (1.5, 1.0, 1.0))
    assert k is not None and (k.least, k.most) == (1.0, 1.0)


def test_the_acquisition_matrix_gives_the_band() -> None:
    _, j, i = header_blur(facts(acquisition_matrix=(0, 256, 192, 0), interpolated=True), SHAPE, (5.0, 1.0, 1.0))
    assert j is not None and j.least == 1.0 and "192 of 256" in j.says and i is None


def test_no_header() -> None:
    assert header_blur(None, SHAPE, (5.0, 1.0, 1.0)) == (None, None, None)
