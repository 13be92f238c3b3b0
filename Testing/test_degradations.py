"""One adjoint test for all degradations; values worked out by hand; the referee agrees."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from SRGAN3DLib.degradations import AxisBlur, Degradation, sample
from SRGAN3DLib.errors import JobError

BLURS = (
    AxisBlur("box"),
    AxisBlur("box", 0.6),
    AxisBlur("box", 1.5),
    AxisBlur("gaussian"),
    AxisBlur("gaussian", 1.4),
    AxisBlur("kspace"),
    AxisBlur("kspace", 0.4),
)
SHAPES = ((8, 9, 11), (13, 8, 10))


@pytest.mark.parametrize("blur", BLURS, ids=lambda b: f"{b.kind}-{b.width}")
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint_rows_and_pseudo_inverse(blur: AxisBlur, factor: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    operator = Degradation((factor, factor, 1), (blur, blur, blur))
    x = rng.normal(size=shape)
    lr = operator.forward(x)
    assert lr.shape == (shape[0] // factor, shape[1] // factor, shape[2])
    y = rng.normal(size=lr.shape)
    assert np.vdot(lr, y) == pytest.approx(np.vdot(x, operator.adjoint(y, shape)), rel=1e-12)
    for matrix in operator.matrices(shape):
        assert np.allclose(matrix.sum(axis=1), 1, atol=1e-12)
    assert np.allclose(operator.forward(operator.pseudo_inverse(lr, shape)), lr, atol=1e-9)  # A A+ A = A
    assert np.allclose(operator.forward(torch.from_numpy(x)).numpy(), lr, atol=1e-12)


def test_random_has_an_adjoint_too() -> None:
    rng = np.random.default_rng(3)
    for _ in range(12):
        operator = sample("random", (2, 3, 1), rng).degradation
        x, y = rng.normal(size=(9, 10, 5)), rng.normal(size=(4, 3, 5))
        assert np.vdot(operator.forward(x), y) == pytest.approx(np.vdot(x, operator.adjoint(y, x.shape)), rel=1e-10)


def test_values_by_hand() -> None:
    x = np.array([1.0, 3, 5, 9, 7])[:, None, None] * np.ones((5, 2, 2))
    box = Degradation((2, 1, 1), (AxisBlur("box"),) * 3)
    assert np.allclose(box.forward(x)[:, 0, 0], [2, 7])  # the fifth voxel is beyond the last whole cell
    assert np.allclose(box.pseudo_inverse(box.forward(x), (4, 2, 2))[:, 0, 0], [2, 2, 7, 7])  # A+ of the box: replication
    # gaussian of FWHM 2 voxels, sigma 0.8493, centred between two voxels: weights of distances 0.5, 1.5, 2.5, mirrored at the border
    w = np.exp(-0.5 * (np.array([0.5, 1.5, 2.5, 3.5]) / 0.84932) ** 2)
    w /= 2 * w.sum()
    row = AxisBlur("gaussian").matrix(4, 2)[0]
    assert np.allclose(row, [w[0] + w[1], w[0] + w[2], w[1] + w[3], w[2]], atol=1e-3)
    # k-space: a cosine below the new Nyquist passes as it is, one above is gone
    n = np.arange(16)
    low, high = np.cos(2 * np.pi * 2 * (n + 0.5) / 16), np.cos(2 * np.pi * 6 * (n + 0.5) / 16)
    matrix = AxisBlur("kspace").matrix(16, 2)
    assert np.allclose(matrix @ low, np.cos(2 * np.pi * 2 * (np.arange(8) + 0.5) / 8), atol=1e-12) and np.allclose(
        matrix @ high, 0, atol=1e-12
    )


def test_mtf_at_nyquist() -> None:
    assert Degradation.named("gaussian", (2, 2, 2)).mtf == pytest.approx((0.4107,) * 3, abs=1e-4)
    assert Degradation.named("box", (2, 2, 1)).mtf == pytest.approx((2 / np.pi, 2 / np.pi, 1))
    assert AxisBlur("kspace", 0.3).mtf == 0.3


def test_slice_profile_with_a_gap_and_an_overlap() -> None:
    thin = Degradation.slice_profile(4, thickness=2.0, spacing=4.0, profile="box", axis=2)
    assert thin.factors == (1, 1, 4) and np.allclose(thin.matrices((3, 3, 8))[2][0], [0, 0.5, 0.5, 0, 0, 0, 0, 0])
    thick = Degradation.slice_profile(2, thickness=8.0, spacing=4.0, profile="box", axis=0)  # 4 voxels wide, centred between 2 and 3
    assert np.allclose(thick.matrices((8, 3, 3))[0][1], [0, 0.25, 0.25, 0.25, 0.25, 0, 0, 0])
    with pytest.raises(JobError, match="thickness 0"):
        Degradation.slice_profile(2, 0, 1)


def test_draws_follow_the_seed_and_noise_is_rician() -> None:
    one, two = (sample("random", (2, 2, 2), np.random.default_rng(7)) for _ in range(2))
    assert one == two
    assert {sample("random", (2, 2, 2), np.random.default_rng(s)).degradation.blurs[0].kind for s in range(30)} == {
        "box",
        "gaussian",
        "kspace",
    }
    noisy = sample("box", (2, 2, 2), np.random.default_rng(0), noise=0.1).add_noise(
        np.zeros((40, 40, 40), np.float32), np.random.default_rng(1)
    )
    assert np.abs(noisy).mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)  # Rayleigh mean in air


@pytest.mark.parametrize(("kind", "width"), [("box", 0), ("kspace", 1.1), ("fog", 1)])
def test_nonsense_is_refused(kind: str, width: float) -> None:
    with pytest.raises(JobError, match="blur"):
        AxisBlur(kind, width)  # type: ignore[arg-type]


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["box", "gaussian", "kspace"])
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 3), (4, 1, 2)])
def test_equals_the_referee(referee: ModuleType, kind: str, factors: tuple[int, int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(24, 18, 30))
    assert np.abs(Degradation.named(kind, factors).forward(x) - referee.degrade(x, factors, kind)).max() < 1e-6
