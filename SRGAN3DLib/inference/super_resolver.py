"""SuperResolver: a checkpoint made ready once, then called with volumes. Volume in, volume at a finer grid out, and what was done."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.errors import DeviceError, JobError, ResourceError
from SRGAN3DLib.contract.events import Log, Progress, Report
from SRGAN3DLib.contract.jobs import DEGRADATIONS, check_flips, parse_bytes, place_factors
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.compiled import CompiledGenerator
from SRGAN3DLib.physics.back_projection import assumed, consistency, give_back, reach
from SRGAN3DLib.physics.blur_estimator import estimate_mtf
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.volume import Volume

from . import tiling
from .devices import DeviceChoice, choose

MISTOLD = 0.22  # difference of MTF between what was told and what the scan says that is worth a warning
Triple = tuple[float, float, float]
Order = tuple[int, int, int]
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Result:
    """`volume` on the finer grid, in the same physical box; `info` says what was asked and what was done, ready for JSON."""

    volume: Volume
    info: dict[str, Any]


class SuperResolver:
    """`SuperResolver.load("t1-x2")(volume).volume`; stays ready between calls."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str = "auto", memory_limit: int | str | None = None):
        self.checkpoint, self.header = checkpoint, checkpoint.header
        if self.header.generator.input_channels != 1:
            raise JobError(f"{checkpoint.path}: takes {self.header.generator.input_channels} images; one scan can be given")
        self.asked = {"device": device, "precision": precision, "memory_limit": memory_limit}
        self.limit = parse_bytes(memory_limit) if isinstance(memory_limit, str) else memory_limit
        self.order: Order = (0, 1, 2)
        self._prepare(choose(device, precision))

    @staticmethod
    def load(
        model: str | Path | tuple[str | Path, str | Path], device: str = "auto", precision: str = "auto",
        memory_limit: int | str | None = None, alpha: float | None = None,
    ) -> SuperResolver:  # fmt: skip
        """From a shipped name or a file; from a pair of one architecture, blended by `alpha` (0 the first, 1 the second).

        `memory_limit` (bytes, or `4G`) is for the whole process's resident memory. Raises `CheckpointError`, `DeviceError`, `JobError`.
        """
        if isinstance(model, tuple) != (alpha is not None):
            raise JobError(f"model {model}, alpha {alpha}: a pair of models and an alpha go together")
        if isinstance(model, tuple) and alpha is not None:
            checkpoint = Checkpoint.load(model[0]).blend(Checkpoint.load(model[1]), alpha)
        else:
            checkpoint = Checkpoint.load(model)  # type: ignore[arg-type]
        return SuperResolver(checkpoint, device, precision, memory_limit)

    def _prepare(self, choice: DeviceChoice) -> None:
        self.choice = choice
        generator = self.checkpoint.transposed(self.order).generator()
        self.factors = generator.config.factors
        self.network = CompiledGenerator(generator, choice.dtype, choice.device)

    def _lay(self, volume: Volume, factors_ijk: Sequence[int] | None) -> list[str]:
        """Turn the network so that its factors lie as asked, or along the scan's thick axis; returns what there is to say about it."""
        model_ijk = self.header.generator.factors[::-1]
        asked = tuple(factors_ijk) if factors_ijk is not None else None
        i, j, k = place_factors(model_ijk, volume.geometry.spacing_ijk_mm, asked)  # type: ignore[arg-type]
        order = (2 - k, 2 - j, 2 - i)
        if order != self.order:
            self.order = order
            self._prepare(self.choice)
        if asked is None and order != (0, 1, 2):
            axis = "KJI"[max(range(3), key=lambda a: self.factors[a])]
            return [f"the slices lie along {axis}: the model's factors {model_ijk} are laid there, as {self.factors[::-1]} along I, J, K"]
        return []

    def __call__(
        self,
        volume: Volume,
        blur: str = "auto",
        on_progress: Report = lambda event: None,
        cancelled: Callable[[], bool] = lambda: False,
        roi_ijk: Sequence[Sequence[int]] | None = None,
        factors_ijk: Sequence[int] | None = None,
        back_projection: bool | None = None,
        flips: int = 1,
    ) -> Result:
        """Super-resolve one scan. `blur`, `roi_ijk` (a region has the values of the whole result), `factors_ijk`,
        `back_projection` and `flips` are those of `jobs.SuperResolveJob`.

        Raises `VolumeError`, `JobError`, `ResourceError` (names the least memory that would do), `Cancelled`.
        """
        started = time.monotonic()
        for line in self._lay(volume, factors_ijk):
            on_progress(Log(line))
        warnings = [*volume.notes, *self._misfits(volume)]
        mtf, blur_info = self._told(volume, blur)
        warnings += blur_info.pop("warnings")
        for line in warnings:
            on_progress(Log(line, "warning"))
        box = _box(roi_ijk, volume.geometry.shape_kji)
        geometry = volume.geometry.crop(box).refine(self.factors)
        scale = IntensityScale.fit(volume.array)
        blurs, assumes = assumed(blur, blur_info["mtf_kji"], blur_info["source"])
        operator = Degradation(self.factors, blurs) if blurs is not None else None
        wanted = self.header.back_projection if back_projection is None else back_projection
        back_projection = wanted and operator is not None
        wide = _grown(box, reach(operator) if operator and back_projection else (0, 0, 0), volume.geometry.shape_kji)
        crop, inner = self._with_halo(volume.array, wide)
        output, ran, fallbacks = self._run(crop, mtf, scale, check_flips(flips), on_progress, cancelled)
        output = output[inner]
        if operator and back_projection:
            give_back(volume.array[_slices(wide)], output, operator)
        output = np.ascontiguousarray(output[_slices(box, wide, self.factors)])
        info = {
            "model": {"name": self.header.name, "file": Path(self.checkpoint.path).name, "sha256": self.checkpoint.sha256}
            | ({"blend": self.header.training["blend"]} if "blend" in self.header.training else {}),
            "asked": {**self.asked, "blur": blur},
            "device": str(self.choice.device),
            "device_reasons": list(self.choice.reasons),
            "precision": self.choice.precision,
            "factors_kji": list(self.factors),
            "flips": flips,
            "roi_ijk": [list(pair) for pair in roi_ijk] if roi_ijk is not None else None,
            "blur": blur_info,
            "intensity": {"offset": scale.offset, "gain": scale.gain},
            "consistency": self._agreement(volume.array, output, box, operator, scale.gain)
            | {"assumes": assumes, "back_projection": back_projection},
            "shape_kji": list(output.shape),
            "spacing_ijk_mm": list(geometry.spacing_ijk_mm),
            "tiles": ran,
            "fallbacks": fallbacks,
            "warnings": warnings,
            "seconds": round(time.monotonic() - started, 3),
            "version": __version__,
        }
        return Result(volume.with_array(output, geometry), info)

    def _with_halo(self, array: np.ndarray, box: Box) -> tuple[np.ndarray, tuple[slice, ...]]:
        """What the network must see for `box` to come out as from the whole volume, and where in its output the box lies."""
        halo = [t + self.network.trunk_halo + 1 for t in self.network.tail_halo]  # + 1: shares reach into their neighbours
        outer = _grown(box, halo, array.shape)
        return array[_slices(outer)], _slices(box, outer, self.factors)

    def _run(
        self, array: np.ndarray, mtf: Triple | None, scale: IntensityScale, flips: int, on_progress: Report, cancelled: Callable[[], bool]
    ) -> tuple[np.ndarray, dict[str, Any], list[str]]:
        """The network over the pieces; where a GPU's memory ends even for small ones and the device is `auto`, the CPU takes over."""
        begun = time.monotonic()

        def progress(done: float, total: float) -> None:
            elapsed = time.monotonic() - begun
            on_progress(Progress("network", done, total, elapsed * (total - done) / done if done else None))

        def work() -> tuple[np.ndarray, tiling.RunInfo]:
            options: dict[str, Any] = {"mtf": mtf, "scale": scale, "memory_limit": self.limit, "flips": flips}
            return tiling.run(self.network, array, on_progress=progress, cancelled=cancelled, **options)

        fallbacks: list[str] = []
        try:
            output, ran = work()
        except (ResourceError, DeviceError) as error:
            if self.choice.device.type == "cpu" or self.asked["device"] != "auto":
                raise
            fallbacks.append(f"{self.choice.device} gave up ({error}); the CPU took over")
            on_progress(Log(fallbacks[-1], "warning"))
            self._prepare(choose("cpu", str(self.asked["precision"])))
            output, ran = work()
        return output, dataclasses.asdict(ran), [*ran.out_of_memory, *fallbacks]

    def _misfits(self, volume: Volume) -> list[str]:
        """What about this scan lies outside what the model saw."""
        low, high = self.header.spacing_range_mm
        spacing = volume.geometry.spacing_ijk_mm
        if high > 0 and (min(spacing) < 0.85 * low or max(spacing) > 1.15 * high):
            shown = " x ".join(f"{s:.2f}" for s in spacing)
            return [f"spacing {shown} mm: the model was trained on {low:.2f} to {high:.2f} mm"]
        return []

    def _agreement(self, array: np.ndarray, output: np.ndarray, box: Box, operator: Degradation | None, gain: float) -> dict[str, Any]:
        """How far the result, degraded again, is from the scan; `rms_of_range` is None where the degradation is not known."""
        if operator is None:
            return {"rms_of_range": None, "voxels": 0}
        cut = [(start > 0, stop < n) for (start, stop), n in zip(box, array.shape, strict=True)]
        return consistency(array[_slices(box)], output, operator, gain, cut)

    def _told(self, volume: Volume, blur: str) -> tuple[Triple | None, dict[str, Any]]:
        """The MTF the network is told (None: unknown), and the account of it."""
        factors = self.factors
        if not self.header.generator.blur_aware:
            parse_blur(blur, volume.geometry.spacing_kji_mm)  # refuse nonsense all the same
            ignored = [f"blur {blur}: this model cannot be told the blur"] if blur not in ("auto", "unknown") else []
            return None, {"source": "not used by this model", "mtf_kji": None, "warnings": ignored}
        estimated = estimate_mtf(volume.array, factors) if blur != "unknown" else None
        info: dict[str, Any] = {"mtf_estimated_kji": [round(v, 3) for v in estimated] if estimated else None, "warnings": []}
        given = parse_blur(blur, volume.geometry.spacing_kji_mm)
        if given is not None:
            mtf, source = given, "given"
            if estimated is not None:
                off = [a for a, f in enumerate(factors) if f > 1 and abs(given[a] - estimated[a]) > MISTOLD]
                if off:
                    says, told = (", ".join(f"{v[a]:.2f}" for a in off) for v in (estimated, given))
                    axes = ", ".join("KJI"[a] for a in off)
                    info["warnings"].append(f"blur {blur}: MTF {told} at Nyquist along {axes}, but the scan itself looks like {says}")
        elif estimated is not None:
            mtf, source = estimated, "estimated"
        else:
            mtf, source = None, "unknown"
            if blur == "auto":
                info["warnings"].append("the scan is too small or too smooth to estimate its blur; the network was told nothing")
        if mtf is not None:  # axes that stay as they are have no blur to undo
            mtf = tuple(v if f > 1 else 1.0 for v, f in zip(mtf, factors, strict=True))  # type: ignore[assignment]
        return mtf, {"source": source, "mtf_kji": [round(v, 3) for v in mtf] if mtf else None, **info}


def _box(roi_ijk: Sequence[Sequence[int]] | None, shape_kji: Sequence[int]) -> Box:
    """(start, stop) along K, J, I. Raises `JobError` for a region that is empty or leaves the volume."""
    if roi_ijk is None:
        return tuple((0, n) for n in shape_kji)
    box = tuple((int(start), int(stop)) for start, stop in reversed(list(roi_ijk)))
    if len(box) != 3 or any(not 0 <= start < stop <= n for (start, stop), n in zip(box, shape_kji, strict=True)):
        shown = ", ".join(f"{start}:{stop}" for start, stop in reversed(box))
        raise JobError(f"region {shown} (I, J, K): not within the {' x '.join(map(str, reversed(shape_kji)))} voxels of the volume")
    return box


def _grown(box: Box, by: Sequence[int], shape_kji: Sequence[int]) -> Box:
    return tuple((max(0, start - r), min(n, stop + r)) for (start, stop), r, n in zip(box, by, shape_kji, strict=True))


def _slices(box: Box, within: Box | None = None, factors: Sequence[int] = (1, 1, 1)) -> tuple[slice, ...]:
    """The slices that cut `box` out of an array that covers `within` (None: all) on a grid `factors` as fine."""
    firsts = [start for start, _ in within] if within else [0, 0, 0]
    return tuple(slice((start - o) * f, (stop - o) * f) for (start, stop), o, f in zip(box, firsts, factors, strict=True))


def parse_blur(text: str, spacing_kji_mm: Triple) -> Triple | None:
    """`gaussian`, `box`, `kspace`, a FWHM in voxels (`1.2`) or in mm (`2.4mm`) -> MTF along K, J, I; None for auto, unknown."""
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
