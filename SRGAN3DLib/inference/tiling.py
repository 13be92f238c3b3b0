"""Plan pieces under a memory limit, and run them; no plan can change the answer.

A volume is cut into *cores*. For each, the network's trunk runs on the core and a halo around it (fewer voxels where the
volume ends: there the network itself pads), in pieces as large as fit. The upsampling tail then takes the core in small
*tiles*; a tile's share of the HR volume reaches one HR voxel into its neighbours, and shares are added up. Halos are as
wide as the network sees, so every voxel comes out as from the whole volume at once (up to rounding), without blending.
The memory limit is for the whole process: what it holds already + the HR output + the pieces.
Arrays are (K, J, I) float32; boxes are LR voxels ((start, stop), ...) over K, J, I.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from SRGAN3DLib.contract.configs import GeneratorConfig, IntTriple
from SRGAN3DLib.contract.errors import Cancelled, ResourceError
from SRGAN3DLib.networks.generator import UNKNOWN, Conditions
from SRGAN3DLib.physics.intensity import IntensityScale

from . import memory

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
T = TypeVar("T")

LEAST_CORE = 16  # voxels along an axis: smaller pieces would be nearly all halo
TILE_EDGES = (64, 48, 32, 24, 16, 12, 8, 4, 2, 1)
CPU_TILE_BYTES = 96 << 20  # the tail's scratch, all of it together: what is in use at a time stays in the cache
GPU_TILE_BYTES = 2 << 30
SAFETY_BYTES = 48 << 20  # threads' stacks and scratch, fragments of the heap
SHARE_OF_FREE = 0.7  # without a limit: of what is free now
MIRRORED = ((), (2,), (1,), (1, 2), (0,), (0, 2), (0, 1), (0, 1, 2))  # axes of the views, those of `flips` first


class Network(Protocol):
    """What is asked of a network; `compiled.CompiledGenerator` is one."""

    config: GeneratorConfig
    device: torch.device

    @property
    def trunk_halo(self) -> int: ...
    @property
    def tail_halo(self) -> IntTriple: ...
    @property
    def trunk_share(self) -> float: ...
    def trunk(self, image: Tensor, told: Conditions, keep: tuple[int, int], tick: Callable[[float], None]) -> Tensor: ...
    def tail(self, features: Tensor, image: Tensor, margins: Box) -> Tensor: ...
    def trunk_bytes(self, shape_kji: IntTriple) -> int: ...
    def features_bytes(self, shape_kji: IntTriple) -> int: ...
    def tail_bytes(self, core_kji: IntTriple) -> int: ...


@dataclass(frozen=True)
class Plan:
    """`cores` are disjoint and fill the volume; `scratch_bytes` is the most that is held beside input and output."""

    shape_kji: IntTriple
    cores: tuple[Box, ...]
    tile_kji: IntTriple
    scratch_bytes: int


@dataclass
class RunInfo:
    """What was done: pieces and tiles computed, memory planned and allowed (bytes), and what happened where memory ran out."""

    pieces: int = 0
    tiles: int = 0
    planned_bytes: int = 0
    limit_bytes: int | None = None
    out_of_memory: list[str] = field(default_factory=list)


def run(
    network: Network,
    image: np.ndarray,
    *,
    told: Conditions = UNKNOWN,
    scale: IntensityScale | None = None,
    memory_limit: int | None = None,
    flips: int = 1,
    out: np.ndarray | None = None,
    forced: Plan | None = None,
    on_progress: Callable[[float, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, RunInfo]:
    """Super-resolve `image` (K, J, I), or (C, K, J, I) for a network of several images; returns (fK*K, fJ*J, fI*I) float32.

    `told` is what the network is told of the blur and, in its own unit (after `scale`), of the noise. `scale` is applied to each
    piece and undone on its result. `memory_limit` bytes bound the resident memory of the process; None takes a share of what is free.
    With `flips` (2, 4, 8) the answer is the mean over as many mirrored views of the image, each mirrored back: it takes as many times
    as long, and no more memory. The answer goes to `out`, an array of zeros of its shape or any view of one (with mirrored axes, too),
    where that is given. `on_progress(done, total)` counts LR voxels; `cancelled()` is asked every few planes. Raises `ResourceError`
    (naming the least limit that would do) or `Cancelled`.
    """
    image = image if image.ndim == 4 else image[None]
    shape_kji = _triple(image.shape[1:])
    chosen = forced or affordable_plan(network, shape_kji, memory_limit)

    def tick(done: float) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("cancelled")
        if on_progress is not None:
            on_progress(done / flips, float(math.prod(shape_kji)))

    if out is None:
        out = np.zeros([n * f for n, f in zip(shape_kji, network.config.factors, strict=True)], np.float32)
    work = _Work(network, image, out, told, scale or IntensityScale(0, 1), tick, flips)
    work.info.limit_bytes, work.info.planned_bytes = memory_limit, chosen.scratch_bytes
    for mirrored in MIRRORED[:flips]:
        work.pieces(chosen, mirrored)
    work.output.add_(work.scale.offset)
    return out, work.info


# ---- planning


def affordable_plan(network: Network, shape_kji: IntTriple, memory_limit: int | None) -> Plan:
    """The plan for what the limit leaves beside what the process holds now and the output. Raises `ResourceError`."""
    held = memory.resident_bytes()
    limit = memory_limit or held + int(SHARE_OF_FREE * memory.available_bytes())
    output = 4 * math.prod(n * f for n, f in zip(shape_kji, network.config.factors, strict=True))
    budget = limit - held - output - SAFETY_BYTES
    if network.device.type == "cuda":  # the pieces lie on the device, the volumes on the host
        chosen, needed = plan(network, shape_kji, 0.9 * torch.cuda.mem_get_info(network.device)[0]), 0
    else:
        chosen = plan(network, shape_kji, budget)
        needed = chosen.scratch_bytes
    if needed > budget:
        size, least = " x ".join(map(str, reversed(shape_kji))), memory.megabytes(1.01 * (limit - budget + needed))
        allowed = f"memory limit {memory.megabytes(limit)}" if memory_limit else f"{memory.megabytes(limit - held)} of memory free"
        raise ResourceError(f"{allowed}: too little for {size} voxels; the least limit that would do is {least}")
    return chosen


def plan(network: Network, shape_kji: IntTriple, budget_bytes: float) -> Plan:
    """The cheapest plan that fits: of all even splits along K, J, I the one that computes the fewest voxels, halos included.

    Where none fits, the smallest there is: compare its `scratch_bytes` with the budget.
    """
    tile_kji = _tile(network, budget_bytes)

    def fits(parts: IntTriple) -> bool:
        return _scratch_bytes(network, shape_kji, parts, tile_kji) <= budget_bytes

    smallest = _triple(max(_splits(n)) for n in shape_kji)
    best = next(filter(fits, _cheapest_first(network, shape_kji)), smallest) if fits(smallest) else smallest
    return plan_of(network, shape_kji, best, tile_kji)


def plan_of(network: Network, shape_kji: IntTriple, parts: IntTriple, tile_kji: IntTriple) -> Plan:
    """The plan of `parts` pieces along K, J, I and tiles of at most `tile_kji`."""
    k, j, i = shape_kji
    cores = _grid(((0, k), (0, j), (0, i)), parts)
    return Plan(shape_kji, cores, tile_kji, _scratch_bytes(network, shape_kji, parts, tile_kji))


def _tile(network: Network, budget_bytes: float) -> IntTriple:
    most = min(CPU_TILE_BYTES if network.device.type == "cpu" else GPU_TILE_BYTES, budget_bytes / 4)
    edge = next((e for e in TILE_EDGES if network.tail_bytes((e, e, e)) <= most), 1)
    return (edge, edge, edge)


def _splits(n: int) -> list[int]:
    """Numbers of parts worth trying along an axis of n voxels: one for each different size of the parts."""
    return sorted({math.ceil(n / parts): parts for parts in range(max(1, n // LEAST_CORE), 0, -1)}.values())


def _halo(network: Network) -> IntTriple:
    return _triple(network.trunk_halo + h for h in network.tail_halo)


def _scratch_bytes(network: Network, shape_kji: IntTriple, parts: IntTriple, tile_kji: IntTriple) -> int:
    cores = [math.ceil(n / p) for n, p in zip(shape_kji, parts, strict=True)]
    k, j, i = (min(n, c + h * min(2, p - 1)) for n, c, h, p in zip(shape_kji, cores, _halo(network), parts, strict=True))
    image = k * j * i * 4 * (network.config.input_channels + 1)  # the piece, scaled, and what scaling it takes
    tail = network.tail_bytes(_triple(map(min, cores, tile_kji)))
    return image + max(network.trunk_bytes((k, j, i)), network.features_bytes((k, j, i)) + tail)


def _cheapest_first(network: Network, shape_kji: IntTriple) -> list[IntTriple]:
    """All splits by the voxels the trunk computes, mean over its convolutions: along K it leaves out what later ones do not need."""
    k, j, i = _halo(network)
    axes = []
    for n, halo in zip(shape_kji, (k // 2, j, i), strict=True):
        computed = {p: sum(stop - start for start, stop in (_around(core, halo, n) for core in _cut((0, n), p))) for p in _splits(n)}
        axes.append(computed.items())
    options = [(ck * cj * ci, pk * pj * pi, (pk, pj, pi)) for (pk, ck), (pj, cj), (pi, ci) in itertools.product(*axes)]
    return [parts for _, _, parts in sorted(options)]


# ---- running


class _Work:
    """One volume on its way through the network."""

    def __init__(
        self,
        network: Network,
        image: np.ndarray,
        out: np.ndarray,
        told: Conditions,
        scale: IntensityScale,
        tick: Callable[[float], None],
        views: int,
    ):
        self.network, self.told, self.scale, self.tick, self.views = network, told, scale, tick, views
        self.upright, self.image = image, image
        self.mirrored: tuple[int, ...] = ()  # of the output's axes, those along which a share is mirrored back
        self.shape_kji = _triple(image.shape[1:])
        self.done, self.info = 0.0, RunInfo()  # done: LR voxels
        self.backwards = tuple(axis for axis in range(3) if out.strides[axis] < 0)  # torch knows no negative strides
        self.output = torch.from_numpy(np.flip(out, self.backwards))

    def pieces(self, chosen: Plan, mirrored: tuple[int, ...]) -> None:
        """Add one view's answer to the output: that of the image mirrored along these axes of K, J, I."""
        self.image = np.flip(self.upright, tuple(1 + axis for axis in mirrored))
        self.mirrored = tuple(sorted({*mirrored} ^ {*self.backwards}))
        waiting = list(reversed(chosen.cores))
        while waiting:
            core = waiting.pop()
            made = self._or_halves(core, waiting, self._trunk)
            if made is not None:
                self._tiles(core, chosen.tile_kji, *made)
            del made  # its memory, before the next piece asks for its own

    def _trunk(self, core: Box) -> tuple[Tensor, Tensor, Box]:
        """Features and image of the core with its halo, and the box that both cover."""
        box = _box_around(core, _halo(self.network), self.shape_kji)
        k, j, i = (slice(*axis) for axis in box)
        scaled = self.scale.apply(self.image[:, k, j, i])
        image = torch.from_numpy(np.ascontiguousarray(scaled, np.float32))[None].to(self.network.device)
        start, stop = _around(core[0], self.network.tail_halo[0], self.shape_kji[0])
        done, whole = self.done, _voxels(core) * self.network.trunk_share
        planes = (start - box[0][0], stop - box[0][0])
        features = self.network.trunk(image, self.told, planes, lambda part: self._now(done + part * whole))
        self.info.pieces += 1
        return features, image[:, :1], box

    def _tiles(self, core: Box, tile_kji: IntTriple, features: Tensor, image: Tensor, box: Box) -> None:
        parts = _triple(math.ceil(n / t) for n, t in zip(_sizes(core), tile_kji, strict=True))
        waiting = list(reversed(_grid(core, parts)))
        while waiting:
            tile = waiting.pop()
            share = self._or_halves(tile, waiting, lambda tile: self._tail(tile, features, image, box))
            if share is not None:
                self._add(share, tile)
                self._now(self.done + _voxels(tile) * (1 - self.network.trunk_share))

    def _tail(self, tile: Box, features: Tensor, image: Tensor, box: Box) -> Tensor:
        reach = _box_around(tile, self.network.tail_halo, self.shape_kji)
        k, j, i = (slice(start - origin, stop - origin) for (start, stop), (origin, _) in zip(reach, box, strict=True))
        margin_k, margin_j, margin_i = ((a - start, stop - b) for (a, b), (start, stop) in zip(tile, reach, strict=True))
        self.info.tiles += 1
        return self.network.tail(features[:, :, k, j, i], image[:, :, k, j, i], (margin_k, margin_j, margin_i)).cpu()

    def _add(self, share: Tensor, tile: Box) -> None:
        """A share begins and ends one HR voxel beyond its tile; what lies beyond the volume is dropped.

        It goes where it belongs in the upright volume.
        """
        target, source = [], []
        for (start, stop), f, n in zip(tile, self.network.config.factors, self.output.shape, strict=True):
            a, b = max(0, start * f - 1), min(n, stop * f + 1)
            target.append(slice(a, b))
            source.append(slice(a - start * f + 1, b - start * f + 1))
        share = share[tuple(source)]
        for axis in self.mirrored:
            target[axis] = slice(self.output.shape[axis] - target[axis].stop, self.output.shape[axis] - target[axis].start)
        self.output[tuple(target)].add_(share.flip(self.mirrored) if self.mirrored else share, alpha=self.scale.gain / self.views)

    def _now(self, done: float) -> None:
        self.done = done
        self.tick(done)

    def _or_halves(self, box: Box, waiting: list[Box], work: Callable[[Box], T]) -> T | None:
        """`work(box)`; where memory runs out, None, and the halves of the box join what waits."""
        done = self.done
        try:
            return work(box)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
        self.done = done
        sizes, device = _sizes(box), self.network.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
        longest = sizes.index(max(sizes))
        if sizes[longest] == 1:
            raise ResourceError(f"memory ran out on {device} even in the smallest piece: {reason}")
        self.info.out_of_memory.append(f"memory ran out on {device} in a piece of {sizes} voxels (K, J, I): halved")
        waiting += reversed(_grid(box, _triple(2 if axis == longest else 1 for axis in range(3))))
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch says it in several ways, by device and version."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "could not create a memory")
    return isinstance(error, MemoryError) or any(w in str(error).lower() for w in words)


# ---- boxes


def _triple(values: Iterable[int]) -> IntTriple:
    k, j, i = values
    return (k, j, i)


def _sizes(box: Box) -> IntTriple:
    return _triple(stop - start for start, stop in box)


def _voxels(box: Box) -> int:
    return math.prod(_sizes(box))


def _cut(axis: tuple[int, int], parts: int) -> list[tuple[int, int]]:
    start, n = axis[0], axis[1] - axis[0]
    return list(itertools.pairwise(start + n * p // parts for p in range(parts + 1)))


def _grid(box: Box, parts: IntTriple) -> tuple[Box, ...]:
    """The box cut into parts[0] x parts[1] x parts[2] boxes of about one size."""
    k, j, i = map(_cut, box, parts)
    return tuple(itertools.product(k, j, i))


def _around(axis: tuple[int, int], halo: int, n: int) -> tuple[int, int]:
    return max(0, axis[0] - halo), min(n, axis[1] + halo)


def _box_around(core: Box, halo: IntTriple, shape_kji: IntTriple) -> Box:
    k, j, i = map(_around, core, halo, shape_kji)
    return (k, j, i)
