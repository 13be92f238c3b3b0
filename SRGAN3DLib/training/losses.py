"""Losses: equations (1) and (2) of [P1] with every term a mean, content terms, gradient difference. Tensors (N, C, K, J, I)."""

from __future__ import annotations

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
