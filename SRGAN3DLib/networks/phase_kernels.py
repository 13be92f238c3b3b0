"""Convolution weights rewritten for the coarse grid: exact, in float64. Weights are (O, C, K, J, I), triples over K, J, I.

"Replicate, then convolve" and transposed convolutions on a fine grid are, for each *phase* (the place of a fine voxel in
its coarse one), ordinary convolutions on the coarse grid (Aitken et al., arXiv 1707.02937); zero padding at the border included.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from SRGAN3DLib.contract.configs import Factors, IntTriple


def double(tensor: Tensor | None) -> Tensor:
    """A copy in float64 on the CPU, free of gradients."""
    assert tensor is not None
    return tensor.detach().to("cpu", torch.float64)


def folded(conv: nn.Conv3d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of a convolution followed by its norm (batch norm by its running statistics)."""
    weight, bias = double(conv.weight), double(conv.bias)
    if isinstance(norm, nn.BatchNorm3d):
        scale = double(norm.weight) / torch.sqrt(double(norm.running_var) + norm.eps)
        weight = weight * scale[:, None, None, None, None]
        bias = (bias - double(norm.running_mean)) * scale + double(norm.bias)
    return weight, bias


def phases_of(factors: Factors) -> list[IntTriple]:
    """All phases of a coarse voxel, I fastest: the order in which the channels of a stage lie."""
    return list(itertools.product(*map(range, factors)))  # type: ignore[arg-type]


def phase_kernel(weight: Tensor, phase: IntTriple, factors: Factors) -> tuple[Tensor, IntTriple]:
    """What one phase of "replicate by `factors`, then the 3^3 `weight`" does on the coarse grid.

    The tap d = -1, 0, 1 of fine voxel f*k + p reads coarse voxel k + floor((p + d) / f): taps of one coarse voxel add up.
    Returns the kernel (O, C, 1 to 3 taps an axis) and where its first tap lies, over K, J, I: 0 for k - 1, 1 for k.
    """
    starts = []
    for axis, (p, f) in enumerate(zip(phase, factors, strict=True), start=2):
        cells = [(p + d) // f for d in (-1, 0, 1)]
        taps = [sum(weight.select(axis, t) for t in range(3) if cells[t] == cell) for cell in range(cells[0], cells[2] + 1)]
        weight = torch.stack(taps, dim=axis)  # type: ignore[arg-type]
        starts.append(cells[0] + 1)
    return weight, (starts[0], starts[1], starts[2])


def phase_window(x: Tensor, kernel: Tensor, start: IntTriple) -> Tensor:
    """What the `kernel` of a phase, its first tap at `start`, reads of `x` (N, C, k + 2, j + 2, i + 2), which has a margin of 1."""
    for axis, (first, taps) in enumerate(zip(start, kernel.shape[2:], strict=True), start=2):
        x = x.narrow(axis, first, x.shape[axis] + taps - 3)
    return x


def transposed_phase_kernel(weight: Tensor, phase: IntTriple, factors: Factors) -> Tensor:
    """One phase of a transposed convolution (kernel 3f, stride f, padding f) as a 3^3 kernel (O, C, 3, 3, 3) on the coarse grid.

    Fine voxel f*r + q gets tap t = q + f*(1 - d) of coarse voxel r + d, d = -1, 0, 1.
    """
    for axis, (q, f) in enumerate(zip(phase, factors, strict=True), start=2):
        weight = weight.index_select(axis, torch.tensor([q + f * (1 - d) for d in (-1, 0, 1)]))
    return weight.transpose(0, 1)


def output_kernel(weight: Tensor, factors: Factors) -> Tensor:
    """The 3^3 `weight` (1, C, 3, 3, 3) on the fine grid as one matrix per coarse voxel: (prod(f + 2), prod(f) * C, 1, 1, 1).

    Phase p of a coarse voxel reaches, through tap d, the fine voxel p - d of that voxel, -1 to f: f + 2 places an axis.
    """
    channels = weight.shape[1]
    matrix = weight.new_zeros(*(f + 2 for f in factors), *factors, channels)
    for p in itertools.product(*map(range, factors)):
        for t in itertools.product(range(3), repeat=3):
            place = tuple(a - (b - 1) + 1 for a, b in zip(p, t, strict=True))
            matrix[place + p] = weight[0, :, t[0], t[1], t[2]]
    return matrix.reshape(math.prod(f + 2 for f in factors), -1, 1, 1, 1)


def interleave(x: Tensor, factors: Factors) -> Tensor:
    """(N, phases * C, k, j, i), phase by phase -> (N, C, fk*k, fj*j, fi*i), channels-last."""
    fk, fj, fi = factors
    n, _, k, j, i = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(n, k, j, i, fk, fj, fi, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(n, k * fk, j * fj, i * fi, -1).permute(0, 4, 1, 2, 3)


def overlap_add(places: Tensor, factors: Factors) -> Tensor:
    """Sum what `output_kernel` spread: (prod(f + 2), k, j, i) -> (fk*k + 2, fj*j + 2, fi*i + 2).

    Along an axis, place t of coarse voxel n belongs to fine voxel f*n + t of the result: f + 2 places every f voxels.
    """
    x = places.reshape(*(f + 2 for f in factors), *places.shape[1:])
    for f in factors:  # dimension 0 holds the places of the axis at hand, dimension 3 its voxels
        n = x.shape[3]
        out = x.new_zeros(*x.shape[1:3], n + (f + 1) // f, f, *x.shape[4:])
        for t in range(f + 2):
            out[:, :, t // f : t // f + n, t % f] += x[t]
        x = out.flatten(2, 3).narrow(2, 0, f * n + 2)
    return x
