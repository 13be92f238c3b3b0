"""The generator rewritten for inference: equal to `networks.Generator` in eval mode, several times faster, small in memory.

What is rewritten (method.md, section 3): batch norm folded into the convolutions; channels-last; residual blocks done in
place, a few planes at a time, so that the trunk holds two feature tensors and no more; "replicate, then 3^3 conv" as
phase convolutions on the coarse grid (Aitken et al., arXiv 1707.02937), so that no feature tensor of the finest grid ever
exists; the output convolution as one matrix product per coarse voxel, followed by shifted sums in fp32.

Two parts, both for one piece of a volume: `trunk` on the LR grid, `tail` from there to the HR grid. Every convolution of
the network pads with zeros at the volume's border and nowhere else, so a piece carries `trunk_halo` or `tail_halo` more
voxels on each side where the volume goes on. Tensors are (1, C, K, J, I); margins are LR voxels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SRGAN3DLib.contract.configs import Factors, GeneratorConfig, IntTriple

from .generator import UNKNOWN, Conditions, Generator, ResizeConvStage, SubpixelNNStage, SubpixelStage, trilinear
from .phase_kernels import (
    double,
    folded,
    interleave,
    output_kernel,
    overlap_add,
    phase_kernel,
    phase_window,
    phases_of,
    transposed_phase_kernel,
)

Margins = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""How many voxels a piece has below and above its core, over K, J, I; fewer than the halo only where the volume ends."""
Tick = Callable[[float], None]
CPU_SLAB = 1 << 16  # voxels of one step through the trunk: few enough for the cache
GPU_SLAB = 1 << 22  # few enough for one fast kernel, enough to fill the device


def _silent(part: float) -> None: ...


exact_fp32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # fp32 is fp32 on GPUs too, not the 10 bits of TF32


@dataclass(frozen=True)
class Conv:
    """A convolution of stride 1 with its bias, then a LeakyReLU unless `slope` is 1."""

    weight: Tensor
    bias: Tensor
    slope: float
    onednn: bool  # call it directly: `F.conv3d` keeps small fp32 tensors from it, and is 5 to 8 times slower on them

    def __call__(self, x: Tensor, padding: IntTriple = (0, 0, 0)) -> Tensor:
        if self.onednn:
            y = torch.mkldnn_convolution(x, self.weight, self.bias, padding, (1, 1, 1), (1, 1, 1), 1)
        else:
            y = F.conv3d(x, self.weight, self.bias, padding=padding)
        return y if self.slope == 1 else F.leaky_relu_(y, self.slope)


def onednn_takes(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes convolutions in `dtype` on this CPU (fast or not)."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return onednn_supports("bf16")
    return onednn_supports("fp16") if dtype == torch.float16 else dtype == torch.float32


def onednn_supports(precision: str) -> bool:
    """Whether oneDNN computes in `bf16` or `fp16` on this CPU. A PyTorch without oneDNN (macOS on ARM) has no such question."""
    try:
        return bool(getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported")())
    except (AttributeError, RuntimeError):
        return False


@dataclass(frozen=True)
class Stage:
    """One upsampling stage on its coarse grid: (1, C, k, j, i) -> (1, phases * outputs, k, j, i), phase by phase.

    `before` is a convolution on the coarse grid; each of `convs` makes an equal share of the channels, and reads
    from `starts` on in its input, which has a margin of 1.
    """

    factors: Factors
    before: Conv | None
    convs: tuple[Conv, ...]
    starts: tuple[IntTriple, ...]

    @property
    def reach(self) -> int:
        """Coarse voxels that the stage's output depends on, to each side."""
        return 1 if self.before is None else 2

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (1, C, k + 2, j + 2, i + 2), zero where the volume has ended."""
        if len(self.convs) == 1:
            return self.convs[0](x)
        size = [n - 2 for n in x.shape[2:]]
        width = len(self.convs[0].bias)
        y = x.new_empty(1, *size, width * len(self.convs)).permute(0, 4, 1, 2, 3)
        for index, (conv, start) in enumerate(zip(self.convs, self.starts, strict=True)):
            y[:, index * width : (index + 1) * width] = conv(phase_window(x, conv.weight, start))
        return y


class CompiledGenerator:
    """`generator` for inference in `dtype` on `device`. Call `trunk` and `tail` (tiling.py does), or the whole on a small volume."""

    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"):
        self.config, self.dtype, self.device = generator.config, dtype, torch.device(device)
        self.layout = torch.contiguous_format if self.device.type == "mps" else torch.channels_last_3d
        self.slab_voxels = CPU_SLAB if self.device.type == "cpu" else GPU_SLAB
        self.onednn = self.device.type == "cpu" and onednn_takes(dtype)
        slope = self.config.slope
        weight, bias = folded(generator.first, generator.first_norm)
        self.first = self._conv(F.pad(weight, (0, 0) * 3 + (0, weight.shape[1] % 2)), bias, slope)  # oneDNN is slow on odd channels
        self.blocks = [(self._conv(*folded(b.conv1, b.norm1), slope), self._conv(*folded(b.conv2, b.norm2))) for b in generator.blocks]  # type: ignore[arg-type]
        self.last = self._conv(*folded(generator.last, generator.last_norm))
        self.stages = [self._stage(stage) for stage in generator.stages]
        matrix = output_kernel(double(generator.output.weight), self.stages[-1].factors)
        self.output = self._conv(matrix, matrix.new_zeros(len(matrix)))
        self.output_bias = float(double(generator.output.bias))

    def _conv(self, weight: Tensor, bias: Tensor, slope: float = 1.0) -> Conv:
        weight = weight.to(self.device, self.dtype).contiguous(memory_format=self.layout)
        return Conv(weight, bias.to(self.device, self.dtype).contiguous(), slope, self.onednn)

    def _stage(self, stage: nn.Module) -> Stage:
        phases, centre = phases_of(stage.factors), (0, 0, 0)  # type: ignore[arg-type]
        slope = self.config.slope
        if isinstance(stage, ResizeConvStage):
            kernels = [phase_kernel(double(stage.after.weight), p, stage.factors) for p in phases]
            convs = tuple(self._conv(weight, double(stage.after.bias), slope) for weight, _ in kernels)
            before = self._conv(double(stage.before.weight), double(stage.before.bias), slope)
            return Stage(stage.factors, before, convs, tuple(start for _, start in kernels))
        if isinstance(stage, SubpixelStage):  # channels come as (output, phase)
            weight, bias = (
                double(t).unflatten(0, (-1, len(phases))).transpose(0, 1).flatten(0, 1)  # type: ignore[no-untyped-call]
                for t in (stage.conv.weight, stage.conv.bias)
            )
            return Stage(stage.factors, None, (self._conv(weight, bias, slope),), (centre,))
        assert isinstance(stage, SubpixelNNStage)
        weight = torch.cat([transposed_phase_kernel(double(stage.conv.weight), p, stage.factors) for p in phases])
        return Stage(stage.factors, None, (self._conv(weight, double(stage.conv.bias).repeat(len(phases)), slope),), (centre,))

    # ---- the trunk: everything before the first upsampling stage, on the LR grid

    @property
    def trunk_halo(self) -> int:
        """LR voxels to each side that a voxel of `trunk` depends on: its number of convolutions."""
        return trunk_halo(self.config)

    @torch.inference_mode()
    @exact_fp32
    def trunk(self, image: Tensor, told: Conditions = UNKNOWN, keep: tuple[int, int] | None = None, tick: Tick = _silent) -> Tensor:
        """Image (1, input_channels, K, J, I) -> features (1, C, K, J, I), exact where the halo is inside or the volume ends.

        `told` goes to the network as in `generator.with_conditions`. Only the planes `keep` = (start, stop) along K
        are computed (default: all); the others hold any values. `tick` gets the part done, above 0 to 1, every few
        planes; it may raise to stop.
        """
        planes, convs = image.shape[2], self.trunk_halo
        start, stop = keep or (0, planes)

        def needed(later: int) -> tuple[int, int]:
            """The planes that `later` more convolutions on the way to `keep` still read."""
            return max(0, start - later), min(planes, stop + later)

        head = self._first(image, told, *needed(convs - 1))
        x = head.clone()
        for index, block in enumerate(self.blocks):
            self._residual(x, block, needed(convs - 3 - 2 * index), lambda part, n=2 * index + 1: tick((n + 2 * part) / convs))  # type: ignore[misc]
        for a, b in self._slabs(start, stop, image.shape):
            head[:, :, 1 + a : 1 + b] += self.last(x[:, :, a : b + 2], (0, 1, 1))
            tick((convs - 1 + (b - start) / (stop - start)) / convs)
        return head[:, :, 1:-1]

    def _first(self, image: Tensor, told: Conditions, start: int, stop: int) -> Tensor:
        """The first convolution of planes `start` to `stop`, with a zero plane at each end along K."""
        images = image.shape[1]
        source = self._with_zero_planes(self.first.weight.shape[1], image.shape)
        source[:, :images, 1:-1] = image
        for channel, value in enumerate(told.channels(self.config)[0].tolist(), start=images):
            source[:, channel, 1:-1] = value
        source[:, self.config.channels :] = 0
        head = self._with_zero_planes(self.config.features, image.shape)
        for a, b in self._slabs(start, stop, image.shape):
            head[:, :, 1 + a : 1 + b] = self.first(source[:, :, a : b + 2], (0, 1, 1))
        return head

    def _residual(self, x: Tensor, block: tuple[Conv, Conv], planes: tuple[int, int], tick: Tick) -> None:
        """`x` += block(`x`) on `planes`, in place: a plane is overwritten once no later plane needs what it was.

        `x` has a zero plane at each end along K, so plane p lies at p + 1.
        """
        start, stop = planes
        end = x.shape[2] - 2
        edge = x[:, :, :1]  # zeros: what the block's second convolution sees beyond the volume
        inner = [edge] if start == 0 else []
        done = start
        for a, b in self._slabs(max(start - 1, 0), min(stop + 1, end), x.shape):
            inner.append(block[0](x[:, :, a : b + 2], (0, 1, 1)))
            y = torch.cat([*inner, edge] if b == stop == end else inner, dim=2)
            if y.shape[2] > 2:
                x[:, :, 1 + done : y.shape[2] - 1 + done] += block[1](y, (0, 1, 1))
                done += y.shape[2] - 2
            inner = [y[:, :, -2:]]
            tick((done - start) / (stop - start))

    def _with_zero_planes(self, channels: int, shape: torch.Size) -> Tensor:
        """(1, channels, K + 2, J, I), its first and last plane 0: the zero padding along K, for any slab."""
        x = torch.empty(1, channels, shape[2] + 2, *shape[3:], dtype=self.dtype, device=self.device, memory_format=self.layout)
        x[:, :, 0] = x[:, :, -1] = 0
        return x

    def _slabs(self, start: int, stop: int, shape: torch.Size) -> Iterable[tuple[int, int]]:
        step = max(2, self.slab_voxels // (shape[3] * shape[4]))
        return ((a, min(a + step, stop)) for a in range(start, stop, step))

    # ---- the tail: upsampling stages and output convolution

    @property
    def tail_halo(self) -> IntTriple:
        """LR voxels to each side, over K, J, I, that `tail` reads of the trunk's features."""
        return tail_halo(self.config)

    @torch.inference_mode()
    @exact_fp32
    def tail(self, features: Tensor, image: Tensor, margins: Margins) -> Tensor:
        """The share that a core of k x j x i LR voxels has in the HR output: float32 (f*k + 2, f*j + 2, f*i + 2).

        The output convolution carries every HR voxel into its neighbours, so the share begins one HR voxel before the core and
        ends one behind it. Shares of neighbouring cores add up to the output; what falls outside the volume is dropped.
        `features` (1, C, ...) and `image` (1, 1, ...) float32, the network's first channel, are the core with `margins`:
        `tail_halo` or less where the volume ends there.
        """
        x, have, exists = features, margins, margins
        for index, (stage, beyond) in enumerate(zip(self.stages, margins_wanted(self.config), strict=True)):
            if index:
                x = interleave(x, self.stages[index - 1].factors)
                have, exists = (scaled(m, self.stages[index - 1].factors) for m in (have, exists))
            made = limited(beyond, exists)
            if stage.before is not None:
                inner = limited((beyond[0] + 1, beyond[1] + 1, beyond[2] + 1), exists)
                x, have = stage.before(fitted(x, have, grown(inner))), inner
            x, have = stage(fitted(x, have, grown(made))), made
        share = overlap_add(self.output(x)[0].float(), self.stages[-1].factors)
        share[1:-1, 1:-1, 1:-1] += self.output_bias
        if self.config.interpolation_residual:
            near = limited((1, 1, 1), margins)
            fine = trilinear(fitted(image, margins, near), self.config.factors)[0, 0]
            for axis, ((low, _), f) in enumerate(zip(near, self.config.factors, strict=True)):
                fine = fine.narrow(axis, low * f, share.shape[axis] - 2)
            share[1:-1, 1:-1, 1:-1] += fine
        return share

    @torch.inference_mode()
    def __call__(self, image: Tensor, told: Conditions = UNKNOWN) -> Tensor:
        """A whole volume at once: (1, input_channels, K, J, I) -> (1, 1, fK*K, fJ*J, fI*I) float32."""
        image = image.to(self.device)
        share = self.tail(self.trunk(image, told), image[:, :1].float(), ((0, 0), (0, 0), (0, 0)))
        return share[None, None, 1:-1, 1:-1, 1:-1]

    # ---- what the two parts cost

    @property
    def trunk_share(self) -> float:
        """The trunk's share of the arithmetic, 0 to 1."""
        trunk = sum(c.weight.numel() for c in (self.first, self.last, *itertools.chain(*self.blocks)))
        tail, voxels = 0, 1
        for stage in self.stages:
            tail += voxels * sum(c.weight.numel() for c in (stage.before, *stage.convs) if c is not None)
            last, voxels = voxels, voxels * math.prod(stage.factors)
        tail += last * self.output.weight.numel()
        return trunk / (trunk + tail)

    def trunk_bytes(self, shape_kji: IntTriple) -> int:
        """The most memory `trunk` holds for a piece of `shape_kji` (its halo included), without the image it is given."""
        k, j, i = shape_kji
        sheet, width = j * i * self.dtype.itemsize, self.config.features
        slab = min(k, max(2, self.slab_voxels // (j * i))) + 2
        scratch = 5 if self.onednn or self.device.type != "cpu" else 5 + 27  # without oneDNN, PyTorch unfolds the 27 taps
        tensors = max(2 * width, width + self.first.weight.shape[1])
        return sheet * (tensors * (k + 2) + width * scratch * slab)

    def features_bytes(self, shape_kji: IntTriple) -> int:
        """What stays of a piece when `trunk` has ended."""
        k, j, i = shape_kji
        return (k + 2) * j * i * self.config.features * self.dtype.itemsize

    def tail_bytes(self, core_kji: IntTriple) -> int:
        """The most memory `tail` holds for a core of `core_kji`: the sum over all it makes, some of which is gone earlier."""
        total, grid = 0, core_kji
        for stage, beyond in zip(self.stages, margins_wanted(self.config), strict=True):
            out = math.prod(n + 2 * b for n, b in zip(grid, beyond, strict=True))
            source = math.prod(n + 2 * (b + stage.reach) for n, b in zip(grid, beyond, strict=True))
            given, inner = (stage.before or stage.convs[0]).weight.shape[1], stage.convs[0].weight.shape[1]
            made = sum(len(conv.bias) for conv in stage.convs)
            total += (2 * source * given + 3 * source * inner + 2 * out * made) * self.dtype.itemsize
            grid = tuple(n * f for n, f in zip(grid, stage.factors, strict=True))  # type: ignore[assignment]
        places = len(self.output.bias)
        unfolded = 0 if self.onednn or self.device.type != "cpu" else 27 * source * inner * self.dtype.itemsize
        return total + unfolded + out * places * (self.dtype.itemsize + 12)


def trunk_halo(config: GeneratorConfig) -> int:
    return 2 + 2 * config.blocks


def margins_wanted(config: GeneratorConfig) -> list[IntTriple]:
    """For each stage, how far beyond the core, in voxels of its coarse grid, the stages after it need its output."""
    reach = 2 if config.upsampling == "resize-conv" else 1
    wanted = [(0, 0, 0)]
    for factors in reversed(config.stages[:-1]):
        wanted.insert(0, tuple(-(-(w + reach) // f) for w, f in zip(wanted[0], factors, strict=True)))  # type: ignore[arg-type]
    return wanted


def tail_halo(config: GeneratorConfig) -> IntTriple:
    reach = 2 if config.upsampling == "resize-conv" else 1
    k, j, i = margins_wanted(config)[0]
    return (k + reach, j + reach, i + reach)


def limited(wanted: IntTriple, exists: Margins) -> Margins:
    return tuple((min(w, low), min(w, high)) for w, (low, high) in zip(wanted, exists, strict=True))  # type: ignore[return-value]


def grown(margins: Margins) -> Margins:
    return tuple((low + 1, high + 1) for low, high in margins)  # type: ignore[return-value]


def scaled(margins: Margins, factors: Factors) -> Margins:
    return tuple((low * f, high * f) for (low, high), f in zip(margins, factors, strict=True))  # type: ignore[return-value]


def fitted(x: Tensor, have: Margins, want: Margins) -> Tensor:
    """Crop `x` from margins `have` to `want`; where more is needed than there is, the volume has ended: zeros."""
    return F.pad(x, [w - h for axis in (2, 1, 0) for w, h in zip(want[axis], have[axis], strict=True)])
