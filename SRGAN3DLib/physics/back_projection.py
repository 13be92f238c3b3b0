"""Does the result still say what the scan said? A(SR) - LR, where A is the scanner's blur and sampling, as far as it is known.

`give_back` makes it say so, as far as the noise allows (after Irani and Peleg 1991); `consistency` measures it. For most scans only an
estimate of the blur is at hand, and of that only its transfer at Nyquist: A is then the commonest blur of that transfer. A small
figure says that the result agrees with the scan under that A, and nothing about the detail beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import FloatTriple
from SRGAN3DLib.contract.job_values import DEGRADATIONS

from .degradations import FWHM_PER_SIGMA, AxisBlur, Degradation
from .residual_filter import ResidualFilter

MOST_VOXELS = 250_000  # of the scan, in slices spread over it: a percent of a run's time, and little memory
LEAST_SLICES = 8
SLAB_VOXELS = 2_000_000  # of the result at a time in `give_back`
BOX_FROM, SINC_FROM = 0.52, 0.8  # half-way between the transfers of gaussian (0.41), box (0.64) and a full band (1)
NAMES = {"gaussian": "gaussian", "box": "box", "sinc": "band-limited"}
PLAIN_STEP = ResidualFilter()
EDGE = 4  # voxels beside the border of a region, whose neighbours are not in the result


def gaussian_of(mtf: float) -> AxisBlur:
    """The gaussian with this transfer at Nyquist (0 to 1)."""
    width = FWHM_PER_SIGMA / np.pi * np.sqrt(-2 * np.log(min(max(mtf, 1e-6), 1.0)))
    return AxisBlur("gaussian", float(np.clip(width, 0.4, 4.0)))


def likely_blur(mtf: float) -> AxisBlur:
    """The commonest blur with this transfer at Nyquist: gaussian below `BOX_FROM`, a box up to `SINC_FROM`, then a band's own edge."""
    if mtf < BOX_FROM:
        return gaussian_of(mtf)
    if mtf < SINC_FROM:
        widths = np.linspace(0.5, 1.5, 201)
        return AxisBlur("box", float(np.interp(-mtf, -np.sinc(widths / 2), widths)))
    return AxisBlur("sinc", min(mtf, 1.0))


def assumed(blur: str, mtf_kji: FloatTriple | None, source: str) -> tuple[tuple[AxisBlur, AxisBlur, AxisBlur] | None, str]:
    """The blurs along K, J, I and their name in words; None with the reason where nothing is known.

    `blur` is what was asked (a kind by name is taken at its word), `mtf_kji` and `source` what came of it.
    """
    if blur in DEGRADATIONS:
        one = AxisBlur("sinc") if blur == "kspace" else AxisBlur(blur)  # type: ignore[arg-type]
        return (one, one, one), f"{blur} blur, as given"
    if mtf_kji is None:
        return None, f"the blur of the scan is not known ({source})"
    k, j, i = (gaussian_of(value) if source == "given" else likely_blur(value) for value in mtf_kji)
    shown = " / ".join(f"{NAMES[one.kind]} {value:.2f}" for one, value in zip((k, j, i), mtf_kji, strict=True))
    return (k, j, i), f"blur of MTF {shown} at Nyquist along K, J, I ({source})"


def reach(operator: Degradation, filtered: ResidualFilter = PLAIN_STEP) -> tuple[int, int, int]:
    """LR voxels along K, J, I from which `give_back` lets a voxel depend on others."""
    norms = [float(blur.transfer_power(f).max()) for blur, f in zip(operator.blurs, operator.factors, strict=True)]
    far = []
    for blur, f, norm in zip(operator.blurs, operator.factors, norms, strict=True):
        far.append(2 * blur.reach + filtered.reach(blur, f, float(np.prod(norms)) / norm) if f > 1 else 0)
    return far[0], far[1], far[2]


def give_back(scan: np.ndarray, result: np.ndarray, operator: Degradation, filtered: ResidualFilter = PLAIN_STEP) -> None:
    """result += f_K f_J f_I A^T filtered(scan - A result), in place: what the scan measured comes out as measured.

    `scan` (K, J, I), `result` (K f, J f, I f), float32. A grid that is not enlarged has nothing to give back and stays as it is.
    """
    if max(operator.factors) == 1:
        return
    k, j, i = (m.astype(np.float32) for m in operator.matrices(result.shape))
    plane = result.shape[1] * result.shape[2]
    step = max(1, SLAB_VOXELS // (plane * operator.factors[0]))
    left = np.empty(scan.shape, np.float32)
    for first in range(0, len(k), step):
        rows, columns = _band(k[first : first + step])
        left[first : first + step] = scan[first : first + step] - np.tensordot(rows, j @ (result[columns] @ i.T), 1)
    filtered.apply(left, operator, result.shape)
    step = max(1, SLAB_VOXELS // plane)
    gain = np.float32(np.prod(operator.factors))
    for first in range(0, len(result), step):
        rows, columns = _band(k.T[first : first + step])
        result[first : first + step] += gain * ((j.T @ np.tensordot(rows, left[columns], 1)) @ i)


def _band(rows: np.ndarray) -> tuple[np.ndarray, slice]:
    """The columns these rows look at, and only those."""
    used = np.flatnonzero(rows.any(axis=0))
    columns = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    return np.ascontiguousarray(rows[:, columns]), columns


def consistency(
    scan: np.ndarray, result: np.ndarray, operator: Degradation, gain: float, cut: Sequence[tuple[bool, bool]] = ((False, False),) * 3
) -> dict[str, Any]:
    """`{"rms_of_range": RMS of A(result) - scan, over `gain`; "voxels": how many of the scan were looked at}`.

    `scan` (K, J, I) and `result` (K f, J f, I f) cover the same box; `gain` is the scan's range. `cut` tells, along K, J, I, which ends
    of the box lie within a larger scan: voxels near those are left out where others remain.
    """
    rows = [_kept(n, *ends) for n, ends in zip(scan.shape, cut, strict=True)]
    slices = max(LEAST_SLICES, MOST_VOXELS // (len(rows[1]) * len(rows[2])))
    if len(rows[0]) > slices:
        rows[0] = rows[0][np.linspace(0, len(rows[0]) - 1, slices).round().astype(int)]
    k, j, i = (m[r].astype(np.float32) for m, r in zip(operator.matrices(result.shape), rows, strict=True))
    coarse = j @ np.tensordot(k, result, axes=(1, 0)) @ i.T
    difference = coarse - scan[np.ix_(*rows)]
    return {"rms_of_range": float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))) / gain), "voxels": int(difference.size)}


def _kept(n: int, low: bool, high: bool) -> np.ndarray:
    rows = np.arange(EDGE * low, n - EDGE * high)
    return rows if len(rows) else np.arange(n)
