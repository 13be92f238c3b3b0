"""Degradations: numbers by hand, adjoints to rounding, pseudo-inverses, draws by seed, and the referee's own operators."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from SRGAN3DLib.contract.configs import NoiseConfig
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation, Draw, sample

KINDS = ("box", "gaussian", "kspace")
BLURS = {
    "box": (AxisBlur("box"),) * 3,
    "gaussian": (AxisBlur("gaussian"),) * 3,
    "kspace": (AxisBlur("kspace"),) * 3,
    "apodised": (AxisBlur("kspace", 0.3), AxisBlur("kspace", 0.5), AxisBlur("kspace", 0.9)),
    "gaps": (AxisBlur("box", 0.6), AxisBlur("box"), AxisBlur("gaussian", 0.4)),
    "overlap": (AxisBlur("gaussian", 1.7), AxisBlur("box", 1.5), AxisBlur("gaussian", 3.0)),
}
SHAPES = ((5, 9, 13), (7, 8, 11), (4, 15, 6))
FACTORS = (1, 2, 3, 4)
each_blur = pytest.mark.parametrize("blurs", BLURS.values(), ids=BLURS)
each_factor = pytest.mark.parametrize("factor", FACTORS)


# ---------------------------------------------------------------- by hand
def rows(kind: str, n: int, factor: int, width: float = 1.0) -> list[list[float]]:
    return AxisBlur(kind, width).matrix(n, factor).tolist()  # type: ignore[arg-type]


def close(values: list[list[float]]) -> list[object]:
    return [pytest.approx(row, abs=1e-12) for row in values]


def test_box_by_hand() -> None:
    assert rows("box", 4, 2) == close([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    assert rows("box", 5, 2) == close([[0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.5, 0]])  # the odd voxel out takes no part
    assert rows("box", 3, 3) == close([[1 / 3, 1 / 3, 1 / 3]])


def test_box_with_a_gap_and_with_an_overlap_by_hand() -> None:
    assert rows("box", 8, 4, 0.5) == close([[0, 0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0.5, 0.5, 0]])
    assert rows("box", 6, 3, 1 / 3) == close([[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]])
    assert rows("box", 4, 2, 2.0) == close([[0.5, 0.25, 0.25, 0], [0, 0.25, 0.25, 0.5]])  # voxel -1 is voxel 0 in the mirror
    # width 4.5 voxels about voxel 1: three quarters of voxels -1 (mirrored: 0) and 3, the three between them whole
    assert rows("box", 6, 3, 1.5)[0] == pytest.approx([1.75 / 4.5, 1 / 4.5, 1 / 4.5, 0.75 / 4.5, 0, 0], abs=1e-12)


@pytest.mark.parametrize(("factor", "width"), [(2, 1.0), (3, 1.0), (4, 0.8)])
def test_gaussian_by_hand(factor: int, width: float) -> None:
    """A weight falls to one half at half the FWHM: w(d) = 2^-(2 d / FWHM)^2."""
    n, r = 24 * factor, 12
    distance = np.arange(n) - (factor * r + (factor - 1) / 2)
    wanted = 2.0 ** -((2 * distance / (width * factor)) ** 2)
    wanted /= wanted.sum()
    np.testing.assert_allclose(AxisBlur("gaussian", width).matrix(n, factor)[r], wanted, atol=1e-6)


def test_gaussian_is_mirrored_at_the_border() -> None:
    """Row 0 of factor 2: voxels at distances 0.5, 0.5, 1.5, 1.5, ...; what lies left of voxel 0 is folded back onto 0, 1, ..."""
    weight = {d: 2.0 ** -(d * d) for d in np.arange(0.5, 7)}
    total = 2 * sum(weight.values())
    wanted = [weight[0.5] + weight[1.5], weight[0.5] + weight[2.5], weight[1.5] + weight[3.5], weight[2.5] + weight[4.5]]
    assert rows("gaussian", 24, 2)[0][:4] == pytest.approx(np.divide(wanted, total).tolist(), abs=1e-9)


def test_kspace_by_hand() -> None:
    assert rows("kspace", 4, 2) == close([[0.25] * 4] * 2)  # of two samples only the mean lies below Nyquist
    first = [(1 + 2 * np.cos(2 * np.pi / 8 * (0.5 - j))) / 8 for j in range(8)]
    assert rows("kspace", 8, 2)[0] == pytest.approx(first, abs=1e-12)
    assert rows("kspace", 8, 2)[1] == pytest.approx(np.roll(first, 2).tolist(), abs=1e-12)


def test_kspace_passes_what_is_below_its_edge_and_nothing_else() -> None:
    n, factor, m = 24, 2, 12
    j, centres = np.arange(n), 2 * np.arange(m) + 0.5
    for k in range(n // 2):
        out = AxisBlur("kspace").matrix(n, factor) @ np.cos(2 * np.pi * k * j / n + 0.3)
        wanted = np.cos(2 * np.pi * k * centres / n + 0.3) if k < m / 2 else np.zeros(m)
        np.testing.assert_allclose(out, wanted, atol=1e-12)
        tapered = AxisBlur("kspace", 0.3).matrix(n, factor) @ np.cos(2 * np.pi * k * j / n + 0.3)
        np.testing.assert_allclose(tapered, wanted * (1 - 0.7 * np.sin(np.pi / 2 * k / 6) ** 2), atol=1e-12)


def test_transfer_at_nyquist() -> None:
    assert AxisBlur("gaussian").mtf == pytest.approx(0.411, abs=5e-4)
    assert AxisBlur("box").mtf == pytest.approx(0.637, abs=5e-4)
    assert AxisBlur("box").mtf == pytest.approx(2 / np.pi)
    assert AxisBlur("kspace").mtf == 1 and AxisBlur("kspace", 0.4).mtf == 0.4
    assert AxisBlur("box", 2).mtf == pytest.approx(0, abs=1e-12)
    assert Degradation((2, 1, 2), BLURS["gaps"]).mtf == pytest.approx(
        (np.sin(0.3 * np.pi) / (0.3 * np.pi), 1, AxisBlur("gaussian", 0.4).mtf)
    )
    assert Degradation.named("gaussian", (1, 1, 3)).mtf == pytest.approx((1, 1, 0.4107), abs=1e-4)


@pytest.mark.parametrize(("kind", "width"), [("box", 1.0), ("box", 0.6), ("gaussian", 1.0), ("gaussian", 1.4)])
def test_the_transfer_is_what_the_matrix_does(kind: str, width: float) -> None:
    """A wave of two LR voxels' length, on a grid so fine (factor 32) that sums are integrals."""
    factor, blur = 32, AxisBlur(kind, width)  # type: ignore[arg-type]
    j = np.arange(16 * factor) - (factor - 1) / 2
    out = blur.matrix(16 * factor, factor) @ np.cos(np.pi * j / factor)
    assert out[6:10] == pytest.approx((blur.mtf * np.array([1, -1, 1, -1])).tolist(), abs=2e-3)


# ---------------------------------------------------------------- as operators
@each_factor
@each_blur
def test_rows_sum_to_one(blurs: tuple[AxisBlur, ...], factor: int) -> None:
    for blur in blurs:
        for n in (factor, 9, 14, 31):
            matrix = blur.matrix(n, factor)
            assert matrix.shape == (n // factor, n) and matrix.dtype == np.float64
            np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
            assert not matrix[:, n // factor * factor :].any()


@each_factor
@each_blur
def test_adjoint(blurs: tuple[AxisBlur, AxisBlur, AxisBlur], factor: int) -> None:
    rng = np.random.default_rng(factor)
    for shape in SHAPES:
        for factors in ((factor,) * 3, (1, factor, 1), (factor, 1, 2)):
            degradation = Degradation(factors, blurs)  # type: ignore[arg-type]
            x = rng.standard_normal(shape)
            y = rng.standard_normal(tuple(n // f for n, f in zip(shape, factors, strict=True)))
            left, right = np.vdot(degradation.forward(x), y), np.vdot(x, degradation.adjoint(y, shape))
            assert left == pytest.approx(right, abs=1e-12 * np.linalg.norm(x) * np.linalg.norm(y))


@each_factor
@each_blur
def test_pseudo_inverse(blurs: tuple[AxisBlur, AxisBlur, AxisBlur], factor: int) -> None:
    rng = np.random.default_rng(factor)
    for shape in SHAPES:
        degradation = Degradation((factor, factor, 1), blurs)
        forward, back = degradation.forward, lambda y, d=degradation, s=shape: d.pseudo_inverse(y, s)
        x, other = rng.standard_normal(shape), rng.standard_normal(shape)
        y = forward(x)
        np.testing.assert_allclose(forward(back(y)), y, atol=1e-9)  # A A+ A = A
        np.testing.assert_allclose(back(forward(back(y))), back(y), atol=1e-7)  # A+ A A+ = A+
        assert np.vdot(back(y), other - back(forward(other))) == pytest.approx(0, abs=1e-6)  # of least norm: no part in the null space
        consistent = other + back(y - forward(other))  # the projection of method.md section 2
        np.testing.assert_allclose(forward(consistent), y, atol=1e-9)


def test_draws_have_adjoints_too() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        degradation = sample("random", (2, 3, 1), rng).degradation
        x, y = rng.standard_normal((7, 11, 5)), rng.standard_normal((3, 3, 5))
        assert np.vdot(degradation.forward(x), y) == pytest.approx(np.vdot(x, degradation.adjoint(y, (7, 11, 5))), abs=1e-11)


@each_factor
def test_the_pseudo_inverse_of_box_is_replication(factor: int) -> None:
    y = np.random.default_rng(0).standard_normal((2, 3, 1))
    shape = tuple(n * factor for n in y.shape)
    wanted = np.kron(y, np.ones((factor,) * 3))
    np.testing.assert_allclose(Degradation.named("box", (factor,) * 3).pseudo_inverse(y, shape), wanted, atol=1e-12)  # type: ignore[arg-type]


def test_the_axes_are_k_j_i() -> None:
    x = np.zeros((4, 6, 8))
    x[3, 2, 7] = 24
    y = Degradation.named("box", (2, 3, 4)).forward(x)
    assert y.shape == (2, 2, 2) and y[1, 0, 1] == pytest.approx(1) and np.count_nonzero(y) == 1


def test_leading_axes_and_torch() -> None:
    degradation = Degradation((2, 3, 1), BLURS["overlap"])
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 7, 5))
    y = degradation.forward(x)
    np.testing.assert_allclose(y[1, 2], degradation.forward(x[1, 2]), atol=1e-14)
    tensor = torch.from_numpy(x).requires_grad_()
    np.testing.assert_allclose(degradation.forward(tensor).detach().numpy(), y, atol=1e-12)
    np.testing.assert_allclose(
        degradation.pseudo_inverse(torch.from_numpy(y), (8, 7, 5)), degradation.pseudo_inverse(y, (8, 7, 5)), atol=1e-12
    )
    weight = torch.randn(y.shape, dtype=torch.float64)
    (degradation.forward(tensor) * weight).sum().backward()  # torch's own gradient is the adjoint
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad, degradation.adjoint(weight.numpy(), (8, 7, 5)), atol=1e-12)


@each_blur
def test_the_precision_is_the_arrays_own(blurs: tuple[AxisBlur, AxisBlur, AxisBlur]) -> None:
    degradation = Degradation((2, 2, 1), blurs)
    x = np.random.default_rng(0).standard_normal((6, 7, 5)).astype(np.float32)
    assert degradation.forward(x).dtype == np.float32 and degradation.forward(torch.from_numpy(x)).dtype == torch.float32
    np.testing.assert_allclose(degradation.forward(x), degradation.forward(x.astype(float)), atol=1e-6)


# ---------------------------------------------------------------- slices
@pytest.mark.parametrize("profile", ["box", "gaussian"])
def test_slice_profile(profile: str) -> None:
    gap = Degradation.slice_profile(4, thickness=3.0, spacing=4.0, profile=profile)  # type: ignore[arg-type]
    assert gap.factors == (4, 1, 1) and gap.mtf[1:] == (1, 1)
    assert gap.mtf[0] == AxisBlur(profile, 0.75).mtf  # type: ignore[arg-type]
    x = np.random.default_rng(0).standard_normal((13, 2, 3))
    np.testing.assert_allclose(gap.forward(x), np.tensordot(AxisBlur(profile, 0.75).matrix(13, 4), x, axes=1), atol=1e-12)  # type: ignore[arg-type]


def test_slice_profile_by_hand() -> None:
    x = np.arange(8.0).reshape(1, 8, 1)
    thin = Degradation.slice_profile(4, thickness=2.0, spacing=4.0, profile="box", axis=1)  # the two middle voxels of four
    assert thin.forward(x).ravel().tolist() == pytest.approx([1.5, 5.5])
    thick = Degradation.slice_profile(2, thickness=5.0, spacing=2.5, profile="box", axis=1)  # four voxels about the middle of two
    assert thick.forward(x).ravel().tolist() == pytest.approx([0.75, 2.5, 4.5, 6.25])  # (0 + 0 + 1 + 2) / 4 at the border


@pytest.mark.parametrize(("thickness", "spacing"), [(0.0, 4.0), (-1.0, 4.0), (3.0, 0.0), (3.0, -2.0)])
def test_slices_without_thickness(thickness: float, spacing: float) -> None:
    with pytest.raises(JobError, match=f"thickness {thickness} mm, spacing {spacing} mm"):
        Degradation.slice_profile(2, thickness, spacing)


@pytest.mark.parametrize(
    ("kind", "width", "words"),
    [
        ("median", 1.0, "'median'"),
        ("box", 0.0, "width 0.0 of box"),
        ("gaussian", 17.0, "at most 16"),
        ("kspace", 1.2, "at most 1"),
        ("box", np.nan, "nan"),
    ],
)
def test_blurs_that_are_none(kind: str, width: float, words: str) -> None:
    with pytest.raises(JobError, match=words):
        AxisBlur(kind, width)  # type: ignore[arg-type]


def test_too_few_voxels() -> None:
    with pytest.raises(JobError, match="3 voxels cannot be reduced by a factor of 4"):
        Degradation.named("box", (4, 1, 1)).forward(np.zeros((3, 8, 8)))


# ---------------------------------------------------------------- draws
def test_a_draw_is_a_function_of_the_seed() -> None:
    first = [sample("random", (2, 2, 2), np.random.default_rng(seed)) for seed in range(50)]
    again = [sample("random", (2, 2, 2), np.random.default_rng(seed)) for seed in range(50)]
    assert first == again and len({repr(draw) for draw in first}) > 25


def test_a_protocol_kind_is_drawn_as_it_is() -> None:
    for kind in KINDS:
        draw = sample(kind, (2, 1, 3), np.random.default_rng(0), noise=0.01)
        assert draw == Draw(Degradation.named(kind, (2, 1, 3)), 0.01)


def test_the_mixture() -> None:
    rng = np.random.default_rng(1)
    draws = [sample("random", (2, 2, 2), rng) for _ in range(1500)]
    kinds = [draw.degradation.blurs[0].kind for draw in draws]
    assert {kind: kinds.count(kind) / 1500 for kind in KINDS} == pytest.approx({"box": 0.29, "gaussian": 0.33, "kspace": 0.38}, abs=0.04)
    plain = sum(all(blur.width == 1 for blur in draw.degradation.blurs) for draw in draws)
    assert plain / 1500 == pytest.approx(2 / 3, abs=0.04)
    assert sum(draw.noise > 0 for draw in draws) / 1500 == pytest.approx(0.2, abs=0.04)
    assert sum(bool(draw.bias) for draw in draws) / 1500 == pytest.approx(0.25, abs=0.04)
    for low, high, kind in ((0.7, 1.3, "box"), (0.7, 1.4, "gaussian"), (0.3, 1.0, "kspace")):
        widths = [blur.width for draw in draws for blur in draw.degradation.blurs if blur.kind == kind]
        assert low <= min(widths) < low + 0.05 and high - 0.05 < max(widths) <= high
    assert 0.015 < max(draw.noise for draw in draws) <= 0.02


def test_noise_is_rician() -> None:
    draw, rng = Draw(Degradation.named("box", (2, 2, 2)), noise=0.1), np.random.default_rng(0)
    bright = draw.add_noise(np.full((40, 40, 40), 2, np.float32), rng)
    assert bright.dtype == np.float32
    assert bright.std() == pytest.approx(0.1, rel=0.02) and bright.mean() == pytest.approx(2 + 0.01 / 4, abs=2e-3)  # s^2 / (2 A) above
    quiet = np.ones((2, 2, 2), np.float32)
    assert Draw(draw.degradation).add_noise(quiet, rng) is quiet
    same = [draw.add_noise(quiet, np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*same)


def test_noise_of_a_reconstruction_is_correlated() -> None:
    """Smoothed or zero-filled noise keeps its standard deviation and loses its high frequencies; masked air has none."""
    operator, flat = Degradation.named("box", (2, 2, 2)), np.full((48, 48, 48), 5, np.float32)

    def power(correlation: tuple[float, ...]) -> np.ndarray:
        noise = Draw(operator, 0.1, correlation=correlation).add_noise(flat, np.random.default_rng(0)) - 5
        assert noise.std() == pytest.approx(0.1, rel=0.05)
        return np.stack([np.moveaxis(np.abs(np.fft.rfft(noise, axis=axis)) ** 2, axis, 0).mean(axis=(1, 2)) for axis in range(3)])

    white, smooth, filled = power(()), power((0.2, 1.0, 1.0)), power((-0.7, 1.0, -0.9))
    assert white[:, 20:].mean() == pytest.approx(white[:, 1:5].mean(), rel=0.1)
    assert smooth[0, 24] / smooth[0, 1:4].mean() == pytest.approx(0.2**2, rel=0.4)  # power at Nyquist: the transfer squared
    assert smooth[1, 20:].mean() == pytest.approx(smooth[1, 1:5].mean(), rel=0.2)
    assert filled[0, 18:].max() < 1e-3 * filled[0, 1:16].mean() and filled[2, 22:].max() < 1e-3 * filled[2, 1:20].mean()
    head = np.where(np.arange(48) < 24, np.float32(1), np.float32(0)) * np.ones((48, 48, 1), np.float32)
    masked = Draw(operator, 0.05, masked=True).add_noise(head, np.random.default_rng(0))
    assert (masked[..., 24:] == 0).all() and masked[..., :24].std() > 0.04


def test_a_mixture_with_noise() -> None:
    rng, mixture = np.random.default_rng(2), NoiseConfig(share=0.5, most=0.1, correlated=0.4, masked=0.2)
    draws = [sample("random", (2, 2, 2), rng, mixture=mixture) for _ in range(800)]
    noisy = [draw for draw in draws if draw.noise]
    assert len(noisy) / 800 == pytest.approx(0.5, abs=0.05) and 0.09 < max(draw.noise for draw in noisy) <= 0.1
    assert sum(bool(draw.correlation) for draw in noisy) / len(noisy) == pytest.approx(0.4, abs=0.07)
    assert sum(draw.masked for draw in noisy) / len(noisy) == pytest.approx(0.2, abs=0.06)
    assert not any(draw.correlation or draw.masked for draw in draws if not draw.noise)


def test_bias_field_by_hand() -> None:
    k, j, i = np.array([-1.0, 1.0]), np.array([0.0]), np.array([-1.0, 0.0, 0.5])
    draw = Draw(Degradation.named("box", (2, 2, 2)), bias=(0.2, 0, 0, 0, 0, 0.1, 0, 0, -0.3))
    field = draw.bias_field(k, j, i)
    assert field.shape == (2, 1, 3) and field.dtype == np.float32
    # exp(0.2 k + 0.1 (i^2 - 0.5) - 0.3 i k)
    wanted = [[-0.2 + 0.05 - 0.3, -0.2 - 0.05, -0.2 - 0.025 + 0.15], [0.2 + 0.05 + 0.3, 0.2 - 0.05, 0.2 - 0.025 - 0.15]]
    np.testing.assert_allclose(field[:, 0], np.exp(wanted), rtol=1e-6)


# ---------------------------------------------------------------- the referee
@pytest.mark.shared
@each_factor
@pytest.mark.parametrize("kind", KINDS)
def test_the_referee_degrades_alike(referee: ModuleType, kind: str, factor: int) -> None:
    rng = np.random.default_rng(0)
    for shape in ((13, 17, 11), (12, 16, 20)):
        for factors in ((factor,) * 3, (1, factor, 2), (factor, 1, 1)):
            x = rng.uniform(0, 1, shape)
            wanted = referee.degrade(referee.crop_to_multiple(x.T, factors[::-1]), factors[::-1], kind).T  # it counts I, J, K
            np.testing.assert_allclose(Degradation.named(kind, factors).forward(x), wanted, atol=1e-10)  # type: ignore[arg-type]
            single = Degradation.named(kind, factors).forward(x.astype(np.float32))  # type: ignore[arg-type]
            np.testing.assert_allclose(single, wanted, atol=1e-6)
