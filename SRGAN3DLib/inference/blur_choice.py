"""The blur that a network is told: what the user gave, else what the scan itself shows, else nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.jobs import DEGRADATIONS
from SRGAN3DLib.physics.blur_estimator import estimate_mtf
from SRGAN3DLib.physics.degradations import AxisBlur
from SRGAN3DLib.volumes.axis_order import AxisOrder

DISAGREEMENT = 0.22  # between the transfer that was given and the one that the scan shows, from which on there is a warning
Mtf = tuple[float, float, float]


@dataclass(frozen=True)
class BlurChoice:
    """`mtf`: the transfer at LR Nyquist along the network's axes K, J, I; None where nobody knows it, or the network takes none.

    `info` is the account of it along the scan's own axes; `warnings` are sentences for the user.
    """

    mtf: Mtf | None
    info: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @staticmethod
    def make(array: np.ndarray, order: AxisOrder, spacing_kji_mm: Mtf, factors_kji: tuple[int, int, int], blur: str) -> BlurChoice:
        """For a scan `array` (K, J, I) in the network's `order`, about to be enlarged by `factors_kji`; `blur` as in `SuperResolveJob`."""
        estimated = estimate_mtf(array, factors_kji) if blur != "unknown" else None
        given, warnings = parse_blur(blur, spacing_kji_mm), []
        mtf, source = (given, "given") if given is not None else (estimated, "estimated" if estimated is not None else "unknown")
        if given is not None and estimated is not None:
            warnings = _contradictions(blur, given, estimated, factors_kji, order)
        if mtf is None and blur == "auto":
            warnings = ["the scan is too small or too smooth to estimate its blur; the network was told nothing about it"]
        if mtf is not None:  # axes that stay as they are have no blur to undo
            k, j, i = (v if f > 1 else 1.0 for v, f in zip(mtf, factors_kji, strict=True))
            mtf = (k, j, i)
        info = {"source": source, "mtf_kji": _in_file_order(mtf, order), "mtf_estimated_kji": _in_file_order(estimated, order)}
        return BlurChoice(mtf, info, tuple(warnings))

    @staticmethod
    def not_taken(blur: str, spacing_kji_mm: Mtf) -> BlurChoice:
        """For a network that takes no blur. Raises `JobError` for a blur that makes no sense all the same."""
        parse_blur(blur, spacing_kji_mm)
        ignored = () if blur in ("auto", "unknown") else (f"blur {blur}: this model cannot be told the blur",)
        return BlurChoice(None, {"source": "not used by this model", "mtf_kji": None}, ignored)


def _in_file_order(mtf: Mtf | None, order: AxisOrder) -> list[float] | None:
    return None if mtf is None else [round(v, 3) for v in order.inverse.per_axis(mtf)]


def _contradictions(blur: str, given: Mtf, estimated: Mtf, factors_kji: tuple[int, int, int], order: AxisOrder) -> list[str]:
    """What there is to say where the scan does not look like the blur that was given."""
    far = [axis for axis, f in enumerate(factors_kji) if f > 1 and abs(given[axis] - estimated[axis]) > DISAGREEMENT]
    if not far:
        return []
    shown, told = (", ".join(f"{mtf[axis]:.2f}" for axis in far) for mtf in (estimated, given))
    axes = ", ".join("KJI"[order.axes[axis]] for axis in far)
    return [f"blur {blur}: MTF {told} at Nyquist along {axes}, but the scan itself looks like {shown}"]


def parse_blur(text: str, spacing_kji_mm: Mtf) -> Mtf | None:
    """`gaussian`, `box`, `kspace`, a FWHM in voxels (`1.2`) or in mm (`2.4mm`) -> MTF along K, J, I; None for auto, unknown.

    Raises `JobError` for anything else.
    """
    if text in ("auto", "unknown"):
        return None
    if text in DEGRADATIONS:
        value = AxisBlur(text).mtf  # type: ignore[arg-type]
        return (value, value, value)
    try:
        number = float(text.removesuffix("mm"))
        widths = [number / s for s in spacing_kji_mm] if text.endswith("mm") else [number] * 3
        k, j, i = (AxisBlur("gaussian", width).mtf for width in widths)
    except (ValueError, JobError):
        raise JobError(f"blur {text!r}: auto, unknown, box, gaussian, kspace, a FWHM in voxels (1.2) or in mm (2.4mm)") from None
    return (k, j, i)
