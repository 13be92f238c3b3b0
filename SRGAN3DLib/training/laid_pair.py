"""One pair read and laid on one grid: inputs and target as the network sees them, the mask, and what speaks against the pair."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.contract.synthesis import HU_UNKNOWN, SynthesisConfig
from SRGAN3DLib.evaluation.synthesis import body_mask, check_unit, target_scale
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.geometry import Geometry
from SRGAN3DLib.volumes.pairs import Pair
from SRGAN3DLib.volumes.resampling import Interpolation, WorkingGrid
from SRGAN3DLib.volumes.volume import Volume, read_labels


@dataclass(frozen=True)
class LaidPair:
    """`inputs` (C, K, J, I), `target` and `weight` (fK*K, fJ*J, fI*I) float32; `mask` bool on the target's grid.

    Inputs and target are scaled as the network sees them; `target_scale` leads back to the target's own unit. `weight` is 1 inside the
    mask, `outside_weight` outside it, and 0 where the target is not known. `raw_inputs` are the inputs in their files' numbers.
    """

    pair: Pair
    geometry: Geometry
    inputs: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    mask: np.ndarray
    target_scale: IntensityScale
    known_share: float
    notes: tuple[str, ...] = field(default=())

    @property
    def known(self) -> np.ndarray:
        """Bool on the target's grid: inside the mask and known."""
        return self.mask & (self.weight > 0)


def lay_pair(pair: Pair, config: SynthesisConfig, factors: Factors = (1, 1, 1), interpolation: Interpolation = "linear") -> LaidPair:
    """Read a pair and bring all its images to the grid of its first input. Raises `VolumeError` that names the file."""
    if pair.problem:
        raise VolumeError(pair.problem)
    assert pair.target is not None
    volumes = [Volume.read(pair.inputs[image.name]) for image in config.inputs]
    grid = WorkingGrid.of(volumes[0].geometry, config.spacing_kji_mm)
    arrays = [grid.take(volume, interpolation) for volume in volumes]
    inputs = np.stack([np.asarray(IntensityScale.fit(v.array).apply(a), np.float32) for v, a in zip(volumes, arrays, strict=True)])
    truth = Volume.read(pair.target)
    check_unit(truth, config.output)
    fine = grid.geometry.refine(factors)
    unknown = HU_UNKNOWN - 1 if config.output.unit == "HU" else np.nan
    target = _on(fine, truth, grid, factors, interpolation, unknown)
    known = target > HU_UNKNOWN if config.output.unit == "HU" else np.isfinite(target)
    scale = target_scale(truth, config.output)
    target = np.asarray(scale.apply(np.where(known, target, config.output.fill)), np.float32)
    mask = _mask(pair, arrays[0], grid)
    for axis, f in enumerate(factors):
        mask = mask.repeat(f, axis=axis)
    if not (mask & known).any():
        raise VolumeError(f"{pair.mask or pair.target}: subject {pair.subject}: mask and target have no voxel in common")
    weight = np.where(mask, 1.0, config.outside_weight).astype(np.float32)
    weight[~known & (mask | np.isnan(unknown))] = 0.0
    share = float((mask & known).sum() / mask.sum())
    notes = tuple(note for volume in (*volumes, truth) for note in volume.notes)
    return LaidPair(pair, grid.geometry, inputs, target, weight, mask, scale, share, notes)


def _on(fine: Geometry, truth: Volume, grid: WorkingGrid, factors: Factors, interpolation: Interpolation, fill: float) -> np.ndarray:
    if factors == (1, 1, 1):
        return grid.take(truth, interpolation, fill)
    from SRGAN3DLib.volumes.resampling import resample

    return resample(truth.array, truth.geometry, fine, interpolation, fill)


def _mask(pair: Pair, first: np.ndarray, grid: WorkingGrid) -> np.ndarray:
    """The pair's own mask, else the first input's body. Raises `VolumeError` for an empty one."""
    if pair.mask is None:
        mask, where = body_mask(first), pair.inputs[next(iter(pair.inputs))]
    else:
        mask, where = grid.take(read_labels(pair.mask), "nearest") > 0.5, pair.mask
    if not mask.any():
        raise VolumeError(f"{where}: subject {pair.subject}: the mask is empty")
    return mask
