"""The blur of a scan, estimated from the scan itself: its spectrum, and the shape of its strongest edges.

Per axis, 55 features -> ridge regression -> modulation transfer at Nyquist (0 to 1). The weights were fitted on degraded training
scans by `benchmarks/fit_blur_estimator.py`, which also measures how far to trust them; they lie in `models/blur-estimator.json`.
A spectrum alone cannot tell a box from an ideal low-pass (aliasing fills in what the box took away); edges can: an
ideal low-pass rings, a box does not, a gaussian spreads the step.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from .configs import Factors

WEIGHTS = Path(__file__).parent / "models" / "blur-estimator.json"
BANDS = np.linspace(0, 1, 17)  # of Nyquist
REACH = 5  # neighbours looked at on either side of an edge
QUANTILES = (0.995, 0.98, 0.92)
RANGE = (0.4, 1.0)  # of the estimates: too soft a guess over-sharpens, which costs more than the reverse
APART = 0.22  # axes whose estimates differ by more do not share their blur
LEAST_VOXELS = 16  # along an axis, for an estimate


def estimate_mtf(array: np.ndarray, factors: Factors = (2, 2, 2)) -> tuple[float, float, float] | None:
    """MTF at Nyquist along K, J, I of a scan (K, J, I) float32 about to be enlarged by `factors`; 1 along axes that are not.

    None where it is too small or too smooth to say. What a blur looks like depends on what it went with: scans blurred along every axis
    (`isotropic`; `coarse` from a factor of 3 up) and stacks of thick slices have weights of their own.
    """
    axes = [axis for axis, f in enumerate(factors) if f > 1]
    if not axes or min(array.shape[axis] for axis in axes) < LEAST_VOXELS or min(array.shape) < 2 * REACH + 2:
        return None
    features = np.stack([axis_features(array, axis) for axis in axes])
    if not np.isfinite(features).all():
        return None
    fitted = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    estimates = combine(fitted["slices" if len(axes) == 1 else "coarse" if max(factors) > 2 else "isotropic"], features)
    mtf = [1.0, 1.0, 1.0]
    for axis, value in zip(axes, estimates, strict=True):
        mtf[axis] = float(value)
    return mtf[0], mtf[1], mtf[2]


def combine(fitted: dict, features: np.ndarray) -> np.ndarray:
    """Features (axes, 55) -> MTF (axes,). Where several axes were blurred they mostly share their blur: the level comes from their
    mean features, and half of what each axis says of itself against the others. An axis much softer than another was interpolated
    long before, and is left out of that; what the scanner's blur was, the sharpest tells."""
    kept, own = features, _of_axes(fitted, features)
    while np.ptp(np.minimum(own, RANGE[1])) > APART:
        kept = np.delete(kept, own.argmin(), axis=0)
        own = _of_axes(fitted, kept)
    if len(kept) < len(features):
        own = np.full(len(features), own.max())
    return np.asarray(np.clip(own, *RANGE))


def _of_axes(fitted: dict, features: np.ndarray) -> np.ndarray:
    own = _regress(fitted["axis"], features)
    return _regress(fitted["mean"], features.mean(axis=0)) + 0.5 * (own - own.mean()) if len(features) > 1 else own


def _regress(one: dict, features: np.ndarray) -> np.ndarray:
    z = np.clip((features - one["centre"]) / one["scale"], -4, 4)
    return np.asarray(one["intercept"] + z @ np.asarray(one["weights"]))


def axis_features(array: np.ndarray, axis: int) -> np.ndarray:
    """The features of one axis, scale-free: 13 of the spectrum, 42 of edges; NaN where the scan gives none."""
    lines = np.moveaxis(array, axis, -1)
    return np.concatenate([_spectrum(lines), _edges(lines)])


def _inner(lines: np.ndarray, share: float) -> np.ndarray:
    return lines[tuple(slice(int(n * share), n - int(n * share)) for n in lines.shape)]


def _spectrum(lines: np.ndarray) -> np.ndarray:
    """Log power in 13 bands from 3/16 of Nyquist up, relative to the first three of them."""
    lines = _inner(lines, 0.1)
    n = lines.shape[-1]
    window = np.hanning(n + 2)[1:-1].astype(np.float32)
    tapered = (lines - lines.mean(axis=-1, keepdims=True)) * window
    power = (np.abs(np.fft.rfft(tapered, axis=-1)) ** 2).mean(axis=(0, 1))
    frequency = np.arange(len(power)) / (n / 2)
    smooth = np.convolve(power, np.ones(3) / 3, mode="same")
    bands = []
    for low, high in itertools.pairwise(BANDS[3:]):
        inside = (frequency > low) & (frequency <= high)
        bands.append(power[inside].mean() if inside.any() else np.interp((low + high) / 2, frequency, smooth))
    with np.errstate(divide="ignore", invalid="ignore"):  # a flat scan has no spectrum: NaN, which the caller looks for
        logs = np.log(bands)
        return np.asarray(logs - logs[:3].mean())


def _edges(lines: np.ndarray) -> np.ndarray:
    """How the differences beside an edge relate to the edge's own, for the strongest, strong and middling edges of the scan."""
    d = np.diff(_inner(lines, 0.04), axis=-1)
    n = d.shape[-1]
    centre = d[..., REACH : n - REACH]
    size = np.abs(centre)
    peak = (size >= np.abs(d[..., REACH - 1 : n - REACH - 1])) & (size >= np.abs(d[..., REACH + 1 : n - REACH + 1])) & (size > 0)
    if np.count_nonzero(peak) < 500:
        return np.full(42, np.nan)
    out: list[float] = []
    for q in QUANTILES:
        low, high = np.quantile(size[peak], (q, 1 - (1 - q) / 4))
        chosen = np.nonzero(peak & (size >= low) & ((size < high) | (q == QUANTILES[0])))
        relative = {k: d[chosen[0], chosen[1], chosen[2] + REACH + k] / centre[chosen] for k in range(-REACH, REACH + 1) if k}
        out += [float(relative[-k].mean() + relative[k].mean()) / 2 for k in range(1, REACH + 1)]
        out += [float(np.median(relative[-k]) + np.median(relative[k])) / 2 for k in range(1, REACH)]
        before, after = relative[-1], relative[1]
        out += [float(np.minimum(before, after).mean()), float(np.maximum(before, after).mean()), float(np.std([before, after]))]
        out += [float(np.std([relative[-2], relative[2]])), float(np.minimum(relative[-2], 0).mean() + np.minimum(relative[2], 0).mean())]
    return np.asarray(out)
