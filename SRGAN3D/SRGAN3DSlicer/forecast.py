"""Before the click: how large the result will be, what it takes, and what about the volume lies outside what the model saw.

Plain arithmetic on the header of a checkpoint; no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from slicer.i18n import tr as _

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.jobs import THICK, parse_bytes

from .logic import laid

BASE_BYTES = 270 << 20  # what Python and torch (CPU) hold before any volume; measured, as is the share below
CPU_FLOPS = 8e10  # what two cores of a laptop do in fp32; said to be rough until a run has been timed here
MARGIN = 0.15  # of the spacing, as SRGAN3DLib.inference.super_resolver


@dataclass(frozen=True)
class Forecast:
    """`seconds` is measured where `timed`, else a rough guess; `bytes_needed` is the worker's, with the whole volume as one piece."""

    shape_kji: tuple[int, int, int]
    output_bytes: int
    bytes_needed: int
    seconds: float
    timed: bool


def forecast(
    header: CheckpointHeader,
    shape_kji: tuple[int, int, int],
    voxels_per_s: float | None,
    memory_limit: str = "",
    factors_ijk: tuple[int, int, int] | None = None,
    flips: int = 1,
) -> Forecast:
    """`shape_kji` is of the voxels to be super-resolved; `voxels_per_s` (of the input) is what this machine did before; `factors_ijk`
    are the model's as they are laid along the volume; `flips` is the number of mirrored views.
    """
    generator = header.generator
    voxels = math.prod(shape_kji)
    factors = tuple(reversed(factors_ijk)) if factors_ijk is not None else generator.factors
    shape = tuple(n * f for n, f in zip(shape_kji, factors, strict=True))
    output = 4 * math.prod(shape)
    held = BASE_BYTES + 8 * voxels + output
    whole = held + 2 * 4 * generator.features * voxels
    limit = parse_bytes(memory_limit) if memory_limit else None
    needed = whole if limit is None else max(held, min(whole, limit))
    seconds = flips * (voxels / voxels_per_s if voxels_per_s else voxels * _operations(header) / CPU_FLOPS)
    return Forecast(shape, output, needed, seconds, bool(voxels_per_s))


def _operations(header: CheckpointHeader) -> float:
    """Floating-point operations per voxel of the input, of the trunk and the upsampling."""
    generator, total = header.generator, math.prod(header.generator.factors)
    trunk = (2 * generator.blocks + 2) * 27 * generator.features**2
    tail = 27 * generator.features * (8 * total if generator.upsampling == "subpixel" else 64) + total * 27 * 64 * (
        1 if generator.upsampling == "subpixel" else 24
    )
    return 2.0 * (trunk + tail)


def warnings(
    header: CheckpointHeader,
    spacing_ijk: tuple[float, float, float],
    shape_kji: tuple[int, int, int],
    sheared: bool = False,
    warped: bool = False,
    contrasts: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """One line each; what the panel shows before the click. `contrasts` is what `mrml.contrasts` found written."""
    found = []
    agreeing = {where for where, contrast in contrasts if contrast in header.contrasts}  # "T1 in T2 space" says nothing against
    for where, contrast in contrasts if header.contrasts else ():
        if where not in agreeing:
            text = _("{where} says {contrast}: the model was trained on {trained}.")
            found.append(text.format(where=where[:1].upper() + where[1:], contrast=contrast, trained=", ".join(header.contrasts)))
    low, high = header.spacing_range_mm
    if high > 0 and (min(spacing_ijk) < (1 - MARGIN) * low or max(spacing_ijk) > (1 + MARGIN) * high):
        shown = " x ".join(f"{s:.2f}" for s in spacing_ijk)
        found.append(_("Spacing {shown} mm: the model saw {low:.2f} to {high:.2f} mm.").format(shown=shown, low=low, high=high))
    found += _axes(header, spacing_ijk)
    if min(shape_kji) < 16:
        text = _("Only {n} voxels along one axis: the model sees further than that, and the blur cannot be estimated.")
        found.append(text.format(n=min(shape_kji)))
    if sheared:
        found.append(_("The grid is sheared (a tilted gantry?); the model saw right angles only."))
    if warped:
        found.append(_("Under a transform that is not linear: the result goes under it too; spacings in space differ from these."))
    return found


def _axes(header: CheckpointHeader, spacing_ijk: tuple[float, float, float]) -> list[str]:
    """Of a model that refines one axis only: where it is laid, if not where it was trained, and what speaks against that."""
    factors = laid(header, spacing_ijk)
    refined = [n for n, factor in enumerate(factors) if factor > 1]
    if len(refined) != 1:
        return []
    own, coarsest = refined[0], spacing_ijk.index(max(spacing_ijk))
    found = []
    if factors != tuple(reversed(header.generator.factors)):
        found.append(_("The slices lie along {axis} of the array: the model is laid there.").format(axis="IJK"[own]))
    if spacing_ijk[own] < 0.99 * spacing_ijk[coarsest]:
        text = _("This model refines axis {own} of the array only ({own_mm:.2f} mm), but the coarsest axis is {other} ({other_mm:.2f} mm).")
        found.append(text.format(own="IJK"[own], own_mm=spacing_ijk[own], other="IJK"[coarsest], other_mm=spacing_ijk[coarsest]))
    elif _too_fine(factors, spacing_ijk):
        text = _("The result's voxels would be finer along {own} than within the slices: a smaller factor would do.")
        found.append(text.format(own="IJK"[own]))
    return found


def _too_fine(factors: tuple[int, int, int], spacing_ijk: tuple[float, float, float]) -> bool:
    within = [s for s, f in zip(spacing_ijk, factors, strict=True) if f == 1]
    return bool(within) and min(s / f for s, f in zip(spacing_ijk, factors, strict=True) if f > 1) < 0.7 * min(within)


def suggest(headers: dict[str, CheckpointHeader], spacing_ijk: tuple[float, float, float], first: str) -> str:
    """The key of the model for slices that brings the volume nearest to cubic voxels, if one axis is coarse; else `first`, if it is there.

    Without `first` the first model that refines more than one axis, else any; "" without any.
    """
    coarsest = spacing_ijk.index(max(spacing_ijk))
    others = [s for n, s in enumerate(spacing_ijk) if n != coarsest]
    placed = {key: laid(header, spacing_ijk) for key, header in headers.items()}
    slicewise = [key for key, factors in placed.items() if sum(f > 1 for f in factors) == 1]
    fit = [key for key in slicewise if placed[key][coarsest] > 1 and not _too_fine(placed[key], spacing_ijk)]
    if fit and spacing_ijk[coarsest] >= THICK * max(others):
        within = math.sqrt(others[0] * others[1])
        return min(fit, key=lambda key: abs(math.log(spacing_ijk[coarsest] / placed[key][coarsest] / within)))
    return first if first in headers else next(iter([*(key for key in headers if key not in slicewise), *headers]), "")


def in_words(count: float) -> str:
    """Bytes as 12 MB or 3.4 GB (powers of 1000, as file managers say)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole or '< 1'} s"
