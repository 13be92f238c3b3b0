"""Before the click: how large the result will be, what it takes, and what about the volume lies outside what the model saw.

Plain arithmetic on the header of a checkpoint; no torch.
"""

import math
from dataclasses import dataclass

from slicer.i18n import tr as _

from SRGAN3DLib.checkpoint_header import CheckpointHeader
from SRGAN3DLib.jobs import parse_bytes

BASE_BYTES = 270 << 20  # what Python and torch (CPU) hold before any volume; measured, as is the share below
CPU_FLOPS = 8e10  # what two cores of a laptop do in fp32; said to be rough until a run has been timed here
MARGIN = 0.15  # of the spacing, as SRGAN3DLib.super_resolver


@dataclass(frozen=True)
class Forecast:
    """`seconds` is measured where `timed`, else a rough guess; `bytes_needed` is the worker's, with the whole volume as one piece."""

    shape_kji: tuple[int, int, int]
    output_bytes: int
    bytes_needed: int
    seconds: float
    timed: bool


def forecast(header: CheckpointHeader, shape_kji: tuple[int, int, int], voxels_per_s: float | None, memory_limit: str = "") -> Forecast:
    """`shape_kji` is of the voxels to be super-resolved; `voxels_per_s` (of the input) is what this machine did before."""
    generator = header.generator
    voxels = math.prod(shape_kji)
    shape = tuple(n * f for n, f in zip(shape_kji, generator.factors, strict=True))
    output = 4 * math.prod(shape)
    held = BASE_BYTES + 8 * voxels + output
    whole = held + 2 * 4 * generator.features * voxels
    limit = parse_bytes(memory_limit) if memory_limit else None
    needed = whole if limit is None else max(held, min(whole, limit))
    seconds = voxels / voxels_per_s if voxels_per_s else voxels * _operations(header) / CPU_FLOPS
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
    header: CheckpointHeader, spacing_ijk: tuple[float, float, float], shape_kji: tuple[int, int, int], sheared: bool, warped: bool
) -> list[str]:
    """One line each; what the panel shows before the click."""
    found = []
    low, high = header.spacing_range_mm
    if high > 0 and (min(spacing_ijk) < (1 - MARGIN) * low or max(spacing_ijk) > (1 + MARGIN) * high):
        shown = " x ".join(f"{s:.2f}" for s in spacing_ijk)
        found.append(_("Spacing {shown} mm: the model saw {low:.2f} to {high:.2f} mm.").format(shown=shown, low=low, high=high))
    if min(shape_kji) < 16:
        text = _("Only {n} voxels along one axis: the model sees further than that, and the blur cannot be estimated.")
        found.append(text.format(n=min(shape_kji)))
    if sheared:
        found.append(_("The grid is sheared (a tilted gantry?); the model saw right angles only."))
    if warped:
        found.append(_("Under a transform that is not linear: the result goes under it too; spacings in space differ from these."))
    return found


def in_words(count: float) -> str:
    """Bytes as 12 MB or 3.4 GB (powers of 1000, as file managers say)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"
