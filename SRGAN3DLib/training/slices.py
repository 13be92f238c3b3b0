"""The training data of `fit`: one scan of thick slices, whose fine in-plane axes are the truth.

One of the two in-plane axes, blurred and thinned as the slices are, is the input. Patches are 3-D, and the two axes take turns. The third
axis of a patch is the slice axis, its slices as they are: coarser than the fine axis that lies there when the network runs, but as sharp
from one voxel to the next. docs/how-it-works.md holds what other ways to fill it gave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SRGAN3DLib.contract.configs import LARGEST_FACTOR, UNKNOWN_MTF, UNKNOWN_NOISE, Factors, TrainConfig
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.physics.degradations import FWHM_PER_SIGMA, AxisBlur
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.scans import Scan, truth_orders
from SRGAN3DLib.volumes.volume import Volume

from .datasets import FOREGROUND, Patch, TrainingSet, TrainingVolume, through

ISOTROPIC = 1.25  # slices no thicker than this, in in-plane voxels, hold nothing to learn from
LARGEST_PATCH, SMALLEST_PATCH = 20, 6
WIDTH_JITTER = 0.1  # of the slice profile: its width is never known exactly
ANY_NOISE = 0.05  # of bright tissue: the scan's noise is always the same, so what a network is told of it must not matter
TRIES = 30  # to find a place for a patch beside the block that is kept apart


@dataclass(frozen=True)
class Slices:
    """How a scan with its slices on K was sliced, and how finely it shall be; lengths in mm.

    One slice becomes `factor` slices. `thickness_mm` is the FWHM of a slice, `spacing_kji_mm` the spacing of the scan.
    """

    spacing_kji_mm: tuple[float, float, float]
    factor: int
    thickness_mm: float

    @staticmethod
    def of(volume: Volume, factor: int | None, thickness_mm: float | None) -> Slices:
        """Raises `VolumeError` for an isotropic scan, `JobError` for a factor or thickness that makes no sense."""
        spacing = volume.geometry.spacing_kji_mm
        fine = max(spacing[1:])
        if spacing[0] < ISOTROPIC * fine:
            shown = " x ".join(f"{s:.2f}" for s in sorted(spacing))
            raise VolumeError(
                f"{volume.path}: voxels of {shown} mm: no axis is thick against the two others, so there is nothing to learn from"
            )
        factor = min(LARGEST_FACTOR, max(2, round(spacing[0] / fine))) if factor is None else factor
        if not 2 <= factor <= LARGEST_FACTOR:
            raise JobError(f"factor {factor}: it must be 2 to {LARGEST_FACTOR}")
        thickness = spacing[0] if thickness_mm is None else thickness_mm
        if not 0.1 <= thickness / spacing[0] <= 4:
            raise JobError(f"thickness {thickness} mm of slices {spacing[0]:.2f} mm apart: it must be a tenth to four times their distance")
        return Slices(spacing, factor, thickness)

    @property
    def factors(self) -> Factors:
        return (self.factor, 1, 1)

    @property
    def width(self) -> float:
        """FWHM of a slice in slice spacings: below 1 there are gaps."""
        return self.thickness_mm / self.spacing_kji_mm[0]

    def step(self, axis: int) -> float:
        """In-plane voxels along `axis` in one of the fine slices; 1 where the two are about the same size."""
        step = self.spacing_kji_mm[0] / self.factor / self.spacing_kji_mm[axis]
        return step if step >= ISOTROPIC else 1.0

    @property
    def blur(self) -> AxisBlur:
        """The slice profile."""
        return AxisBlur("gaussian", self.width)

    def fine_rows(self, axis: int, n: int, phase: float = 0.0) -> np.ndarray:
        """(m, n): the in-plane axis as fine slices would show it; the identity where its own voxels are about that size.

        Where the fine slices are wider, each is a gaussian of FWHM one of them. `phase` (0 to 1) of a step shifts their grid.
        """
        step = self.step(axis)
        if step == 1:
            return np.eye(n)
        m = int(n / step - phase)
        centres = (np.arange(m)[:, None] + 0.5 + phase) * step - 0.5
        rows = np.exp(-0.5 * ((np.arange(n)[None] - centres) / (step / FWHM_PER_SIGMA)) ** 2)
        return np.asarray(rows / rows.sum(axis=1, keepdims=True))

    def coarse_rows(self, m: int, width: float) -> np.ndarray:
        """(m // factor, m): what slices of FWHM `width` (in slice spacings) make of m fine ones."""
        return AxisBlur("gaussian", width).matrix(m, self.factor)


@dataclass(frozen=True)
class Block:
    """A part of the plane, over all slices: rows `first_ji` up to, without, `end_ji`. No patch is cut from it: it judges the model."""

    first_ji: tuple[int, int]
    end_ji: tuple[int, int]

    @staticmethod
    def of(array: np.ndarray) -> Block:
        """The quarter of the head's box, (K, J, I) scaled to bright tissue = 1, that has the most usual share of tissue."""
        plane = (array > FOREGROUND).mean(axis=0)
        ranges = []
        for axis in (1, 0):
            rows = np.flatnonzero(plane.any(axis=axis))
            low, high = int(rows[0]), int(rows[-1]) + 1
            middle = (low + high) // 2
            ranges.append(((low, middle), (middle, high)))
        quarters = [Block((j[0], i[0]), (j[1], i[1])) for j in ranges[0] for i in ranges[1]]
        return min(
            quarters, key=lambda quarter: abs(float(plane[quarter.slices].mean() if plane[quarter.slices].size else 0) - plane.mean())
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        j, i = (slice(first, end) for first, end in zip(self.first_ji, self.end_ji, strict=True))
        return j, i

    def beside(self, axis: int, n: int) -> tuple[int, int]:
        """(first, end) of the longer of the two strips of array axis `axis`, of n voxels, that the block leaves free."""
        first, end = self.first_ji[axis - 1], self.end_ji[axis - 1]
        return (0, first) if first >= n - end else (end, n)

    def meets(self, ranges: dict[int, tuple[float, float]]) -> bool:
        """Whether a patch over `ranges` (array axis -> first, end, in voxels) has voxels of the block."""
        return all(ranges[axis][0] < self.end_ji[axis - 1] and ranges[axis][1] > self.first_ji[axis - 1] for axis in (1, 2))


class SlicePatches(TrainingSet):
    """Patches of one scan with its slices on K: LR is an in-plane axis degraded as the slices are, moved to the network's K.

    `array` is scaled to bright tissue = 1. The `block` is kept apart.
    """

    def __init__(self, config: TrainConfig, volume: Volume, slices: Slices, scan: Scan):
        self.config, self.slices, self.skipped = config, slices, []
        array = np.asarray(IntensityScale.fit(volume.array).apply(volume.array), np.float32)
        corners = np.argwhere(array[:, ::4, ::4] > FOREGROUND) * (1, 4, 4)
        if not len(corners):
            raise VolumeError(f"{volume.path}: nothing but background")
        self.block = Block.of(array)
        self.volumes = [TrainingVolume(scan, array, slices.spacing_kji_mm, corners, truth_orders((1, 2), slices.factors))]
        self.weights = np.ones(1)

    @property
    def array(self) -> np.ndarray:
        return self.volumes[0].array

    def _patch(self, rng: np.random.Generator) -> Patch:
        volume, slices, p = self.volumes[0], self.slices, self.config.patch
        order = volume.orders[rng.integers(len(volume.orders))]
        degraded = order[0]
        fine = slices.fine_rows(degraded, volume.array.shape[degraded], rng.random())
        coarse = slices.coarse_rows(len(fine), slices.width * rng.uniform(1 - WIDTH_JITTER, 1 + WIDTH_JITTER))
        start = self._place(degraded, len(coarse), rng)
        low: list[np.ndarray] = [np.eye(p, n, at) for n, at in zip(volume.array.shape, start, strict=True)]  # by array axis
        high = list(low)
        at = start[degraded]
        low[degraded], high[degraded] = coarse[at : at + p] @ fine, fine[at * slices.factor : (at + p) * slices.factor]
        flips = tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in range(3))
        lr, hr = (np.ascontiguousarray(through(volume.array, rows, 1e-4).transpose(order)[flips]) for rows in (low, high))
        return Patch(lr, hr, self._told(np.ones(3), rng), UNKNOWN_NOISE if rng.random() < 0.5 else ANY_NOISE * rng.random())

    def _place(self, degraded: int, coarse: int, rng: np.random.Generator) -> list[int]:
        """The first row along each array axis of a patch beside the block; along the `degraded` one it counts `coarse` rows."""
        volume, p = self.volumes[0], self.config.patch
        thinned = self.slices.factor * self.slices.step(degraded)  # voxels in one coarse row
        counts = [coarse if axis == degraded else n for axis, n in enumerate(volume.array.shape)]
        for _ in range(TRIES):
            at = volume.corners[rng.integers(len(volume.corners))] / np.array(volume.array.shape)  # 0 to 1
            start = [_start(x, n, p, rng) for x, n in zip(at, counts, strict=True)]
            ranges = {a: (s * thinned, (s + p + 1) * thinned) if a == degraded else (s, s + p) for a, s in enumerate(start)}
            if not self.block.meets(ranges):
                return start
        other = 3 - degraded
        first, end = self.block.beside(other, volume.array.shape[other])
        start[other] = first + int(rng.integers(max(1, end - first - p + 1)))
        return start

    def _told(self, mtf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the network is told of the blur: in half of the patches nothing, in the others any number.

        The slice profile is known and always the same, so the result must not depend on what `super-resolve` finds or is told.
        """
        mtf[0] = rng.random()
        return np.full(3, UNKNOWN_MTF) if rng.random() < 0.5 else mtf


def _start(at: float, n: int, patch: int, rng: np.random.Generator) -> int:
    """The first of `patch` rows of `n` about the place `at` (0 to 1)."""
    return int(np.clip(at * n - patch * rng.random(), 0, n - patch))


def patch_size(slices: Slices, volume: Volume, block: Block | None = None) -> int:
    """LR voxels along each side: as large as fits beside the block, whichever in-plane axis is degraded. Raises `VolumeError`."""
    shape = volume.array.shape
    coarse = [len(slices.fine_rows(axis, shape[axis], 1.0)) // slices.factor for axis in (1, 2)]
    strips = [end - first for first, end in (block.beside(axis, shape[axis]) for axis in (1, 2))] if block is not None else []
    size = min(LARGEST_PATCH, *coarse, *strips, *shape)
    if size < SMALLEST_PATCH:
        raise VolumeError(
            f"{volume.path}: {shape} voxels, slices first, hold no patch of {SMALLEST_PATCH} slices thinned by {slices.factor}"
            + (" beside the quarter of the plane that judges the model" if block is not None else "")
        )
    return size
