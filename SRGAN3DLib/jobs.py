"""Jobs: what panel, command line and worker ask for, as frozen plain data. `run.run` is the one that does them.

Strict JSON both ways: `{"job": "super-resolve", "input": ..., ...}`; an unknown key or a wrong kind is a `JobError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .configs import Factors, TrainConfig, from_json, to_json
from .errors import JobError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DEGRADATIONS = ("box", "gaussian", "kspace")
DEFAULT_MODEL = "t1-x2"
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]
Range = tuple[int, int]


@dataclass(frozen=True)
class SuperResolveJob:
    """Super-resolve `input` (a file, a DICOM folder, or a folder of volumes) into `output` (a file, or a folder).

    `model` is a shipped name or a path. `blur`: auto (estimated from the scan), unknown, box, gaussian, kspace, or a
    FWHM in LR voxels as text. `memory_limit` is for the whole process's resident memory, as `4G` or `1500M`; None
    takes what the machine has free. `roi_ijk`: only these voxels, ((first, one past the last), ...) along I, J, K, with the
    very values they have in the whole result. `ijk_to_ras` (4x4, voxel centres, mm) says that `input` is a float32 .npy array
    (K, J, I) on that grid; `output` may then be a .npy too: what Slicer and the worker hand each other.
    """

    input: str
    output: str
    model: str = DEFAULT_MODEL
    blur: str = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    memory_limit: str | None = None
    like_input_dtype: bool = False
    roi_ijk: tuple[Range, Range, Range] | None = None
    ijk_to_ras: Matrix | None = None

    def __post_init__(self) -> None:
        if not self.input or not self.output:
            raise JobError(f"input {self.input!r} and output {self.output!r} must both be named")


@dataclass(frozen=True)
class EvaluateJob:
    """Score `model` by the protocol on every isotropic-truth scan of `data` (file or folder); the report goes to folder `out`.

    `blur` is what the model is told: as in `SuperResolveJob`, or `known` for the degradation's own.
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

    def __post_init__(self) -> None:
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
class ModelsJob:
    """List the shipped models (`name` None) or show one card, of a shipped name or of a file."""

    name: str | None = None


Job = SuperResolveJob | EvaluateJob | DemoJob | TrainJob | ModelsJob
_KINDS: dict[str, type] = {
    "super-resolve": SuperResolveJob,
    "evaluate": EvaluateJob,
    "demo": DemoJob,
    "train": TrainJob,
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
