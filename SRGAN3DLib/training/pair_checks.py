"""Whether a pair is one: how much of the body the target shows, and whether mutual information is best where the two lie.

Mutual information (of the first input and the target, inside the body, in nats) is compared with that after shifts of the target by
some millimetres along each axis. A pair that fits better after a shift is misregistered and is left out; so is one without overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .laid_pair import LaidPair

LEAST_OVERLAP = 0.5
LEAST_INFORMATION = 0.02
SHIFTS_MM = (3.0, 6.0, 12.0)
BETTER = 1.25  # times as much information after a shift: the pair does not lie right
BINS = 32
_VOXELS = 200_000


@dataclass(frozen=True)
class PairCheck:
    """`overlap`: the share of the body where the target is known. `shift_mm` (K, J, I): where the information would be largest."""

    subject: str
    overlap: float
    information: float
    best_information: float
    shift_mm: tuple[float, float, float]
    fault: str = ""


def check_pair(laid: LaidPair) -> PairCheck:
    """Judge one pair; `fault` is empty for a good one, else one line that says what is wrong."""
    factors = [t // n for t, n in zip(laid.target.shape, laid.inputs.shape[1:], strict=True)]
    coarse = tuple(slice(f // 2, None, f) for f in factors)
    target, known = laid.target[coarse], laid.known[coarse]
    first, spacing = laid.inputs[0], laid.geometry.spacing_kji_mm
    here = _information(first, target, known, (0, 0, 0))
    best, where = here, (0, 0, 0)
    for axis in range(3):
        for mm in SHIFTS_MM:
            steps = round(mm / spacing[axis])
            for shift in (steps, -steps) if steps else ():
                moved = tuple(shift if a == axis else 0 for a in range(3))
                value = _information(first, target, known, moved)
                if value > best:
                    best, where = value, moved  # type: ignore[assignment]
    shift_mm = (where[0] * spacing[0], where[1] * spacing[1], where[2] * spacing[2])
    return PairCheck(laid.pair.subject, laid.known_share, here, best, shift_mm, _fault(laid.known_share, here, best, shift_mm))


def _fault(overlap: float, here: float, best: float, shift_mm: tuple[float, float, float]) -> str:
    if overlap < LEAST_OVERLAP:
        return f"the target shows {100 * overlap:.0f} % of the body; at least {100 * LEAST_OVERLAP:.0f} % is needed"
    if here < LEAST_INFORMATION:
        return f"input and target share no information ({here:.3f} nats; {LEAST_INFORMATION} is needed): are they of one subject?"
    if best > BETTER * here:
        axis = int(np.argmax(np.abs(shift_mm)))
        moved = f"{shift_mm[axis]:+.1f} mm along {'KJI'[axis]}"
        return f"misregistered: mutual information rises from {here:.3f} to {best:.3f} nats when the target is moved by {moved}"
    return ""


def _information(first: np.ndarray, target: np.ndarray, known: np.ndarray, shift_kji: tuple[int, ...]) -> float:
    """Mutual information in nats with the target moved by whole voxels, on a regular sample of the voxels that both have."""
    here = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(shift_kji, first.shape, strict=True))
    there = tuple(slice(max(0, -s), n + min(0, -s)) for s, n in zip(shift_kji, first.shape, strict=True))
    inside = np.flatnonzero(known[there])
    if inside.size < 1000:
        return 0.0
    inside = inside[:: max(1, inside.size // _VOXELS)]
    a, b = np.ravel(first[here])[inside], np.ravel(target[there])[inside]
    counts = np.histogram2d(_clipped(a), _clipped(b), BINS)[0]
    joint = counts / counts.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / apart[some])).sum())


def _clipped(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip(values, low, high)
