"""The noise of a scan, estimated from the scan itself: small blocks of it, seen in the highest spatial frequencies.

White noise has the same power at all frequencies, anatomy mostly at low ones. The scan is cut into small blocks, each block is
transformed (DCT), and the power of the highest frequencies is read in the flattest blocks of tissue. White noise is
independent from one frequency to another: choosing flat blocks by their lower frequencies does not change the mean power of the
highest. What detail the flattest tissue still holds is told from how the power grows towards less flat tissue.

Air holds no detail: where the background was not masked, the noise is read there too. Air in a magnitude image has a Rayleigh
distribution (Gudbjartsson and Patz 1995), so its standard deviation is smaller than that of tissue by a known factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SRGAN3DLib.contract.configs import FloatTriple

from .intensity import IntensityScale

SIDE = 4  # voxels of a block along each axis
MOST_BLOCKS = 24_000  # of a scan, spread over it: 6 MB in float32
LEAST_TISSUE, LEAST_AIR = 60, 180  # blocks, for an estimate
LEAST_FLAT = 24  # blocks whose mean power is read
TISSUE_FROM, AIR_UP_TO = 0.25, 0.2  # mean of a block, bright tissue = 1
MASKED = 0.05  # a block with more than this share of voxels at its least value was masked or clipped
FLATTER, FLAT = 0.03, 0.25  # shares of the tissue's blocks
FLATTER_AIR, FLAT_AIR = 0.1, 0.4
GROWTH = 3.0  # power of anatomy's detail in the FLAT blocks over that in the FLATTER ones: the usual one of clean scans
LEAST_SHARE = 0.3  # of the FLATTER blocks' amplitude that is taken for noise, at least
NOISY_FROM, NOISY_AT = 0.8, 0.98  # ratio of the two amplitudes: where noise begins to prevail over detail, and where it does
RAYLEIGH_SD, RAYLEIGH_MEAN = float(np.sqrt(2 - np.pi / 2)), float(np.sqrt(np.pi / 2))  # of air, for sigma = 1
AIR_MOST = 1.1  # times the reading in tissue: what is noisier than that is no air (dark tissue, ghosts)
# Noise is correlated along an axis where the highest frequency has less than this share of a lower one's amplitude: in air, in tissue
# that shows noise, in tissue that shows detail too.
DROP_AIR, DROP_NOISE, DROP_DETAIL = 0.94, 0.82, 0.75
MOST_LIFT = 1.5  # correlated noise: power at the lowest frequencies over that at the last but one, at most
Flags = tuple[bool, bool, bool]

_INDEX = np.indices((SIDE,) * 3)
HIGHEST: np.ndarray = _INDEX.sum(axis=0) >= 3 * SIDE - 4  # the last frequency along all axes, or the last but one along one of them
UPPER: np.ndarray = np.asarray((_INDEX >= SIDE // 2).all(axis=0))
LOWER: np.ndarray = (_INDEX.sum(axis=0) > 0) & (_INDEX.sum(axis=0) < SIDE)


@dataclass(frozen=True)
class NoiseEstimate:
    """`sigma`: standard deviation of the noise in each quadrature channel (Rician), as a share of bright tissue (`IntensityScale`).

    `confidence`: 0 (a guess) to 1. `correlated_kji`: the axes along which neighbouring voxels share their noise, as after interpolation,
    zero-filling or smoothing. `source`: where it was read, "air", "tissue" or "air and tissue".
    """

    sigma: float
    confidence: float
    correlated_kji: Flags
    source: str


@dataclass(frozen=True)
class _Reading:
    """What the blocks of one kind say: sigma and the most that it can be, how far that is noise and not detail (0 to 1), correlation."""

    sigma: float
    most: float
    noisy: float
    correlated: Flags


def estimate_noise(array: np.ndarray, spacing_kji_mm: FloatTriple, scale: IntensityScale | None = None) -> NoiseEstimate | None:
    """The noise of a scan (K, J, I) of this spacing; None where it is too small, or has too little tissue and air, to say.

    `scale` is the scan's own, if it is at hand. Takes at most 64 MB beside the array and the work of `IntensityScale.fit`.
    """
    if min(array.shape) < SIDE:
        return None
    scale = scale or IntensityScale.fit(array)
    blocks = _blocks(array)
    masked = np.mean(blocks <= blocks.min(axis=(1, 2, 3), keepdims=True), axis=(1, 2, 3)) > MASKED
    mean = blocks.mean(axis=(1, 2, 3))
    share = (mean - scale.offset) / scale.gain
    power = _power(blocks, scale.gain)
    in_air = ~masked & (share < AIR_UP_TO)
    air = _air(power[in_air], mean[in_air] / scale.gain)
    tissue = _tissue(power[~masked & (share > TISSUE_FROM)], air.correlated if air and air.noisy > 0.5 else (False, False, False))
    return _combined(tissue, air)


def _blocks(array: np.ndarray) -> np.ndarray:
    """(n, SIDE, SIDE, SIDE) float32 blocks, spread over the scan; overlapping in small scans."""
    step = SIDE if array.size > 3e6 else SIDE // 2
    view = np.lib.stride_tricks.sliding_window_view(array, (SIDE,) * 3)[::step, ::step, ::step]
    count = int(np.prod(view.shape[:3]))
    chosen = np.linspace(0, count - 1, min(count, MOST_BLOCKS)).round().astype(int)
    return np.asarray(view[np.unravel_index(chosen, view.shape[:3])], np.float32)


def _power(blocks: np.ndarray, gain: float) -> np.ndarray:
    """Power of each block's frequencies (n, SIDE, SIDE, SIDE); white noise of sigma has sigma squared in each."""
    from scipy.fft import dctn

    return np.asarray(np.square(dctn(blocks / np.float32(gain), axes=(1, 2, 3), norm="ortho")))


def _flattest(power: np.ndarray, flatter: float, flat: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The flattest of these blocks in the two shares, and how far their high frequencies are noise (0 to 1)."""
    order = np.argsort(power[:, LOWER].mean(axis=1))
    few, many = (power[order[: max(LEAST_FLAT, int(share * len(order)))]] for share in (flatter, flat))
    ratio = np.sqrt(few[:, UPPER].mean() / max(float(many[:, UPPER].mean()), 1e-20))
    return few, many, float(np.clip((ratio - NOISY_FROM) / (NOISY_AT - NOISY_FROM), 0, 1))


def _tissue(power: np.ndarray, in_air: Flags) -> _Reading | None:
    """`in_air`: the axes along which the noise of air is correlated."""
    if len(power) < LEAST_TISSUE:
        return None
    few, many, noisy = _flattest(power, FLATTER, FLAT)
    profiles = _profiles(few)
    own = _correlated(profiles[:, -1], profiles[:, -2], DROP_NOISE if noisy > 0.3 else DROP_DETAIL)
    k, j, i = (a or b for a, b in zip(own, in_air, strict=True))
    correlated = (k, j, i)
    profiles[:, :-2] = profiles[:, -2:-1] * _lower(profiles[:, -1] / np.maximum(profiles[:, -2], 1e-20))
    band = UPPER if any(correlated) else HIGHEST
    low, high = (float(blocks[:, band].mean()) for blocks in (few, many))
    of_noise = max((GROWTH * low - high) / (GROWTH - 1), LEAST_SHARE**2 * low)
    whole = _whole(profiles, correlated, band)
    return _Reading(float(np.sqrt(of_noise)) * whole, float(np.sqrt(low)) * whole, noisy, correlated)


def _lower(ratio: np.ndarray) -> np.ndarray:
    """(axes,) power at the highest over that at the last but one frequency -> (axes, SIDE - 2): power at the lower ones, where anatomy
    hides the noise, over that at the last but one; as of a gaussian filter."""
    k2 = (np.arange(SIDE) / SIDE) ** 2
    slope = -np.log(np.clip(ratio, 1e-3, 1)) / (k2[-1] - k2[-2])
    return np.asarray(np.minimum(np.exp(slope[:, None] * (k2[-2] - k2[:-2])), MOST_LIFT))


def _air(power: np.ndarray, mean: np.ndarray) -> _Reading | None:
    if len(power) < LEAST_AIR:
        return None
    _, flat, noisy = _flattest(power, FLATTER_AIR, FLAT_AIR)
    profiles = _profiles(flat)
    correlated = _correlated(profiles[:, -1], profiles[:, 1], DROP_AIR)
    deviation = float(np.sqrt(flat[:, UPPER].mean())) * _whole(profiles, correlated, UPPER)
    signal = float(np.median(mean)) / max(deviation, 1e-12)  # above Rayleigh's: air with a signal of its own, where noise is less damped
    factor = float(np.interp(signal, [RAYLEIGH_MEAN / RAYLEIGH_SD, 2.2, 3, 4], [RAYLEIGH_SD, 0.8, 0.93, 1]))
    return _Reading(deviation / factor, deviation / factor, noisy, correlated)


def _profiles(power: np.ndarray) -> np.ndarray:
    """(3, SIDE): mean power at each frequency along K, J, I where the frequencies along both other axes are high."""
    upper = slice(SIDE // 2, None)
    return np.stack([np.moveaxis(power, axis + 1, 1)[:, :, upper, upper].mean(axis=(0, 2, 3)) for axis in range(3)]).astype(float)


def _correlated(highest: np.ndarray, lower: np.ndarray, drop: float) -> Flags:
    k, j, i = (bool(a < drop**2 * b) for a, b in zip(highest, lower, strict=True))
    return k, j, i


def _whole(profiles: np.ndarray, correlated: Flags, band: np.ndarray) -> float:
    """Amplitude over all frequencies, over that in the band: 1 for white noise, more for correlated noise."""
    along = [profile if flag else np.ones(SIDE) for profile, flag in zip(profiles, correlated, strict=True)]
    shape = np.einsum("i,j,k->ijk", *along)
    return float(np.sqrt(shape.mean() / max(float(shape[band].mean()), 1e-20)))


def _combined(tissue: _Reading | None, air: _Reading | None) -> NoiseEstimate | None:
    """Tissue where its blocks are noise and little else, else air where there is any."""
    if tissue is not None and air is not None and air.sigma > AIR_MOST * tissue.most:
        air = None
    if tissue is not None and air is not None:
        w = tissue.noisy
        sigma = tissue.sigma**w * air.sigma ** (1 - w)
        correlated = tissue.correlated if w > 0.5 else air.correlated
        return NoiseEstimate(sigma, max(w, air.noisy), correlated, "air and tissue")
    if tissue is not None:
        of_it = (tissue.sigma / tissue.most - LEAST_SHARE) / (1 - LEAST_SHARE) if tissue.most else 1.0
        return NoiseEstimate(tissue.sigma, max(tissue.noisy, of_it), tissue.correlated, "tissue")
    return NoiseEstimate(air.sigma, air.noisy, air.correlated, "air") if air is not None else None
