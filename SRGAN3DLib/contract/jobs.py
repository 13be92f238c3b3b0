"""Jobs: what the panel, the command line and the worker can ask for, as frozen plain data. `app.dispatcher` does them.

Strict JSON both ways: `{"job": "super-resolve", "input": ..., ...}`. An unknown key or a value of a wrong kind is a `JobError`.
A new option of a job is one field here, one line in the table of options of `app/`, and one key in `app/worker-schema.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .configs import Factors, TrainConfig, from_json, to_json
from .errors import JobError
from .job_values import (
    DEFAULT_MODEL,
    DEGRADATIONS,
    MOST_NOISE,
    OUTPUT_TYPES,
    Precision,
    check_alpha,
    check_blur,
    check_compute,
    check_degradation,
    check_flips,
    check_model_output,
    check_path,
    parse_noise,
    split_models,
)
from .model_choice import AUTO, wanted_spacing
from .synthesis import Task

Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]
Range = tuple[int, int]


@dataclass(frozen=True)
class SuperResolveJob:
    """Super-resolve `input` (a file, a DICOM folder, or a folder of volumes) into `output` (a file, or a folder).

    - `model`: a shipped name, a path, or auto: the shipped model that suits the scan (`model_choice.choose_model`). With `alpha` (0 to
      1) it is a pair of one architecture, `FAITHFUL,SHARP`, blended that far towards the second.
    - `spacing`: that of the result: 1, 1,1,2 (mm along I, J, K) or isotropic. The smallest factors that reach it are taken, then the
      result is resampled to it in the same box. None keeps the model's own grid.
    - `blur`: auto (estimated from the scan), unknown, box, gaussian, kspace, or a FWHM as text, in LR voxels (`1.2`) or mm (`2.4mm`).
    - `memory_limit`: for the resident memory of the whole process, as `4G` or `1500M`; None takes what the machine has free.
    - `roi_ijk`: only these voxels, ((first, one past the last), ...) along I, J, K. They have the values of the whole result.
    - `ijk_to_ras` (4x4, voxel centres, mm): says that `input` is a float32 .npy array (K, J, I) on that grid. `output` may then be
      a .npy file, too. Slicer and the worker hand volumes to each other in this way.
    - `factors_ijk`: where the model's factors go along I, J, K of the array: (1, 1, 4) and (4, 1, 1) are both slice-x4. None: see
      `place_factors`.
    - `back_projection`: whether the result is corrected so that, degraded again, it equals the scan; only where the blur is given or
      estimated. None: as the model's header says.
    - `flips` (1, 2, 4 or 8): the mean over so many mirrored views of the scan, in so many times the time.
    - `allow_negative`: keep negative values in the result of a scan that has none.
    - `series`: which of several DICOM series: a number, a UID, or a part of the description; `4:2` is the second volume of series 4.
    - `dtype`: the number type of the output file, as in `Volume.write`: auto, input, or one of `NUMBER_TYPES`. `like_input_dtype` is
      the older word for `dtype` input.
    - `noise`: auto (estimated from the scan), unknown, its standard deviation in percent of bright tissue, or 0 to keep the scan's noise.
    """

    input: str
    output: str
    model: str = AUTO
    blur: str = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    memory_limit: str | None = None
    like_input_dtype: bool = False
    roi_ijk: tuple[Range, Range, Range] | None = None
    ijk_to_ras: Matrix | None = None
    alpha: float | None = None
    factors_ijk: Factors | None = None
    back_projection: bool | None = None
    flips: int = 1
    allow_negative: bool = False
    spacing: str | None = None
    series: str | None = None
    dtype: str = "auto"
    noise: str = "auto"

    def __post_init__(self) -> None:
        check_flips(self.flips)
        parse_noise(self.noise)
        if self.dtype not in OUTPUT_TYPES:
            raise JobError(f"dtype {self.dtype!r}: choose {', '.join(OUTPUT_TYPES)}")
        if self.like_input_dtype and self.dtype not in ("auto", "input"):
            raise JobError(f"like_input_dtype and dtype {self.dtype} ask for two number types: choose one")
        if self.spacing is not None:
            wanted_spacing(self.spacing, (1.0, 1.0, 1.0))
        if not self.input or not self.output:
            raise JobError(f"input {self.input!r} and output {self.output!r} must both be named")
        for name in (self.input, self.output, self.model):
            check_path(name)
        split_models(self.model, self.alpha)
        check_compute(self.device, self.memory_limit)
        check_blur(self.blur)


@dataclass(frozen=True)
class SynthesizeJob:
    """Make another modality of one head from `input`, the model's first input, and `also`, its further inputs by name.

    - `output`: a file on the grid of `input`. HU are written as int16.
    - `interpolation` (linear, cubic): how further inputs are brought to that grid by the matrices.
    - `register`: rigid moves further inputs onto the first before.
    - `ijk_to_ras`: says that `input` is a .npy array on that grid; `also_ijk_to_ras` the same of further inputs by name. `output` may
      then be a .npy file, too.
    - The rest is as in `SuperResolveJob`.
    """

    input: str
    output: str
    model: str
    also: dict = field(default_factory=dict)
    device: str = "auto"
    precision: Precision = "auto"
    memory_limit: str | None = None
    interpolation: Literal["linear", "cubic"] = "linear"
    register: Literal["none", "rigid"] = "none"
    roi_ijk: tuple[Range, Range, Range] | None = None
    ijk_to_ras: Matrix | None = None
    also_ijk_to_ras: dict = field(default_factory=dict)
    flips: int = 1

    def __post_init__(self) -> None:
        check_flips(self.flips)
        check_compute(self.device, self.memory_limit)
        if not self.input or not self.output or not self.model:
            raise JobError(f"input {self.input!r}, output {self.output!r} and model {self.model!r} must all be named")
        for name, file in self.also.items():
            if not isinstance(name, str) or not isinstance(file, str) or not name or not file:
                raise JobError(f"also {name!r}: {file!r}: must be a file by the name of its input")
        for path in (self.input, self.output, self.model, *self.also.values()):
            check_path(path)
        for name, matrix in self.also_ijk_to_ras.items():
            if name not in self.also:
                raise JobError(f"also_ijk_to_ras: {name!r} is not among the further inputs ({', '.join(self.also) or 'none'})")
            from_json(_OneMatrix, {"ijk_to_ras": matrix}, f"also_ijk_to_ras.{name}")


@dataclass(frozen=True)
class _OneMatrix:
    """For the check of a matrix that stands in a dictionary."""

    ijk_to_ras: Matrix


@dataclass(frozen=True)
class EvaluateJob:
    """Score `model` by the protocol on every scan of `data` (file or folder) that can serve as truth. The report goes to folder `out`.

    For the task synthesis `data` names pairs, and `degradations`, `blur` and `series` do not count.
    `blur` is what the model is told: as in `SuperResolveJob`, or `known` for the degradation's own. `flips` as in `SuperResolveJob`.
    Every scan gets Rician noise of each of `noise` (its standard deviation on the coarse grid, in percent of the truth's range; drawn
    by `seed`), after the blur. `noise_told` is what the model is told of it: as `SuperResolveJob.noise`, or `known` for what was added.
    """

    model: str
    data: str
    out: str
    degradations: tuple[str, ...] = DEGRADATIONS
    blur: str = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    memory_limit: str | None = None
    panels: bool = True
    flips: int = 1
    series: str | None = None
    noise: tuple[float, ...] = (0.0,)
    seed: int = 0
    noise_told: str = "auto"
    task: Task = "super-resolution"

    def __post_init__(self) -> None:
        check_flips(self.flips)
        if not self.data:
            raise JobError("evaluate: --data, or --pairs with --task synthesis, must name the truth")
        for name in (self.model, self.data, self.out):
            check_path(name)
        if self.noise_told != "known":
            parse_noise(self.noise_told)
        if not self.noise or not all(0 <= percent <= MOST_NOISE for percent in self.noise):
            raise JobError(f"noise {self.noise}: must be percentages of the truth's range, 0 to {MOST_NOISE}")
        if self.seed < 0:
            raise JobError(f"seed {self.seed}: must be 0 or more")
        for name in self.degradations:
            check_degradation(name)
        check_compute(self.device, self.memory_limit)
        if self.blur != "known":
            check_blur(self.blur)


@dataclass(frozen=True)
class DemoJob:
    """Degrade a real scan, super-resolve it, score it, and draw it into folder `out`. Without `scan` one is fetched and kept."""

    out: str = "demo"
    scan: str | None = None
    model: str = DEFAULT_MODEL
    degradation: str = "gaussian"
    device: str = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name in (self.out, self.model, *([self.scan] if self.scan is not None else [])):
            check_path(name)
        check_degradation(self.degradation)
        check_compute(self.device)


@dataclass(frozen=True)
class TrainJob:
    """Train by `config`. A run that was interrupted goes on where it stopped."""

    config: TrainConfig

    def __post_init__(self) -> None:
        for name in (self.config.data, self.config.out, self.config.validation, self.config.init):
            if name is not None:
                check_path(name)
        check_compute(self.config.device)


@dataclass(frozen=True)
class BlendJob:
    """Blend two checkpoints of one architecture into `output`: `alpha` 0 is `faithful`, 1 is `sharp`. Both are shipped names or paths."""

    faithful: str
    sharp: str
    output: str
    alpha: float = 0.3

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        for name in (self.faithful, self.sharp):
            check_path(name)
        check_model_output(self.output)


@dataclass(frozen=True)
class FitJob:
    """Fit a model to the anisotropic scan `input` from its own in-plane detail. An ordinary checkpoint goes to `output`.

    `factor`: how many slices are made of one (None: what brings them nearest to the in-plane spacing). `thickness_mm`: the FWHM of a
    slice (None: the slice spacing). `init`: auto (the shipped model of that factor, else the trunk of another), none, a shipped name
    or a path. The budget is `steps` or, where that is None, `minutes` of training. Resumes from the folder `output`.run, if it exists.
    """

    input: str
    output: str
    factor: int | None = None
    thickness_mm: float | None = None
    init: str = "auto"
    minutes: float = 10.0
    steps: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    series: str | None = None

    def __post_init__(self) -> None:
        for name in (self.input, self.init):
            check_path(name)
        check_model_output(self.output)
        check_compute(self.device)
        if not 0 < self.minutes <= 10_000 or (self.steps is not None and self.steps < 1):
            raise JobError(f"minutes {self.minutes}, steps {self.steps}: minutes must lie above 0 and up to 10000, steps above 0")


@dataclass(frozen=True)
class CheckJob:
    """Try a model on the scan itself (`input`: a file, a DICOM folder, or a folder of volumes): does it help there?

    `model`, `blur`, `noise`, `series` and `ijk_to_ras` as in `SuperResolveJob`.
    """

    input: str
    model: str = AUTO
    blur: str = "auto"
    noise: str = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    memory_limit: str | None = None
    series: str | None = None
    ijk_to_ras: Matrix | None = None

    def __post_init__(self) -> None:
        parse_noise(self.noise)
        check_path(self.input)
        check_path(self.model)
        check_compute(self.device, self.memory_limit)


@dataclass(frozen=True)
class ModelsJob:
    """List the shipped models (`name` None), or show the card of one: a shipped name or a file."""

    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            check_path(self.name)


Job = SuperResolveJob | SynthesizeJob | CheckJob | EvaluateJob | DemoJob | TrainJob | BlendJob | FitJob | ModelsJob
_KINDS: dict[str, type] = {
    "super-resolve": SuperResolveJob,
    "synthesize": SynthesizeJob,
    "check": CheckJob,
    "evaluate": EvaluateJob,
    "demo": DemoJob,
    "train": TrainJob,
    "blend": BlendJob,
    "fit": FitJob,
    "models": ModelsJob,
}


def job_to_json(job: Job) -> dict[str, Any]:
    name = next(key for key, cls in _KINDS.items() if isinstance(job, cls))
    return {"job": name, **to_json(job)}


def job_from_json(data: Any) -> Job:
    """The job of parsed JSON. Raises `JobError` that names the key and the value."""
    if not isinstance(data, dict) or data.get("job") not in tuple(_KINDS):  # a tuple also takes what cannot be hashed
        kind = data.get("job") if isinstance(data, dict) else data
        raise JobError(f"job {kind!r}: choose from {', '.join(_KINDS)}")
    rest = {key: value for key, value in data.items() if key != "job"}
    return from_json(_KINDS[data["job"]], rest, data["job"])  # type: ignore[no-any-return]
