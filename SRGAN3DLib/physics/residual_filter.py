"""How much of the residual `scan - A result` is given back: all of it on a clean scan of known blur, less where it is noise.

The result that explains a noisy scan best is result + A^T (A A^T + damping)^-1 (scan - A result): `damping` is the variance of the noise
over the variance of what the network leaves open (method.md, section 6). Without noise it is the projection onto the results that
explain the scan. An estimated blur is not quite the scan's own: `softness` bounds what the inverse may amplify. The filter never makes
the residual larger, at any frequency.

A is separable, so A A^T is a product of one small matrix an axis, and the inverse is a division in the eigenbasis of the three.
Everything here is in the unit in which a box blur has f A A^T = 1 (f: the number of fine voxels in a coarse one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .degradations import AxisBlur, Degradation

OPEN = 0.015  # of bright tissue: standard deviation of what the network leaves open of a coarse voxel, in a clean scan
NOISE_TAKES = 0.02  # noise (of bright tissue) at which half of that variance is open: beyond it, the network trusts the scan less
UNKNOWN_NOISE_IS = 0.015  # what is assumed where nobody knows the noise
KNOWN, ESTIMATED = 1e-3, 0.3  # softness of an exact inverse, of one by an estimated blur
NEGLIGIBLE = 1e-6  # of a residual's largest effect: what is less is not felt


@dataclass(frozen=True)
class ResidualFilter:
    """`softness` above 0, infinite for a step without an inverse; `damping` 0 or more."""

    softness: float = math.inf
    damping: float = 0.0

    @staticmethod
    def make(operator: Degradation, blur_is_known: bool, noise: float | None) -> ResidualFilter:
        """For a scan with `noise` (standard deviation as a share of bright tissue; None: not known) that went through `operator`.

        A band's edge cannot be inverted, nor can a box be that is not known to be one: both get a step without an inverse.
        """
        level = UNKNOWN_NOISE_IS if noise is None else noise
        still_open = OPEN**2 / (1 + (level / NOISE_TAKES) ** 2)
        damping = level**2 / still_open
        kinds = {blur.kind for blur, f in zip(operator.blurs, operator.factors, strict=True) if f > 1}
        if blur_is_known:
            return ResidualFilter(math.inf if kinds & {"sinc", "kspace"} else KNOWN, damping)
        return ResidualFilter(ESTIMATED if kinds == {"gaussian"} else math.inf, damping)

    def gain(self, power: np.ndarray, norm: float) -> np.ndarray:
        """The filter at frequencies where f A A^T is `power`; `norm` is the largest it gets anywhere. Times `power`: 0 to 1."""
        if math.isinf(self.softness):
            return np.full(np.shape(power), 1 / (norm + self.damping))
        lift = 1 + self.softness / norm
        return np.asarray(lift / (power + self.softness + self.damping * lift))

    def apply(self, residual: np.ndarray, operator: Degradation, shape_kji: tuple[int, ...]) -> None:
        """Filter `residual` (K, J, I) float32 in place; `shape_kji` is the fine grid's."""
        norm = operator.norm
        if math.isinf(self.softness):
            residual *= np.float32(self.gain(np.ones(()), norm))
            return
        power, bases = np.ones((1, 1, 1), np.float32), []
        for axis, (matrix, f) in enumerate(zip(operator.matrices(shape_kji), operator.factors, strict=True)):
            values, vectors = np.linalg.eigh(f * (matrix @ matrix.T))
            power = power * np.expand_dims(np.maximum(values, 0).astype(np.float32), [a for a in range(3) if a != axis])
            bases.append(vectors.astype(np.float32))
        for axis, basis in enumerate(bases):
            _along(residual, basis.T, axis)
        residual *= self.gain(power, norm).astype(np.float32)
        for axis, basis in enumerate(bases):
            _along(residual, basis, axis)

    def reach(self, blur: AxisBlur, factor: int, others: float) -> int:
        """LR voxels along an axis that the filter alone spreads a residual; `others` is the norm of the two other axes' product."""
        if factor == 1 or math.isinf(self.softness):
            return 0
        power = blur.transfer_power(factor)
        kernel = np.abs(np.fft.irfft(self.gain(others * power, others * float(power.max()))))
        felt = np.flatnonzero(kernel[: len(kernel) // 2] > NEGLIGIBLE * kernel[0])
        return int(felt[-1])


def _along(array: np.ndarray, matrix: np.ndarray, axis: int) -> None:
    """`matrix` applied along one axis of (K, J, I), in place."""
    array[...] = np.moveaxis(np.tensordot(matrix, array, axes=(1, axis)), 0, axis)
