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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from . import memory
from .configs import GeneratorConfig
from .errors import Cancelled, ResourceError
from .intensity import IntensityScale

Triple = tuple[int, int, int]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Mtf = tuple[float, float, float] | None

LEAST_CORE = 16  # voxels along an axis: smaller pieces would be nearly all halo
TILE_EDGES = (64, 48, 32, 24, 16, 12, 8, 4, 2, 1)
CPU_TILE_BYTES = 64 << 20  # the tail's scratch: what stays in a large cache
GPU_TILE_BYTES = 2 << 30
SAFETY_BYTES = 48 << 20  # threads' stacks and scratch, fragments of the heap
SHARE_OF_FREE = 0.7  # without a limit: of what is free now


class Network(Protocol):
    """What is asked of a network; `compiled.CompiledGenerator` is one."""

    config: GeneratorConfig
    device: torch.device

    @property
    def trunk_halo(self) -> int: ...
    @property
    def tail_halo(self) -> Triple: ...
    @property
    def trunk_share(self) -> float: ...
    def trunk(self, image: Tensor, mtf: Mtf, keep: tuple[int, int], tick: Callable[[float], None]) -> Tensor: ...
    def tail(self, features: Tensor, image: Tensor, margins: Box) -> Tensor: ...
    def trunk_bytes(self, shape_kji: Triple) -> int: ...
    def features_bytes(self, shape_kji: Triple) -> int: ...
    def tail_bytes(self, core_kji: Triple) -> int: ...


@dataclass(frozen=True)
class Plan:
    """`cores` are disjoint and fill the volume; `scratch_bytes` is the most that is held beside input and output."""

    shape_kji: Triple
    cores: tuple[Box, ...]
    tile_kji: Triple
    scratch_bytes: int


def plan(network: Network, shape_kji: Triple, budget_bytes: float) -> Plan:
    """The cheapest plan that fits: of all even splits along K, J, I the one that computes the fewest voxels, halos included.

    Where none fits, the smallest there is: compare its `scratch_bytes` with the budget.
    """
    tile_kji = _tile(network, budget_bytes)
    best: tuple[tuple[float, ...], Triple] | None = None
    for parts in itertools.product(*(_splits(n) for n in shape_kji)):
        scratch = _scratch_bytes(network, shape_kji, parts, tile_kji)
        over = max(0.0, scratch - budget_bytes)
        rank = (over, _computed_voxels(network, shape_kji, parts), math.prod(parts))
        if best is None or rank < best[0]:
            best = rank, parts
    assert best is not None
    return forced_plan(network, shape_kji, best[1], tile_kji)


def forced_plan(network: Network, shape_kji: Triple, parts: Triple, tile_kji: Triple) -> Plan:
    """`parts` pieces along K, J, I and tiles of at most `tile_kji`."""
    cores = tuple(_grid(tuple((0, n) for n in shape_kji), parts))  # type: ignore[arg-type]
    return Plan(shape_kji, cores, tile_kji, _scratch_bytes(network, shape_kji, parts, tile_kji))


def _tile(network: Network, budget_bytes: float) -> Triple:
    most = min(CPU_TILE_BYTES if network.device.type == "cpu" else GPU_TILE_BYTES, budget_bytes / 4)
    edge = next((e for e in TILE_EDGES if network.tail_bytes((e, e, e)) <= most), 1)
    return (edge, edge, edge)


def _splits(n: int) -> list[int]:
    """Numbers of parts worth trying along an axis of n voxels: one for each different size of the parts."""
    most = max(1, n // LEAST_CORE)
    return sorted({math.ceil(n / p): p for p in range(most, 0, -1)}.values())


def _halo(network: Network) -> Triple:
    k, j, i = network.tail_halo
    return (k + network.trunk_halo, j + network.trunk_halo, i + network.trunk_halo)


def _scratch_bytes(network: Network, shape_kji: Triple, parts: Triple, tile_kji: Triple) -> int:
    cores = [math.ceil(n / p) for n, p in zip(shape_kji, parts, strict=True)]
    k, j, i = (min(n, c + h * min(2, p - 1)) for n, c, h, p in zip(shape_kji, cores, _halo(network), parts, strict=True))
    image = k * j * i * 4 * (network.config.input_channels + 1)  # the piece, scaled, and what scaling it takes
    tile: Triple = tuple(map(min, cores, tile_kji))  # type: ignore[assignment]
    return image + max(network.trunk_bytes((k, j, i)), network.features_bytes((k, j, i)) + network.tail_bytes(tile))


def _computed_voxels(network: Network, shape_kji: Triple, parts: Triple) -> float:
    """Voxels that the trunk computes, mean over its convolutions; along K it leaves out what the later ones do not need."""
    total = 1.0
    for axis, (n, p, h) in enumerate(zip(shape_kji, parts, _halo(network), strict=True)):
        pieces = [_around(core, h if axis else h // 2, n) for core in _cut((0, n), p)]
        total *= sum(stop - start for start, stop in pieces)
    return total


def _cut(axis: tuple[int, int], parts: int) -> list[tuple[int, int]]:
    start, n = axis[0], axis[1] - axis[0]
    edges = [start + n * p // parts for p in range(parts + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _grid(box: Box, parts: Triple) -> Iterator[Box]:
    return itertools.product(*map(_cut, box, parts))  # type: ignore[arg-type]


def _around(axis: tuple[int, int], halo: int, n: int) -> tuple[int, int]:
    return max(0, axis[0] - halo), min(n, axis[1] + halo)


@dataclass
class RunInfo:
    """What was done: pieces and tiles computed, memory planned and allowed (bytes), and what happened when memory ran out."""

    pieces: int = 0
    tiles: int = 0
    planned_bytes: int = 0
    limit_bytes: int | None = None
    out_of_memory: list[str] = field(default_factory=list)


def run(
    network: Network,
    image: np.ndarray,
    *,
    mtf: Mtf = None,
    scale: IntensityScale | None = None,
    memory_limit: int | None = None,
    forced: Plan | None = None,
    on_progress: Callable[[float, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, RunInfo]:
    """Super-resolve `image` (K, J, I), or (C, K, J, I) for a network of several images; returns (fK*K, fJ*J, fI*I) float32.

    `scale` is applied to each piece and undone on its result. `memory_limit` bytes bound the resident memory of the
    process; None takes a share of what is free. `on_progress(done, total)` counts LR voxels; `cancelled()` is asked
    every few planes. Raises `ResourceError` (naming the least limit that would do) or `Cancelled`.
    """
    image = image if image.ndim == 4 else image[None]
    shape_kji: Triple = image.shape[1:]
    outputs = math.prod(n * f for n, f in zip(shape_kji, network.config.factors, strict=True))
    chosen = forced or affordable_plan(network, shape_kji, 4 * outputs, memory_limit)
    work = _Work(network, image, mtf, scale or IntensityScale(0, 1), on_progress, cancelled)
    work.info.limit_bytes, work.info.planned_bytes = memory_limit, chosen.scratch_bytes
    work.pieces(chosen)
    return work.output.numpy(), work.info


def affordable_plan(network: Network, shape_kji: Triple, output_bytes: int, memory_limit: int | None) -> Plan:
    """The plan for what the limit leaves beside what the process holds and the output. Raises `ResourceError`."""
    held = memory.resident_bytes()
    limit = memory_limit or held + int(SHARE_OF_FREE * memory.available_bytes())
    budget = limit - held - output_bytes - SAFETY_BYTES
    if network.device.type == "cuda":  # the pieces lie on the device; the host only holds the volumes
        free = torch.cuda.mem_get_info(network.device)[0] * 0.9
        chosen, need = plan(network, shape_kji, free), 0
    else:
        chosen = plan(network, shape_kji, budget)
        need = chosen.scratch_bytes
    if need > budget:
        size = " x ".join(map(str, shape_kji[::-1]))
        asked = "" if memory_limit is None else f"memory limit {memory.megabytes(memory_limit)}: "
        least = memory.megabytes((limit - budget + need) * 1.01)
        raise ResourceError(f"{asked}{size} voxels need at least {least} (--memory-limit {least}), {memory.megabytes(limit)} may be used")
    return chosen


class _Work:
    """One volume on its way through the network."""

    def __init__(self, network: Network, image: np.ndarray, mtf: Mtf, scale: IntensityScale, on_progress, cancelled) -> None:  # type: ignore[no-untyped-def]
        self.network, self.image, self.mtf, self.scale = network, image, mtf, scale
        self.shape_kji: Triple = image.shape[1:]  # type: ignore[assignment]
        self.on_progress, self.cancelled = on_progress, cancelled
        self.done, self.info = 0.0, RunInfo()
        hr = tuple(n * f for n, f in zip(self.shape_kji, network.config.factors, strict=True))
        self.output = torch.from_numpy(np.full(hr, self.scale.offset, np.float32))

    def pieces(self, chosen: Plan) -> None:
        waiting = list(reversed(chosen.cores))
        while waiting:
            core = waiting.pop()
            features = self._or_halves(core, waiting, self._trunk)
            if features is not None:
                self._tiles(core, chosen.tile_kji, *features)
            del features  # before the next piece asks for its own

    def _trunk(self, core: Box) -> tuple[Tensor, Tensor, Box]:
        """Features and image of the core with its halo, and the box that these cover."""
        box: Box = tuple(map(_around, core, _halo(self.network), self.shape_kji))  # type: ignore[assignment]
        crop = self.image[(slice(None), *(slice(*axis) for axis in box))]
        image = torch.from_numpy(np.ascontiguousarray(self.scale.apply(crop), np.float32))[None].to(self.network.device)
        keep = _around(core[0], self.network.tail_halo[0], self.shape_kji[0])
        before, share = self.done, _voxels(core) * self.network.trunk_share
        features = self.network.trunk(
            image, self.mtf, (keep[0] - box[0][0], keep[1] - box[0][0]), lambda part: self._tick(before + share * part)
        )
        self.info.pieces += 1
        return features, image[:, :1], box

    def _tiles(self, core: Box, tile_kji: Triple, features: Tensor, image: Tensor, box: Box) -> None:
        parts: Triple = tuple(math.ceil((stop - start) / t) for (start, stop), t in zip(core, tile_kji, strict=True))  # type: ignore[assignment]
        waiting = list(reversed(list(_grid(core, parts))))
        while waiting:
            tile = waiting.pop()
            share = self._or_halves(tile, waiting, lambda tile: self._tail(tile, features, image, box))
            if share is not None:
                self._add(share, tile)
                self._tick(self.done + _voxels(tile) * (1 - self.network.trunk_share))

    def _tail(self, tile: Box, features: Tensor, image: Tensor, box: Box) -> Tensor:
        reach: Box = tuple(map(_around, tile, self.network.tail_halo, self.shape_kji))  # type: ignore[assignment]
        window = (..., *(slice(start - origin, stop - origin) for (start, stop), (origin, _) in zip(reach, box, strict=True)))
        margins: Box = tuple((a - ra, rb - b) for (a, b), (ra, rb) in zip(tile, reach, strict=True))  # type: ignore[assignment]
        self.info.tiles += 1
        return self.network.tail(features[window], image[window], margins).cpu()

    def _add(self, share: Tensor, tile: Box) -> None:
        """A share begins and ends one HR voxel beyond its tile; what lies beyond the volume is dropped."""
        target, source = [], []
        for (start, stop), f, n in zip(tile, self.network.config.factors, self.output.shape, strict=True):
            a, b = max(0, start * f - 1), min(n, stop * f + 1)
            target.append(slice(a, b))
            source.append(slice(a - start * f + 1, b - start * f + 1))
        self.output[tuple(target)].add_(share[tuple(source)], alpha=self.scale.gain)

    def _tick(self, done: float) -> None:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("cancelled")
        self.done = done
        if self.on_progress is not None:
            self.on_progress(done, float(math.prod(self.shape_kji)))

    def _or_halves(self, box: Box, waiting: list[Box], work):  # type: ignore[no-untyped-def]
        """`work(box)`; where memory runs out, None, and the halves of the box go on the list of what waits."""
        done = self.done
        try:
            return work(box)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.done = done
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()
        sizes = tuple(stop - start for start, stop in box)
        axis = max(range(3), key=lambda a: sizes[a])
        if sizes[axis] < 2:
            raise ResourceError(f"memory ran out on {self.network.device} even in the smallest piece ({reason})")
        self.info.out_of_memory.append(f"memory ran out on {self.network.device} in a piece of {sizes} voxels: halved")
        parts: Triple = tuple(2 if a == axis else 1 for a in range(3))  # type: ignore[assignment]
        waiting += reversed(list(_grid(box, parts)))
        return None


def _voxels(box: Box) -> int:
    return math.prod(stop - start for start, stop in box)


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch says it in several ways, by device and version."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in ("out of memory", "can't allocate memory", "not enough memory", "could not create a memory"))
