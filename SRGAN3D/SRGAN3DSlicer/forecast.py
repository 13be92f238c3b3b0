"""Before the click: how large the result will be, what it takes, and what about the volume is unlike the training scans.

Arithmetic on the header of a checkpoint and on what was measured here; no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from slicer.i18n import tr as _

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.job_values import parse_bytes
from SRGAN3DLib.contract.limits import FEWEST_VOXELS, outside_spacing

from .placement import too_fine
from .preferences import Measured
from .tasks import Plan, direction_words

BASE_BYTES = 270 << 20  # what Python and torch (CPU) hold before any volume, where it was not measured here
CPU_FLOPS = 8e10  # two cores of a laptop in fp32, where it was not measured here
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}  # of one number in the network


@dataclass(frozen=True)
class Forecast:
    """`seconds` follows from a measurement where `measured`, else it is a rough guess. `bytes_needed` is of the whole worker process."""

    shape_kji: tuple[int, int, int]
    output_bytes: int
    bytes_needed: int
    seconds: float
    measured: bool


def forecast(
    plan: Plan,
    shape_kji: tuple[int, int, int],
    spacing_ijk: tuple[float, float, float],
    speed: Measured | None,
    memory_limit: str = "",
    flips: int = 1,
    frames: int = 1,
) -> Forecast:
    """`shape_kji` is that of the voxels to be super-resolved, in each of `frames` volumes; `flips` is the number of mirrored views.

    The whole volume is taken as one piece, unless a limit forbids it.
    """
    generator, voxels = plan.header.generator, math.prod(shape_kji)
    shape = plan.shape_kji(shape_kji, spacing_ijk)
    output = 4 * math.prod(shape)
    network = 4 * voxels * math.prod(plan.factors)
    resampled = output if plan.spacing is not None else 0
    held = (speed.base_bytes if speed and speed.base_bytes else BASE_BYTES) + 8 * voxels + network + resampled
    whole = held + 2 * BYTES.get(speed.precision if speed else "fp32", 4) * generator.features * voxels
    limit = parse_bytes(memory_limit) if memory_limit else None
    needed = whole if limit is None else max(held, min(whole, limit))
    one = voxels / speed.voxels_per_s if speed else voxels * _operations(plan.header) / CPU_FLOPS
    return Forecast(shape, frames * output, needed, flips * frames * one, speed is not None)


def _operations(header: CheckpointHeader) -> float:
    """Floating-point operations for one voxel of the input, in the trunk and the upsampling."""
    generator, total = header.generator, math.prod(header.generator.factors)
    trunk = (2 * generator.blocks + 2) * 27 * generator.features**2
    tail = 27 * generator.features * (8 * total if generator.upsampling == "subpixel" else 64) + total * 27 * 64 * (
        1 if generator.upsampling == "subpixel" else 24
    )
    return 2.0 * (trunk + tail)


def warnings(
    header: CheckpointHeader,
    factors_ijk: tuple[int, int, int],
    spacing_ijk: tuple[float, float, float],
    shape_kji: tuple[int, int, int],
    directions: Sequence[str] = ("R", "A", "S"),
    sheared: bool = False,
    warped: bool = False,
    contrasts: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """One line each, shown before the click. `contrasts` is what `mrml.contrasts` found; `directions` is from `mrml.directions`."""
    found = []
    agreeing = {where for where, contrast in contrasts if contrast in header.contrasts}  # "T1 in T2 space" is no evidence against T1
    for where, contrast in contrasts if header.contrasts else ():
        if where not in agreeing:
            text = _("{where} says {contrast}, but the model was trained on {trained}.")
            found.append(text.format(where=where[:1].upper() + where[1:], contrast=contrast, trained=", ".join(header.contrasts)))
    low, high = header.spacing_range_mm
    if outside_spacing(spacing_ijk, (low, high)):
        shown = " x ".join(f"{s:.2f}" for s in spacing_ijk)
        text = _("Voxels of {shown} mm are unlike the training scans ({low:.2f} to {high:.2f} mm).")
        found.append(text.format(shown=shown, low=low, high=high))
    found += _slices(factors_ijk, spacing_ijk, directions)
    if min(shape_kji) < FEWEST_VOXELS:
        text = _("Only {n} voxels in one direction: the model looks further than that, and the blur cannot be estimated.")
        found.append(text.format(n=min(shape_kji)))
    if sheared:
        found.append(_("The grid is sheared (a tilted gantry?). The model was trained on right angles only."))
    if warped:
        found.append(_("The volume is under a non-linear transform, and the result will be too; distances in space differ from these."))
    return found


def _slices(factors: tuple[int, int, int], spacing_ijk: tuple[float, float, float], directions: Sequence[str]) -> list[str]:
    """What speaks against a model for slices on this volume."""
    refined = [axis for axis, factor in enumerate(factors) if factor > 1]
    if len(refined) != 1:
        return []
    own, coarsest = refined[0], spacing_ijk.index(max(spacing_ijk))
    words = direction_words()
    if spacing_ijk[own] < 0.99 * spacing_ijk[coarsest]:
        text = _("This model refines {own} only ({own_mm:.2f} mm), but the voxels are longest along {other} ({other_mm:.2f} mm).")
        own_word, other_word = words[directions[own]], words[directions[coarsest]]
        return [text.format(own=own_word, own_mm=spacing_ijk[own], other=other_word, other_mm=spacing_ijk[coarsest])]
    if too_fine(factors, spacing_ijk):
        text = _("The new slices along {own} would be thinner than the voxels are wide. A smaller factor is enough.")
        return [text.format(own=words[directions[own]])]
    return []


def in_words(count: float) -> str:
    """Bytes as 12 MB or 3.4 GB (powers of 1000, as file managers count)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole or '< 1'} s"
