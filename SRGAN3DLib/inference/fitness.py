"""How a scan compares with what a model was trained on, in words, before the run: one line a fact."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.limits import outside_spacing
from SRGAN3DLib.volumes.volume import Volume

SOFTEST_MTF = 0.3  # transfer at Nyquist: the training blurs end there
LEAST_NOISE = 2.0  # percent of bright tissue: what every shipped model has seen
STRIPPED_FROM = 0.3  # share of voxels that have the scan's least value exactly
LEAST_EXTENT_MM = 80.0  # a head is larger


@dataclass(frozen=True)
class FitnessLine:
    """One fact: its name, what the scan shows, whether that is `as_in_training`, and what to `expect` where it is not."""

    fact: str
    shows: str
    as_in_training: bool
    expect: str = ""

    def __str__(self) -> str:
        verdict = "as in training" if self.as_in_training else f"outside: {self.expect}"
        return f"{self.fact}: {self.shows} ({verdict})"


def fitness(volume: Volume, header: CheckpointHeader, look: dict[str, Any]) -> tuple[FitnessLine, ...]:
    """The lines for a scan and a model; `look` is what `SuperResolver.look` says of the scan."""
    return (
        _spacing(volume, header),
        _noise(header, look["noise"]),
        _blur(look["blur"]),
        _interpolated(look["blur"]),
        _background(volume),
        _field_of_view(volume),
        _contrast(volume, header),
    )


def fitness_to_json(lines: tuple[FitnessLine, ...]) -> list[dict[str, Any]]:
    """Plain data for a result's info."""
    return [asdict(line) for line in lines]


def _spacing(volume: Volume, header: CheckpointHeader) -> FitnessLine:
    low, high = header.spacing_range_mm
    spacing = volume.geometry.spacing_ijk_mm
    shows = " x ".join(f"{mm:.2f}" for mm in spacing) + " mm"
    expect = f"the model was trained on {low:.2f} to {high:.2f} mm; less is gained, and detail is less sure"
    return FitnessLine("spacing", shows, not outside_spacing(spacing, (low, high)), expect)


def _noise(header: CheckpointHeader, noise: dict[str, Any]) -> FitnessLine:
    percent = noise["percent"] if noise["percent"] is not None else noise.get("percent_estimated")
    if percent is None:
        return FitnessLine("noise", "not known", False, "the network is told nothing about it")
    trained = header.training.get("config", {}).get("noise") or {}
    most = max(LEAST_NOISE, 100 * float(trained.get("most", 0)))
    shows = f"{percent:.1f} % of bright tissue ({noise['source']})"
    return FitnessLine(
        "noise", shows, percent <= 1.15 * most, f"the model was trained on up to {most:.0f} %; noise may be taken for detail"
    )


def _blur(blur: dict[str, Any]) -> FitnessLine:
    mtf = blur["mtf_kji"]
    if mtf is None:
        return FitnessLine("blur", f"not known ({blur['source']})", False, "the network is told nothing about it; the result is cautious")
    shows = f"transfer {' / '.join(f'{v:.2f}' for v in mtf)} at Nyquist along K, J, I ({blur['source']})"
    return FitnessLine("blur", shows, min(mtf) >= SOFTEST_MTF, "softer than all training scans; the result stays soft")


def _interpolated(blur: dict[str, Any]) -> FitnessLine:
    bands = blur.get("acquired_band_kji") or (None,) * 3
    axes = ", ".join("KJI"[axis] for axis, band in enumerate(bands) if band is not None)
    shows = f"along {axes}" if axes else "along no axis"
    return FitnessLine("interpolated before", shows, not axes, "the grid is finer than what was acquired; little can be gained there")


def _background(volume: Volume) -> FitnessLine:
    least = volume.array.min()
    share = float(np.count_nonzero(volume.array == least)) / volume.array.size
    return FitnessLine("background", "removed (stripped)" if share > STRIPPED_FROM else "whole head, with air", True)


def _field_of_view(volume: Volume) -> FitnessLine:
    extent = [n * mm for n, mm in zip(volume.geometry.shape_kji[::-1], volume.geometry.spacing_ijk_mm, strict=True)]
    shows = " x ".join(f"{mm:.0f}" for mm in extent) + " mm"
    expect = "a part of a head; blur and noise are estimated from little"
    return FitnessLine("field of view", shows, min(extent) >= LEAST_EXTENT_MM, expect)


def _contrast(volume: Volume, header: CheckpointHeader) -> FitnessLine:
    modality = volume.acquisition.modality if volume.acquisition is not None else ""
    trained = ", ".join(header.contrasts) or "contrasts that are not stated"
    if modality and modality != "MR":
        return FitnessLine("contrast", modality, False, f"the model was trained on MRI ({trained}); do not use the result")
    return FitnessLine("contrast", f"not checked; the model was trained on {trained}", True)
