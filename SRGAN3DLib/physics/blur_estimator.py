"""The blur of a scan, estimated from the scan itself: its spectrum, and the shape of its strongest edges.

Per axis, 55 features -> small networks -> modulation transfer at Nyquist (0 to 1). `benchmarks/fit_blur_estimator.py` trains them on
degraded training scans, made more unlike each other, and measures how far to trust them; they lie in `models/blur-estimator.json`.
A spectrum alone cannot tell a box from an ideal low-pass (aliasing fills in what the box took away); edges can: an
ideal low-pass rings, a box does not, a gaussian spreads the step.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from SRGAN3DLib.contract.configs import Factors

WEIGHTS = Path(__file__).parents[1] / "models" / "blur-estimator.json"
BANDS = np.linspace(0, 1, 17)  # of Nyquist
REACH = 5  # neighbours looked at on either side of an edge
QUANTILES = (0.995, 0.98, 0.92)
RANGE = (0.4, 1.0)  # of the estimates: too soft a guess over-sharpens, which costs more than the reverse
LEAST_VOXELS = 16  # along an axis, for an estimate
SOFTER = 0.1  # than the middle axis: no estimate is by more
APART = 0.22  # axes whose own estimates differ by more do not share their blur
SLOPE = 0.1  # of the networks' LeakyReLU


def estimate_mtf(array: np.ndarray, factors: Factors = (2, 2, 2)) -> tuple[float, float, float] | None:
    """MTF at Nyquist along K, J, I of a scan (K, J, I) float32 about to be enlarged by `factors`; 1 along axes that are not.

    None where it is too small or too smooth to say.
    """
    axes = [axis for axis, f in enumerate(factors) if f > 1]
    if not axes or min(array.shape[axis] for axis in axes) < LEAST_VOXELS or min(array.shape) < 2 * REACH + 2:
        return None
    features = np.stack([axis_features(array, axis) for axis in range(3)])
    if not np.isfinite(features[axes]).all():
        return None
    fitted = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    own = mtf_of(fitted, np.stack([inputs(features, axis, factors) for axis in axes]))
    mtf = [1.0, 1.0, 1.0]
    for axis, value in zip(axes, combine(own), strict=True):
        mtf[axis] = float(value)
    return mtf[0], mtf[1], mtf[2]


def inputs(features: np.ndarray, axis: int, factors: Factors) -> np.ndarray:
    """What tells of `axis`: its features, the mean of the other axes' (features (3, 55); NaN where there are none), and how much finer
    this axis and those are to become."""
    others = [a for a in range(3) if a != axis]
    known = np.isfinite(features[others]).all(axis=1)
    beside = features[others][known].mean(axis=0) if known.any() else np.full(features.shape[1], np.nan)
    finer = np.log2([factors[axis], *(factors[a] for a in others)])
    return np.concatenate([features[axis], beside, [finer[0], finer[1:].mean()]])


def standardised(x: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """As the networks take it; an input that is NaN counts as the usual one."""
    return np.nan_to_num(np.clip((x - centre) / scale, -4, 4))


def mtf_of(fitted: dict, x: np.ndarray) -> np.ndarray:
    """(..., inputs) -> MTF (...): the mean over the networks."""
    z = standardised(x, fitted["centre"], fitted["scale"])
    answers = []
    for layers in fitted["networks"]:
        y = z
        for index, (weight, bias) in enumerate(layers):
            y = y @ np.asarray(weight).T + np.asarray(bias)
            y = np.where(y > 0, y, SLOPE * y) if index + 1 < len(layers) else y
        answers.append(y[..., 0])
    return np.asarray(np.mean(answers, axis=0))


def combine(own: np.ndarray) -> np.ndarray:
    """Each axis's own MTF -> the estimates. Where several axes were blurred they mostly share their blur: of what sets one apart
    from the middle one, half is believed; and of how much softer it is, no more than `SOFTER`. One that is softer than the range,
    and than another by `APART`, was interpolated long before: what the scanner's blur was, the sharpest tells then."""
    if own.min() < RANGE[0] and np.ptp(own) > APART:
        return np.clip(np.full(len(own), own.max()), *RANGE)
    middle = np.median(own)
    return np.clip(middle + np.maximum(0.5 * (own - middle), -SOFTER), *RANGE)


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
