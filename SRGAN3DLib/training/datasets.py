"""Volumes to patches: scans on disk -> training volumes in memory -> batches of (LR, HR, MTF, noise), made on the fly.

Patch p of batch s is a pure function of (seed, s, p): a resumed run sees the very batches of an unbroken one, the ranks of a run
share the patches of a batch out among them, and the state of the sampler is the step number.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from SRGAN3DLib.contract.configs import UNKNOWN_MTF, UNKNOWN_NOISE, TrainConfig
from SRGAN3DLib.contract.errors import ResourceError, SRGAN3DError, VolumeError
from SRGAN3DLib.contract.job_values import DEGRADATIONS
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.inference.memory import available_bytes, megabytes
from SRGAN3DLib.physics.degradations import AxisBlur, Draw, sample
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.geometry import Geometry
from SRGAN3DLib.volumes.scans import Scan, find_scans, in_truth_order, no_order, thin_axes, truth_orders

from .split import NAME as SPLIT
from .split import Member, Split

WHOLE_BAND_AT = 2.0  # coarser by this, an axis that was interpolated or zero-filled is ground truth again
ALL = slice(None)
Curve = Callable[[np.ndarray], np.ndarray]
FOREGROUND = 0.1  # of bright tissue, as in the head mask


class Batch(NamedTuple):
    """LR (N, 1, p, p, p), HR (N, 1, fK*p, fJ*p, fI*p), and what the network is told: MTF (N, 3), noise (N,); all float32.

    The noise is its standard deviation in the unit of the image; `UNKNOWN_MTF` and `UNKNOWN_NOISE` stand for what it is not told.
    """

    lr: np.ndarray
    hr: np.ndarray
    mtf: np.ndarray
    noise: np.ndarray


class Patch(NamedTuple):
    """One member of a `Batch`, without the batch axis: LR (p, p, p), HR, MTF (3,), noise."""

    lr: np.ndarray
    hr: np.ndarray
    mtf: np.ndarray
    noise: float


@dataclass(frozen=True)
class TrainingVolume:
    """One scan at one spacing, scaled to bright tissue = 1. `corners`: coarse positions of anatomy, (n, 3)."""

    scan: Scan
    array: np.ndarray
    spacing_mm: tuple[float, ...]
    corners: np.ndarray
    orders: tuple[tuple[int, int, int], ...]


class TrainingSet:
    """The scans fit for training by `config`, in memory, and the `cases` that judge; `skipped`: (file, reason) of all others.

    Raises `VolumeError` if no scan is fit (or a scan of a run begun before is gone), `ResourceError` if they do not fit into memory.
    """

    split: Split | None = None
    cases: Sequence[Case] = ()
    notes: Sequence[str] = ()  # what is worth a warning

    def __init__(self, config: TrainConfig, cancelled: Callable[[], bool] = lambda: False):
        self.config = config
        self.volumes: list[TrainingVolume] = []
        self.skipped: list[tuple[Path, str]] = []
        self._grids: dict[Path, Geometry] = {}
        members = [self._member(scan, "data") for scan in find_scans(config.data, subject_pattern=config.subject_pattern)]
        if config.validation:
            members += [self._member(scan, "validation") for scan in find_scans(config.validation, subject_pattern=config.subject_pattern)]
        self.split = Split(members, Path(config.out) / SPLIT, config.seed, config.validation_share)
        self._check_memory()
        self.split.try_each("train", self._add, cancelled)
        self._check_some("train", config.data, "training")
        self.split.try_each("validation", self._add_cases, cancelled)
        if config.validation or config.validation_share:
            self._check_some("validation", config.validation or config.data, "validation")
        sizes = np.sqrt([len(volume.corners) for volume in self.volumes])
        self.weights = sizes / sizes.sum()

    def write_split(self) -> None:
        """RUN/split.json, where the run begins."""
        if self.split is not None:
            self.split.write()

    def subjects_table(self) -> list[str]:
        """Lines that show whose scans these are, and on which side of the split."""
        return self.split.table() if self.split is not None else []

    def _member(self, scan: Scan, source: str) -> Member:
        """Its role as far as its header tells."""
        member = Member(scan, source, "train" if source == "data" else "validation")
        try:
            geometry = scan.geometry()
        except SRGAN3DError as error:
            return member.skipped(str(error))
        self._grids[scan.path] = geometry
        if source == "data" and not self._levels(scan, geometry):
            return member.skipped(f"{scan.path}: {self._unfit(scan, geometry)}")
        return member

    def _levels(self, scan: Scan, geometry: Geometry) -> dict[float, tuple[tuple[int, int, int], ...]]:
        """The spacings it is seen at, as multiples of its own, each with the ways to lay its axes in which a patch fits."""
        factors, spacing = self.config.generator.factors, geometry.spacing_kji_mm
        levels = {}
        for scale in self.config.coarser:
            truth = scan.truth(spacing) if scale < WHOLE_BAND_AT else thin_axes(spacing)
            if scale > 1 and (len(truth) < 3 or max(spacing) * scale > self.config.coarsest_mm):
                continue
            shape = _coarser_shape(geometry.shape_kji, scale)
            orders = truth_orders(truth, factors)
            fits = [way for way in orders if all(shape[axis] >= self.config.patch * f for f, axis in zip(factors, way, strict=True))]
            if fits:
                levels[scale] = tuple(fits)
        return levels

    def _unfit(self, scan: Scan, geometry: Geometry) -> str:
        factors, spacing = self.config.generator.factors, geometry.spacing_kji_mm
        if not truth_orders(scan.truth(spacing), factors):
            return no_order(scan, spacing, factors)
        return f"{geometry.shape_kji} (K, J, I) holds no patch of {self.config.patch} LR voxels with anatomy"

    def _check_memory(self) -> None:
        """One line now rather than the system's kill later: what will be held, and four copies of the largest while it is read."""
        assert self.split is not None
        voxels, largest, box = 0, 0, self.config.validation_box**3
        for member in self.split.of("train"):
            geometry = self._grids[member.scan.path]
            voxels += sum(math.prod(_coarser_shape(geometry.shape_kji, scale)) for scale in self._levels(member.scan, geometry))
            largest = max(largest, math.prod(geometry.shape_kji))
        need = 4 * (voxels + 4 * largest + 3 * box * len(self.split.of("validation")))
        if need > (have := available_bytes()):
            what = f"{self.config.data}: its {len(self.split.of('train'))} scans fit for training"
            raise ResourceError(f"{what} take {megabytes(need)} of memory, {megabytes(have)} are free; name fewer")

    def _check_some(self, role: str, data: str, purpose: str) -> None:
        assert self.split is not None
        self.skipped = [(member.scan.path, member.reason) for member in self.split.of("skipped")]
        if not self.split.of(role):
            factors, reasons = self.config.generator.factors, "; ".join(why for _, why in self.skipped[:3])
            raise VolumeError(f"{data}: no scan fit for {purpose} with factors {factors} ({reasons or 'it holds none'})")

    def _add(self, scan: Scan) -> None:
        volume = scan.read()
        whole = np.asarray(IntensityScale.fit(volume.array).apply(volume.array), np.float32)
        found = []
        for scale, orders in self._levels(scan, volume.geometry).items():
            array = whole if scale == 1 else coarsen(whole, scale)
            spacing = tuple(mm * scale for mm in volume.geometry.spacing_kji_mm)
            corners = _anatomy(array)
            if len(corners):
                found.append(TrainingVolume(scan, array, spacing, corners, orders))
        if not found:
            raise VolumeError(f"{scan.path}: {self._unfit(scan, volume.geometry)}")
        self.volumes += found

    def _add_cases(self, scan: Scan) -> None:
        cases, warnings = cases_of(scan, self.config)
        self.cases = [*self.cases, *cases]
        self.notes = [*self.notes, *(f"{scan.path}: {warning}" for warning in warnings)]

    def batch(self, step: int, share: slice = ALL) -> tuple[np.ndarray, ...]:
        """The patches `share` of the step's batch, as a `Batch`."""
        numbers = range(self.config.batch)[share]
        patches = [self._patch(np.random.default_rng([self.config.seed, step, number])) for number in numbers]
        lr, hr, mtf, noise = (np.stack(part) for part in zip(*patches, strict=True))
        return Batch(lr[:, None], hr[:, None], mtf.astype(np.float32), noise.astype(np.float32))

    def _patch(self, rng: np.random.Generator) -> Patch:
        config = self.config
        volume = self.volumes[rng.choice(len(self.volumes), p=self.weights)]
        way = volume.orders[rng.integers(len(volume.orders))]
        draw = sample(config.degradation.kind, config.generator.factors, rng, config.degradation.noise, config.noise)
        blurs = [draw.degradation.blurs[way.index(axis)] for axis in range(3)]  # of the array's own axes
        factors = [config.generator.factors[way.index(axis)] for axis in range(3)]
        middle = volume.corners[rng.integers(len(volume.corners))] + rng.integers(0, _STRIDE, 3)
        start = []
        for n, f, at in zip(volume.array.shape, factors, middle, strict=True):
            start.append(int(np.clip(at // f - config.patch // 2, 0, n // f - config.patch)))
        curve = other_contrast(rng) if config.other_contrast and rng.random() < config.other_contrast else None
        lr = degrade_patch(volume.array, blurs, factors, start, config.patch, curve)
        hr = volume.array[tuple(slice(s * f, (s + config.patch) * f) for s, f in zip(start, factors, strict=True))]
        hr = hr if curve is None else curve(hr)
        lr, hr = _bias(draw, volume.array.shape, factors, start, lr, hr)
        lr, hr = lr.transpose(way), hr.transpose(way)
        flips = tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in range(3))
        gain = float(rng.uniform(1 - config.gain_spread, 1 + config.gain_spread))
        lr = np.ascontiguousarray(draw.add_noise(np.asarray(lr[flips] * gain, np.float32), rng))
        hr = np.ascontiguousarray(hr[flips] * np.float32(gain))
        return Patch(lr, hr, self._told(np.array(draw.degradation.mtf), rng), self._told_noise(draw.noise, rng))

    def _told(self, mtf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the network is told: sometimes nothing, else the blur's MTF with the error an estimate has, mostly common to the axes."""
        unknown, spread = rng.random() < self.config.unknown_blur, rng.uniform(0, self.config.mtf_error)
        told = np.clip(mtf + rng.normal(0, spread) + rng.normal(0, spread / 2, 3), 0, 1)
        return np.full(3, UNKNOWN_MTF) if unknown else told

    def _told_noise(self, level: float, rng: np.random.Generator) -> float:
        """What the network is told: sometimes nothing, else the noise's standard deviation with the error that an estimate has."""
        if not self.config.generator.noise_aware:
            return UNKNOWN_NOISE
        noise = self.config.noise
        unknown, error, floor = rng.random() < noise.unknown, rng.normal(0, noise.error), abs(rng.normal(0, noise.floor))
        return UNKNOWN_NOISE if unknown else max(0.0, level * (1 + error) + floor)

    def batches(self, start: int, stop: int, share: slice = ALL) -> Iterator[tuple[np.ndarray, ...]]:
        """Batches start ... stop - 1, two ahead, made in a thread of their own; an error in it is raised here."""
        ready: queue.Queue = queue.Queue(maxsize=2)
        ended = threading.Event()

        def put(item: object) -> None:
            while not ended.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def work() -> None:
            try:
                for step in range(start, stop):
                    if ended.is_set():
                        return
                    put(self.batch(step, share))
            except BaseException as error:  # handed to the consumer, who raises it
                put(error)

        threading.Thread(target=work, name="batches", daemon=True).start()
        try:
            for _ in range(start, stop):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            ended.set()


def cases_of(scan: Scan, config: TrainConfig) -> tuple[list[Case], list[str]]:
    """The scan's central box under the three degradations of the protocol (or the one trained for), and warnings about its axes."""
    box, factors, kind = config.validation_box, config.generator.factors, config.degradation.kind
    volume, _, warnings = in_truth_order(scan, scan.read(), factors)
    middle = tuple(slice(max(0, (n - box) // 2), max(0, (n - box) // 2) + box) for n in volume.array.shape)
    array = volume.array[middle].copy()  # the rest of the scan need not be kept
    kinds = DEGRADATIONS if kind == "random" else (kind,)
    return [Case.make(scan.name, array, factors, name, noise) for noise in config.validation_noise for name in kinds], warnings


def other_contrast(rng: np.random.Generator) -> Curve:
    """A curve from intensity to intensity that keeps air at 0: mostly a gamma of 0.6 to 1.7, sometimes bright tissue made dark."""
    gamma, inverted = float(np.exp(rng.uniform(-0.5, 0.5))), rng.random() < 0.3

    def curve(array: np.ndarray) -> np.ndarray:
        power = np.clip(array, 0, 2) ** np.float32(gamma)
        return np.asarray(np.clip(array / 0.3, 0, 1) * np.clip(1.1 - power, 0, None) if inverted else power, np.float32)

    return curve


def degrade_patch(
    array: np.ndarray, blurs: list[AxisBlur], factors: list[int], start: list[int], patch: int, curve: Curve | None = None
) -> np.ndarray:
    """The LR patch at `start`, exactly as it would be cut from the degraded whole volume, at a fraction of the work.

    `curve`, if given, changes the intensities of `array` first.
    """
    rows = [blur.matrix(n, f)[s : s + patch] for n, blur, f, s in zip(array.shape, blurs, factors, start, strict=True)]
    return through(array, rows, 1e-7, curve)


def through(array: np.ndarray, rows: list[np.ndarray], least: float, curve: Curve | None = None) -> np.ndarray:
    """One matrix an axis applied to (K, J, I), only to what they need of it (weights above `least`); the one that shrinks most first."""
    work = []
    for axis, matrix in enumerate(rows):
        columns = np.flatnonzero(np.abs(matrix).max(axis=0) > least)
        first, last = columns[0], columns[-1] + 1
        work.append((len(matrix) / (last - first), axis, slice(first, last), np.asarray(matrix[:, first:last], np.float32)))
    array = array[tuple(part for _, _, part, _ in work)]
    array = array if curve is None else curve(array)
    for _, axis, _, matrix in sorted(work, key=lambda item: item[:2]):
        array = np.moveaxis(np.tensordot(matrix, array, axes=(1, axis)), 0, axis)
    return array


def _bias(
    draw: Draw, shape: tuple[int, ...], factors: list[int], start: list[int], lr: np.ndarray, hr: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A smooth field over the whole volume, on both grids: it varies so slowly that it passes through the blur."""
    if not draw.bias:
        return lr, hr
    low, high = [], []
    for n, f, s, m in zip(shape, factors, start, lr.shape, strict=True):
        low.append(((np.arange(m) + s + 0.5) * f / n * 2 - 1).astype(np.float32))
        high.append(((np.arange(m * f) + s * f + 0.5) / n * 2 - 1).astype(np.float32))
    return lr * draw.bias_field(*low), hr * draw.bias_field(*high)


def coarsen(array: np.ndarray, scale: float) -> np.ndarray:
    """The same head at a wider spacing, its band cut off sharply as a scanner would: a true scan of fewer voxels."""
    from scipy.signal import resample

    for axis, n in enumerate(_coarser_shape(array.shape, scale)):
        array = resample(array, n, axis=axis)
    return np.ascontiguousarray(array, np.float32)


def _coarser_shape(shape: tuple[int, ...], scale: float) -> tuple[int, ...]:
    return tuple(round(n / scale) for n in shape)


_STRIDE = 8


def _anatomy(array: np.ndarray) -> np.ndarray:
    """(n, 3) corners of the cells of `_STRIDE`^3 voxels in which anatomy begins."""
    coarse = array[tuple(slice(_STRIDE // 2, None, _STRIDE) for _ in range(3))]
    return np.argwhere(coarse > FOREGROUND) * _STRIDE
