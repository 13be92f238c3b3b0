"""The blur that a network is told: what the user gave, else what the header says, else what the scan itself shows, else nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.job_values import DEGRADATIONS
from SRGAN3DLib.physics.blur_estimator import LARGEST_SPREAD, BlurEstimate, estimate_blur
from SRGAN3DLib.physics.degradations import AxisBlur
from SRGAN3DLib.volumes.axis_order import AxisOrder

from .header_blur import HeaderAxis, header_blur

DISAGREEMENT = 0.22  # between the transfer that was given and the one that the scan shows, from which on there is a warning
SOURCES = ("given", "unknown", "header", "estimated")  # the first of these that holds along an enlarged axis names the whole
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
    def make(
        array: np.ndarray, order: AxisOrder, spacing_kji_mm: Mtf, factors_kji: tuple[int, int, int], blur: str, acquisition: Any = None
    ) -> BlurChoice:
        """For a scan `array` (K, J, I) in the network's `order`, about to be enlarged by `factors_kji`; `blur` as in `SuperResolveJob`,
        `acquisition` what the file says of it (`Volume.acquisition`).

        A header beats the estimate: what the scan shows is kept within what the header allows.
        """
        estimated = estimate_blur(array, factors_kji, spacing_kji_mm) if blur != "unknown" else None
        given, warnings = parse_blur(blur, spacing_kji_mm), []
        sources = ["given" if given else "unknown"] * 3
        mtf = given
        if given is not None and estimated is not None:
            warnings = _contradictions(blur, given, estimated.mtf_kji, factors_kji, order)
        if blur == "auto":
            file_shape, file_spacing = order.inverse.per_axis(array.shape), order.inverse.per_axis(spacing_kji_mm)
            header = order.per_axis(header_blur(acquisition, file_shape, file_spacing))
            mtf, sources, warnings = _best_of(header, estimated, factors_kji, order)
        if mtf is not None:  # axes that stay as they are have no blur to undo
            k, j, i = (v if f > 1 else 1.0 for v, f in zip(mtf, factors_kji, strict=True))
            mtf = (k, j, i)
        used = {source for source, f in zip(sources, factors_kji, strict=True) if f > 1} or {"unknown"}
        info: dict[str, Any] = {
            "source": next(s for s in SOURCES if s in used),
            "sources_kji": list(order.inverse.per_axis(tuple(sources))),
        }
        info |= {"mtf_kji": _in_file_order(mtf, order), "mtf_estimated_kji": None, "spread_kji": None, "acquired_band_kji": None}
        if estimated is not None:
            info["mtf_estimated_kji"] = _in_file_order(estimated.mtf_kji, order)
            info["spread_kji"] = _in_file_order(estimated.spread_kji, order)
            info["acquired_band_kji"] = list(order.inverse.per_axis(estimated.band_kji))
        return BlurChoice(mtf, info, tuple(warnings))

    @staticmethod
    def not_taken(blur: str, spacing_kji_mm: Mtf) -> BlurChoice:
        """For a network that takes no blur. Raises `JobError` for a blur that makes no sense all the same."""
        parse_blur(blur, spacing_kji_mm)
        ignored = () if blur in ("auto", "unknown") else (f"blur {blur}: this model cannot be told the blur",)
        return BlurChoice(None, {"source": "not used by this model", "mtf_kji": None}, ignored)


def _best_of(
    header: tuple[HeaderAxis | None, ...], estimated: BlurEstimate | None, factors_kji: tuple[int, int, int], order: AxisOrder
) -> tuple[Mtf | None, list[str], list[str]]:
    """The transfers along the network's axes (None: the network is told nothing), the source of each, and what there is to say."""
    values, sources, warnings = [1.0] * 3, ["unknown"] * 3, []
    for axis, factor in enumerate(factors_kji):
        name, says, shown = "KJI"[order.axes[axis]], header[axis], estimated.mtf_kji[axis] if estimated else None
        if says is not None:
            values[axis] = float(np.clip((says.least + says.most) / 2 if shown is None else shown, says.least, says.most))
            sources[axis] = "header"
            if factor > 1 and shown is not None and not says.least - DISAGREEMENT < shown < says.most + DISAGREEMENT:
                told = f"transfer {values[axis]:.2f} at Nyquist"
                warnings.append(f"blur along {name}: the header says {says.says}, {told}; the scan itself shows {shown:.2f}")
        elif shown is not None:
            values[axis], sources[axis] = shown, "estimated"
        if estimated is not None and factor > 1 and (band := estimated.band_kji[axis]) is not None:
            warnings.append(
                f"interpolated before along {name} (zero-filled): no detail above {band:.2f} of the Nyquist frequency was acquired"
            )
    enlarged = [axis for axis, factor in enumerate(factors_kji) if factor > 1]
    nothing = "; the network was told nothing about it"
    if any(sources[axis] == "unknown" for axis in enlarged):
        return None, ["unknown"] * 3, [*warnings, f"the scan is too small or too smooth to estimate its blur{nothing}"]
    guesses = [estimated.spread_kji[axis] for axis in enlarged if estimated is not None and sources[axis] == "estimated"]
    if guesses and float(np.mean(guesses)) > LARGEST_SPREAD:
        return None, ["unknown"] * 3, [*warnings, f"the estimate of the blur is too uncertain (+-{np.mean(guesses):.2f}){nothing}"]
    return (values[0], values[1], values[2]), sources, warnings


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
