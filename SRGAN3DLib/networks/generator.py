"""The generator, built from its configuration. Tensors are (N, C, K, J, I) float.

Sources: [P1] Sanchez & Vilaplana 2017; [P2] arXiv 1812.11440; kernel sizes where [P1] is silent from the
authors' released code [R] (facts only). Parameter counts of every variant are held by Testing/networks/test_generator.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SRGAN3DLib.contract.configs import UNKNOWN_MTF, UNKNOWN_NOISE, Factors, GeneratorConfig, IntTriple

from .phase_kernels import interleave, phase_kernel, phase_window, phases_of

TAIL = 64  # channels of the upsampling part [R]
NOISE_UNIT = 0.1  # of bright tissue: the noise channel is then of the order of the others


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1)


def norm_layer(kind: str, channels: int) -> nn.Module:
    return nn.BatchNorm3d(channels) if kind == "batch" else nn.Identity()


class ResidualBlock(nn.Module):
    """conv, norm, LeakyReLU, conv, norm, plus the input; no activation after the sum."""

    def __init__(self, features: int, norm: str, slope: float):
        super().__init__()
        self.conv1, self.norm1 = conv(features, features), norm_layer(norm, features)
        self.conv2, self.norm2 = conv(features, features), norm_layer(norm, features)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), self.slope)
        return x + self.norm2(self.conv2(y))  # type: ignore[no-any-return]


def replicate(x: Tensor, factors: Factors) -> Tensor:
    """Nearest-neighbour enlargement, cell-centred: every voxel becomes a block of f_K x f_J x f_I."""
    for axis, f in zip((2, 3, 4), factors, strict=True):
        x = x.repeat_interleave(f, dim=axis) if f > 1 else x
    return x


def shuffle(x: Tensor, factors: Factors) -> Tensor:
    """3-D pixel shuffle: (N, C * fK * fJ * fI, K, J, I) -> (N, C, fK * K, fJ * J, fI * I)."""
    n, c, k, j, i = x.shape
    fk, fj, fi = factors
    x = x.reshape(n, c // (fk * fj * fi), fk, fj, fi, k, j, i).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(n, -1, k * fk, j * fj, i * fi)


def cells(x: Tensor, coarse: Factors) -> Tensor:
    """The inverse of `shuffle`: (N, C, cK * K, cJ * J, cI * I) -> (N, C * cK * cJ * cI, K, J, I), the voxels of a cell as channels."""
    n, c, k, j, i = x.shape
    ck, cj, ci = coarse
    x = x.reshape(n, c, k // ck, ck, j // cj, cj, i // ci, ci).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(n, -1, k // ck, j // cj, i // ci)


class ResizeConvStage(nn.Module):
    """conv, LeakyReLU, replicate, conv, LeakyReLU: [P1]'s upsampling, free of checkerboards by construction.

    What follows the replication is done phase by phase on the coarse grid: the same sums, at factor 2 with 8 taps for 27.
    """

    def __init__(self, inputs: int, factors: Factors, slope: float):
        super().__init__()
        self.before, self.after = conv(inputs, TAIL), conv(TAIL, TAIL)
        self.factors, self.slope, self.outputs = factors, slope, TAIL

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.leaky_relu(self.before(x), self.slope), (1,) * 6)
        phases = torch.cat([self._phase(x, phase) for phase in phases_of(self.factors)], dim=1)
        return F.leaky_relu(interleave(phases, self.factors), self.slope)

    def _phase(self, x: Tensor, phase: IntTriple) -> Tensor:
        """`x` with a margin of 1; one fine voxel of every coarse one."""
        kernel, start = phase_kernel(self.after.weight, phase, self.factors)
        return F.conv3d(phase_window(x, kernel, start), kernel, self.after.bias)


class SubpixelStage(nn.Module):
    """conv, LeakyReLU, pixel shuffle [P2]; filters start alike over the phases, so that no checkerboard is there to unlearn."""

    def __init__(self, inputs: int, factors: Factors, slope: float):
        super().__init__()
        phases = math.prod(factors)
        self.outputs = max(TAIL // phases, 8)
        self.conv = conv(inputs, self.outputs * phases)
        with torch.no_grad():
            for parameter in (self.conv.weight, self.conv.bias):
                assert parameter is not None
                parameter.copy_(parameter[::phases].repeat_interleave(phases, dim=0))
        self.factors, self.slope = factors, slope

    def forward(self, x: Tensor) -> Tensor:
        return shuffle(F.leaky_relu(self.conv(x), self.slope), self.factors)


class SubpixelNNStage(nn.Module):
    """Transposed conv of kernel 3f, stride f, started as replication followed by a 3^3 conv ([P2], subpixel-nn)."""

    def __init__(self, inputs: int, factors: Factors, slope: float):
        super().__init__()
        self.conv = nn.ConvTranspose3d(inputs, TAIL, (3 * factors[0], 3 * factors[1], 3 * factors[2]), stride=factors, padding=factors)
        with torch.no_grad():
            start = nn.Conv3d(inputs, TAIL, 3).weight.transpose(0, 1)
            self.conv.weight.copy_(replicate(start, factors))
        self.factors, self.slope, self.outputs = factors, slope, TAIL

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x), self.slope)


STAGES = {"resize-conv": ResizeConvStage, "subpixel": SubpixelStage, "subpixel-nn": SubpixelNNStage}


class Generator(nn.Module):
    """LR (N, C, K, J, I) -> HR (N, 1, fK*K, fJ*J, fI*I); the output is linear, since intensities are not bounded.

    With `config.coarse` above 1 the sizes must be multiples of it.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        f = config.features
        self.first, self.first_norm = conv(config.channels, f), norm_layer(config.norm, f)
        self.blocks = nn.ModuleList(ResidualBlock(f, config.norm, config.slope) for _ in range(config.blocks))
        self.last, self.last_norm = conv(f, f), norm_layer(config.norm, f)
        stages: list[Any] = []
        inputs = f
        for factors in config.stages:
            stages.append(STAGES[config.upsampling](inputs, factors, config.slope))
            inputs = stages[-1].outputs
        self.stages = nn.ModuleList(stages)
        self.output = conv(inputs, 1)
        self._initialise()

    def _initialise(self) -> None:
        """Without batch norm, start each block near the identity and the residual at zero: stable at high rates."""
        if self.config.norm == "none":
            with torch.no_grad():
                for block in self.blocks:
                    assert isinstance(block, ResidualBlock)
                    block.conv2.weight.mul_(0.1)
        if self.config.interpolation_residual:
            nn.init.zeros_(self.output.weight)
            assert self.output.bias is not None
            nn.init.zeros_(self.output.bias)

    def on_cells(self) -> Generator:
        """The same weights as a network that takes the cells of a volume (`cells`); it is this one where `config.coarse` is 1."""
        if self.config.coarse == (1, 1, 1):
            return self
        network = Generator(self.config.on_cells)
        network.load_state_dict(self.state_dict())
        return network.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        if self.config.coarse != (1, 1, 1):
            x = cells(x, self.config.coarse).contiguous(memory_format=torch.channels_last_3d)
        head = F.leaky_relu(self.first_norm(self.first(x)), self.config.slope)
        y = head
        for block in self.blocks:
            y = block(y)
        y = self.last_norm(self.last(y)) + head
        for stage in self.stages:
            y = stage(y)
        y = self.output(y)
        return y + trilinear(x[:, :1], self.config.factors) if self.config.interpolation_residual else y


def trilinear(x: Tensor, factors: Factors) -> Tensor:
    """Cell-centred trilinear enlargement; beyond the outermost cell centres the edge value holds."""
    if factors == (1, 1, 1):
        return x
    return F.interpolate(x, scale_factor=tuple(map(float, factors)), mode="trilinear", align_corners=False)


class Conditions(NamedTuple):
    """What a network is told of a scan; None says "unknown".

    `mtf` is the blur's transfer at LR Nyquist along K, J, I: one triple, or an (N, 3) tensor for a batch. `noise` is the noise's
    standard deviation in the unit of the image: a number, or an (N,) tensor.
    """

    mtf: tuple[float, float, float] | Tensor | None = None
    noise: float | Tensor | None = None

    def channels(self, config: GeneratorConfig) -> Tensor:
        """(N or 1, C) float32: the values of the constant channels that a network of `config` takes behind its images."""
        rows: list[Tensor] = []
        if config.blur_aware:
            rows.append(torch.as_tensor((UNKNOWN_MTF,) * 3 if self.mtf is None else self.mtf).reshape(-1, 3))
        if config.noise_aware:
            rows.append(torch.as_tensor(UNKNOWN_NOISE if self.noise is None else self.noise).reshape(-1, 1) / NOISE_UNIT)
        many = max((len(row) for row in rows), default=1)
        return torch.cat([row.float().expand(many, -1) for row in rows], dim=1) if rows else torch.empty(1, 0)


UNKNOWN = Conditions()


def with_conditions(image: Tensor, config: GeneratorConfig, told: Conditions = UNKNOWN) -> Tensor:
    """Append what a network of `config` is told as constant channels: (N, C, K, J, I) -> (N, config.channels, K, J, I)."""
    values = told.channels(config).to(image)[:, :, None, None, None]
    return torch.cat([image, values.expand(image.shape[0], -1, *image.shape[2:])], dim=1)
