"""Devices and precisions: chosen by really running a convolution, with the reasons said."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from .errors import DeviceError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""RMS error of the self-test, relative to the RMS of the answer; rounding alone stays 3 times below."""
KINDS = ("auto", "cpu", "cuda", "cuda:N", "mps")


@dataclass(frozen=True)
class DeviceChoice:
    """Where to compute and in what; `reasons` tell why, `error` is the self-test's relative RMS error against fp32 on the CPU."""

    device: torch.device
    dtype: torch.dtype
    reasons: tuple[str, ...] = ()
    error: float = 0.0

    @property
    def precision(self) -> str:
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)


@dataclass(frozen=True)
class DeviceReport:
    """One device for a person to choose: `reason` says why where it is not `usable`."""

    device: str
    name: str
    usable: bool
    precisions: tuple[str, ...] = field(default_factory=tuple)
    reason: str = ""


def choose(device: str = "auto", precision: str = "auto") -> DeviceChoice:
    """The device asked for, or the first that works of CUDA, MPS, CPU; the precision asked for, or bf16 where it is fast and right.

    Raises `DeviceError` naming what was asked and why it cannot be: `auto` goes on to the next device, a named device never does.
    """
    if device != "auto":
        return _try(_named(device), precision)
    failures: list[str] = []
    for name in _candidates():
        try:
            choice = _try(torch.device(name), precision)
            return DeviceChoice(choice.device, choice.dtype, (*failures, *choice.reasons), choice.error)
        except DeviceError as error:
            failures.append(str(error))
    raise DeviceError("; ".join(failures))


def describe() -> list[DeviceReport]:
    """Every device of this machine, the unusable ones with their reason."""
    reports = []
    for name in dict.fromkeys([*_candidates(), *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]):
        usable = []
        reason = ""
        for precision in ("fp32", "bf16"):
            try:
                _try(torch.device(name), precision)
                usable.append(precision)
            except DeviceError as error:
                reason = reason or str(error)
        reports.append(DeviceReport(name, _name(torch.device(name)), "fp32" in usable, tuple(usable), reason))
    return reports


def self_test(device: torch.device, dtype: torch.dtype) -> float:
    """A small Conv3d (32 -> 32, 3^3) on `device` in `dtype` against fp32 on the CPU: the RMS of the difference over that of the answer.

    Some releases of cuDNN and oneDNN compute bf16 Conv3d wrongly in silence (PyTorch issues 163539, 169688): caught before any scan is.
    """
    generator = torch.Generator().manual_seed(20171112)
    image = torch.randn(1, 32, 12, 13, 14, generator=generator)
    weight = torch.randn(32, 32, 3, 3, 3, generator=generator) / 30
    wanted = F.conv3d(image, weight, padding=1)
    layout = torch.channels_last_3d
    with torch.no_grad():
        got = F.conv3d(
            image.to(device, dtype).contiguous(memory_format=layout), weight.to(device, dtype).contiguous(memory_format=layout), padding=1
        )
    difference = got.float().cpu() - wanted
    return float(difference.square().mean().sqrt() / wanted.square().mean().sqrt())


def _candidates() -> list[str]:
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def _named(device: str) -> torch.device:
    usable = ", ".join(_candidates())
    try:
        found = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"device {device!r}: choose from {', '.join(KINDS)}; usable here: {usable}") from None
    absent = (
        (found.type == "cuda" and (not torch.cuda.is_available() or (found.index or 0) >= torch.cuda.device_count()))
        or (found.type == "mps" and not torch.backends.mps.is_available())
        or (found.type == "cpu" and found.index not in (None, 0))
    )
    if found.type not in ("cpu", "cuda", "mps") or absent:
        raise DeviceError(f"device {device!r}: not on this machine; usable here: {usable}")
    return found


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else f"CPU, {torch.get_num_threads()} threads"


def _try(device: torch.device, precision: str) -> DeviceChoice:
    if precision == "auto":
        fast, why = _fast_bf16(device)
        if fast:
            try:
                return _tested(device, torch.bfloat16, why)
            except DeviceError as error:
                why = str(error)
        return _tested(device, torch.float32, why)
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("precision fp16 on cpu: slower than fp32 there and of a narrow range; choose fp32, bf16 or auto")
    return _tested(device, DTYPES[precision], f"precision {precision} was asked for")


def _tested(device: torch.device, dtype: torch.dtype, why: str) -> DeviceChoice:
    name = next(key for key, value in DTYPES.items() if value == dtype)
    try:
        error = self_test(device, dtype)
    except (RuntimeError, NotImplementedError) as fault:
        raise DeviceError(f"device {device} in {name}: its self-test failed ({' '.join(str(fault).split())[:160]})") from None
    if not error <= TOLERANCE[dtype]:
        raise DeviceError(f"device {device} in {name}: computes wrongly (relative error {error:.2g} of a small Conv3d against fp32)")
    return DeviceChoice(device, dtype, (f"{_name(device)}: {why}; self-test error {error:.1e}",), error)


def _fast_bf16(device: torch.device) -> tuple[bool, str]:
    """Is bf16 in the hardware's fast path? And the sentence that says so."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
        return fast, "bf16 tensor cores" if fast else "no bf16 tensor cores, so fp32"
    if device.type == "mps":
        return False, "fp32 on Apple GPUs"
    fast = torch.backends.mkldnn.is_available() and _cpu_has_bf16()
    return fast, "bf16 instructions (AVX512-BF16 or AMX)" if fast else "no bf16 instructions, so fp32"


def _cpu_has_bf16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe and probe()) or bool(amx and amx())
