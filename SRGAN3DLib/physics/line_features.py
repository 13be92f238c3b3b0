"""What lines of voxels along one axis tell of the blur along it: their spectrum, and the shape of their strongest edges.

A spectrum alone cannot tell a box from an ideal low-pass (aliasing fills in what the box took away). Edges can: an ideal low-pass rings,
a box does not, a gaussian spreads the step. Both are read from a bounded number of lines spread over the scan.
"""

from __future__ import annotations

import itertools

import numpy as np

from .intensity import IntensityScale

MOST_VOXELS = 2_000_000  # of the lines that are looked at: 8 MB in float32, some 60 MB with what is made of them
BRIGHTEST = 1.5  # bright tissue = 1: what is brighter counts as this, so that a few voxels of a vessel or a fault do not decide
EXTREME, MOST_BRIDGED = 3.0, 0.02  # brighter than this is no tissue; up to this share of the lines
BANDS = np.linspace(0, 1, 17)  # of Nyquist
REACH = 5  # neighbours looked at on either side of an edge
QUANTILES = (0.995, 0.98, 0.92)
FEATURES = 55  # 13 of the spectrum, 42 of edges
LEAST_SIGNAL = 0.1  # of a band's power is taken for the scan's own where noise prevails


def lines_along(array: np.ndarray, axis: int, scale: IntensityScale) -> np.ndarray:
    """(rows, columns, n) float32 lines of a scan (K, J, I), spread over it, bright tissue = 1."""
    lines = np.moveaxis(array, axis, -1)
    stride = max(1, int(np.ceil(np.sqrt(lines.size / MOST_VOXELS))))
    strides = [min(stride, max(1, n // 8)) for n in lines.shape[:2]]
    lines = np.array(scale.apply(lines[:: strides[0], :: strides[1]]), np.float32)
    _bridge(lines)
    return np.minimum(lines, BRIGHTEST, out=lines)


def _bridge(lines: np.ndarray) -> None:
    """Replace voxels that are no tissue at all (a vessel's inflow, metal, a fault) by what lies beside them along their line, in place."""
    extreme = lines > EXTREME
    rows, columns = np.nonzero(extreme.any(axis=-1))
    if len(rows) > MOST_BRIDGED * extreme[..., 0].size:  # then that is how this scan is
        return
    place = np.arange(lines.shape[-1])
    for row, column in zip(rows, columns, strict=True):
        good = ~extreme[row, column]
        if good.any():
            lines[row, column] = np.interp(place, place[good], lines[row, column][good])


def line_features(lines: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """(FEATURES,) of lines (rows, columns, n), scale-free; NaN where they give none.

    `sigma`: standard deviation of white noise, in the unit of the lines; its power is taken from the spectrum's.
    """
    return np.concatenate([_spectrum(lines, sigma), _edges(lines)])


def _inner(lines: np.ndarray, share: float) -> np.ndarray:
    return lines[tuple(slice(int(n * share), n - int(n * share)) for n in lines.shape)]


def _spectrum(lines: np.ndarray, sigma: float) -> np.ndarray:
    """Log power in 13 bands from 3/16 of Nyquist up, relative to the first three of them."""
    lines = _inner(lines, 0.1)
    n = lines.shape[-1]
    window = np.hanning(n + 2)[1:-1].astype(np.float32)
    tapered = (lines - lines.mean(axis=-1, keepdims=True)) * window
    power = (np.abs(np.fft.rfft(tapered, axis=-1)) ** 2).mean(axis=(0, 1))
    power = np.maximum(power - sigma**2 * np.sum(window**2), LEAST_SIGNAL * power)
    frequency = np.arange(len(power)) / (n / 2)
    smooth = np.convolve(power, np.ones(3) / 3, mode="same")
    bands = []
    for low, high in itertools.pairwise(BANDS[3:]):
        inside = (frequency > low) & (frequency <= high)
        bands.append(power[inside].mean() if inside.any() else np.interp((low + high) / 2, frequency, smooth))
    if not min(bands) > 0:  # a flat scan has no spectrum
        return np.full(len(bands), np.nan)
    logs = np.log(bands)
    return np.asarray(logs - logs[:3].mean())


def _edges(lines: np.ndarray) -> np.ndarray:
    """How the differences beside an edge relate to the edge's own, for the strongest, strong and middling edges of the scan."""
    d = np.diff(_inner(lines, 0.04), axis=-1)
    n = d.shape[-1]
    if n < 2 * REACH + 1:
        return np.full(42, np.nan)
    size = np.abs(d[..., REACH : n - REACH])
    peak = (size >= np.abs(d[..., REACH - 1 : n - REACH - 1])) & (size >= np.abs(d[..., REACH + 1 : n - REACH + 1])) & (size > 0)
    if np.count_nonzero(peak) < 500:
        return np.full(42, np.nan)
    row, column, place = np.nonzero(peak)
    size = size[peak]
    out: list[float] = []
    for q in QUANTILES:
        low, high = np.quantile(size, (q, 1 - (1 - q) / 4))
        at = np.flatnonzero((size >= low) & ((size < high) | (q == QUANTILES[0])))
        if not len(at):  # a noise-free phantom has few values, and so few sizes of edges
            return np.full(42, np.nan)
        differences = d[row[at, None], column[at, None], place[at, None] + np.arange(2 * REACH + 1)]
        out += _shape(differences / differences[:, REACH : REACH + 1])
    return np.asarray(out)


def _shape(relative: np.ndarray) -> list[float]:
    """(edges, 2 REACH + 1) differences over the edge's own -> means and medians by distance; then the sides of an edge apart, which tell a
    spread edge from a ringing one."""
    means, medians = relative.mean(axis=0), np.median(relative, axis=0)
    out = [float(means[REACH - k] + means[REACH + k]) / 2 for k in range(1, REACH + 1)]
    out += [float(medians[REACH - k] + medians[REACH + k]) / 2 for k in range(1, REACH)]
    near, next_ = relative[:, [REACH - 1, REACH + 1]], relative[:, [REACH - 2, REACH + 2]]
    out += [float(near.min(axis=1).mean()), float(near.max(axis=1).mean()), float(near.std())]
    return [*out, float(next_.std()), float(np.minimum(next_, 0).mean(axis=0).sum())]
