"""The values that jobs are made of: what may be chosen, and a check or a parser for each. Every one raises `JobError`."""

from __future__ import annotations

import itertools
import math
import os
import re
from typing import Literal

from .configs import Factors
from .errors import JobError
from .limits import THICK

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DEGRADATIONS = ("box", "gaussian", "kspace")
FLIPS = (1, 2, 4, 8)
NUMBER_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
OUTPUT_TYPES = ("auto", "input", *NUMBER_TYPES)
MOST_NOISE = 50  # percent of bright tissue: beyond it there is no scan to see
DEFAULT_MODEL = "t1-x2"
Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,4})?")


def place_factors(model: Factors, spacing: tuple[float, float, float], asked: Factors | None = None) -> tuple[int, int, int]:
    """Which of a model's factors goes along which axis of a scan: the order `o` with placed[a] = model[o[a]].

    `model`, `spacing` (mm) and `asked` run over the same order of axes. With `asked`, the factors go where it says. Without it, a
    model that enlarges one axis goes along the scan's thick axis, if its own axis is a fine one in the scan. Every other model and
    scan stays as it is. Raises `JobError` where the model has other factors than those asked for.
    """
    if asked is not None:
        ways = [way for way in itertools.permutations(range(3)) if tuple(model[a] for a in way) == tuple(asked)]
        if not ways:
            raise JobError(f"factors {tuple(asked)}: the model has {tuple(model)}; they can only be given in another order")
        return ways[0]  # type: ignore[return-value]
    order, thick = [0, 1, 2], max(range(3), key=lambda axis: spacing[axis])
    own = [axis for axis in range(3) if model[axis] > 1]
    if len(own) == 1 and spacing[own[0]] <= THICK * min(spacing) and spacing[thick] > THICK * sorted(spacing)[1]:
        order[thick], order[own[0]] = own[0], thick
    return order[0], order[1], order[2]


def check_path(name: str) -> None:
    """A name that the system can give to a file or folder, as far as the name itself tells."""
    if not name or "\0" in name:
        raise JobError(f"{name!r}: cannot be the name of a file")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise JobError(f"{name!r}: cannot be the name of a file; it holds half a character") from None


def check_flips(flips: int) -> int:
    """The number itself."""
    if flips not in FLIPS:
        raise JobError(f"flips {flips}: {', '.join(map(str, FLIPS[:-1]))} or {FLIPS[-1]} must be the number of mirrored views")
    return flips


def check_degradation(name: str) -> None:
    if name not in DEGRADATIONS:
        raise JobError(f"degradation {name!r}: choose from {', '.join(DEGRADATIONS)}")


def check_compute(device: str, memory_limit: str | None = None) -> None:
    """The form of a device's name and of a memory limit; whether the device is there is for `inference.devices`."""
    if not _DEVICE.fullmatch(device):
        raise JobError(f"device {device!r}: choose from auto, cpu, cuda, cuda:N, mps")
    parse_bytes(memory_limit)


def check_blur(text: str) -> None:
    """The form of a blur; see `SuperResolveJob`."""
    if text in ("auto", "unknown", *DEGRADATIONS):
        return
    try:
        width = float(text.removesuffix("mm"))
    except ValueError:
        width = math.nan
    if not 0 < width < math.inf:
        raise JobError(f"blur {text!r}: choose from auto, unknown, {', '.join(DEGRADATIONS)}, a FWHM in voxels (1.2) or in mm (2.4mm)")


def check_alpha(alpha: float) -> None:
    """Raises `JobError` outside 0 to 1, which would be an extrapolation."""
    if not 0 <= alpha <= 1:
        raise JobError(f"alpha {alpha}: it must lie between 0 (the faithful model) and 1 (the sharp one)")


def check_model_output(path: str) -> None:
    """Raises `JobError` for a name that is not a checkpoint's."""
    check_path(path)
    if not path.endswith(".safetensors"):
        raise JobError(f"{path!r}: the name of a checkpoint must end in .safetensors")


def split_models(model: str, alpha: float | None) -> tuple[str, ...]:
    """The names in `model`: one, or, with `alpha`, the two of `FAITHFUL,SHARP`. Raises `JobError`."""
    if alpha is None:
        return (model,)
    check_alpha(alpha)
    names = tuple(name.strip() for name in model.split(","))
    if len(names) != 2 or not all(names):
        raise JobError(f"model {model!r} with alpha {alpha}: the model must be a pair FAITHFUL,SHARP")
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
        raise JobError(f"{where} {text!r}: it must be a size such as 4G or 1500M") from None
    if not 0 < value < 2**60:
        raise JobError(f"{where} {text!r}: it must be above 0")
    return int(value)


def parse_noise(text: str) -> float | None:
    """`4` or `4%`: percent of bright tissue -> a share of it; None for auto and unknown. Raises `JobError` for anything else."""
    if text in ("auto", "unknown"):
        return None
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= MOST_NOISE:
        raise JobError(f"noise {text!r}: must be auto, unknown, or its standard deviation in percent of bright tissue, 0 to {MOST_NOISE}")
    return percent / 100


def parse_factors(text: str) -> Factors:
    """`2,2,2` (or one number for all), over the image axes I, J, K as users count them -> over (K, J, I)."""
    parts = text.replace("x", ",").split(",")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        raise JobError(f"factors {text!r}: there must be three whole numbers such as 2,2,2") from None
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise JobError(f"factors {text!r}: there must be three whole numbers such as 2,2,2")
    return (numbers[2], numbers[1], numbers[0])
