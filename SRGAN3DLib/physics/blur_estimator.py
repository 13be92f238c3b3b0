"""The blur of a scan, estimated from the scan itself: transfer at Nyquist (0 to 1) along each axis, and its spread.

Small networks learnt it from `line_features` of degraded training scans (`benchmarks/fit_blur_estimator.py`, weights in
`models/blur-estimator.json`). They see an axis beside the others. An axis that was zero-filled has its whole band: a transfer of 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import Factors, FloatTriple

from .acquired_band import acquired_band
from .intensity import IntensityScale
from .line_features import line_features, lines_along
from .noise_estimator import estimate_noise

WEIGHTS = Path(__file__).parents[1] / "models" / "blur-estimator.json"
RANGE = (0.29, 1.0)  # of the estimates
LEAST_VOXELS = 16  # along an axis, for an estimate
ALIKE = 1.25  # spacings count as the same up to this ratio
LEAST_SIDE = 24  # voxels that are left of a side made coarser
SOFTER = 0.1  # than the middle axis: no estimate is by more
SOFT_AT, SOFT_OVER = 0.42, 0.12  # an axis counts as smoothed before from the first transfer down, wholly so when lower by the second
APART_FROM, APART_OVER = 0.12, 0.2  # and where it is softer than the sharpest by more than the first, wholly by the sum of both
LARGEST_SPREAD = 0.25  # of an estimate that is still worth more than "unknown"
SLOPE = 0.1  # of the networks' LeakyReLU


@dataclass(frozen=True)
class BlurEstimate:
    """Along K, J, I: `mtf`, the transfer at Nyquist (1 along axes that stay as they are); `spread`, its standard error; `band`, the share
    of Nyquist that was acquired where the scan was zero-filled (None: all)."""

    mtf_kji: FloatTriple
    spread_kji: FloatTriple
    band_kji: tuple[float | None, float | None, float | None]


def estimate_blur(
    array: np.ndarray, factors: Factors, spacing_kji_mm: FloatTriple, scale: IntensityScale | None = None, sigma: float | None = None
) -> BlurEstimate | None:
    """The blur of a scan (K, J, I) of this spacing, about to be enlarged by `factors`; None where it is too small or too smooth to say.

    `scale` and `sigma` (noise as a share of bright tissue) are the scan's own, if they are at hand. An axis that was zero-filled has
    its whole band: a transfer of 1. Looks at a bounded number of lines: at most 100 MB beside the array, whatever its size.
    """
    axes = [axis for axis, f in enumerate(factors) if f > 1]
    if not axes or min(array.shape[axis] for axis in axes) < LEAST_VOXELS:
        return None
    scale = scale or IntensityScale.fit(array)
    features = features_of(array, factors, spacing_kji_mm, scale, sigma)
    if not np.isfinite(features[axes]).all():
        return None
    bands = {axis: acquired_band(lines_along(array, axis, scale)) for axis in axes}
    own, own_spread = answers(_fitted(), np.stack([inputs(features, axis, factors) for axis in axes]))
    natural = np.array([bands[axis] is None for axis in axes])
    values, spreads = np.ones(len(axes)), np.full(len(axes), 0.05)
    if natural.any():
        values[natural], spreads[natural] = combine(own[natural], own_spread[natural])
    mtf, spread = [1.0] * 3, [0.0] * 3
    for axis, value, error in zip(axes, values, spreads, strict=True):
        mtf[axis], spread[axis] = float(value), float(error)
    k, j, i = (bands.get(axis) for axis in range(3))
    return BlurEstimate((mtf[0], mtf[1], mtf[2]), (spread[0], spread[1], spread[2]), (k, j, i))


@cache
def _fitted() -> dict[str, Any]:
    return json.loads(WEIGHTS.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def features_of(
    array: np.ndarray, factors: Factors, spacing_kji_mm: FloatTriple, scale: IntensityScale, sigma: float | None = None
) -> np.ndarray:
    """(3, FEATURES) of the lines along K, J, I; NaN where an axis gives none. `sigma`: the noise, if it is at hand."""
    if sigma is None:
        noise = estimate_noise(array, spacing_kji_mm, scale)
        sigma = noise.sigma if noise and not any(noise.correlated_kji) else 0.0
    seen = comparable(array, factors, spacing_kji_mm)
    white = sigma if seen is array else 0.0  # what was brought to another grid has other noise
    return np.stack([line_features(lines_along(seen, axis, scale), white) for axis in range(3)])


def comparable(array: np.ndarray, factors: Factors, spacing_kji_mm: FloatTriple) -> np.ndarray:
    """The scan on the kind of grid that the networks learnt from: no axis finer than the one enlarged axis is to become.

    Finer axes are made coarser by a sharp cut of their band, slice by slice, which blurs nothing. Where several axes are enlarged, or none
    is finer, this is the array itself.
    """
    from scipy.signal import resample

    axes = [axis for axis, f in enumerate(factors) if f > 1]
    if len(axes) != 1:
        return array
    fine = spacing_kji_mm[axes[0]] / factors[axes[0]]
    fewer = [
        n if axis == axes[0] or fine < ALIKE * mm else min(n, max(round(n * mm / fine), LEAST_SIDE))
        for axis, (n, mm) in enumerate(zip(array.shape, spacing_kji_mm, strict=True))
    ]
    if fewer == list(array.shape):
        return array
    out = np.empty(fewer, np.float32)
    for plane, into in zip(np.moveaxis(array, axes[0], 0), np.moveaxis(out, axes[0], 0), strict=True):
        into[...] = resample(resample(plane, into.shape[0], axis=0), into.shape[1], axis=1)
    return out


def inputs(features: np.ndarray, axis: int, factors: Factors) -> np.ndarray:
    """What the networks are told of `axis`: its features, the mean of the other axes' features, and log2 of the factors of both.

    `features` is (3, FEATURES). The result is (2 * FEATURES + 2,); NaN where no other axis has features.
    """
    others = [a for a in range(3) if a != axis]
    known = np.isfinite(features[others]).all(axis=1)
    beside = features[others][known].mean(axis=0) if known.any() else np.full(features.shape[1], np.nan)
    finer = np.log2([factors[axis], *(factors[a] for a in others)])
    return np.concatenate([features[axis], beside, [finer[0], finer[1:].mean()]])


def standardised(x: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`x` as the networks take it. An input that is NaN counts as the mean one."""
    return np.nan_to_num(np.clip((x - centre) / scale, -4, 4))


def answers(fitted: dict[str, Any], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., inputs) -> transfer (...), the mean over the networks, and its spread (...), wider where the networks disagree."""
    z = standardised(x, fitted["centre"], fitted["scale"])
    values, spreads = [], []
    for layers in fitted["networks"]:
        y = z
        for index, (weight, bias) in enumerate(layers):
            y = y @ np.asarray(weight).T + np.asarray(bias)
            y = np.where(y > 0, y, SLOPE * y) if index + 1 < len(layers) else y
        values.append(y[..., 0])
        spreads.append(np.exp(np.clip(y[..., 1], -3.5, 0.5)))
    mean = np.mean(values, axis=0)
    return np.asarray(mean), np.sqrt(np.mean(spreads, axis=0) ** 2 + np.var(values, axis=0))


def combine(own: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each axis's own transfer and spread -> the estimates and their spreads.

    The axes of one scan mostly share their blur. So each estimate lies half-way between the axis's own and the middle one, and at most
    `SOFTER` below the middle one. An axis that is very soft beside a sharp one was smoothed or interpolated before. The scanner's blur
    is then what the sharpest axis shows. Between the two cases the rule changes smoothly.
    """
    middle, sharpest = np.median(own), own.max()
    drawn = middle + np.maximum(0.5 * (own - middle), -SOFTER)
    lowest = own.min()
    before = np.clip((SOFT_AT - lowest) / SOFT_OVER, 0, 1) * np.clip((sharpest - lowest - APART_FROM) / APART_OVER, 0, 1)
    values = np.clip((1 - before) * drawn + before * sharpest, *RANGE)
    return values, np.sqrt(spread**2 + (0.5 * (values - own)) ** 2)
