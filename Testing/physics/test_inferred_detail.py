"""Inferred detail: invisible to the degradation, nothing where the scan says all, and the same in a region."""

from __future__ import annotations

import numpy as np
import pytest

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.physics import inferred_detail as room
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation
from SRGAN3DLib.physics.inferred_detail import check_detail, inferred_detail

KINDS = ("box", "gaussian", "sinc", "kspace")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factors", [(2, 2, 2), (3, 1, 1), (1, 2, 4)])
def test_it_is_what_the_degradation_cannot_see(kind: str, factors: tuple[int, int, int], small_head: np.ndarray, monkeypatch) -> None:
    operator = Degradation(factors, (AxisBlur(kind),) * 3)
    monkeypatch.setattr(room, "SLAB_VOXELS", 5000)  # several slabs, the last one smaller
    detail = inferred_detail(small_head, operator)
    assert detail.dtype == np.float32 and detail.shape == small_head.shape
    assert np.abs(operator.forward(detail)).max() < 1e-3 * np.ptp(small_head)
    expected = small_head - operator.pseudo_inverse(operator.forward(small_head.astype(np.float64)), small_head.shape)
    np.testing.assert_allclose(detail, expected, atol=1e-5 * np.ptp(small_head))
    np.testing.assert_allclose(inferred_detail(small_head - detail, operator), 0, atol=1e-5 * np.ptp(small_head))


@pytest.mark.parametrize(("blur", "reach"), [(("box", 1), 0), (("gaussian", 1), 8), (("gaussian", 1.4), 12), (("sinc", 1), 25)])
def test_a_region_has_the_detail_of_the_whole(blur: tuple, reach: int) -> None:
    whole = np.random.default_rng(0).uniform(0, 1, (240, 6, 4)).astype(np.float32)
    operator = Degradation((2, 2, 1), (AxisBlur(*blur),) * 3)
    region = inferred_detail(whole[40:200], operator)
    far = slice(2 * reach, 160 - 2 * reach)
    assert np.abs(region - inferred_detail(whole, operator)[40:200])[far].max() < 1e-4


def test_an_unknown_blur_is_refused() -> None:
    with pytest.raises(JobError, match=r"because the blur of the scan is not known \(unknown\); give the blur"):
        check_detail(None, "the blur of the scan is not known (unknown)")
    check_detail(Degradation.named("box", (2, 2, 2)), "")
