"""Pairs to patches: subjects on disk -> laid pairs in memory -> batches of (inputs, target, weight), changed on the fly.

Patch p of batch s is a pure function of (seed, s, p), as in `datasets`. What changes contrast, sharpness and noise changes the inputs
only: the target stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import TrainConfig
from SRGAN3DLib.contract.errors import ResourceError, VolumeError
from SRGAN3DLib.contract.synthesis import SynthesisConfig
from SRGAN3DLib.evaluation.synthesis import best_mapping
from SRGAN3DLib.inference.memory import available_bytes, megabytes
from SRGAN3DLib.volumes.pairs import Pair, find_pairs

from .datasets import ALL, TrainingSet
from .laid_pair import LaidPair, lay_pair
from .pair_checks import PairCheck, check_pair
from .pair_report import overlay
from .split import NAME as SPLIT
from .split import Member, Split

INSIDE = 0.85  # of the patches have their middle inside the mask


@dataclass(frozen=True)
class PairedCase:
    """A validation subject: a box of it, and the error that the best mapping of one input's intensity leaves there."""

    name: str
    degradation: str  # the output's contrast: what `validation.summary` groups by
    inputs: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    mae_mapping: float

    @staticmethod
    def make(laid: LaidPair, contrast: str, box: int, coarse: Sequence[int]) -> PairedCase:
        """The central `box` voxels, cut to a multiple of the network's cells."""
        shape, fine = laid.inputs.shape[1:], laid.target.shape
        cut = [min(n, box) // c * c for n, c in zip(shape, coarse, strict=True)]
        starts = [(n - m) // 2 for n, m in zip(shape, cut, strict=True)]
        low = tuple(slice(s, s + m) for s, m in zip(starts, cut, strict=True))
        high = tuple(slice(s * (f // n), (s + m) * (f // n)) for s, m, n, f in zip(starts, cut, shape, fine, strict=True))
        mask, target, inputs = laid.known[high], laid.target[high], all_images(laid.inputs, low)
        if not mask.any():
            raise VolumeError(f"{laid.pair.target}: subject {laid.pair.subject}: nothing of the mask lies in its middle {box} voxels")
        grown = [np.kron(image, np.ones([t // n for t, n in zip(target.shape, image.shape, strict=True)])) for image in inputs]
        errors = [np.abs(best_mapping(image[mask], target[mask]) - target[mask]).mean() for image in grown]
        return PairedCase(laid.pair.subject, contrast, inputs, target, mask, float(min(errors)))


class PairedSet(TrainingSet):
    """The subjects fit for training by `config` (its `data` names the pairs), in memory, and the cases that judge."""

    def __init__(self, config: TrainConfig, cancelled: Callable[[], bool] = lambda: False):
        if config.synthesis is None:
            raise VolumeError(f"{config.data}: pairs need a synthesis configuration")
        self.config, self.synthesis = config, config.synthesis
        self.pairs: list[LaidPair] = []
        self.checks: list[PairCheck] = []
        self.overlays: dict[str, np.ndarray] = {}  # of every pair that could be laid on one grid, by subject
        self.skipped = []
        self.cases: list[Any] = []
        names, column = tuple(image.name for image in self.synthesis.inputs), target_column(config)
        members = [_member(pair, "data") for pair in find_pairs(config.data, names, column)]
        if config.validation:
            members += [_member(pair, "validation") for pair in find_pairs(config.validation, names, column)]
        self.split = Split(members, Path(config.out) / SPLIT, config.seed, config.validation_share)
        self.split.try_each("train", self._add_pair, cancelled)
        self.split.try_each("validation", self._add_case, cancelled)
        self.skipped = [(member.scan.path, member.reason) for member in self.split.of("skipped")]
        for role in ("train", *(("validation",) if config.validation or config.validation_share else ())):
            if not self.split.of(role):
                reasons = "; ".join(why for _, why in self.skipped[:3]) or "it holds none"
                raise VolumeError(f"{config.validation or config.data}: no pair fit for {role} ({reasons})")
        self.patch_kji = self._patch_size()
        self._check_fits()

    def _patch_size(self) -> tuple[int, int, int]:
        """The patch wanted, or what the smallest pair holds of it, in whole cells. Raises `VolumeError` below 4 voxels."""
        coarse = self.config.generator.coarse
        smallest = np.min([laid.inputs.shape[1:] for laid in self.pairs], axis=0)
        k, j, i = (int(min(p, n)) // c * c for p, n, c in zip(self.synthesis.patch_kji, smallest, coarse, strict=True))
        if min(k, j, i) < 4:
            raise VolumeError(f"{self.config.data}: the smallest pair has {tuple(smallest)} voxels (K, J, I), too few for a patch")
        return (k, j, i)

    def _check_fits(self) -> None:
        if available_bytes() < 2**28:
            raise ResourceError(f"{self.config.data}: the pairs leave {megabytes(available_bytes())} of memory free; name fewer")

    def _lay(self, pair: Any) -> LaidPair:
        laid = lay_pair(pair, self.synthesis, self.config.generator.factors)
        check = check_pair(laid)
        self.checks.append(check)
        self.overlays[pair.subject] = overlay(laid)
        if check.fault:
            raise VolumeError(f"{pair.target}: subject {pair.subject}: {check.fault}")
        return laid

    def _add_pair(self, pair: Any) -> None:
        self.pairs.append(self._lay(pair))

    def _add_case(self, pair: Any) -> None:
        laid = self._lay(pair)
        config = self.config
        self.cases.append(PairedCase.make(laid, self.synthesis.output.contrast, config.validation_box, config.generator.coarse))

    def batch(self, step: int, share: slice = ALL) -> tuple[np.ndarray, ...]:
        """Inputs (N, C, k, j, i), target and weight (N, 1, fK*k, fJ*j, fI*i), float32: the patches `share` of the step's batch."""
        numbers = range(self.config.batch)[share]
        patches = [self._paired_patch(np.random.default_rng([self.config.seed, step, number])) for number in numbers]
        inputs, target, weight = (np.stack(part) for part in zip(*patches, strict=True))
        return inputs, target[:, None], weight[:, None]

    def _paired_patch(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        laid, factors = self.pairs[rng.integers(len(self.pairs))], self.config.generator.factors
        shape = laid.inputs.shape[1:]
        start = _start(laid, self.patch_kji, factors, rng)
        low = tuple(slice(s, s + p) for s, p in zip(start, self.patch_kji, strict=True))
        high = tuple(slice(s * f, (s + p) * f) for s, p, f in zip(start, self.patch_kji, factors, strict=True))
        axes = {"all": (0, 1, 2), "left-right": (2,), "none": ()}[self.synthesis.flips]
        flipped = tuple(axis for axis in axes if rng.random() < 0.5)
        inputs = changed(all_images(laid.inputs, low), [(s, n) for s, n in zip(start, shape, strict=True)], self.synthesis, rng)
        images = (np.flip(inputs, tuple(a + 1 for a in flipped)), np.flip(laid.target[high], flipped), np.flip(laid.weight[high], flipped))
        inputs, target, weight = (np.ascontiguousarray(image, np.float32) for image in images)
        return inputs, target, weight


def all_images(inputs: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """The box (K, J, I) of every image of (C, K, J, I)."""
    k, j, i = box
    return inputs[:, k, j, i]


def target_column(config: TrainConfig) -> str:
    """What `find_pairs` is asked for: a table's column `target`, SynthRAD's and BIDS's file of the output's contrast."""
    assert config.synthesis is not None
    return "" if Path(config.data).is_file() else config.synthesis.output.contrast


def _member(pair: Pair, source: str) -> Member:
    member = Member(pair, source, "train" if source == "data" else "validation")
    return member.skipped(pair.problem) if pair.problem else member


def _start(laid: LaidPair, patch: tuple[int, int, int], factors: tuple[int, int, int], rng: np.random.Generator) -> list[int]:
    """The patch's first voxel (K, J, I): about a voxel of the mask, or anywhere."""
    shape = laid.inputs.shape[1:]
    if rng.random() < INSIDE:
        places = np.flatnonzero(laid.mask.any(axis=(1, 2)))
        k = int(rng.choice(places))
        rows, columns = np.nonzero(laid.mask[k])
        one = rng.integers(len(rows))
        middle = [v // f for v, f in zip((k, int(rows[one]), int(columns[one])), factors, strict=True)]
    else:
        middle = [int(rng.integers(n)) for n in shape]
    return [int(np.clip(m - p // 2, 0, n - p)) for m, p, n in zip(middle, patch, shape, strict=True)]


def changed(inputs: np.ndarray, places: list[tuple[int, int]], config: SynthesisConfig, rng: np.random.Generator) -> np.ndarray:
    """The inputs as another scanner might have made them: contrast, bias field, blur, noise; (C, k, j, i) float32, each image by itself.

    `places`: the patch's first voxel and the volume's size along each axis, for a field that is smooth over the whole volume.
    """
    from scipy import ndimage

    made = np.empty_like(inputs)
    for channel, image in enumerate(inputs):
        spread = config.contrast_spread
        gain, gamma = rng.uniform(1 - spread, 1 + spread), rng.uniform(1 - spread, 1 + spread)
        image = np.sign(image) * np.abs(image) ** np.float32(gamma) * np.float32(gain)
        if config.bias:
            image = image * _bias_field(image.shape, places, config.bias, rng)
        if rng.random() < config.blurred:
            image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.8))
        if config.noise:
            level = np.float32(rng.uniform(0, config.noise) * (rng.random() < 0.5))
            image = image + level * rng.standard_normal(image.shape, np.float32) * (image != 0)
        made[channel] = image
    return made


def _bias_field(shape: Sequence[int], places: list[tuple[int, int]], most: float, rng: np.random.Generator) -> np.ndarray:
    """exp of a plane and a product of cosines over the whole volume, at most about exp(+-`most`)."""
    axes = [((np.arange(m) + s + 0.5) / n * 2 - 1).astype(np.float32) for m, (s, n) in zip(shape, places, strict=True)]
    slopes, phases = rng.uniform(-1, 1, 3), rng.uniform(0, np.pi, 3)
    k, j, i = axes
    plane = slopes[0] * k[:, None, None] + slopes[1] * j[None, :, None] + slopes[2] * i
    waves = [np.cos(axis * np.float32(np.pi / 2) + np.float32(phase)) for axis, phase in zip(axes, phases, strict=True)]
    product = waves[0][:, None, None] * waves[1][None, :, None] * waves[2]
    amount = rng.uniform(0, most)
    return np.exp(np.float32(amount) * (plane / 3 + 0.6 * product)).astype(np.float32)
