"""Frozen configurations: what is built, what it was trained for, how it is trained.

Each is plain data that survives a round trip through JSON (`to_json`, `from_json`); an unknown key or a
value outside its choices is a `JobError`. Triples run over the array axes (K, J, I) unless the name says `ijk`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from .errors import JobError
from .strict_json import LARGEST_INT, from_json, read_json, shown, to_json
from .synthesis import SynthesisConfig

IntTriple = tuple[int, int, int]
FloatTriple = tuple[float, float, float]
Factors = IntTriple
Norm = Literal["batch", "none"]
Upsampling = Literal["resize-conv", "subpixel", "subpixel-nn"]
Content = Literal["mse", "l1", "charbonnier"]
Blur = Literal["box", "gaussian", "kspace", "slice-profile", "random"]

DISCRIMINATOR_STRIDE = 16  # four convolutions of stride 2
LARGEST_FACTOR = 8
LARGEST_PATCH = 512  # LR voxels
LARGEST_COUNT = 1_000_000_000  # of steps
LARGEST_RATE = 1e6  # rates and weights beyond it are slips of the pen
CONFIG_FORMAT = 2  # of config.json; files without a number are of format 1, which had the key degradation.fwhm
UNKNOWN_MTF = -1.0
"""What a blur-aware network is told along an axis whose blur nobody knows; a transfer itself is 0 to 1."""
UNKNOWN_NOISE = -0.1
"""What a noise-aware network is told where nobody knows the noise; a standard deviation itself is 0 or more."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise JobError(message)


def check_factors(factors: Factors, where: str = "factors") -> None:
    _check(
        len(factors) == 3 and all(1 <= f <= LARGEST_FACTOR for f in factors),
        f"{where} {tuple(factors)}: must be three numbers from 1 to {LARGEST_FACTOR}",
    )


@dataclass(frozen=True)
class GeneratorConfig:
    """The residual generator of [P1] (Sanchez & Vilaplana 2017) and its variants; method.md, section 1.

    `factors` over (K, J, I); 4 is two doublings, all 1 keeps the grid (synthesis).
    `input_channels` counts images; a `blur_aware` network takes three more, constant, channels: the modulation
    transfer of the blur at the low-resolution Nyquist frequency along K, J, I (`UNKNOWN_MTF` where nobody knows).
    A `noise_aware` network takes one constant channel more, the last: the standard deviation of the scan's noise.
    `interpolation_residual`: the network predicts the difference to cell-centred trilinear interpolation.
    `coarse` (K, J, I) above 1: the trunk works on cells of so many voxels. The voxels of a cell become channels in front of
    it, and the upsampling has the factors `factors` x `coarse`. The network then sees so many times as far.
    """

    factors: Factors = (2, 2, 2)
    features: int = 32
    blocks: int = 6
    slope: float = 0.25
    norm: Norm = "batch"
    upsampling: Upsampling = "resize-conv"
    input_channels: int = 1
    blur_aware: bool = False
    noise_aware: bool = False
    interpolation_residual: bool = False
    coarse: Factors = (1, 1, 1)

    def __post_init__(self) -> None:
        check_factors(self.factors)
        check_factors(self.coarse, "coarse")
        check_factors(self.upsampled, "factors x coarse")
        whole = self.coarse == (1, 1, 1) or not (self.blur_aware or self.interpolation_residual)
        _check(whole, f"coarse {self.coarse}: not with blur_aware or interpolation_residual")
        _check(1 <= self.features <= 512, f"features {self.features}: 1 to 512")
        _check(0 <= self.blocks <= 64, f"blocks {self.blocks}: 0 to 64")
        _check(0 <= self.slope < 1, f"slope {self.slope}: 0 to below 1")
        _check(1 <= self.input_channels <= 512, f"input_channels {self.input_channels}: 1 to 512")
        _check(self.norm in get_args(Norm), f"norm {self.norm!r}: batch or none")
        _check(self.upsampling in get_args(Upsampling), f"upsampling {self.upsampling!r}: resize-conv, subpixel or subpixel-nn")

    @property
    def stages(self) -> tuple[Factors, ...]:
        """The upsampling steps: 4 is done as 2 then 2; factors all 1 still pass one stage."""
        first = tuple(2 if f == 4 else f for f in self.upsampled)
        second = tuple(2 if f == 4 else 1 for f in self.upsampled)
        return (first, second) if 4 in self.upsampled else (first,)  # type: ignore[return-value]

    @property
    def upsampled(self) -> Factors:
        """What the upsampling part enlarges by: from the trunk's grid to the output's."""
        k, j, i = (f * c for f, c in zip(self.factors, self.coarse, strict=True))
        return (k, j, i)

    @property
    def on_cells(self) -> GeneratorConfig:
        """The same network, given a cell's voxels as channels: what runs on a volume that `networks.generator.cells` has rearranged."""
        images = self.input_channels * math.prod(self.coarse)
        return replace(self, factors=self.upsampled, coarse=(1, 1, 1), input_channels=images)

    @property
    def channels(self) -> int:
        """Channels of the tensor the trunk takes: images (of cells each voxel), three of blur if it is told the blur, one of noise."""
        images = self.input_channels * math.prod(self.coarse)
        return images + (3 if self.blur_aware else 0) + (1 if self.noise_aware else 0)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The 8-layer discriminator of [P1]; `head` flatten pins the patch, pooled takes any; `output` sigmoid is the paper's.

    `head` patch is another network, which judges every neighbourhood by itself; `conditional`: it sees the generator's input, too.
    """

    head: Literal["flatten", "pooled", "patch"] = "pooled"
    output: Literal["sigmoid", "linear"] = "linear"
    norm: Norm = "batch"
    features: int = 64
    dense: int = 1024
    slope: float = 0.3
    patch: tuple[int, int, int] = (48, 48, 48)
    conditional: bool = False
    input_channels: int = 1

    def __post_init__(self) -> None:
        _check(self.head == "patch" or not self.conditional, f"head {self.head}: only a patch head can be conditional")
        _check(1 <= self.input_channels <= 64, f"discriminator.input_channels {self.input_channels}: 1 to 64")
        _check(
            1 <= self.features <= 1024 and 1 <= self.dense <= 65536,
            f"features {self.features} (1 to 1024), dense {self.dense} (1 to 65536)",
        )
        _check(0 <= self.slope < 1, f"discriminator.slope {self.slope}: 0 to below 1")
        _check(
            min(self.patch) >= 1 and max(self.patch) <= 8 * LARGEST_PATCH,
            f"patch {self.patch}: 1 to {8 * LARGEST_PATCH} voxels along each axis",
        )


@dataclass(frozen=True)
class DegradationConfig:
    """What a model was trained for: the kind of blur, and the noise (share of the head's P99). `slice-profile` is what `fit` does.

    Files of before had a key `fwhm`, which nothing read: it is passed over.
    """

    RETIRED: ClassVar[tuple[str, ...]] = ("fwhm",)

    kind: Blur = "random"
    noise: float = 0.0

    def __post_init__(self) -> None:
        _check(0 <= self.noise <= 1, f"degradation.noise {self.noise}: a share, 0 to 1")


@dataclass(frozen=True)
class NoiseConfig:
    """The noise that the mixture of degradations (`random`) adds to training patches, and what the network is told of it.

    A `share` of the patches gets Rician noise whose standard deviation is drawn evenly from 0 to `most` (of bright tissue); a share
    `correlated` of these has noise that was smoothed or zero-filled, a share `masked` a background set to 0, as skull stripping does.
    A noise-aware network is told the true level times 1 + N(0, `error`) plus |N(0, `floor`)|, and nothing in a share `unknown`.
    """

    share: float = 0.2
    most: float = 0.02
    correlated: float = 0.0
    masked: float = 0.0
    unknown: float = 0.1
    error: float = 0.1
    floor: float = 0.003

    def __post_init__(self) -> None:
        for name in ("share", "most", "correlated", "masked", "unknown", "error", "floor"):
            _check(0 <= getattr(self, name) <= 1, f"noise.{name} {getattr(self, name)}: 0 to 1")


@dataclass(frozen=True)
class TrainConfig:
    """One training run, whole; written to RUN/config.json and read back. Rates are Adam's, patches are LR voxels.

    `batch` is that of a step, whatever the number of ranks that share it. D's loss for real patches aims at 1 - `label_smoothing`;
    every `r1_every` steps it has `r1_weight` / 2 times the R1 penalty, times `r1_every`.

    `validation_share` of the subjects of `data` (drawn by `seed`) are kept for validation where `validation` names no other scans.
    `init` names a checkpoint (shipped or file) whose weights the generator starts from, as far as its layers are the same.
    `subject_pattern` is a regular expression with one group that finds the subject in a scan's path below `data`.
    Each scan is seen at its own spacing times each of `coarser`, as long as it stays below `coarsest_mm`.
    Bright tissue, 1 otherwise, is multiplied by a number from 1 - `gain_spread` to 1 + `gain_spread`; a share `other_contrast` of the
    patches is seen in another contrast. In the GAN stage `spectrum_weight` and `lattice_weight` weigh `losses.spectrum_loss` and
    `losses.lattice_loss`. Validation cases have noise of each of `validation_noise` (percent of the truth's range).
    With `synthesis`, `data` and `validation` name pairs (`volumes/pairs.py`) and no degradation is made.
    """

    data: str
    out: str
    validation: str | None = None
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    coarser: tuple[float, ...] = (1.0, 1.2, 1.45)
    coarsest_mm: float = 1.35
    gain_spread: float = 0.2
    other_contrast: float = 0.0
    validation_noise: tuple[float, ...] = (0.0,)
    steps: int = 8000
    gan_steps: int = 2000
    batch: int = 3
    patch: int = 28
    learning_rate: float = 5e-4
    gan_learning_rate: float = 1e-4
    discriminator_learning_rate: float = 1e-4
    gradient_clip: float = 0.2
    content: Content = "charbonnier"
    content_weight: float = 1.0
    adversarial_weight: float = 0.005
    gradient_difference_weight: float = 0.0
    spectrum_weight: float = 0.0
    lattice_weight: float = 0.0
    label_smoothing: float = 0.0
    r1_weight: float = 0.0
    r1_every: int = 16
    ema: float = 0.999
    unknown_blur: float = 0.1
    mtf_error: float = 0.1
    validate_every: int = 500
    validation_box: int = 112
    save_every: int = 200
    validation_share: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    preset: str = "fast"
    init: str | None = None
    subject_pattern: str | None = None
    synthesis: SynthesisConfig | None = None

    def __post_init__(self) -> None:
        count = LARGEST_COUNT
        _check(0 <= self.steps <= count and 0 <= self.gan_steps <= count, f"steps {self.steps} + {self.gan_steps}: each 0 to {count}")
        _check(self.steps + self.gan_steps >= 1, "steps and gan_steps are both 0: nothing to train")
        _check(0 <= self.seed <= LARGEST_INT, f"seed {self.seed}: 0 to {LARGEST_INT}")
        _check(
            1 <= self.batch <= 65536 and 4 <= self.patch <= LARGEST_PATCH,
            f"batch {self.batch} (1 to 65536), patch {self.patch} (4 to {LARGEST_PATCH})",
        )
        _check(8 <= self.validation_box <= 4096, f"validation_box {self.validation_box}: 8 to 4096 voxels")
        _check(0 <= self.ema < 1, f"ema {self.ema}: 0 to below 1")
        _check(0 <= self.validation_share < 1, f"validation_share {self.validation_share}: 0 to below 1")
        _check(not (self.validation and self.validation_share), "validation and validation_share: one of them, not both")
        _check(0 <= self.label_smoothing < 0.5, f"label_smoothing {self.label_smoothing}: 0 to below 0.5")
        _check(0 <= self.unknown_blur <= 1, f"unknown_blur {self.unknown_blur}: a share, 0 to 1")
        for name in ("learning_rate", "gan_learning_rate", "discriminator_learning_rate", "gradient_clip"):
            value, most = getattr(self, name), math.inf if name == "gradient_clip" else LARGEST_RATE
            _check(
                0 < value <= most and math.isfinite(value), f"{name} {value}: a number above 0" + f", at most {most:g}" * (most < math.inf)
            )
        weights = [f"{name}_weight" for name in ("content", "adversarial", "gradient_difference", "spectrum", "lattice", "r1")]
        for name in (*weights, "mtf_error"):
            value = getattr(self, name)
            _check(0 <= value <= LARGEST_RATE, f"{name} {value}: 0 or more, at most {LARGEST_RATE:g}")
        last = self.batch * math.prod(-(-self.patch * f // DISCRIMINATOR_STRIDE) for f in self.generator.factors)
        _check(
            not self.gan_steps or self.discriminator.norm == "none" or last > 1,
            f"batch {self.batch} of patch {self.patch}: leaves the discriminator's batch norm one value; take larger ones",
        )
        for name in ("validate_every", "save_every", "r1_every"):
            _check(1 <= getattr(self, name) <= count, f"{name} {getattr(self, name)}: an interval of 1 to {count} steps")
        _check(bool(self.coarser) and min(self.coarser) >= 1, f"coarser {self.coarser}: numbers from 1")
        _check(0 <= self.gain_spread < 1, f"gain_spread {self.gain_spread}: 0 to below 1")
        _check(0 <= self.other_contrast <= 1, f"other_contrast {self.other_contrast}: a share, 0 to 1")
        noise = self.validation_noise
        _check(bool(noise) and min(noise) >= 0, f"validation_noise {noise}: percentages, 0 or more")


def read_train_config(path: str | Path) -> TrainConfig:
    """A run's config.json; raises `JobError` naming the file where it cannot be read or is none."""
    data = read_json(path)
    if isinstance(data, dict):
        version = data.pop("format_version", 1)
        if version not in range(1, CONFIG_FORMAT + 1):
            raise JobError(
                f"{path}: format version {shown(version)}; this program reads 1 to {CONFIG_FORMAT}. A newer one wrote it: use that"
            )
    return from_json(TrainConfig, data, str(path))


def train_config_text(config: TrainConfig) -> str:
    """The text of a config.json, which `read_train_config` reads back."""
    return json.dumps({"format_version": CONFIG_FORMAT, **to_json(config)}, indent=1) + "\n"


PRESETS = ("paper", "fast", "large", "synthesis")


def preset(name: str, factors: Factors = (2, 2, 2)) -> GeneratorConfig:
    """A named generator: `paper` is [P1] exactly (529 377 parameters at x2); `fast` is what we ship; `large` is wider and deeper.

    `fast` drops batch normalisation, predicts the difference to trilinear interpolation, shuffles sub-voxels
    in place of the 64-channel tail on the fine grid (a third of the arithmetic) and is told the blur and the noise.
    `synthesis` has batch normalisation and is told nothing: another modality is no residual of its input.
    `large` has 982 881 parameters at x2: the most (10 blocks of 40 features) that keep the file below 4 MB.
    """
    if name == "paper":
        return GeneratorConfig(factors=factors)
    plain = GeneratorConfig(factors=factors, norm="none", upsampling="subpixel", interpolation_residual=True)
    fast = replace(plain, blur_aware=True, noise_aware=True)
    if name == "fast":
        return fast
    if name == "synthesis":
        return GeneratorConfig(factors=factors, upsampling="subpixel")
    if name == "large":
        return replace(fast, features=40, blocks=10)
    raise JobError(f"unknown preset {name!r}; choose from {', '.join(PRESETS)}")


def training_preset(name: str, data: str, out: str, validation: str | None = None, factors: Factors = (2, 2, 2)) -> TrainConfig:
    """The configuration of a named run: `paper` trains [P1]'s networks by equations (1) and (2), the others as the shipped models."""
    config = TrainConfig(data, out, validation, preset(name, factors), preset=name)
    if name != "paper":
        noise = NoiseConfig(share=0.55, most=0.13, correlated=0.2, masked=0.15)
        more: dict[str, Any] = {"coarser": (1.0, 1.2, 1.45, 2.0), "coarsest_mm": 2.1, "gain_spread": 0.3, "other_contrast": 0.2}
        return replace(config, noise=noise, validation_noise=(0.0, 4.0), **more)
    k, j, i = (config.patch * f for f in factors)
    discriminator = DiscriminatorConfig(head="flatten", output="sigmoid", patch=(k, j, i))
    return replace(config, content="mse", discriminator=discriminator)
