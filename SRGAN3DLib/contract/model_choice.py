"""Which of the shipped models suits a scan: decided from spacings and headers alone, so that panel, command line and worker agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from .checkpoint_header import CheckpointHeader
from .configs import Factors
from .errors import JobError

Spacing = tuple[float, float, float]
AUTO = "auto"
THICK_SLICES = 1.5  # times the next coarsest spacing: from here on a scan is a stack of slices
COARSE_MM = 2.4  # an isotropic scan from here on is enlarged by the larger factor
REACHED = 1.02  # a spacing up to 2 % wider than the one that was asked for counts as reached


@dataclass(frozen=True)
class ModelChoice:
    """The model `name`, its factors along the scan's axes I, J, K, and the reason in one sentence.

    `spacing_ijk_mm` is the spacing that the result is resampled to; None keeps the network's own grid.
    """

    name: str
    factors_ijk: Factors
    reason: str
    spacing_ijk_mm: Spacing | None = None


def choose_model(
    headers: Mapping[str, CheckpointHeader],
    spacing_ijk_mm: Spacing,
    wanted_ijk_mm: Spacing | None = None,
    factors_ijk: Factors | None = None,
) -> ModelChoice:
    """The model of `headers` for a scan with this spacing; for a spacing that is asked for, or for factors.

    A model whose name ends in `-sharp` is never chosen: it trades exactness for texture, which is for the user to decide. Raises
    `JobError` where no model has the factors, naming those that there are.
    """
    offers = [(name, placed) for name, header in headers.items() if not name.endswith("-sharp") for placed in placements(header)]
    if not offers:
        raise JobError("model auto: no model is shipped with this program; name a checkpoint file")
    coarsest = max(range(3), key=lambda axis: spacing_ijk_mm[axis])
    in_plane = math.sqrt(math.prod(spacing_ijk_mm) / spacing_ijk_mm[coarsest])
    thick = spacing_ijk_mm[coarsest] >= THICK_SLICES * sorted(spacing_ijk_mm)[1]
    if factors_ijk is not None:
        name, factors = _with_factors(offers, factors_ijk)
        return ModelChoice(name, factors, f"{name} has the factors {_shown(factors)} that were asked for", wanted_ijk_mm)
    what = _scan_in_words(spacing_ijk_mm, thick)
    alike = [(name, factors) for name, factors in offers if len(set(factors)) == 1] or offers
    if wanted_ijk_mm is not None:
        name, factors, says = _for_spacing(offers if thick else alike, spacing_ijk_mm, wanted_ijk_mm)
        return ModelChoice(name, factors, f"{what}: {says}", wanted_ijk_mm)
    along = [(name, factors) for name, factors in offers if factors[coarsest] > 1 and math.prod(factors) == factors[coarsest]]
    if thick and along:
        name, factors = min(along, key=lambda offer: abs(math.log(spacing_ijk_mm[coarsest] / offer[1][coarsest] / in_plane)))
        return ModelChoice(name, factors, f"{what}: {name} brings the slices nearest to the spacing within them")
    by_size = sorted(alike, key=lambda offer: math.prod(offer[1]))
    name, factors = by_size[-1] if min(spacing_ijk_mm) >= COARSE_MM else by_size[0]
    return ModelChoice(name, factors, f"{what}: {name} enlarges all axes alike")


def placements(header: CheckpointHeader) -> list[Factors]:
    """The factors of a model along I, J, K, in every way in which they can lie along a scan's axes."""
    return sorted({(i, j, k) for i, j, k in itertools.permutations(header.generator.factors)}, reverse=True)


def resampled_shape(shape: tuple[int, int, int], spacing_mm: Spacing, wanted_mm: Spacing) -> tuple[int, int, int]:
    """Voxels along three axes at the wanted spacing in the same box: rounded, so the spacing is met only as nearly as the box allows."""
    a, b, c = (max(1, round(n * mm / wanted)) for n, mm, wanted in zip(shape, spacing_mm, wanted_mm, strict=True))
    return (a, b, c)


def wanted_spacing(text: str, spacing_ijk_mm: Spacing) -> Spacing:
    """`1`, `1,1,2` (mm along I, J, K) or `isotropic` (the scan's smallest spacing along every axis). Raises `JobError`."""
    if text == "isotropic":
        return (min(spacing_ijk_mm),) * 3
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) != 3 or not all(0.05 <= number <= 50 for number in numbers):
        raise JobError(f"spacing {text!r}: isotropic, or 0.05 to 50 mm such as 1 or 1,1,2 (along I, J, K)")
    return (numbers[0], numbers[1], numbers[2])


def _with_factors(offers: list[tuple[str, Factors]], asked: Factors) -> tuple[str, Factors]:
    for name, factors in offers:
        if factors == tuple(asked):
            return name, factors
    there = ", ".join(dict.fromkeys(f"{name} ({_shown(max(f for n, f in offers if n == name))})" for name, _ in offers))
    raise JobError(f"factors {_shown(asked)}: no model has them; there are {there}, along any of the axes")


def _for_spacing(offers: list[tuple[str, Factors]], spacing: Spacing, wanted: Spacing) -> tuple[str, Factors, str]:
    """The smallest factors that reach the wanted spacing; where none do, those that come nearest."""

    def short(factors: Factors) -> float:
        """By how much the coarsest axis is still too coarse; 1 where all are fine enough."""
        return max(1.0, *(mm / f / to / REACHED for mm, f, to in zip(spacing, factors, wanted, strict=True)))

    name, factors = min(offers, key=lambda offer: (round(short(offer[1]), 6), math.prod(offer[1])))
    reached = _shown(tuple(mm / f for mm, f in zip(spacing, factors, strict=True)))
    if short(factors) > 1:
        return name, factors, f"{name} reaches {reached} mm; what is finer than that is interpolated"
    return name, factors, f"{name} has the smallest factors that reach {_shown(wanted)} mm"


def _scan_in_words(spacing: Spacing, thick: bool) -> str:
    return f"{'a stack of thick slices' if thick else 'a scan with nearly cubic voxels'} ({_shown(spacing)} mm)"


def _shown(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
