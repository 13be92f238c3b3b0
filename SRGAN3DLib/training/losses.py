"""Losses: equations (1) and (2) of [P1] with every term a mean, content terms, gradient difference. Tensors (N, C, K, J, I)."""

from __future__ import annotations

import itertools
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from SRGAN3DLib.contract.configs import Content
from SRGAN3DLib.contract.errors import JobError

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
