"""Robust intensity scaling: what the network sees is about 0 (air) to 1 (bright tissue), whatever the scanner's units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class IntensityScale:
    """y = (x - offset) / gain; `undo` is its exact inverse in real arithmetic."""

    offset: float
    gain: float

    @staticmethod
    def fit(array: np.ndarray) -> IntensityScale:
        """Offset = 1st percentile; gain = 99th percentile of the foreground above it.

        Foreground is what lies above 10 % of the way from P1 to P99, so that the share of air in the field of
        view does not matter. A constant array gets gain 1. Percentiles come from at most two million voxels
        (a regular stride), so the fit costs little on a 512^3 scan.
        """
        stride = max(1, round((array.size / 2e6) ** (1 / 3)))
        sample = np.asarray(array[tuple(slice(None, None, min(stride, max(1, n // 8))) for n in array.shape)], np.float64)
        low, high = np.percentile(sample, (1, 99))
        foreground = sample[sample > low + 0.1 * (high - low)]
        if foreground.size:
            high = np.percentile(foreground, 99)
        gain = float(high - low)
        return IntensityScale(float(low), gain if gain > 0 else 1.0)

    def apply(self, array: Any) -> Any:
        """A numpy array or a torch tensor, scaled; in its own precision."""
        return (array - self.offset) / self.gain

    def undo(self, array: Any) -> Any:
        """Back to the scan's own units."""
        return array * self.gain + self.offset
