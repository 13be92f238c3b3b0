"""Losses: equations (1) and (2) of [P1] with every term a mean, content terms, gradient difference. Tensors (N, C, K, J, I)."""

from __future__ import annotations

import itertools
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from SRGAN3DLib.contract.configs import Content, Factors
from SRGAN3DLib.contract.errors import JobError

BANDS = ((0.5, 0.75), (0.75, 1.0), (1.0, 1.8))
FLOOR = 1e-3  # of a band's power: an empty patch has no spectrum to match
LATTICE_REACH = 10
LATTICE_UNIT = 0.001  # of bright tissue
CHARBONNIER_EPSILON = 0.05  # of bright tissue: quadratic within the noise, linear at edges


def discriminator_loss(real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Equation (1): mean of (D(x) - 1)^2 / 2 plus mean of D(G(z))^2 / 2; smoothing is one-sided: real ones aim at 1 - e, fakes at 0."""
    return 0.5 * (real - (1 - label_smoothing)).square().mean() + 0.5 * fake.square().mean()


def r1_penalty(real: Tensor, hr: Tensor) -> Tensor:
    """Mean over the patches of |d D(x) / d x|^2 at the real ones (Mescheder et al. 2018); `real` is D(`hr`), `hr` requires grad."""
    (gradient,) = torch.autograd.grad(real.sum(), hr, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


def adversarial_loss(fake: Tensor) -> Tensor:
    """The adversarial term of equation (2): mean of (D(G(z)) - 1)^2."""
    return (fake - 1).square().mean()


def content_loss(kind: Content, sr: Tensor, hr: Tensor) -> Tensor:
    """Mean over voxels of the squared (mse) or absolute (l1) difference, or of sqrt(d^2 + e^2) - e (charbonnier)."""
    if kind == "mse":
        return F.mse_loss(sr, hr)
    if kind == "l1":
        return F.l1_loss(sr, hr)
    if kind == "charbonnier":
        e = CHARBONNIER_EPSILON
        return torch.sqrt((sr - hr).square() + e * e).mean() - e
    raise JobError(f"content loss {kind!r}: choose from {', '.join(get_args(Content))}")


def spectrum_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """How far the amplitude of SR in the bands above half of Nyquist is from HR's: mean over patches and bands of (ratio - 1)^2.

    Under a Hann window, as the protocol's sharpness; the bands are `BANDS` (radius in units of Nyquist).
    """
    window = sr.new_ones(())
    radius = sr.new_zeros(())
    for axis, n in zip((-3, -2, -1), sr.shape[2:], strict=True):
        shape = [n if a == axis else 1 for a in (-3, -2, -1)]
        window = window * torch.hann_window(n, device=sr.device).reshape(shape)
        frequency = torch.fft.rfftfreq(n) if axis == -1 else torch.fft.fftfreq(n)
        radius = radius + (2 * frequency.to(sr.device)).square().reshape([-1 if a == axis else 1 for a in (-3, -2, -1)])
    power = [torch.fft.rfftn((x - x.mean(dim=(2, 3, 4), keepdim=True)) * window, dim=(2, 3, 4)).abs().square() for x in (sr, hr)]
    terms = []
    for low, high in BANDS:
        inside = (radius > low**2) & (radius <= high**2)
        made, true = ((p * inside).sum(dim=(2, 3, 4)) for p in power)
        terms.append(((made + FLOOR).sqrt() / (true + FLOOR).sqrt() - 1).square().mean())
    return torch.stack(terms).mean()


def lattice_loss(sr: Tensor, hr: Tensor, factors: Factors) -> Tensor:
    """The pattern that repeats with the coarse grid: variance, over the voxels of a cell, of the local mean of SR - HR.

    In units of `LATTICE_UNIT` squared. Local: over 10 coarse voxels along each axis, so that what cannot be foreseen averages out.
    """
    phases = phases_of_cells(sr - hr, factors)
    local = F.avg_pool3d(phases, [min(LATTICE_REACH, n) for n in phases.shape[2:]], stride=5)
    return local.var(dim=1, unbiased=False).mean() / LATTICE_UNIT**2


def phases_of_cells(x: Tensor, factors: Factors) -> Tensor:
    """(N, 1, fK K, fJ J, fI I) -> (N, fK fJ fI, K, J, I): the voxels of each coarse cell as channels."""
    n, _, k, j, i = x.shape
    fk, fj, fi = factors
    x = x.reshape(n, k // fk, fk, j // fj, fj, i // fi, fi).permute(0, 2, 4, 6, 1, 3, 5)
    return x.reshape(n, fk * fj * fi, k // fk, j // fj, i // fi)


def gradient_difference_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of (|d sr| - |d hr|)^2 over the forward differences along K, J and I ([P2]); axes of one voxel do not count."""
    terms = []
    for axis in (-3, -2, -1):
        if sr.shape[axis] > 1:
            terms.append((sr.diff(dim=axis).abs() - hr.diff(dim=axis).abs()).square().mean())
    return torch.stack(terms).mean() if terms else sr.new_zeros(())


# ---------------------------------------------------------------- with a weight for every voxel (synthesis)
def weighted_content_loss(kind: Content, made: Tensor, target: Tensor, weight: Tensor, tolerance: int = 0) -> Tensor:
    """`content_loss` as the weighted mean over voxels; `weight` is 0 or more, of the target's shape.

    With `tolerance` 1 a voxel's difference is the smallest to the target within one voxel along each axis: what a registration error
    of that size costs nothing.
    """
    difference = (made - target).abs()
    if tolerance:
        padded = F.pad(target, (1,) * 6, mode="replicate")
        k, j, i = target.shape[2:]
        with torch.no_grad():  # which neighbour is nearest; the gradient goes through the difference to that one
            nearest, least = target, difference
            for a, b, c in itertools.product(range(3), repeat=3):
                moved = padded[:, :, a : a + k, b : b + j, c : c + i]
                closer = (made - moved).abs() < least
                nearest, least = torch.where(closer, moved, nearest), torch.where(closer, (made - moved).abs(), least)
        difference = (made - nearest).abs()
    if kind == "mse":
        difference = difference.square()
    elif kind == "charbonnier":
        difference = torch.sqrt(difference.square() + CHARBONNIER_EPSILON**2) - CHARBONNIER_EPSILON
    elif kind != "l1":
        raise JobError(f"content loss {kind!r}: choose from {', '.join(get_args(Content))}")
    return (difference * weight).sum() / weight.sum().clamp(min=1e-6)


def weighted_gradient_difference_loss(made: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """`gradient_difference_loss` as the weighted mean; a difference counts as the lighter of its two voxels."""
    terms = []
    for axis in (-3, -2, -1):
        n = made.shape[axis]
        if n > 1:
            both = torch.minimum(weight.narrow(axis, 0, n - 1), weight.narrow(axis, 1, n - 1))
            gap = (made.diff(dim=axis).abs() - target.diff(dim=axis).abs()).square()
            terms.append((gap * both).sum() / both.sum().clamp(min=1e-6))
    return torch.stack(terms).mean() if terms else made.new_zeros(())
