"""Jobs: what panel, command line and worker ask for, as frozen plain data. `run.run` is the one that does them.

Strict JSON both ways: `{"job": "super-resolve", "input": ..., ...}`; an unknown key or a wrong kind is a `JobError`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

from .configs import Factors, TrainConfig, from_json, to_json
from .errors import JobError
from .model_choice import AUTO, wanted_spacing

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DEGRADATIONS = ("box", "gaussian", "kspace")
FLIPS = (1, 2, 4, 8)
NUMBER_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
OUTPUT_TYPES = ("auto", "input", *NUMBER_TYPES)
DEFAULT_MODEL = "t1-x2"
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]
Range = tuple[int, int]


def check_flips(flips: int) -> int:
    if flips not in FLIPS:
        raise JobError(f"flips {flips}: {', '.join(map(str, FLIPS[:-1]))} or {FLIPS[-1]} mirrored views are wanted")
    return flips


@dataclass(frozen=True)
class SuperResolveJob:
    """Super-resolve `input` (a file, a DICOM folder, or a folder of volumes) into `output` (a file, or a folder).

    `model` is a shipped name, a path, or auto: the shipped model that suits the scan (`model_choice.choose_model`). `spacing`: 1,
    1,1,2 (mm along I, J, K) or isotropic: the smallest factors that reach it, then one resampling to it in the same box. `blur`:
    auto (estimated from the scan), unknown, box, gaussian, kspace, or a FWHM in LR voxels as text. `memory_limit` is for the whole
    process's resident memory, as `4G` or `1500M`; None takes what the machine has free. `roi_ijk`: only these voxels, ((first, one
    past the last), ...) along I, J, K, with the very values they have in the whole result. `ijk_to_ras` (4x4, voxel centres, mm)
    says that `input` is a float32 .npy array (K, J, I) on that grid; `output` may then be a .npy too: what Slicer and the worker
    hand each other. With `alpha` (0 to 1) `model` is a pair of one architecture, `FAITHFUL,SHARP`, blended that far towards the
    second. `factors_ijk`: the model's factors laid along I, J, K of the array (1, 1, 4 and 4, 1, 1 are both slice-x4); None: see
    `place_factors`. `back_projection`: where the blur is given or estimated, the result is made to give the scan back
    (`consistency.give_back`); None: as the model's header says. `flips` (1, 2, 4 or 8): the mean over so many mirrored views of the
    scan, in so many times the time. A scan without negative values gets a result without any, unless `allow_negative`.
    `dtype`: the number type of the output file, as in `Volume.write`: auto, input, or one of `NUMBER_TYPES`. `like_input_dtype` is
    the older word for `dtype` input.
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
    dtype: str = "auto"

    def __post_init__(self) -> None:
        check_flips(self.flips)
        if self.dtype not in OUTPUT_TYPES:
            raise JobError(f"dtype {self.dtype!r}: choose {', '.join(OUTPUT_TYPES)}")
        if self.like_input_dtype and self.dtype not in ("auto", "input"):
            raise JobError(f"like_input_dtype and dtype {self.dtype} ask for two number types: choose one")
        if self.spacing is not None:
            wanted_spacing(self.spacing, (1.0, 1.0, 1.0))
        if not self.input or not self.output:
            raise JobError(f"input {self.input!r} and output {self.output!r} must both be named")
        split_models(self.model, self.alpha)


@dataclass(frozen=True)
class EvaluateJob:
    """Score `model` by the protocol on every isotropic-truth scan of `data` (file or folder); the report goes to folder `out`.

    `blur` is what the model is told: as in `SuperResolveJob`, or `known` for the degradation's own; `flips` as there.
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

    def __post_init__(self) -> None:
        check_flips(self.flips)
        for name in self.degradations:
            if name not in DEGRADATIONS:
                raise JobError(f"degradation {name!r}: choose from {', '.join(DEGRADATIONS)}")


@dataclass(frozen=True)
class DemoJob:
    """A real scan, degraded, super-resolved, scored, pictured into folder `out`; without `scan` one is fetched (and cached)."""

    out: str = "demo"
    scan: str | None = None
    model: str = DEFAULT_MODEL
    degradation: str = "gaussian"
    device: str = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.degradation not in DEGRADATIONS:
            raise JobError(f"degradation {self.degradation!r}: choose from {', '.join(DEGRADATIONS)}")


@dataclass(frozen=True)
class TrainJob:
    """Train by `config`; resumes where RUN was left, if it was."""

    config: TrainConfig


@dataclass(frozen=True)
class BlendJob:
    """Blend two checkpoints of one architecture into `output`: `alpha` 0 is `faithful`, 1 is `sharp`. Both are shipped names or paths."""

    faithful: str
    sharp: str
    output: str
    alpha: float = 0.3

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_model_output(self.output)


@dataclass(frozen=True)
class FitJob:
    """Fit a model to the anisotropic scan `input` from its own in-plane detail; an ordinary checkpoint goes to `output`.

    `factor`: slices made of one (None: what brings them nearest to the in-plane spacing). `thickness_mm`: the FWHM of a slice (None:
    the slice spacing). `init`: auto (the shipped model of that factor, else the trunk of another), none, a shipped name or a path.
    The budget is `steps`, or, where that is None, `minutes` of training. Resumes from the folder `output`.run, where there is one.
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

    def __post_init__(self) -> None:
        check_model_output(self.output)
        if not 0 < self.minutes <= 10_000 or (self.steps is not None and self.steps < 1):
            raise JobError(f"minutes {self.minutes}, steps {self.steps}: above 0 is wanted")


@dataclass(frozen=True)
class ModelsJob:
    """List the shipped models (`name` None) or show one card, of a shipped name or of a file."""

    name: str | None = None


Job = SuperResolveJob | EvaluateJob | DemoJob | TrainJob | BlendJob | FitJob | ModelsJob
_KINDS: dict[str, type] = {
    "super-resolve": SuperResolveJob,
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
    if not isinstance(data, dict) or data.get("job") not in tuple(_KINDS):  # a tuple also takes what cannot be hashed
        kind = data.get("job") if isinstance(data, dict) else data
        raise JobError(f"job {kind!r}: choose from {', '.join(_KINDS)}")
    rest = {key: value for key, value in data.items() if key != "job"}
    return from_json(_KINDS[data["job"]], rest, data["job"])  # type: ignore[no-any-return]


THICK = 1.25  # times another axis' spacing: from here on an axis is thick against it


def place_factors(model: Factors, spacing: tuple[float, float, float], asked: Factors | None = None) -> tuple[int, int, int]:
    """How a model's factors are laid along a scan's axes: the order `o` with placed[a] = model[o[a]]. All over one order of axes.

    What was asked, where it was. Else, where the one axis that a model enlarges is fine in the scan and another is thick, that one;
    every other model and scan is taken as it is. Raises `JobError` where the model has not the factors asked for.
    """
    if asked is not None:
        ways = [way for way in itertools.permutations(range(3)) if tuple(model[a] for a in way) == tuple(asked)]
        if not ways:
            raise JobError(f"factors {tuple(asked)}: the model has {tuple(model)}, along whichever axes")
        return ways[0]  # type: ignore[return-value]
    order, thick = [0, 1, 2], max(range(3), key=lambda axis: spacing[axis])
    own = [axis for axis in range(3) if model[axis] > 1]
    if len(own) == 1 and spacing[own[0]] <= THICK * min(spacing) and spacing[thick] > THICK * sorted(spacing)[1]:
        order[thick], order[own[0]] = own[0], thick
    return order[0], order[1], order[2]


def check_alpha(alpha: float) -> None:
    """Raises `JobError`: beyond 0 to 1 is no blend but an extrapolation."""
    if not 0 <= alpha <= 1:
        raise JobError(f"alpha {alpha}: from 0 (the faithful model) to 1 (the sharp one) is wanted")


def check_model_output(path: str) -> None:
    if not path.endswith(".safetensors"):
        raise JobError(f"{path!r}: a checkpoint's name ends in .safetensors")


def split_models(model: str, alpha: float | None) -> tuple[str, ...]:
    """The names in `model`: one, or, with `alpha`, the two of `FAITHFUL,SHARP`. Raises `JobError`."""
    if alpha is None:
        return (model,)
    check_alpha(alpha)
    names = tuple(name.strip() for name in model.split(","))
    if len(names) != 2 or not all(names):
        raise JobError(f"model {model!r} with alpha {alpha}: a pair FAITHFUL,SHARP is wanted")
    return names


def parse_bytes(text: str | None, where: str = "memory limit") -> int | None:
    """`4G`, `1500M`, `2.5GiB`, `800000K` or plain bytes -> bytes (powers of 1024); None stays None. Raises `JobError`."""
    if text is None:
        return None
    body = text.strip().upper().removesuffix("IB").removesuffix("B")
    power = {"K": 1, "M": 2, "G": 3, "T": 4}.get(body[-1:], 0)
    try:
        value = float(body[:-1] if power else body) * 1024**power
    except ValueError:
        raise JobError(f"{where} {text!r}: a size such as 4G or 1500M is wanted") from None
    if not 0 < value < 2**60:
        raise JobError(f"{where} {text!r}: above 0 is wanted")
    return int(value)


def parse_factors(text: str) -> Factors:
    """`2,2,2` (or one number for all), over the image axes I, J, K as users count them -> over (K, J, I)."""
    parts = text.replace("x", ",").split(",")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        raise JobError(f"factors {text!r}: three whole numbers such as 2,2,2 are wanted") from None
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise JobError(f"factors {text!r}: three whole numbers such as 2,2,2 are wanted")
    return (numbers[2], numbers[1], numbers[0])
