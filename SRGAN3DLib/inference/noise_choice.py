"""The noise that a network is told: what the user gave, else what the scan itself shows, else nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from SRGAN3DLib.contract.job_values import parse_noise
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.noise_estimator import estimate_noise
from SRGAN3DLib.volumes.axis_order import AxisOrder

DISAGREEMENT = 2.0  # times more or less noise than was given: from here on there is a warning
WORTH_A_WARNING = 0.01  # of bright tissue: less than this is no matter
SURE = 0.5  # confidence of an estimate that can contradict the user; one below it is the most that the noise can be


@dataclass(frozen=True)
class NoiseChoice:
    """`sigma`: the noise's standard deviation as a share of bright tissue (where `IntensityScale` has 1); None where nobody knows it.

    0 keeps the scan's noise. `info` is the account of it; `warnings` are sentences for the user.
    """

    sigma: float | None
    info: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @staticmethod
    def make(array: np.ndarray, order: AxisOrder, spacing_kji_mm: tuple[float, float, float], told: bool, noise: str) -> NoiseChoice:
        """For a scan `array` (K, J, I) in the network's `order`; `noise` as in `SuperResolveJob`.

        `told` says whether the network takes the noise. One that does not has it all the same for back-projection.
        """
        given = parse_noise(noise)
        found = estimate_noise(array, spacing_kji_mm) if noise != "unknown" else None
        sigma, source = (given, "given") if given is not None else (found.sigma, "estimated") if found else (None, "unknown")
        warnings = []
        if (
            given
            and found
            and found.confidence >= SURE
            and max(given, found.sigma) > max(WORTH_A_WARNING, DISAGREEMENT * min(given, found.sigma))
        ):
            percents = f"{100 * given:.3g} % of bright tissue was given, but the scan itself looks like {100 * found.sigma:.2g} %"
            warnings.append(f"noise {noise}: {percents}")
        info = {
            "source": source,
            "percent": None if sigma is None else round(100 * sigma, 3),
            "percent_estimated": None if found is None else round(100 * found.sigma, 3),
            "confidence": None if found is None else round(found.confidence, 3),
            "correlated_kji": None if found is None else [bool(v) for v in order.inverse.per_axis(found.correlated_kji)],
            "told_to_network": told,
        }
        return NoiseChoice(sigma, info, tuple(warnings))


def bright_tissue(array: np.ndarray) -> float:
    """What 1 stands for in the unit of the scan."""
    return IntensityScale.fit(array).gain
