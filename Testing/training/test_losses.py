"""Losses against numbers worked out by hand, and a discriminator that learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from SRGAN3DLib.contract.configs import DiscriminatorConfig
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.networks.discriminator import Discriminator
from SRGAN3DLib.networks.generator import shuffle, trilinear
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.training.losses import (
    CHARBONNIER_EPSILON,
    LATTICE_UNIT,
    adversarial_loss,
    content_loss,
    discriminator_loss,
    gradient_difference_loss,
    lattice_loss,
    phases_of_cells,
    r1_penalty,
    spectrum_loss,
)


def volume(*values: float, shape: tuple[int, int, int] | None = None) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 1, *(shape or (1, 1, len(values))))


# ---------------------------------------------------------------- equations (1) and (2)
def test_equation_1() -> None:
    real, fake = torch.tensor([[0.8], [1.2], [0.0]]), torch.tensor([[0.3], [-0.1], [0.5]])
    # (0.04 + 0.04 + 1) / 3 / 2 + (0.09 + 0.01 + 0.25) / 3 / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(0.18 + 0.35 / 6)
    assert discriminator_loss(torch.ones(4, 1), torch.zeros(4, 1)).item() == 0
    assert discriminator_loss(torch.zeros(4, 1), torch.ones(4, 1)).item() == 1  # real and fake mistaken: a half of each
    assert discriminator_loss(torch.full((4, 1), 0.5), torch.full((4, 1), 0.5)).item() == 0.25  # it cannot tell


def test_real_and_fake_pull_apart() -> None:
    """The released code's fault: both were taught the same answer. Here the gradients have opposite signs."""
    answer = torch.full((2, 1), 0.5)
    real, fake = answer.clone().requires_grad_(), answer.clone().requires_grad_()
    discriminator_loss(real, fake).backward()
    assert real.grad is not None and fake.grad is not None
    assert real.grad.flatten().tolist() == [-0.25, -0.25]  # (0.5 - 1) / 2 voices
    assert fake.grad.flatten().tolist() == [0.25, 0.25]


def test_equation_2() -> None:
    fake = torch.tensor([[0.3], [-0.1], [0.5]])
    assert adversarial_loss(fake).item() == pytest.approx((0.49 + 1.21 + 0.25) / 3)
    sr, hr = volume(1.0, 2.0, 4.0), volume(1.0, 4.0, 5.0)
    total = 1.0 * content_loss("mse", sr, hr) + 0.01 * adversarial_loss(fake)
    assert total.item() == pytest.approx(5 / 3 + 0.0065)


def test_every_term_is_a_mean() -> None:
    sr, hr = torch.zeros(2, 1, 3, 4, 5), torch.full((2, 1, 3, 4, 5), 2.0)
    assert content_loss("mse", sr, hr).item() == 4 and content_loss("l1", sr, hr).item() == 2
    ten = torch.rand(10, 1)
    for loss in (adversarial_loss, lambda t: discriminator_loss(t, t)):
        assert loss(ten).item() == pytest.approx(loss(ten.repeat(7, 1)).item())


# ---------------------------------------------------------------- content
def test_content_by_hand() -> None:
    sr, hr = volume(0.0, 1.0, -2.0, 3.0), volume(0.0, 2.0, 1.0, 3.0)
    assert content_loss("mse", sr, hr).item() == 2.5  # (0 + 1 + 9 + 0) / 4
    assert content_loss("l1", sr, hr).item() == 1.0
    e = CHARBONNIER_EPSILON
    wanted = (2 * e + math.sqrt(1 + e * e) + math.sqrt(9 + e * e)) / 4 - e
    assert content_loss("charbonnier", sr, hr).item() == pytest.approx(wanted, rel=1e-6)


def test_charbonnier_is_a_square_near_zero_and_an_absolute_value_far_away() -> None:
    e, zero = CHARBONNIER_EPSILON, torch.zeros(1, dtype=torch.float64)
    assert content_loss("charbonnier", zero, zero).item() == 0
    assert content_loss("charbonnier", zero + e / 100, zero).item() == pytest.approx((e / 100) ** 2 / (2 * e), rel=1e-4)
    assert content_loss("charbonnier", zero + 100 * e, zero).item() == pytest.approx(100 * e - e, rel=1e-3)
    at_zero = zero.clone().requires_grad_()
    content_loss("charbonnier", at_zero, zero).backward()
    assert at_zero.grad is not None and at_zero.grad.item() == 0  # smooth where L1 has its corner


def test_an_unknown_content_loss() -> None:
    with pytest.raises(JobError, match=r"'psnr'.*mse, l1, charbonnier"):
        content_loss("psnr", volume(1.0), volume(1.0))  # type: ignore[arg-type]


# ---------------------------------------------------------------- gradient difference
def test_gradient_difference_by_hand() -> None:
    sr, hr = volume(0.0, 1.0, 3.0), volume(0.0, -1.0, 4.0)
    # |d sr| = 1, 2; |d hr| = 1, 5: ((1 - 1)^2 + (2 - 5)^2) / 2; K and J have one voxel and do not count
    assert gradient_difference_loss(sr, hr).item() == 4.5
    # with two axes: a step of 2 along J in sr only, nothing along I
    sr, hr = volume(0.0, 0.0, 2.0, 2.0, shape=(1, 2, 2)), volume(0.0, 0.0, 0.0, 0.0, shape=(1, 2, 2))
    assert gradient_difference_loss(sr, hr).item() == 2.0  # (4 + 0) / 2
    assert gradient_difference_loss(volume(3.0), volume(5.0)).item() == 0


def test_gradient_difference_sees_edges_not_levels() -> None:
    hr = torch.randn(1, 1, 4, 5, 6, dtype=torch.float64)
    assert gradient_difference_loss(hr + 7, hr).item() == pytest.approx(0, abs=1e-20)
    assert gradient_difference_loss(-hr, hr).item() == 0
    blurred = (hr + hr.roll(1, -1)) / 2
    assert gradient_difference_loss(blurred, hr).item() > 0.1


# ---------------------------------------------------------------- GAN sanity
@pytest.mark.parametrize(("output", "steps"), [("linear", 60), ("sigmoid", 80)])
def test_the_discriminator_learns_to_tell_real_from_fake(small_head: np.ndarray, one_thread: None, output: str, steps: int) -> None:
    """Real: patches of a head. Fake: the same, degraded and interpolated. Judged on patches drawn anew."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    hr = torch.from_numpy(small_head / 600)[None, None]
    sr = trilinear(Degradation.named("gaussian", (2, 2, 2)).forward(hr), (2, 2, 2))
    network = Discriminator(DiscriminatorConfig(output=output, features=8, dense=32))  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3, betas=(0.5, 0.999))

    def answers(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        corners = rng.integers(6, 11, (count, 3))
        places = [(slice(None), slice(None), *(slice(int(at), int(at) + 24) for at in corner)) for corner in corners]
        return network(torch.cat([hr[place] for place in places])), network(torch.cat([sr[place] for place in places]))

    first = discriminator_loss(*answers(8)).item()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        loss = discriminator_loss(*answers(4))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        real, fake = answers(8)
    assert real.min() > fake.max()
    assert real.mean() > 0.7 and fake.mean() < 0.3
    assert discriminator_loss(real, fake).item() < 0.08 < 0.2 < first


def test_label_smoothing_is_one_sided() -> None:
    """D aims at 0.9 for real patches and still at 0 for fakes: the loss vanishes there and nowhere else."""
    assert discriminator_loss(torch.tensor([0.9]), torch.tensor([0.0]), 0.1).item() == pytest.approx(0)
    assert discriminator_loss(torch.tensor([1.0]), torch.tensor([0.1]), 0.1).item() == pytest.approx(0.01)
    real = torch.tensor([0.95], requires_grad=True)
    discriminator_loss(real, torch.tensor([0.0]), 0.1).backward()
    assert real.grad is not None and real.grad.item() > 0  # it pulls a too sure D back


def test_r1_of_a_linear_and_a_quadratic_discriminator() -> None:
    """|d(w x)/dx|^2 = |w|^2, and it can be differentiated: d/dw = 2 w; |d(x^2 sum)/dx|^2 = 4 |x|^2, the mean over the patches."""
    x = torch.tensor([1.0, 2.0, 3.0, 0.0]).reshape(2, 1, 1, 1, 2).requires_grad_()
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    penalty = r1_penalty((x * w).sum(dim=(1, 2, 3, 4)), x)
    penalty.backward()
    assert penalty.item() == pytest.approx(25) and w.grad is not None and w.grad.tolist() == [6.0, 8.0]
    assert r1_penalty(x.square().sum(dim=(1, 2, 3, 4)), x).item() == pytest.approx(4 * (5 + 9) / 2)


# ---------------------------------------------------------------- the sharp model's
def test_the_spectrum_loss_is_the_amplitude_that_is_missing() -> None:
    torch.manual_seed(0)
    hr = torch.randn(2, 1, 24, 24, 24)
    assert float(spectrum_loss(hr, hr)) == 0
    assert float(spectrum_loss(0.6 * hr, hr)) == pytest.approx(0.16, rel=0.01)  # (0.6 - 1)^2 in every band
    assert float(spectrum_loss(1.4 * hr, hr)) == pytest.approx(0.16, rel=0.01)
    smooth = torch.nn.functional.avg_pool3d(hr, 3, 1, 1)
    assert float(spectrum_loss(smooth, hr)) > 0.5
    moved = hr.roll((1, 2, 3), (2, 3, 4))
    assert float(spectrum_loss(moved, hr)) < 0.01  # where the detail lies is the content loss's matter
    empty = torch.zeros(1, 1, 24, 24, 24)
    assert float(spectrum_loss(empty, empty)) == 0
    low = torch.cos(torch.arange(24.0) * 2 * torch.pi * 2 / 24).expand(1, 1, 24, 24, 24)  # below half of Nyquist
    assert float(spectrum_loss(1.5 * low, low)) < 1e-3


def test_the_spectrum_loss_pulls_towards_the_truth() -> None:
    torch.manual_seed(0)
    hr = torch.randn(1, 1, 16, 16, 16)
    sr = (0.5 * hr).requires_grad_()
    (gradient,) = torch.autograd.grad(spectrum_loss(sr, hr), sr)
    assert float(spectrum_loss((sr - 0.1 * gradient / gradient.norm() * sr.norm()).detach(), hr)) < float(spectrum_loss(sr, hr).detach())


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 1, 3)])
def test_the_lattice_loss_sees_what_repeats_with_the_cells(factors: tuple[int, int, int]) -> None:
    hr = torch.rand(1, 1, *(10 * f for f in factors))
    assert float(lattice_loss(hr, hr, factors)) == 0
    assert float(lattice_loss(hr + 0.3, hr, factors)) == pytest.approx(0, abs=1e-4)  # an offset is no lattice
    lattice = hr.clone()
    lattice[..., :: factors[2]] += LATTICE_UNIT
    share = 1 / factors[2]
    assert float(lattice_loss(lattice, hr, factors)) == pytest.approx(share * (1 - share), rel=1e-2)


def test_phases_of_cells_is_the_inverse_of_the_shuffle() -> None:
    x = torch.randn(2, 12, 3, 4, 5)
    assert torch.equal(phases_of_cells(shuffle(x, (1, 3, 4)), (1, 3, 4)), x)
