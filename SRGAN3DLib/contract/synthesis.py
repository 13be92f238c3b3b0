"""What a synthesis model takes and makes: images by name, the unit and range of the output, and how a run is trained.

Synthesis makes another modality of the same head, such as CT from T1w, or FLAIR from T1w and T2w. Plain data, as `configs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import JobError

Task = Literal["super-resolution", "synthesis"]
Unit = Literal["", "HU"]
TASKS = ("super-resolution", "synthesis")
HU_RANGE = (-1024.0, 3071.0)
HU_UNKNOWN = -1020.0  # at and below it lies what no scanner measures: the padding outside a CT's field of view
MR_GAIN = 1000.0  # an MR image has no unit: bright tissue is written as this number
SYNTHETIC_WARNING = (
    "synthetic image: lesions, implants and calcifications may be missing or invented; not for dose calculation and not for diagnosis"
)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise JobError(message)


@dataclass(frozen=True)
class InputImage:
    """An image that the model takes, called `name` on the command line and in the panel; `contrast` as in `CheckpointHeader`."""

    name: str
    contrast: str = ""
    normalisation: Literal["robust-p1-p99-foreground"] = "robust-p1-p99-foreground"

    def __post_init__(self) -> None:
        _check(self.name.strip() == self.name and self.name != "", f"input name {self.name!r}: must be a word such as T1w")
        _check(not set(self.name) & set("=,/\\"), f"input name {self.name!r}: must not hold '=', ',' or a slash")


@dataclass(frozen=True)
class OutputImage:
    """The image that the model makes.

    The network's y stands for y * `gain` + `offset`. With normalisation `affine` the training targets are mapped by the same two
    numbers, so HU stay HU. With `robust-p1-p99-foreground` each target is scaled by its own intensities: bright tissue is 1. `range` is
    where the values are clipped (HU), `fill` the value outside the field of view.
    """

    contrast: str
    unit: Unit = ""
    normalisation: Literal["affine", "robust-p1-p99-foreground"] = "robust-p1-p99-foreground"
    offset: float = 0.0
    gain: float = MR_GAIN
    range: tuple[float, float] = (0.0, 0.0)
    fill: float = 0.0

    def __post_init__(self) -> None:
        _check(bool(self.contrast), "output: must have a contrast such as CT or FLAIR")
        _check(self.gain > 0, f"output gain {self.gain}: must be above 0")
        low, high = self.range
        _check(self.unit != "HU" or self.normalisation == "affine", "output in HU: its normalisation must be affine, never by percentiles")
        _check(self.unit != "HU" or (low < high and low >= -32768 and high <= 32767), f"range {self.range} HU: must fit into 16 bits")

    @property
    def integer(self) -> bool:
        """Whether it is written as int16: HU are."""
        return self.unit == "HU"


def ct_output(contrast: str = "CT") -> OutputImage:
    """HU by a fixed map: -1024 HU is 0 for the network, water is 1."""
    return OutputImage(contrast, "HU", "affine", -1024.0, 1024.0, HU_RANGE, -1024.0)


@dataclass(frozen=True)
class SynthesisConfig:
    """How a synthesis run is trained, beside `TrainConfig`.

    The pairs are laid on `spacing_kji_mm` (0: each pair's own) in the anatomical axis order. A patch has `patch_kji` voxels. Voxels
    outside the mask count `outside_weight`, those where the target is not known 0. With `tolerance` 1 a voxel's error is the smallest
    within one voxel of it. `conditional`: the discriminator sees the inputs, too. Augmentation, of the inputs only: gain and gamma drawn
    within 1 +- `contrast_spread`, a bias field of up to `bias`, a blur in a share `blurred` of the patches, noise of up to `noise` (bright
    tissue is 1). Flips: of all axes, of left and right only, or none.
    """

    inputs: tuple[InputImage, ...]
    output: OutputImage
    spacing_kji_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    patch_kji: tuple[int, int, int] = (48, 48, 48)
    outside_weight: float = 0.1
    tolerance: int = 0
    conditional: bool = False
    flips: Literal["all", "left-right", "none"] = "left-right"
    contrast_spread: float = 0.15
    bias: float = 0.2
    blurred: float = 0.2
    noise: float = 0.03

    def __post_init__(self) -> None:
        names = [image.name for image in self.inputs]
        _check(bool(names), "synthesis: needs at least one input")
        _check(len(set(names)) == len(names), f"synthesis: an input is named twice in {', '.join(names)}")
        _check(min(self.patch_kji) >= 4, f"patch_kji {self.patch_kji}: at least 4 voxels along each axis")
        _check(self.tolerance in (0, 1), f"tolerance {self.tolerance}: 0 or 1 voxel")
        _check(min(self.spacing_kji_mm) >= 0, f"spacing_kji_mm {self.spacing_kji_mm}: 0 or more")
        for name in ("outside_weight", "contrast_spread", "bias", "blurred", "noise"):
            _check(0 <= getattr(self, name) <= 1, f"synthesis.{name} {getattr(self, name)}: 0 to 1")
