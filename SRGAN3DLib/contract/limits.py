"""Limits that Slicer's process and the library must agree on. Each fact stands here once."""

from __future__ import annotations

from collections.abc import Sequence

SPACING_MARGIN = 0.15  # share of the spacing beyond the training range that is not worth a warning
SHEAR_TOLERANCE = 1e-4  # largest cosine between two axes of a grid that counts as rectangular; files with five digits stay below it
THICK = 1.25  # times another axis' spacing: from here on an axis counts as thick
FEWEST_VOXELS = 16  # along an axis; with fewer the blur cannot be estimated
LEAST_ADDRESS_SPACE = 1 << 30  # bytes (`ulimit -v`) with which Python and PyTorch can be loaded at all; measured
PYTHON_SETTING = "SRGAN3D/python"  # of Slicer: the interpreter of the worker


def outside_spacing(spacing_mm: Sequence[float], range_mm: tuple[float, float]) -> bool:
    """Whether a scan's spacing (mm, any order of axes) lies clearly outside the range that a model was trained on.

    A range of (0, 0) says that the range is not known: then nothing lies outside.
    """
    low, high = range_mm
    return high > 0 and (min(spacing_mm) < (1 - SPACING_MARGIN) * low or max(spacing_mm) > (1 + SPACING_MARGIN) * high)
