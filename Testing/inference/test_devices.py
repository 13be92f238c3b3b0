"""Devices are chosen by what they compute; what was asked for by name is done or refused, never changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from SRGAN3DLib.contract.errors import DeviceError
from SRGAN3DLib.inference import devices
from SRGAN3DLib.inference.devices import SelfTest, choose, describe, fast_bf16, self_test

CPU = torch.device("cpu")


@pytest.fixture
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def fast(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(devices, "fast_bf16", lambda device: (answer, "the CPU has it" if answer else "the CPU has it not"))


def wrong_in(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, result: Any) -> None:
    """A kernel that computes nonsense, or raises, in one precision."""
    conv3d = F.conv3d

    def broken(x: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        if x.dtype != dtype:
            return conv3d(x, *rest, **more)
        if isinstance(result, Exception):
            raise result
        return torch.full_like(conv3d(x, *rest, **more), result)

    monkeypatch.setattr(devices.F, "conv3d", broken)


def test_cpu_in_fp32_as_asked() -> None:
    choice = choose("cpu", "fp32")
    assert choice.device == CPU and choice.dtype == torch.float32 and choice.precision == "fp32"
    assert choice.self_test.passed and choice.self_test.error < 1e-5
    assert choice.reasons == ("device cpu: as asked", "precision fp32: as asked")


def test_auto_says_why(only_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = choose()
    assert choice.device == CPU
    assert choice.precision == ("bf16" if fast_bf16(CPU)[0] else "fp32")
    assert [reason.split()[:2] for reason in choice.reasons[:3]] == [["device", "cuda:"], ["device", "mps:"], ["device", "cpu:"]]
    fast(monkeypatch, False)
    assert choose().precision == "fp32" and "the CPU has it not" in choose().reasons[-1]


@pytest.mark.parametrize("result", [0.0, 1.0, float("nan"), RuntimeError("could not create a primitive"), NotImplementedError("no kernel")])
def test_a_wrong_bf16_kernel_is_found_out(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    fast(monkeypatch, True)
    wrong_in(monkeypatch, torch.bfloat16, result)
    choice = choose("cpu", "auto")
    assert choice.dtype == torch.float32
    assert "bf16 is out, since Conv3d in bf16" in choice.reasons[-1]
    monkeypatch.setattr(devices, "_not_on_cpu", lambda precision: "")
    with pytest.raises(DeviceError, match="precision bf16 on cpu: Conv3d in bf16"):
        choose("cpu", "bf16")


def test_no_device_that_computes_wrongly_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_in(monkeypatch, torch.float32, torch.nan)
    for name in ("cpu", "auto"):
        with pytest.raises(DeviceError, match=rf"device '?{name}'?: .*failed"):
            choose(name)


def test_rounding_passes_and_stays_well_below_the_bounds() -> None:
    for precision in ("fp32", "bf16"):
        test = self_test(CPU, precision)
        assert test.passed and test.error < devices.BOUNDS[precision] / 3, str(test)
    assert not SelfTest("fp32", float("nan")).passed and not SelfTest("fp32", 0.0, "no kernel").passed


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_absent_devices_are_named_with_what_is_usable(only_cpu: None, name: str) -> None:
    with pytest.raises(DeviceError, match=f"device '{name}': .*; usable: cpu$"):
        choose(name)


@pytest.mark.parametrize("name", ["tpu", "", "cpu:1", "cuda:x"])
def test_names_of_no_device(only_cpu: None, name: str) -> None:
    with pytest.raises(DeviceError, match="usable: cpu"):
        choose(name)


def test_precisions_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="precision 'fp8': choose from auto, fp32, bf16, fp16"):
        choose("cpu", "fp8")
    monkeypatch.setattr(devices, "_not_on_cpu", lambda precision: "the CPU lacks AVX512-FP16")
    with pytest.raises(DeviceError, match="precision fp16 on cpu: the CPU lacks AVX512-FP16; use auto or fp32"):
        choose("cpu", "fp16")


def test_an_explicit_slow_bf16_is_done_and_said_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    fast(monkeypatch, False)
    monkeypatch.setattr(devices, "_not_on_cpu", lambda precision: "")
    choice = choose("cpu", "bf16")
    assert choice.precision == "bf16" and "as asked, though slow" in choice.reasons[-1]


def test_gpus_by_capability_and_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU would be given; its self-test comes on top where there is one."""
    gpu = torch.device("cuda:0")
    for capability, cudnn, wanted in (((8, 0), 90501, True), ((9, 0), 91002, False), ((9, 0), 91500, True), ((7, 5), 90501, False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, answer=capability: answer)
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda answer=cudnn: answer)
        assert fast_bf16(gpu)[0] is wanted
    assert fast_bf16(torch.device("mps"))[0] is False


def test_the_list_for_hello(only_cpu: None) -> None:
    reports = describe()
    assert [report.name for report in reports] == ["cuda", "mps", "cpu"]
    assert [report.usable for report in reports] == [False, False, True]
    assert all(report.reason for report in reports) and "threads" in reports[-1].reason
