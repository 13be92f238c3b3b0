"""Kernels rewritten for the coarse grid: by hand along one axis, and against PyTorch's own operations on the fine grid."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.networks.generator import replicate, shuffle
from SRGAN3DLib.networks.phase_kernels import (
    folded,
    interleave,
    output_kernel,
    overlap_add,
    phase_kernel,
    phases_of,
    transposed_phase_kernel,
)


def line(*taps: float) -> torch.Tensor:
    """A kernel (1, 1, 3, 1, 1)... laid along K, which is 1 in the middle along J and I."""
    weight = torch.zeros(1, 1, 3, 3, 3, dtype=torch.float64)
    weight[0, 0, :, 1, 1] = torch.tensor(taps, dtype=torch.float64)
    return weight


@pytest.mark.parametrize(
    ("factor", "phase", "taps", "start"),
    [
        (1, 0, [1, 10, 100], 0),
        (2, 0, [1, 110], 0),  # fine voxel 2k reads 2k - 1 (of voxel k - 1), 2k and 2k + 1 (of voxel k)
        (2, 1, [11, 100], 1),
        (3, 0, [1, 110], 0),
        (3, 1, [111], 1),
        (3, 2, [11, 100], 1),
    ],
)
def test_phase_kernel_by_hand(factor: int, phase: int, taps: list[float], start: int) -> None:
    kernel, starts = phase_kernel(line(1, 10, 100), (phase, 0, 0), (factor, 1, 1))
    assert kernel[0, 0, :, 1, 1].tolist() == taps and kernel.shape[3:] == (3, 3)
    assert starts == (start, 0, 0)


def test_transposed_phase_kernel_by_hand() -> None:
    weight = torch.zeros(1, 1, 6, 3, 3)
    weight[0, 0, :, 1, 1] = torch.arange(6.0)
    taps = [transposed_phase_kernel(weight, (q, 0, 0), (2, 1, 1))[0, 0, :, 1, 1].tolist() for q in (0, 1)]
    assert taps == [[4, 2, 0], [5, 3, 1]]  # the voxel before gives its last taps, the one behind its first


def test_output_kernel_by_hand() -> None:
    """Factor 2 along K: fine voxel 2n gives w[1] to 2n - 1, and so on; places -1, 0, 1, 2."""
    matrix = output_kernel(line(1, 10, 100), (2, 1, 1)).reshape(4, 3, 3, 2)[:, 1, 1]
    assert matrix.tolist() == [[100, 0], [10, 100], [1, 10], [0, 1]]


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 2), (3, 3, 3), (1, 2, 3)])
def test_output_convolution_on_the_coarse_grid(factors: Factors) -> None:
    torch.manual_seed(0)
    phases, channels = len(phases_of(factors)), 5
    y, weight = torch.randn(1, phases * channels, 4, 3, 2, dtype=torch.float64), torch.randn(1, channels, 3, 3, 3, dtype=torch.float64)
    wanted = F.conv3d(interleave(y, factors), weight, padding=1)[0, 0]
    found = overlap_add(F.conv3d(y, output_kernel(weight, factors))[0], factors)
    assert torch.allclose(found[1:-1, 1:-1, 1:-1], wanted, atol=1e-12)


def test_interleave_is_the_shuffle_with_phases_first() -> None:
    x = torch.randn(1, 2 * 6, 2, 3, 4)
    phases_first = x.reshape(1, 2, 6, 2, 3, 4).transpose(1, 2).reshape(1, 12, 2, 3, 4)
    assert torch.equal(interleave(phases_first, (1, 2, 3)), shuffle(x, (1, 2, 3)))
    assert torch.equal(interleave(x[:, :2].repeat(1, 6, 1, 1, 1), (1, 2, 3)), replicate(x[:, :2], (1, 2, 3)))


def test_folded_batch_norm() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv3d(2, 3, 3, padding=1), nn.BatchNorm3d(3).eval()
    for tensor in (norm.running_mean, norm.bias, norm.weight):
        nn.init.normal_(tensor)  # type: ignore[arg-type]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    x = torch.randn(1, 2, 4, 5, 6)
    weight, bias = folded(conv, norm)
    assert weight.dtype == torch.float64 and not weight.requires_grad
    assert torch.allclose(F.conv3d(x, weight.float(), bias.float(), padding=1), norm(conv(x)), atol=1e-5)
    assert torch.equal(folded(conv, nn.Identity())[0], conv.weight.double())
