"""Voxels as files store them: ten number types with a scaling, read and written slab by slab.

Stored numbers become float32 (K, J, I) by value = number * slope + intercept. Errors are `VolumeError`s without the file's name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from SRGAN3DLib.contract.errors import JobError, ResourceError, VolumeError
from SRGAN3DLib.contract.job_values import NUMBER_TYPES, OUTPUT_TYPES

from .deflate import Source
from .geometry import slabs

INTEGERS = tuple(name for name in NUMBER_TYPES if "int" in name)
UNSCALED = (1.0, 0.0)
Scaling = tuple[float, float]
Shape = tuple[int, int, int]


def check_memory(shape_kji: Shape, stored: np.dtype) -> None:
    """Refuse, before a voxel is read, what does not fit into the memory that is free. Raises `ResourceError`."""
    slab = min(int(np.prod(shape_kji, dtype=object)), max(2**20, shape_kji[1] * shape_kji[2]))
    needed = 4 * int(np.prod(shape_kji, dtype=object)) + slab * stored.itemsize
    free = free_bytes()
    if needed > free:
        raise ResourceError(f"its voxels need {needed / 2**30:.2f} GiB of memory and {free / 2**30:.2f} GiB are free")


def free_bytes() -> int:
    """Memory that this process may still take: the machine's, its container's, or its own limit (`ulimit -v`), whichever is least."""
    import psutil

    free = [int(psutil.virtual_memory().available)]
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free.append(limit - int(psutil.Process().memory_info().vms))
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        rows = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        free.append(limit - used + sum(int(value) for name, value in rows if name == "inactive_file"))
    except (OSError, ValueError):  # no such group, or no limit ("max")
        pass
    return max(0, min(free))


def read_voxels(next_bytes: Callable[[int], bytes], shape_kji: Shape, stored: np.dtype, scaling: Scaling = UNSCALED) -> np.ndarray:
    """(K, J, I) float32 from stored numbers, I fastest. Holds the array and one slab. Raises `VolumeError`, `ResourceError`."""
    check_memory(shape_kji, stored)
    array = np.empty(shape_kji, np.float32)
    done = 0
    for slab in slabs(shape_kji):
        target = array[slab]
        data = next_bytes(target.size * stored.itemsize)
        done += len(data)
        if len(data) < target.size * stored.itemsize:
            raise VolumeError(f"truncated: it holds {done} bytes of voxels, its header says {array.size * stored.itemsize}")
        numbers = np.frombuffer(data, stored).reshape(target.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes inf, which is refused with its count
            target[...] = numbers if scaling == UNSCALED else numbers * scaling[0] + scaling[1]
    return array


def read_text_voxels(source: Source, shape_kji: Shape, name: str) -> np.ndarray:
    """(K, J, I) float32 from numbers written as text, separated by blanks, I fastest."""
    check_memory(shape_kji, np.dtype(np.float64))
    array = np.empty(int(np.prod(shape_kji)), np.float32)
    done, rest = 0, b""
    while done < array.size:
        data = source.read(2**20)
        words = (rest + data).replace(b",", b" ").split()
        rest = words.pop() if data and words and not data[-1:].isspace() else b""
        if len(rest) > 64:
            raise VolumeError(f"its voxels are not {name} numbers written as text: {rest[:20]!r}...")
        try:
            numbers = np.array(words[: array.size - done], np.float64)
        except ValueError as error:
            raise VolumeError(f"its voxels are not {name} numbers written as text ({error})") from None
        with np.errstate(over="ignore"):
            array[done : done + numbers.size] = numbers
        done += numbers.size
        if not data and done < array.size:
            raise VolumeError(f"truncated: it holds {done} voxels, its header says {array.size}")
    return array.reshape(shape_kji)


def is_integer(dtype: str) -> bool:
    return np.issubdtype(np.dtype(dtype), np.integer)


def value_range(array: np.ndarray) -> tuple[float, float]:
    """(least, largest). Raises `VolumeError` where a value is NaN or infinite."""
    low, high = np.inf, -np.inf
    for slab in slabs(array.shape):
        part = array[slab]
        least, largest = float(part.min()), float(part.max())  # NaN goes through min and max
        if not np.isfinite([least, largest]).all():
            raise VolumeError("the volume to write holds NaN or infinite values")
        low, high = min(low, least), max(high, largest)
    return low, high


def choose_type(asked: str, span: tuple[float, float], dtype: str, scaling: Scaling, can_scale: bool) -> tuple[str, Scaling]:
    """(number type, scaling) to write values of the range `span` in, where the input stored `dtype` with `scaling`.

    `asked`: `auto` is the input's type where that is an integer one, or the next wider that holds every value, else float32;
    `input` is the input's type whatever the values are; else one of `NUMBER_TYPES`. Raises `JobError`, `VolumeError`.
    """
    if asked not in OUTPUT_TYPES:
        raise JobError(f"number type {asked!r}: choose {', '.join(OUTPUT_TYPES)}")
    if asked == "input":
        if scaling != UNSCALED and not can_scale:
            raise VolumeError(
                f"the input holds {dtype} numbers scaled by {scaling[0]:g}, which only NIfTI can store: choose .nii.gz, or dtype float32"
            )
        return dtype, scaling
    if asked != "auto":
        return asked, UNSCALED
    if is_integer(dtype) and (scaling == UNSCALED or can_scale):
        width = np.dtype(dtype).itemsize
        wider = [name for name in INTEGERS if width < np.dtype(name).itemsize <= 4]
        first = [dtype] if width <= 4 else ["int32"]  # 64-bit numbers are no more exact: the values are float32
        for name in (*first, *wider):
            if outside(span, name, scaling) == 0:
                return name, scaling
    return "float32", UNSCALED


def outside(span: tuple[float, float], dtype: str, scaling: Scaling) -> float:
    """How far the range of values reaches beyond what the integer type can hold; 0 where all fits, and for float types."""
    if not is_integer(dtype):
        return 0.0
    ends = np.rint([(value - scaling[1]) / scaling[0] for value in span])
    least, most = _limits(dtype)
    return float(max(0.0, least - ends.min(), ends.max() - most) * abs(scaling[0]))


def encode(part: np.ndarray, dtype: str, scaling: Scaling) -> np.ndarray:
    """The numbers as stored, little-endian: unscaled, and for integers rounded and clipped to what the type holds."""
    numbers = part if scaling == UNSCALED else (part - np.float64(scaling[1])) / scaling[0]
    if is_integer(dtype):
        rounded = np.rint(numbers if np.dtype(dtype).itemsize <= 2 else numbers.astype(np.float64))
        numbers = np.clip(rounded, *_limits(dtype))
    return np.ascontiguousarray(numbers, np.dtype(dtype).newbyteorder("<"))


def _limits(dtype: str) -> tuple[float, float]:
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    top = float(most) if int(float(most)) <= most else float(np.nextafter(float(most), 0))  # 2^63 - 1 has no float64
    return float(least), top
