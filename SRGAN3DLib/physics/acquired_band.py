"""The band that was acquired: a scan that was interpolated by zero-filling has no power beyond some share of Nyquist.

The spectrum of a natural scan falls smoothly; that of a zero-filled one falls by 10 dB and more at once. Linear interpolation and
smoothing have no such step: they are blurs, and are estimated as such.
"""

from __future__ import annotations

import numpy as np

LEAST_VOXELS = 32  # along the axis, for a band to be told
LOWEST, HIGHEST = 0.3, 0.94  # of Nyquist, for the step
BESIDE = (0.02, 0.09)  # of Nyquist: from here to there on either side of the step the power is compared
BEFORE = (0.13, 0.2)  # from here to there below the step, for the slope that the spectrum has anyway
STEP = 5.5  # dB beyond that slope: natural and blurred scans stay below 4, zero-filled ones begin at 6
TISSUE_FROM = 0.1  # mean of a line, bright tissue = 1


def acquired_band(lines: np.ndarray) -> float | None:
    """Share of the band (0 to 1) that was acquired along lines (rows, columns, n) with bright tissue = 1; None: all of it."""
    n = lines.shape[-1]
    chosen = lines[lines.mean(axis=-1) > TISSUE_FROM]
    if n < LEAST_VOXELS or len(chosen) < 10:
        return None
    window = np.hanning(n + 2)[1:-1].astype(np.float32)
    tapered = (chosen - chosen.mean(axis=-1, keepdims=True)) * window
    decibel = 10 * np.log10(np.mean(np.abs(np.fft.rfft(tapered, axis=-1)) ** 2, axis=0) + 1e-12)
    frequency = np.arange(len(decibel)) / (n / 2)

    def mean(low: float, high: float) -> float:
        return float(decibel[(frequency >= low) & (frequency <= high)].mean())

    best, where = STEP, None
    for edge in frequency[(frequency >= LOWEST) & (frequency <= HIGHEST)]:
        before, below = mean(edge - BEFORE[1], edge - BEFORE[0]), mean(edge - BESIDE[1], edge - BESIDE[0])
        above = mean(edge + BESIDE[0], edge + BESIDE[1])
        step = below - above - max(before - below, 0.0)
        if step > best and decibel[frequency > edge + BESIDE[0]].max() < below - STEP / 2:
            best, where = step, float(edge)
    return where
