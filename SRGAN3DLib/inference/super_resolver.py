"""SuperResolver: a checkpoint made ready once, then called with scans. A scan goes in, volumes on a finer grid come out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.errors import DeviceError, JobError, ResourceError
from SRGAN3DLib.contract.events import Log, Progress, Report
from SRGAN3DLib.contract.job_values import check_flips, parse_bytes, place_factors
from SRGAN3DLib.contract.limits import outside_spacing
from SRGAN3DLib.contract.model_choice import resampled_shape
from SRGAN3DLib.inference.blur_choice import BlurChoice
from SRGAN3DLib.inference.boxes import grown, region_box, slices
from SRGAN3DLib.inference.noise_choice import NoiseChoice
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.compiled import CompiledGenerator
from SRGAN3DLib.networks.generator import Conditions
from SRGAN3DLib.physics.artefacts import artefact_indices
from SRGAN3DLib.physics.back_projection import assumed, consistency, give_back, reach
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation
from SRGAN3DLib.physics.flat_regions import FLAT_REACH, flat_voxels, keep_flat
from SRGAN3DLib.physics.inferred_detail import check_detail, inferred_detail
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.interpolation import resample
from SRGAN3DLib.physics.residual_filter import ResidualFilter
from SRGAN3DLib.volumes.axis_order import AxisOrder, Box, direction_letters
from SRGAN3DLib.volumes.geometry import slabs
from SRGAN3DLib.volumes.volume import Volume
from SRGAN3DLib.volumes.voxels import UNSCALED

from . import tiling
from .devices import DeviceChoice, choose

KNOWN_BLUR = ("given",)  # sources that are no estimate


@dataclass(frozen=True)
class Result:
    """Named `volumes` on the finer grid, in the same physical box as the scan (`sr`: the super-resolved scan).

    `info` says what was asked and what was done, ready for JSON.
    """

    volumes: dict[str, Volume]
    info: dict[str, Any]

    @property
    def volume(self) -> Volume:
        """The first of the volumes."""
        return next(iter(self.volumes.values()))


@dataclass(frozen=True)
class _Scan:
    """A scan as the network sees it: `array` is a view of the volume's in `order`, the same for all 48 ways to store the scan."""

    volume: Volume
    order: AxisOrder

    @property
    def array(self) -> np.ndarray:
        return self.order.apply(self.volume.array)

    @property
    def spacing_kji_mm(self) -> tuple[float, float, float]:
        return self.order.per_axis(self.volume.geometry.spacing_kji_mm)


class SuperResolver:
    """A network, ready for one scan after the other.

    >>> volume = Volume.from_array(np.ones((8, 10, 12)), np.eye(4))
    >>> sr = SuperResolver.load("t1-x2", device="cpu")(volume).volume
    >>> sr.array.shape, sr.geometry.spacing_ijk_mm
    ((16, 20, 24), (0.5, 0.5, 0.5))
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str = "auto", memory_limit: int | str | None = None):
        self.checkpoint, self.header = checkpoint, checkpoint.header
        if self.header.task != "super-resolution":
            raise JobError(f"{checkpoint.path}: a model for {self.header.task}, not for super-resolution; use synthesize")
        if self.header.generator.input_channels != 1:
            raise JobError(f"{checkpoint.path}: takes {self.header.generator.input_channels} images; one scan can be given")
        self.asked = {"device": device, "precision": precision, "memory_limit": memory_limit}
        self.limit = parse_bytes(memory_limit) if isinstance(memory_limit, str) else memory_limit
        self.factors = self.header.generator.factors
        self._use(choose(device, precision))

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

    def _use(self, choice: DeviceChoice) -> None:
        """Make the network ready on a device."""
        self.choice = choice
        self.network = CompiledGenerator(self.checkpoint.generator(), choice.dtype, choice.device)

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
        allow_negative: bool = False,
        spacing_ijk_mm: tuple[float, float, float] | None = None,
        noise: str = "auto",
        detail: bool = False,
    ) -> Result:
        """Super-resolve one scan. The options are those of `jobs.SuperResolveJob`; a region (`roi_ijk`) has the values of the whole
        result. With `detail` there is a second volume of that name: what the scan did not determine, `inferred_detail`.

        Raises `VolumeError`, `JobError`, `ResourceError` (names the least memory that would do), `Cancelled`.
        """
        started = time.monotonic()
        scan, log = self._scan(volume, factors_ijk)
        told = self._blur_choice(scan, blur)
        seen_noise = NoiseChoice.make(scan.array, scan.order, scan.spacing_kji_mm, self.header.generator.noise_aware, noise)
        warnings = [*volume.notes, *self._misfits(volume), *told.warnings, *seen_noise.warnings]
        for event in (*map(Log, log), *(Log(line, "warning") for line in warnings)):
            on_progress(event)
        file_box = region_box(roi_ijk, volume.geometry.shape_kji)
        box = scan.order.box(file_box, volume.geometry.shape_kji)
        scale = IntensityScale.fit(scan.array)
        operator, assumes = self._operator(scan, blur, told)
        check_detail(operator, assumes) if detail else None
        filtered = self._residual_filter(operator, told, seen_noise.sigma, back_projection)
        wide = grown(box, reach(operator, filtered) if operator and filtered else (0, 0, 0), scan.array.shape)
        conditions = Conditions(told.mtf, seen_noise.sigma)
        output, ran, fallbacks = self._network(scan, wide, conditions, scale, check_flips(flips), on_progress, cancelled)
        if operator and filtered:
            give_back(scan.array[slices(wide)], output, operator, filtered)
        output = output[slices(box, wide, self.factors)]
        _keep_flat(scan, box, output)
        raised = 0 if allow_negative else _raise_to_zero(scan.array, output)
        agreement = self._consistency(scan, output, box, operator, scale.gain)
        geometry = volume.geometry.crop(file_box).refine(scan.order.inverse.per_axis(self.factors))
        sr = volume.with_array(np.ascontiguousarray(scan.order.inverse.apply(output)), geometry)
        volumes = _volumes(sr, operator if detail else None, scan.order, spacing_ijk_mm)
        info = {
            **self._account(scan, blur, noise, flips, roi_ijk),
            **_grid_account(volumes["sr"], output, spacing_ijk_mm),
            "blur": told.info,
            "noise": seen_noise.info,
            "intensity": {"offset": scale.offset, "gain": scale.gain},
            "consistency": agreement | {"assumes": assumes} | _filter_account(filtered),
            "artefacts": artefact_indices(scan.array[slices(box)], output, self.factors, scale.gain),
            "voxels_raised_to_zero": raised,
            "tiles": dataclasses.asdict(ran),
            "fallbacks": [*ran.out_of_memory, *fallbacks],
            "warnings": warnings,
            "seconds": round(time.monotonic() - started, 3),
        }
        return Result(volumes, info)

    def look(self, volume: Volume, blur: str = "auto", noise: str = "auto") -> dict[str, Any]:
        """What a call would be told of this scan: the accounts of `blur` and `noise`, as in a result's info, the factors along the
        scan's own axes K, J, I, and the value of bright tissue above air. Raises `JobError`."""
        scan, _ = self._scan(volume, None)
        seen = NoiseChoice.make(scan.array, scan.order, scan.spacing_kji_mm, self.header.generator.noise_aware, noise)
        return {
            "blur": self._blur_choice(scan, blur).info,
            "noise": seen.info,
            "factors_kji": scan.order.inverse.per_axis(self.factors),
            "bright_tissue": IntensityScale.fit(scan.array).gain,
        }

    def _scan(self, volume: Volume, factors_ijk: Sequence[int] | None) -> tuple[_Scan, list[str]]:
        """The scan as the network sees it: nearest to RAS, then with its axes where the network's factors are; and what to say of that."""
        order = AxisOrder.towards_ras(volume.geometry)
        spacing_ijk = order.per_axis(volume.geometry.spacing_kji_mm)[::-1]
        asked = order.per_axis(tuple(factors_ijk)[::-1])[::-1] if factors_ijk is not None and len(factors_ijk) == 3 else factors_ijk
        i, j, k = place_factors(self.factors[::-1], spacing_ijk, asked)  # type: ignore[arg-type]
        taken_by = (2 - k, 2 - j, 2 - i)  # the network's axis that each axis of the scan becomes
        scan = _Scan(volume, order.then([taken_by.index(axis) for axis in range(3)]))
        if asked is not None or taken_by == (0, 1, 2):
            return scan, []
        placed = scan.order.inverse.per_axis(self.factors)
        axis = "KJI"[max(range(3), key=lambda a: placed[a])]
        return scan, [f"the slices lie along {axis}: the factors of {self.header.name} are {placed[::-1]} along I, J, K here"]

    def _blur_choice(self, scan: _Scan, blur: str) -> BlurChoice:
        if not self.header.generator.blur_aware:
            return BlurChoice.not_taken(blur, scan.spacing_kji_mm)
        acquisition = getattr(scan.volume, "acquisition", None)
        return BlurChoice.make(scan.array, scan.order, scan.spacing_kji_mm, self.factors, blur, acquisition)

    def _operator(self, scan: _Scan, blur: str, told: BlurChoice) -> tuple[Degradation | None, str]:
        """The degradation that the scan went through, as far as it is known, and its name in words."""
        enlarged = max(range(3), key=lambda axis: self.factors[axis])
        width = self.header.fitted_width(scan.spacing_kji_mm[enlarged]) if blur == "auto" else None
        if width is not None:
            return Degradation(self.factors, (AxisBlur("gaussian", width),) * 3), f"slices {width:.2f} of their spacing thick, as fitted"
        blurs, assumes = assumed(blur, told.info["mtf_kji"], told.info["source"])
        return (Degradation(self.factors, scan.order.per_axis(blurs)) if blurs is not None else None), assumes

    def _residual_filter(
        self, operator: Degradation | None, told: BlurChoice, noise: float | None, asked: bool | None
    ) -> ResidualFilter | None:
        """How the result is made to agree with the scan; None where it is not: nobody asked, or the degradation is not known."""
        wanted = self.header.back_projection if asked is None else asked
        if operator is None or not wanted or max(self.factors) == 1:
            return None
        return ResidualFilter.make(operator, told.info["source"] in KNOWN_BLUR, noise)

    def _network(
        self, scan: _Scan, box: Box, told: Conditions, scale: IntensityScale, flips: int, on_progress: Report, cancelled: Callable[[], bool]
    ) -> tuple[np.ndarray, tiling.RunInfo, list[str]]:
        """The network's answer in `box`, as cut from that for the whole scan; what it took; and what was done otherwise than asked.

        Where a GPU's memory ends even for small pieces and the device is `auto`, the CPU takes over.
        """
        outer = grown(box, self._halo(), scan.array.shape)
        begun = time.monotonic()

        def progress(done: float, total: float) -> None:
            elapsed = time.monotonic() - begun
            on_progress(Progress("network", done, total, elapsed * (total - done) / done if done else None))

        def work() -> tuple[np.ndarray, tiling.RunInfo]:
            out = scan.order.apply(self._zeros(scan, outer))
            return tiling.run(
                self.network, scan.array[slices(outer)], told=told, scale=scale, memory_limit=self.limit, flips=flips, out=out,
                on_progress=progress, cancelled=cancelled,
            )  # fmt: skip

        fallbacks: list[str] = []
        try:
            output, ran = work()
        except (ResourceError, DeviceError) as error:
            if self.choice.device.type == "cpu" or self.asked["device"] != "auto":
                raise
            fallbacks.append(f"{self.choice.device} gave up ({error}); the CPU took over")
            on_progress(Log(fallbacks[-1], "warning"))
            self._use(choose("cpu", str(self.asked["precision"])))
            output, ran = work()
        return output[slices(box, outer, self.factors)], ran, fallbacks

    def _halo(self) -> list[int]:
        """How far the network looks, in LR voxels along its axes; one more, since the shares of tiles reach into their neighbours."""
        return [t + self.network.trunk_halo + 1 for t in self.network.tail_halo]

    def _zeros(self, scan: _Scan, box: Box) -> np.ndarray:
        """Room for the answer in `box`, in the order of the scan's file: so no copy is made to bring it there."""
        shape = [(stop - start) * f for (start, stop), f in zip(box, self.factors, strict=True)]
        return np.zeros(scan.order.inverse.per_axis(shape), np.float32)

    def _misfits(self, volume: Volume) -> list[str]:
        """What about this scan lies outside what the model saw."""
        low, high = self.header.spacing_range_mm
        spacing = volume.geometry.spacing_ijk_mm
        if outside_spacing(spacing, (low, high)):
            shown = " x ".join(f"{s:.2f}" for s in spacing)
            return [f"spacing {shown} mm: the model was trained on {low:.2f} to {high:.2f} mm"]
        return []

    def _consistency(self, scan: _Scan, output: np.ndarray, box: Box, operator: Degradation | None, gain: float) -> dict[str, Any]:
        """How far the result, degraded again, is from the scan; `rms_of_range` is None where the degradation is not known."""
        if operator is None:
            return {"rms_of_range": None, "voxels": 0}
        cut = [(start > 0, stop < n) for (start, stop), n in zip(box, scan.array.shape, strict=True)]
        return consistency(scan.array[slices(box)], output, operator, gain, cut)

    def _account(self, scan: _Scan, blur: str, noise: str, flips: int, roi_ijk: Sequence[Sequence[int]] | None) -> dict[str, Any]:
        """The part of the info that says who did what to which axes."""
        model = {"name": self.header.name, "file": Path(self.checkpoint.path).name, "sha256": self.checkpoint.sha256}
        if "blend" in self.header.training:
            model["blend"] = self.header.training["blend"]
        return {
            "model": model,
            "asked": {**self.asked, "blur": blur, "noise": noise},
            "device": str(self.choice.device),
            "device_reasons": list(self.choice.reasons),
            "precision": self.choice.precision,
            "factors_kji": list(scan.order.inverse.per_axis(self.factors)),
            "directions_kji": list(direction_letters(scan.volume.geometry)),
            "flips": flips,
            "roi_ijk": [list(pair) for pair in roi_ijk] if roi_ijk is not None else None,
            "version": __version__,
        }


def _filter_account(filtered: ResidualFilter | None) -> dict[str, Any]:
    """The part of the info about the back-projection."""
    return {"back_projection": filtered is not None, "damping": filtered.damping if filtered else None}


def _grid_account(sr: Volume, output: np.ndarray, spacing_ijk_mm: tuple[float, float, float] | None) -> dict[str, Any]:
    """The part of the info about the grid of the result, and that of the network's output where the result was resampled."""
    return {
        "shape_kji": list(sr.array.shape),
        "spacing_ijk_mm": list(sr.geometry.spacing_ijk_mm),
        "resampled_from_kji": list(output.shape) if spacing_ijk_mm is not None else None,
    }


def _volumes(
    sr: Volume, operator: Degradation | None, order: AxisOrder, spacing_ijk_mm: tuple[float, float, float] | None
) -> dict[str, Volume]:
    """The volumes of a result by name: `sr`; with an `operator` (along the network's axes) also `detail`, on the same grid; both
    resampled where another spacing is asked."""
    volumes = {"sr": sr}
    if operator is not None:
        found = order.inverse.apply(inferred_detail(order.apply(sr.array), operator))
        volumes["detail"] = replace(sr, array=found, dtype="float32", scaling=UNSCALED, notes=())
    if spacing_ijk_mm is None:
        return volumes
    return {name: _resampled(one, spacing_ijk_mm) for name, one in volumes.items()}


def _resampled(volume: Volume, spacing_ijk_mm: tuple[float, float, float]) -> Volume:
    """The volume at another spacing, as nearly as the same box allows."""
    i, j, k = resampled_shape(volume.geometry.shape_kji[::-1], volume.geometry.spacing_ijk_mm, spacing_ijk_mm)  # type: ignore[arg-type]
    return volume.with_array(resample(volume.array, (k, j, i)), volume.geometry.resampled((k, j, i)))


def _keep_flat(scan: _Scan, box: Box, output: np.ndarray) -> None:
    """Where the scan has one value all around a voxel, the output for `box` gets that value, in place."""
    around = grown(box, (FLAT_REACH,) * 3, scan.array.shape)
    flat = flat_voxels(scan.array[slices(around)])[slices(box, around)]
    keep_flat(scan.array[slices(box)], output, flat)


def _raise_to_zero(scan: np.ndarray, output: np.ndarray) -> int:
    """Where the scan has no negative value, the result gets none; returns the number of voxels that are changed, in place."""
    if scan.min() < 0:
        return 0
    count = 0
    for slab in slabs(output.shape):
        count += int(np.count_nonzero(output[slab] < 0))
        np.maximum(output[slab], 0, out=output[slab])
    return count
