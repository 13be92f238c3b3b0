"""The filtered step of back-projection: exact without noise, harmless with it, the same in pieces, and never beyond the operator's norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from SRGAN3DLib.physics.back_projection import give_back, reach
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation
from SRGAN3DLib.physics.residual_filter import ESTIMATED, KNOWN, ResidualFilter

BLURS = [
    *(AxisBlur("gaussian", width) for width in (0.4, 0.7, 1.0, 1.6)),
    *(AxisBlur("box", width) for width in (0.5, 1.0, 1.4)),
    *(AxisBlur("sinc", edge) for edge in (0.4, 1.0)),
]
every_blur = pytest.mark.parametrize("blur", BLURS, ids=lambda b: f"{b.kind}-{b.width:g}")
FILTERS = [
    ResidualFilter(),
    ResidualFilter(KNOWN),
    ResidualFilter(ESTIMATED, 0.2),
    ResidualFilter(math.inf, 5.0),
    ResidualFilter(KNOWN, 0.05),
]


def pattern(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 0.7).astype(np.float32)


@every_blur
@pytest.mark.parametrize("factor", range(2, 9))
def test_the_norm_bounds_every_grid(blur: AxisBlur, factor: int) -> None:
    """The largest eigenvalue of f A A^T of whatever size is the norm, and not far below it on a long axis."""
    norm = Degradation((factor, 1, 1), (blur,) * 3).norm
    sizes = [max(2 * blur.reach + 2, 12), 40]
    largest = [float(np.linalg.eigvalsh(factor * (m @ m.T)).max()) for m in (blur.matrix(n * factor, factor) for n in sizes)]
    assert max(largest) <= norm * (1 + 1e-6) and largest[-1] > 0.98 * norm
    assert Degradation((factor,) * 3, (blur,) * 3).norm == pytest.approx(norm**3)


def test_the_norm_of_what_the_protocol_has() -> None:
    for kind in ("box", "kspace"):
        assert Degradation.named(kind, (2, 3, 4)).norm == pytest.approx(1)
    narrow = AxisBlur("gaussian", 0.4)
    assert Degradation((3, 1, 1), (narrow,) * 3).norm == pytest.approx(1.87, abs=0.02)
    assert Degradation((4, 1, 1), (narrow,) * 3).norm == pytest.approx(1.63, abs=0.02)


@every_blur
@pytest.mark.parametrize("factors", [(2, 2, 2), (4, 1, 1), (3, 3, 3), (4, 4, 4)])
@pytest.mark.parametrize("filtered", FILTERS, ids=lambda f: f"{f.softness:g}-{f.damping:g}")
def test_the_result_is_never_further_from_the_scan(blur: AxisBlur, factors: tuple[int, int, int], filtered: ResidualFilter) -> None:
    """Not for any blur, not even for a scan that is nothing but noise."""
    operator = Degradation(factors, (blur,) * 3)
    shape = tuple(8 * f for f in factors)
    result = pattern(0, shape)  # type: ignore[arg-type]
    scan = np.random.default_rng(1).standard_normal((8, 8, 8)).astype(np.float32)
    before = np.linalg.norm(operator.forward(result) - scan)
    give_back(scan, result, operator, filtered)
    assert np.linalg.norm(operator.forward(result) - scan) <= before * (1 + 1e-5)


@pytest.mark.parametrize(("kind", "left"), [("box", 1e-5), ("gaussian", 0.05)])
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 1, 4), (3, 1, 2)])
def test_without_noise_a_known_blur_is_inverted(kind: str, left: float, factors: tuple[int, int, int]) -> None:
    """The pseudo-inverse, as far as the softness goes: all of the residual at the frequencies that the blur leaves."""
    operator = Degradation(factors, (AxisBlur(kind),) * 3)  # type: ignore[arg-type]
    truth, start = pattern(0, (24, 24, 24)), pattern(1, (24, 24, 24))
    scan, result = operator.forward(truth), start.copy()
    give_back(scan, result, operator, ResidualFilter.make(operator, True, 0.0))
    before, after = (np.sqrt(np.mean((operator.forward(x) - scan) ** 2)) for x in (start, result))
    assert after < left * before
    exact = start + operator.pseudo_inverse(scan - operator.forward(start), start.shape)  # type: ignore[arg-type]
    assert np.abs(result - exact).max() < 0.15 * np.abs(exact - start).max()
    assert np.sqrt(np.mean((result - truth) ** 2)) < np.sqrt(np.mean((start - truth) ** 2))


def test_the_more_noise_the_less_is_given_back() -> None:
    operator = Degradation.named("box", (2, 2, 2))
    scan, start = pattern(0, (10, 10, 10)), np.zeros((20, 20, 20), np.float32)
    sizes = []
    for noise in (0.0, 0.005, 0.01, 0.02, 0.04, 0.08):
        result = start.copy()
        give_back(scan, result, operator, ResidualFilter.make(operator, True, noise))
        sizes.append(float(np.abs(result).max()))
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 0.99 * np.abs(scan).max()
    assert sizes[2] < 0.9 * sizes[0] and sizes[-1] < 0.01 * sizes[0]
    unknown = ResidualFilter.make(operator, True, None)
    assert ResidualFilter.make(operator, True, 0.01).damping < unknown.damping < ResidualFilter.make(operator, True, 0.02).damping


def test_it_is_the_regularised_least_squares_solution() -> None:
    """By hand, with the whole matrix: result + A^T (A A^T + d)^-1 (scan - A result)."""
    operator = Degradation((2, 2, 1), (AxisBlur("gaussian"), AxisBlur("gaussian", 1.3), AxisBlur("box")))
    rng = np.random.default_rng(3)
    scan, start = rng.standard_normal((4, 3, 2)).astype(np.float32), rng.standard_normal((8, 6, 2)).astype(np.float32)
    k, j, i = operator.matrices(start.shape)
    whole, damping = np.kron(np.kron(k, j), i), 0.3
    filtered = ResidualFilter(1e-9, damping)
    given = np.linalg.solve(whole @ whole.T + damping / 4 * np.eye(24), scan.ravel() - whole @ start.ravel())
    wanted = start + (whole.T @ given).reshape(start.shape)
    give_back(scan, start, operator, filtered)
    assert np.abs(start - wanted).max() < 1e-4


def test_a_model_that_keeps_the_grid_gives_nothing_back() -> None:
    result = pattern(0, (6, 6, 6))
    before = result.copy()
    give_back(result + 1, result, Degradation((1, 1, 1), (AxisBlur("gaussian"),) * 3))
    assert np.array_equal(result, before)


@every_blur
@pytest.mark.parametrize("filtered", FILTERS, ids=lambda f: f"{f.softness:g}-{f.damping:g}")
def test_a_region_has_the_values_of_the_whole(blur: AxisBlur, filtered: ResidualFilter) -> None:
    operator = Degradation((2, 1, 1), (blur,) * 3)
    far = reach(operator, filtered)[0]
    n = 2 * far + 30
    scan = np.random.default_rng(0).standard_normal((n, 2, 2)).astype(np.float32)
    whole = np.random.default_rng(1).standard_normal((2 * n, 2, 2)).astype(np.float32)
    first, last = 10, 20 + far  # the region 10 + far to 20, of which the step sees `far` more
    part = np.ascontiguousarray(whole[2 * first : 2 * (last + far)])
    give_back(scan[first : last + far], part, operator, filtered)
    give_back(scan, whole, operator, filtered)
    assert np.abs(part[2 * far : 2 * (last - first)] - whole[2 * (first + far) : 2 * last]).max() < 2e-4 * np.abs(whole).max()


def test_what_is_chosen_for_a_scan() -> None:
    gaussian, box, band = (Degradation((2, 2, 2), (AxisBlur(kind),) * 3) for kind in ("gaussian", "box", "sinc"))  # type: ignore[arg-type]
    made: Any = ResidualFilter.make
    assert made(gaussian, True, 0.0) == made(box, True, 0.0) == ResidualFilter(KNOWN, 0.0)
    assert made(gaussian, False, 0.0) == ResidualFilter(ESTIMATED, 0.0)
    assert made(band, True, 0.0) == made(box, False, 0.0) == made(band, False, 0.0) == ResidualFilter(math.inf, 0.0)
