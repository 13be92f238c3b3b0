"""What a scan's header says of its blur: the slice profile from slice thickness and spacing, the band from the acquisition matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from SRGAN3DLib.contract.configs import FloatTriple
from SRGAN3DLib.physics.degradations import AxisBlur

SLICES_FROM_MM = 2.0  # 3-D acquisitions state a thickness too, which is no profile; their partitions are thinner than this, as a rule
WHOLE_BAND = 0.92  # share of the image matrix that was acquired, from which on nothing was zero-filled


@dataclass(frozen=True)
class HeaderAxis:
    """The range of transfers at Nyquist (0 to 1) that the header allows along one axis, and in words what it says."""

    least: float
    most: float
    says: str


def header_blur(facts: Any, shape_kji: tuple[int, ...], spacing_kji_mm: FloatTriple) -> tuple[HeaderAxis | None, ...]:
    """Along K, J, I of the file's own array: what `Volume.acquisition` says; None along axes of which it says nothing.

    A slice profile of thickness t lies between a gaussian of FWHM t and a box of width t. An in-plane axis with fewer acquired than
    stored rows was zero-filled: its transfer is that of an ideal low-pass.
    """
    if facts is None:
        return (None, None, None)
    return (_slices(facts, spacing_kji_mm[0]), *_in_plane(facts, shape_kji))


def _slices(facts: Any, spacing: float) -> HeaderAxis | None:
    thickness = facts.slice_thickness_mm
    if facts.interpolated_slices:
        return HeaderAxis(1.0, 1.0, "slices interpolated by zero-filling")
    if not thickness or not spacing or max(thickness, spacing) < SLICES_FROM_MM or not 0.2 < thickness / spacing < 4:
        return None
    width = thickness / spacing
    ends = sorted((AxisBlur("gaussian", width).mtf, AxisBlur("box", width).mtf))
    return HeaderAxis(ends[0], ends[1], f"slices {thickness:g} mm thick every {spacing:.4g} mm")


def _in_plane(facts: Any, shape_kji: tuple[int, ...]) -> tuple[HeaderAxis | None, HeaderAxis | None]:
    if not facts.acquisition_matrix or not facts.interpolated:
        return None, None
    frequency_rows, frequency_columns, phase_rows, phase_columns = facts.acquisition_matrix
    acquired = (frequency_rows or phase_rows, frequency_columns or phase_columns)
    j, i = (
        HeaderAxis(1.0, 1.0, f"{few} of {n} samples acquired") if few and few < WHOLE_BAND * n else None
        for few, n in zip(acquired, shape_kji[1:], strict=True)
    )
    return j, i
