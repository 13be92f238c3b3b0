"""Synthesizer: a synthesis checkpoint made ready once, then called with the scans of one head. Another modality of that head comes out.

The same engine as `SuperResolver`: `tiling.run` over pieces of the volume, so no plan can change the answer. Around it: the inputs are
brought to the first one's box (`WorkingGrid`), each is scaled by its own intensities, a network that works on cells gets the voxels of a
cell as channels, and the answer goes back to the first input's grid in the output's own unit.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import CheckpointError, DeviceError, JobError, ResourceError, VolumeError
from SRGAN3DLib.contract.events import Log, Progress, Report
from SRGAN3DLib.contract.job_values import check_flips, parse_bytes
from SRGAN3DLib.contract.synthesis import SYNTHETIC_WARNING, OutputImage
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.compiled import CompiledGenerator
from SRGAN3DLib.networks.generator import cells
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.axis_order import Box
from SRGAN3DLib.volumes.registration import register_rigid
from SRGAN3DLib.volumes.resampling import Interpolation, WorkingGrid, inside, is_same_grid
from SRGAN3DLib.volumes.scans import contrast_named
from SRGAN3DLib.volumes.volume import Volume

from . import memory, tiling
from .boxes import grown, region_box, slices
from .devices import DeviceChoice, choose
from .super_resolver import Result

LEAST_OVERLAP = 0.5  # of the first input's box that every other input must cover
LOWEST_MR = -500.0  # an MR scan has no such values; a CT has
WHOLE = (1, 1, 1)


class Synthesizer:
    """`Synthesizer.load("flair-from-t1t2")({"T1w": t1, "T2w": t2}).volume`; stays ready between calls."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str = "auto", memory_limit: int | str | None = None):
        self.checkpoint, self.header = checkpoint, checkpoint.header
        if self.header.task != "synthesis" or self.header.output is None:
            raise CheckpointError(f"{checkpoint.path}: a model for {self.header.task}, not for synthesis; use super-resolve")
        self.output: OutputImage = self.header.output
        self.names = tuple(image.name for image in self.header.inputs)
        if len(self.names) != self.header.generator.input_channels:
            raise CheckpointError(f"{checkpoint.path}: names {len(self.names)} inputs, its network takes another number")
        self.factors, self.coarse = self.header.generator.factors, self.header.generator.coarse
        self.asked = {"device": device, "precision": precision, "memory_limit": memory_limit}
        self.limit = parse_bytes(memory_limit) if isinstance(memory_limit, str) else memory_limit
        # bfloat16 has steps of 8 near 1000: too coarse for HU
        self._use(choose(device, "fp32" if precision == "auto" and self.output.integer else precision))

    @staticmethod
    def load(model: str | Path, device: str = "auto", precision: str = "auto", memory_limit: int | str | None = None) -> Synthesizer:
        """From a shipped name or a file. Raises `CheckpointError`, `DeviceError`, `JobError`."""
        return Synthesizer(Checkpoint.load(model), device, precision, memory_limit)

    def _use(self, choice: DeviceChoice) -> None:
        """Make the network ready on a device."""
        self.choice = choice
        self.network = CompiledGenerator(self.checkpoint.generator().on_cells(), choice.dtype, choice.device)

    def __call__(
        self,
        images: dict[str, Volume],
        on_progress: Report = lambda event: None,
        cancelled: Callable[[], bool] = lambda: False,
        roi_ijk: Sequence[Sequence[int]] | None = None,
        flips: int = 1,
        interpolation: Interpolation = "linear",
        register: str = "none",
    ) -> Result:
        """Make the output image from `images` by name; the first of the model's inputs gives the geometry.

        `roi_ijk`: a box of the first input's voxels, with the values of the whole result. `interpolation` brings inputs on other grids to
        the first one's. `register` rigid moves them onto it first. The result's volume is named by the output's contrast. Raises
        `JobError` (names the missing or surplus input), `VolumeError`, `ResourceError`, `Cancelled`.
        """
        started = time.monotonic()
        volumes = self._by_name(images)
        flips = self._checked_flips(flips)
        warnings = [SYNTHETIC_WARNING, *self._doubts(volumes)]
        for line in warnings:
            on_progress(Log(line, "warning"))
        volumes, registration = self._registered(volumes, register, on_progress)
        first = volumes[0]
        file_box = region_box(roi_ijk, first.geometry.shape_kji)
        grid = WorkingGrid.of(first.geometry, self.header.working_spacing_kji_mm)
        inputs, scales, covered = self._laid(volumes, grid, interpolation)
        box = grid.order.box(file_box, first.geometry.shape_kji) if grid.exact else tuple((0, n) for n in inputs.shape[1:])
        shape_kji = inputs.shape[1:]
        made, ran, fallbacks = self._network(inputs, box, flips, on_progress, cancelled)
        del inputs
        made = self._in_units(made, covered[slices(box)])
        array, geometry = self._given(made, grid, first, box, file_box, interpolation)
        volume = dataclasses.replace(first, dtype="int16" if self.output.integer else "float32", scaling=(1.0, 0.0), notes=())
        volume = volume.with_array(array, geometry)
        info = {
            **self._account(flips, roi_ijk),
            "inputs": {
                name: {"offset": scale.offset, "gain": scale.gain, "same_grid": is_same_grid(one.geometry, first.geometry)}
                for name, scale, one in zip(self.names, scales, volumes, strict=True)
            },
            "interpolation": interpolation,
            "registration": registration,
            "working_grid": {"shape_kji": list(shape_kji), "spacing_kji_mm": list(grid.geometry.spacing_kji_mm), "exact": grid.exact},
            "share_outside_field_of_view": float(1 - covered.mean()),
            "shape_kji": list(array.shape),
            "spacing_ijk_mm": list(geometry.spacing_ijk_mm),
            "tiles": ran,
            "fallbacks": fallbacks,
            "warnings": warnings,
            "seconds": round(time.monotonic() - started, 3),
            "version": __version__,
        }
        return Result({self.output.contrast: volume}, info)

    # ------------------------------------------------------------ what goes in
    def _by_name(self, images: dict[str, Volume]) -> list[Volume]:
        wanted = ", ".join(self.names)
        for name in self.names:
            if name not in images:
                raise JobError(f"{self.header.name}: the input {name} is missing; it takes {wanted}")
        for name in images:
            if name not in self.names:
                raise JobError(f"{self.header.name}: has no input {name}; it takes {wanted}")
        for name, volume in images.items():
            if (lowest := float(volume.array.min())) < LOWEST_MR:
                raise VolumeError(f"{volume.path or name}: values down to {lowest:g}, as a CT has; the input {name} must be an MR scan")
        return [images[name] for name in self.names]

    def _checked_flips(self, flips: int) -> int:
        seen = self.header.training.get("config", {}).get("synthesis", {}).get("flips", "all")
        most = {"all": 8, "left-right": 2}.get(seen, 1)
        if check_flips(flips) > most:
            raise JobError(f"flips {flips}: {self.header.name} was trained on {seen} mirrored views; at most {most}")
        return flips

    def _doubts(self, volumes: list[Volume]) -> list[str]:
        """What about these scans speaks against the result."""
        doubts = [note for volume in volumes for note in volume.notes]
        for image, volume in zip(self.header.inputs, volumes, strict=True):
            named = contrast_named(volume.path) if volume.path else ""
            if named and image.contrast and named.lower() != image.contrast.lower():
                doubts.append(f"{volume.path}: by its name {named}, but it is given as {image.name}")
        low, high = self.header.spacing_range_mm
        spacing = volumes[0].geometry.spacing_ijk_mm
        if high > 0 and (min(spacing) < 0.6 * low or max(spacing) > 1.6 * high):
            shown = " x ".join(f"{s:.2f}" for s in spacing)
            doubts.append(f"spacing {shown} mm: the model was trained on {low:.2f} to {high:.2f} mm")
        return doubts

    def _registered(self, volumes: list[Volume], register: str, on_progress: Report) -> tuple[list[Volume], dict[str, Any]]:
        if register == "none":
            return volumes, {"asked": "none"}
        if register != "rigid":
            raise JobError(f"register {register!r}: none or rigid")
        moved, account = [volumes[0]], {}
        for name, volume in zip(self.names[1:], volumes[1:], strict=True):
            geometry, quality = register_rigid(volumes[0], volume)
            on_progress(Log(f"{name}: moved by {quality['shift_mm']:.2f} mm and turned by {quality['turn_degrees']:.2f} degrees"))
            moved.append(volume.with_array(volume.array, geometry))
            account[name] = quality
        return moved, {"asked": "rigid", "inputs": account}

    def _laid(self, volumes: list[Volume], grid: WorkingGrid, interpolation: Interpolation) -> tuple[np.ndarray, list[Any], np.ndarray]:
        """The scaled inputs (C, K, J, I) on the working grid, their scales, and where all of them have voxels."""
        shape = grid.geometry.shape_kji
        inputs, scales, covered = np.empty((len(volumes), *shape), np.float32), [], np.ones(shape, bool)
        for channel, (name, volume) in enumerate(zip(self.names, volumes, strict=True)):
            scale = IntensityScale.fit(volume.array)
            inputs[channel] = grid.take(volume, interpolation, scale.offset)
            inputs[channel] -= np.float32(scale.offset)
            inputs[channel] /= np.float32(scale.gain)
            scales.append(scale)
            if channel and not is_same_grid(volume.geometry, volumes[0].geometry):
                covered &= inside(volume.geometry, grid.geometry)
                if (share := float(covered.mean())) < LEAST_OVERLAP:
                    raise VolumeError(
                        f"{volume.path or name}: covers {100 * share:.0f} % of the box of {volumes[0].path or self.names[0]}; at least "
                        f"{100 * LEAST_OVERLAP:.0f} % is needed. Are the scans of one head in one space? (--register rigid may help)"
                    )
        return inputs, scales, covered

    # ------------------------------------------------------------ the network
    def _network(
        self, inputs: np.ndarray, box: Box, flips: int, on_progress: Report, cancelled: Callable[[], bool]
    ) -> tuple[np.ndarray, dict[str, Any], list[str]]:
        """The network's own numbers in `box` (voxels of the working grid), float32, `factors` times as fine; what it took; fallbacks."""
        fallbacks: list[str] = []
        try:
            made, ran = self._views(inputs, box, flips, on_progress, cancelled)
        except (ResourceError, DeviceError) as error:
            if self.choice.device.type == "cpu" or self.asked["device"] != "auto":
                raise
            fallbacks.append(f"{self.choice.device} gave up ({error}); the CPU took over")
            on_progress(Log(fallbacks[-1], "warning"))
            self._use(choose("cpu", "fp32" if self.output.integer else str(self.asked["precision"])))
            made, ran = self._views(inputs, box, flips, on_progress, cancelled)
        return made, dataclasses.asdict(ran), [*ran.out_of_memory, *fallbacks]

    def _views(
        self, inputs: np.ndarray, box: Box, flips: int, on_progress: Report, cancelled: Callable[[], bool]
    ) -> tuple[np.ndarray, tiling.RunInfo]:
        """The mean over `flips` mirrored views. A view is mirrored before it is cut into cells, so this cannot be left to `tiling`."""
        begun, total, ran = time.monotonic(), None, tiling.RunInfo()
        shape = inputs.shape[1:]
        for view, axes in enumerate(tiling.MIRRORED[:flips]):

            def progress(done: float, whole: float, view: int = view) -> None:
                share, elapsed = (view + done / whole) / flips, time.monotonic() - begun
                on_progress(Progress("network", share * whole, whole, elapsed * (1 - share) / share if share else None))

            mirrored = tuple((n - b, n - a) if axis in axes else (a, b) for axis, ((a, b), n) in enumerate(zip(box, shape, strict=True)))
            made = self._one_view(np.flip(inputs, tuple(axis + 1 for axis in axes)), mirrored, ran, progress, cancelled)
            made = np.flip(made, axes)
            total = np.ascontiguousarray(made) if total is None else np.add(total, made, out=total)
        assert total is not None
        return (total if flips == 1 else np.divide(total, np.float32(flips), out=total)), ran

    def _one_view(self, inputs: np.ndarray, box: Box, ran: tiling.RunInfo, progress: Any, cancelled: Callable[[], bool]) -> np.ndarray:
        """The answer in `box`, exactly as cut from that for the whole of `inputs`."""
        grid = [-(-n // c) for n, c in zip(inputs.shape[1:], self.coarse, strict=True)]
        own = tuple((start // c, -(-stop // c)) for (start, stop), c in zip(box, self.coarse, strict=True))
        halo = [t + self.network.trunk_halo + 1 for t in self.network.tail_halo]
        outer = grown(own, halo, grid)
        piece = self._cells(inputs, outer)
        self._check_memory(piece)
        output, one = tiling.run(self.network, piece, memory_limit=self._limit_left(box), on_progress=progress, cancelled=cancelled)
        ran.pieces, ran.tiles = ran.pieces + one.pieces, ran.tiles + one.tiles
        ran.planned_bytes, ran.limit_bytes = max(ran.planned_bytes, one.planned_bytes), self.limit
        ran.out_of_memory += one.out_of_memory
        within = tuple((a * c, b * c) for (a, b), c in zip(outer, self.coarse, strict=True))
        return output[slices(box, within, self.factors)]

    def _cells(self, inputs: np.ndarray, outer: Box) -> np.ndarray:
        """The voxels of the cells in `outer` as channels (C * cells' voxels, k, j, i); zeros where a cell reaches beyond the volume."""
        cut = [slice(a * c, b * c) for (a, b), c in zip(outer, self.coarse, strict=True)]
        part = inputs[:, cut[0], cut[1], cut[2]]
        wanted = [s.stop - s.start for s in cut]
        short = [w - n for w, n in zip(wanted, part.shape[1:], strict=True)]
        if any(short):
            part = np.pad(part, [(0, 0), *((0, s) for s in short)])
        if self.coarse == WHOLE:
            return part
        return np.ascontiguousarray(cells(torch.from_numpy(np.ascontiguousarray(part))[None], self.coarse)[0].numpy())

    def _limit_left(self, box: Box) -> int | None:
        """The limit less what is still made of the network's output: one array of the result's size."""
        if self.limit is None:
            return None
        return self.limit - self._result_bytes(box)

    def _result_bytes(self, box: Box) -> int:
        return 4 * math.prod((stop - start) * f for (start, stop), f in zip(box, self.factors, strict=True))

    def _check_memory(self, piece: np.ndarray) -> None:
        """Raises `ResourceError` where the inputs alone are more than the limit."""
        if self.limit is not None and (held := memory.resident_bytes()) > self.limit:
            raise ResourceError(
                f"memory limit {memory.megabytes(self.limit)}: the inputs and the program already take {memory.megabytes(held)}"
            )

    # ------------------------------------------------------------ what comes out
    def _in_units(self, made: np.ndarray, covered: np.ndarray) -> np.ndarray:
        """The network's numbers in the output's unit, in place; HU rounded and within their range, the fill where an input ends."""
        made *= np.float32(self.output.gain)
        made += np.float32(self.output.offset)
        if self.output.integer:
            np.clip(np.rint(made, out=made), *self.output.range, out=made)
        if not covered.all():
            fine = covered
            for axis, f in enumerate(self.factors):
                fine = fine.repeat(f, axis=axis) if f > 1 else fine
            made[~fine] = self.output.fill
        return made

    def _given(
        self, made: np.ndarray, grid: WorkingGrid, first: Volume, box: Box, file_box: Box, interpolation: Interpolation
    ) -> tuple[np.ndarray, Any]:
        """The result on the first input's grid: turned back, or interpolated where the working grid has another spacing."""
        back: Factors = grid.order.inverse.per_axis(self.factors)
        geometry = first.geometry.crop(file_box).refine(back)
        if grid.exact:
            return np.ascontiguousarray(grid.order.inverse.apply(made)), geometry
        array, _ = grid.give(made, interpolation, self.output.fill, self.factors)
        array = np.ascontiguousarray(array[slices(file_box, None, back)])
        if self.output.integer:
            np.clip(np.rint(array, out=array), *self.output.range, out=array)
        return array, geometry

    def _account(self, flips: int, roi_ijk: Sequence[Sequence[int]] | None) -> dict[str, Any]:
        """The part of the info that says who did what."""
        return {
            "model": {"name": self.header.name, "file": Path(self.checkpoint.path).name, "sha256": self.checkpoint.sha256},
            "task": "synthesis",
            "output_image": {"contrast": self.output.contrast, "unit": self.output.unit, "fill": self.output.fill},
            "asked": self.asked,
            "device": str(self.choice.device),
            "device_reasons": list(self.choice.reasons),
            "precision": self.choice.precision,
            "factors_kji": list(self.factors),
            "flips": flips,
            "roi_ijk": [list(pair) for pair in roi_ijk] if roi_ijk is not None else None,
            "citation": self.header.citation,
        }
