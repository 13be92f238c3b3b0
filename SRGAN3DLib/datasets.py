"""Volumes to patches: scans on disk -> training volumes in memory -> batches of (LR, HR, MTF), made on the fly.

Batch number s is a pure function of (seed, s): a resumed run sees the very batches of an unbroken one, and the state of the
sampler is the step number.
"""

from __future__ import annotations

import csv
import itertools
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .configs import UNKNOWN_MTF, Factors, TrainConfig
from .degradations import AxisBlur, Draw, sample
from .errors import SRGAN3DError, VolumeError
from .intensity import IntensityScale
from .volume import Volume, list_volumes

COARSER = (1.0, 1.2, 1.45)  # each scan is also seen at these spacings, as long as it stays below ...
COARSEST_MM = 1.35
COLUMNS = ("file", "subject", "contrast", "licence", "truth_axes")  # of a volumes.csv; others are not looked at
FOREGROUND = 0.1  # of bright tissue, as in the head mask


@dataclass(frozen=True)
class Scan:
    """A scan on disk. `truth_kji`: the array axes on which it is ground truth at its own spacing."""

    path: Path
    subject: str
    contrast: str = ""
    licence: str = ""
    truth_kji: tuple[int, ...] = (0, 1, 2)


def find_scans(data: str | Path) -> list[Scan]:
    """The scans of a folder, sorted by path; subject, contrast, licence and true axes from a `volumes.csv` in it or just above it."""
    data = Path(data)
    if not data.exists():
        raise VolumeError(f"{data}: no such folder")
    files = (
        [data]
        if data.is_file()
        else sorted({*list_volumes(data), *(p for s in sorted(data.iterdir()) if s.is_dir() for p in list_volumes(s))})
    )
    rows: dict[Path, dict[str, str]] = {}
    for folder in (data, *data.resolve().parents[:2]):
        table = folder / "volumes.csv"
        if table.is_file():
            rows = {(folder / row["file"]).resolve(): row for row in _read_table(table)}
            break
    return [_scan(path, rows.get(path.resolve())) for path in files]


def _read_table(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise VolumeError(f"{table}: has no column {missing[0]!r}; wanted are {', '.join(COLUMNS)}")
            return [{name: row[name] or "" for name in COLUMNS} for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise VolumeError(f"{table}: cannot be read ({error})") from None


def _scan(path: Path, row: dict[str, str] | None) -> Scan:
    if row is None:
        return Scan(path, path.name.split("_")[0].split(".")[0])
    truth = tuple(sorted(2 - int(axis) for axis in row["truth_axes"].split(",") if axis.strip().isdigit()))
    return Scan(path, row["subject"], row["contrast"], row["licence"], truth)


@dataclass(frozen=True)
class TrainingVolume:
    """One scan at one spacing, scaled to bright tissue = 1. `corners`: coarse positions of anatomy, (n, 3)."""

    scan: Scan
    array: np.ndarray
    spacing_mm: tuple[float, ...]
    corners: np.ndarray
    orders: tuple[tuple[int, int, int], ...]


def orders_allowed(truth_kji: tuple[int, ...], factors: Factors) -> tuple[tuple[int, int, int], ...]:
    """The ways to lay the array's axes onto the network's so that every enlarged axis is ground truth."""
    ways = itertools.permutations(range(3))
    return tuple(way for way in ways if all(f == 1 or axis in truth_kji for f, axis in zip(factors, way, strict=True)))  # type: ignore[misc]


class TrainingSet:
    """The scans fit for training by `config`, in memory; `skipped` lists (file, reason) of the others."""

    def __init__(self, config: TrainConfig):
        self.config = config
        self.volumes: list[TrainingVolume] = []
        self.skipped: list[tuple[Path, str]] = []
        for scan in find_scans(config.data):
            self._add(scan)
        if not self.volumes:
            reasons = "; ".join(f"{path.name}: {why}" for path, why in self.skipped[:3])
            raise VolumeError(
                f"{config.data}: no scan fit for training with factors {config.generator.factors} ({reasons or 'it holds none'})"
            )
        sizes = np.sqrt([len(volume.corners) for volume in self.volumes])
        self.weights = sizes / sizes.sum()

    def _add(self, scan: Scan) -> None:
        factors, patch = self.config.generator.factors, self.config.patch
        orders = orders_allowed(scan.truth_kji, factors)
        if not orders:
            self.skipped.append((scan.path, f"ground truth on axes {scan.truth_kji} of (K, J, I) only"))
            return
        try:
            volume = Volume.read(scan.path)
        except SRGAN3DError as error:
            self.skipped.append((scan.path, str(error)))
            return
        whole = np.asarray(IntensityScale.fit(volume.array).apply(volume.array), np.float32)
        spacing = np.asarray(volume.geometry.spacing_kji_mm)
        for scale in COARSER:
            if scale > 1 and (len(scan.truth_kji) < 3 or max(spacing) * scale > COARSEST_MM):
                continue
            array = whole if scale == 1 else coarsen(whole, scale)
            fits = tuple(way for way in orders if all(array.shape[axis] >= patch * f for f, axis in zip(factors, way, strict=True)))
            corners = _anatomy(array)
            if fits and len(corners):
                self.volumes.append(TrainingVolume(scan, array, tuple(float(s) * scale for s in spacing), corners, fits))
            elif scale == 1:
                self.skipped.append((scan.path, f"{array.shape} (K, J, I) holds no patch of {patch} LR voxels with anatomy"))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """LR (N, 1, p, p, p), HR (N, 1, fK*p, fJ*p, fI*p), MTF (N, 3), all float32; the same for the same seed and step."""
        rng = np.random.default_rng([self.config.seed, step])
        patches = [self._patch(rng) for _ in range(self.config.batch)]
        lr, hr, mtf = (np.stack(part) for part in zip(*patches, strict=True))
        return lr[:, None], hr[:, None], mtf.astype(np.float32)

    def _patch(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        config = self.config
        volume = self.volumes[rng.choice(len(self.volumes), p=self.weights)]
        way = volume.orders[rng.integers(len(volume.orders))]
        draw = sample(config.degradation.kind, config.generator.factors, rng, config.degradation.noise)
        blurs = [draw.degradation.blurs[way.index(axis)] for axis in range(3)]  # of the array's own axes
        factors = [config.generator.factors[way.index(axis)] for axis in range(3)]
        middle = volume.corners[rng.integers(len(volume.corners))] + rng.integers(0, _STRIDE, 3)
        start = []
        for n, f, at in zip(volume.array.shape, factors, middle, strict=True):
            start.append(int(np.clip(at // f - config.patch // 2, 0, n // f - config.patch)))
        lr = degrade_patch(volume.array, blurs, factors, start, config.patch)
        hr = volume.array[tuple(slice(s * f, (s + config.patch) * f) for s, f in zip(start, factors, strict=True))]
        lr, hr = _bias(draw, volume.array.shape, factors, start, lr, hr)
        lr, hr = lr.transpose(way), hr.transpose(way)
        flips = tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in range(3))
        gain = float(rng.uniform(0.8, 1.2))
        lr = np.ascontiguousarray(draw.add_noise(np.asarray(lr[flips] * gain, np.float32), rng))
        return lr, np.ascontiguousarray(hr[flips] * np.float32(gain)), self._told(np.array(draw.degradation.mtf), rng)

    def _told(self, mtf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the network is told: sometimes nothing, else the blur's MTF with the error an estimate has, mostly common to the axes."""
        unknown, spread = rng.random() < self.config.unknown_blur, rng.uniform(0, self.config.mtf_error)
        told = np.clip(mtf + rng.normal(0, spread) + rng.normal(0, spread / 2, 3), 0, 1)
        return np.full(3, UNKNOWN_MTF) if unknown else told

    def batches(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
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
                    put(self.batch(step))
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


def degrade_patch(array: np.ndarray, blurs: list[AxisBlur], factors: list[int], start: list[int], patch: int) -> np.ndarray:
    """The LR patch at `start`, exactly as it would be cut from the degraded whole volume, at a fraction of the work."""
    work = []
    for axis, (blur, f, s) in enumerate(zip(blurs, factors, start, strict=True)):
        rows = blur.matrix(array.shape[axis], f)[s : s + patch]
        columns = np.flatnonzero(np.abs(rows).max(axis=0) > 1e-7)
        first, last = columns[0], columns[-1] + 1
        work.append((len(rows) / (last - first), axis, slice(first, last), np.asarray(rows[:, first:last], np.float32)))
    array = array[tuple(item[2] for item in work)]
    for _, axis, _, rows in sorted(work, key=lambda item: (item[0], item[1])):
        array = np.moveaxis(np.tensordot(rows, array, axes=(1, axis)), 0, axis)
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

    for axis, n in enumerate(array.shape):
        array = resample(array, round(n / scale), axis=axis)
    return np.ascontiguousarray(array, np.float32)


_STRIDE = 8


def _anatomy(array: np.ndarray) -> np.ndarray:
    """(n, 3) corners of the cells of `_STRIDE`^3 voxels in which anatomy begins."""
    coarse = array[tuple(slice(_STRIDE // 2, None, _STRIDE) for _ in range(3))]
    return np.argwhere(coarse > FOREGROUND) * _STRIDE
