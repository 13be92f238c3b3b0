"""The lesion table of one model and one scan: `lesions.lesion_rows` with the model and interpolation, under one blur and one noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import Cancelled
from SRGAN3DLib.contract.result_info import condition
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.volume import Volume

from .lesions import CONTRASTS, SIZES_MM, Restore, lesion_markdown, lesion_rows
from .metrics import truth_range
from .scoring import rician

LARGEST_SIDE = 128  # voxels of the true scan along each axis: the middle of it is taken
INTERPOLATION = "cubic"


def lesion_table(
    resolver: SuperResolver, truth: Volume, name: str, degradation: str, noise: float, *, seed: int = 0, blur: str = "auto",
    noise_told: str = "auto", flips: int = 1, sizes_mm: Sequence[float] = SIZES_MM, contrasts: Sequence[float] = CONTRASTS,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows for the middle of `truth`, at most `LARGEST_SIDE` voxels along each axis; `noise` in percent of the truth's range.

    `blur` and `noise_told` are what the model is told, as in `EvaluateJob`. Raises `VolumeError` where the head has no room for the blobs.
    """
    factors = resolver.header.generator.factors
    middle = _middle(truth, factors)
    operator, sigma = Degradation.named(degradation, factors), noise / 100 * truth_range(truth.array)
    coarse = middle.geometry.coarsen(factors)
    options: dict[str, Any] = {"factors_ijk": factors[::-1], "flips": flips, "cancelled": cancelled}

    def degrade(array: np.ndarray) -> np.ndarray:
        if cancelled():
            raise Cancelled("cancelled")
        scan = np.ascontiguousarray(operator.forward(np.asarray(array, np.float32)))
        return rician(scan, sigma, seed) if sigma else scan

    def super_resolve(array: np.ndarray) -> np.ndarray:
        told = f"{100 * sigma / IntensityScale.fit(array).gain:.4f}" if noise_told == "known" else noise_told
        scan = middle.with_array(array, coarse)
        return np.asarray(resolver(scan, degradation if blur == "known" else blur, noise=told, **options).volume.array)

    restorers: dict[str, Restore] = {
        INTERPOLATION: lambda array: interpolate(array, factors, INTERPOLATION),
        resolver.header.name: super_resolve,
    }
    rows = lesion_rows(middle.array, middle.geometry.spacing_kji_mm, degrade, restorers, sizes_mm, contrasts, seed)
    about = {"model": resolver.header.name, "scan": name, "degradation": degradation, "noise_percent": noise, "factors_kji": list(factors)}
    return [about | row for row in rows]


def _middle(truth: Volume, factors_kji: Sequence[int]) -> Volume:
    """The middle of a scan, its sides multiples of the factors."""
    box = []
    for n, factor in zip(truth.array.shape, factors_kji, strict=True):
        side = min(n, LARGEST_SIDE) // factor * factor
        box.append(((n - side) // 2, (n - side) // 2 + side))
    part = truth.array[tuple(slice(*ends) for ends in box)]
    return truth.with_array(np.ascontiguousarray(part), truth.geometry.crop(box))


def lesion_report(rows: list[dict[str, Any]]) -> str:
    """All tables for people: one a scan, a blur and a noise."""
    keys = ("scan", "degradation", "noise_percent")
    lines = ["", "## Faint blobs", ""]
    lines += [
        "*kept*: the mean share of a blob's contrast that is left (1: all of it). *invented*: the 95th percentile of the contrast that"
    ]
    lines += ["shows where no blob was put, as a share of the tissue. Half of the blobs are bright, half are dark.", ""]
    for scan, degradation, noise in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        mine = [row for row in rows if tuple(row[key] for key in keys) == (scan, degradation, noise)]
        k, j, i = mine[0]["factors_kji"]
        lines += [f"{scan}, {condition(degradation, noise)}.", lesion_markdown(mine, (k, j, i))]
    return "\n".join(lines)
