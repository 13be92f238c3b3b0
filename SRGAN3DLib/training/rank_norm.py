"""Batch normalisation over the batch of all ranks, on any device.

PyTorch's SyncBatchNorm needs CUDA, and has no second derivative, which the R1 penalty takes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


class _Mean(torch.autograd.Function):
    """The mean over the ranks. Its gradient is the mean of the ranks' gradients, so that it can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        distributed.all_reduce(x)
        return x / distributed.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Mean.apply(gradients[0].contiguous())  # type: ignore[no-any-return]


class RankBatchNorm3d(nn.BatchNorm3d):
    """`nn.BatchNorm3d` (same parameters, same state) whose mean and variance are those of the patches of all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        dims, shape, wide = (0, 2, 3, 4), (1, -1, 1, 1, 1), x.float()
        mean = _Mean.apply(wide.mean(dims))
        centred = wide - mean.view(shape)
        variance = _Mean.apply(centred.square().mean(dims))
        with torch.no_grad():
            count = distributed.get_world_size() * x.numel() // x.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, float(self.momentum or 0))
            self.running_var.lerp_(variance * (count / max(1, count - 1)), float(self.momentum or 0))
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        return (y * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


def over_ranks(network: nn.Module) -> nn.Module:
    """Replace every `nn.BatchNorm3d` in `network` by one over all ranks, in place; returns `network`."""
    for name, child in network.named_children():
        if type(child) is nn.BatchNorm3d:
            fresh = RankBatchNorm3d(child.num_features, child.eps, child.momentum).to(child.weight)
            fresh.load_state_dict(child.state_dict())
            setattr(network, name, fresh)
        else:
            over_ranks(child)
    return network
