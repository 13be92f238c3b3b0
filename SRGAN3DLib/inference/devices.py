"""Where to compute and in which precision. A small Conv3d is run on a device before it is chosen; nothing is changed silently.

The precision `auto` is bf16 only where it is fast (a CPU with AVX512-BF16 or AMX; a GPU of compute capability 8.0 or higher, with a
cuDNN that computes it correctly) and the self-test passes; otherwise it is fp32. What was asked for by name is done, or refused with
a `DeviceError`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from SRGAN3DLib.contract.errors import DeviceError
from SRGAN3DLib.networks.compiled import onednn_supports

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BOUNDS = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 4e-3}  # on the self-test's largest error, as a share of its largest value
SLOW_CUDNN = range(91000, 91500)  # Conv3d in bf16 is slow there, and wrong at large shapes (pytorch issues 166122, 163539)


@dataclass(frozen=True)
class SelfTest:
    """The largest difference between a Conv3d and the CPU's in fp32, as a share of its largest value. `failure` says why it did not run."""

    precision: str
    error: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure and self.error <= BOUNDS[self.precision]  # False for NaN

    def __str__(self) -> str:
        if self.failure:
            return f"Conv3d in {self.precision} does not run ({self.failure})"
        verdict = "passed" if self.passed else "failed"
        return f"Conv3d in {self.precision} {verdict}: error {self.error:.1e}, allowed {BOUNDS[self.precision]:.0e}"


@dataclass(frozen=True)
class DeviceChoice:
    """What was chosen, why (one sentence for each decision), and the self-test that it passed."""

    device: torch.device
    precision: str
    reasons: tuple[str, ...]
    self_test: SelfTest

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]


@dataclass(frozen=True)
class DeviceReport:
    """One device of a list. `reason` says what it is, or why it cannot be used."""

    name: str
    usable: bool
    reason: str


def choose(device: str = "auto", precision: str = "auto") -> DeviceChoice:
    """Choose `device` (auto, cpu, cuda, cuda:N or mps) and `precision` (auto, fp32, bf16 or fp16). Raises `DeviceError`."""
    if precision not in ("auto", *DTYPES):
        raise DeviceError(f"precision {precision!r}: choose from auto, {', '.join(DTYPES)}")
    reports = describe()
    if device == "auto":
        best = next((report for report in reports if report.usable), reports[-1])
        if not best.usable:
            raise DeviceError(f"device auto: no device is usable ({'; '.join(f'{report.name}: {report.reason}' for report in reports)})")
        reason = f"device {best.name}: the first usable of {', '.join(report.name for report in reports)}"
    else:
        best, reason = _named(device, reports), f"device {device}: as asked"
    chosen, why, test = _precision(torch.device(best.name), precision)
    passed_over = [f"device {r.name}: {r.reason}" for r in reports[: reports.index(best)]] if device == "auto" else []
    return DeviceChoice(torch.device(best.name), chosen, (*passed_over, reason, why), test)


def describe() -> list[DeviceReport]:
    """All devices, the preferred one first and the CPU last. Each is tried with a Conv3d in fp32."""
    reports = []
    if torch.version.cuda is None and torch.version.hip is None:
        reports.append(DeviceReport("cuda", False, "this PyTorch is built without CUDA"))
    elif not torch.cuda.is_available():
        reports.append(DeviceReport("cuda", False, "no CUDA device, or its driver is too old for this PyTorch"))
    else:
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            reports.append(_tried(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"))
    if torch.backends.mps.is_available():
        reports.append(_tried("mps", "Apple GPU"))
    else:
        reports.append(DeviceReport("mps", False, "no Apple GPU, or this PyTorch is built without MPS"))
    fast = "fast bf16" if fast_bf16(torch.device("cpu"))[0] else "no fast bf16"
    return [*reports, _tried("cpu", f"{torch.get_num_threads()} threads, {fast}")]


def fast_bf16(device: torch.device) -> tuple[bool, str]:
    """Whether convolutions in bf16 are much faster than in fp32 on `device`, and the reason."""
    if device.type == "cpu":
        flag = next((name for name in ("amx_tile", "avx512_bf16") if _cpu_has(name)), None)
        if flag is None or not onednn_supports("bf16"):
            return False, "the CPU has neither AVX512-BF16 nor AMX"
        return True, f"the CPU has {flag}"
    if device.type == "cuda":
        capability, cudnn = torch.cuda.get_device_capability(device), torch.backends.cudnn.version() or 0
        if capability < (8, 0):
            return False, f"compute capability {capability[0]}.{capability[1]} is below 8.0"
        if cudnn in SLOW_CUDNN:
            return False, f"cuDNN {cudnn} computes Conv3d in bf16 slowly, or wrongly at large sizes"
        return True, f"compute capability {capability[0]}.{capability[1]}"
    return False, "fp32 is the default there"


def self_test(device: torch.device, precision: str) -> SelfTest:
    """A Conv3d of 32 channels, channels-last as in inference, compared with the CPU in fp32. Random numbers from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 32, 8, 24, 24, generator=generator), torch.randn(32, 32, 3, 3, 3, generator=generator) / 30
    layout = torch.contiguous_format if device.type == "mps" else torch.channels_last_3d
    try:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            truth = F.conv3d(x, weight, padding=1)
            x, weight = (t.to(device, DTYPES[precision]).contiguous(memory_format=layout) for t in (x, weight))
            result = F.conv3d(x, weight, padding=1).cpu().float()
    except RuntimeError as error:  # NotImplementedError is one
        return SelfTest(precision, float("nan"), " ".join(str(error).split())[:200])
    return SelfTest(precision, float((result - truth).abs().max() / truth.abs().max()))


def _tried(name: str, what: str) -> DeviceReport:
    test = self_test(torch.device(name), "fp32")
    return DeviceReport(name, test.passed, what if test.passed else f"{what}; {test}")


def _named(device: str, reports: list[DeviceReport]) -> DeviceReport:
    name = "cuda:0" if device == "cuda" else device
    usable = ", ".join(report.name for report in reports if report.usable)
    found = next((report for report in reports if report.name in (name, device)), None)
    if found is None:
        known = device == "cpu" or device == "mps" or device.split(":")[0] == "cuda"
        reason = next((r.reason for r in reports if r.name == "cuda"), "it is absent") if known else "no such kind of device"
        raise DeviceError(f"device {device!r}: {reason}; usable: {usable}")
    if not found.usable:
        raise DeviceError(f"device {device!r}: {found.reason}; usable: {usable}")
    return found


def _precision(device: torch.device, asked: str) -> tuple[str, str, SelfTest]:
    """The precision, the reason, and the self-test it passed."""
    if asked != "auto":
        refusal = _not_on_cpu(asked) if device.type == "cpu" else ""
        test = self_test(device, asked)
        if refusal or not test.passed:
            raise DeviceError(f"precision {asked} on {device}: {refusal or test}; use auto or fp32")
        slow = "" if asked != "bf16" or fast_bf16(device)[0] else f", though slow: {fast_bf16(device)[1]}"
        return asked, f"precision {asked}: as asked{slow}", test
    fast, why = fast_bf16(device)
    if fast:
        test = self_test(device, "bf16")
        if test.passed:
            return "bf16", f"precision bf16: {why}, and the self-test passed", test
        why = str(test)
    test = self_test(device, "fp32")
    if not test.passed:
        raise DeviceError(f"device {device}: {test}")
    return "fp32", f"precision fp32: bf16 is out, since {why}", test


def _not_on_cpu(precision: str) -> str:
    """Why a half precision is refused on this CPU; "" if it is not. Without oneDNN it takes 27 times the memory, and far too long."""
    needed = {"bf16": "AVX512", "fp16": "AVX512-FP16"}
    if precision not in needed or onednn_supports(precision):
        return ""
    return f"the CPU lacks {needed[precision]}, or this PyTorch is built without oneDNN"


def _cpu_has(flag: str) -> bool:
    return bool(getattr(torch.cpu, f"_is_{flag}_supported", lambda: False)())
