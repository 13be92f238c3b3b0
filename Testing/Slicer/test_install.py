"""The state of PyTorch without importing it, and an installation that happens on a click only, by the PyTorch extension's logic."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import sys
import types
from typing import Any

import pytest
import slicer
import slicer_double
from SRGAN3DSlicer import install

from SRGAN3DLib.contract.errors import ResourceError


class Machine:
    """Which packages are there, and what was done."""

    def __init__(self, patch: pytest.MonkeyPatch, **versions: str):
        self.versions, self.done = dict(versions), []
        patch.setattr(importlib.metadata, "version", self.version)
        module = types.ModuleType("PyTorchUtils")
        module.__spec__ = importlib.machinery.ModuleSpec("PyTorchUtils", None)
        module.PyTorchUtilsLogic = lambda: self  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "PyTorchUtils", module)
        patch.setattr(slicer.util, "pip_install", self.pip_install, raising=False)
        patch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True, raising=False)
        self.answer: Any = types.ModuleType("torch")

    def version(self, name: str) -> str:
        if name not in self.versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return self.versions[name]

    def installTorch(self, **options: Any) -> Any:
        assert options == {"askConfirmation": True, "torchVersionRequirement": ">=2.4"}
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            self.done.append("torch")
            self.versions["torch"] = "2.8.0"
        return self.answer

    def pip_install(self, what: str) -> None:
        self.done.append(what)
        self.versions[what.split(">=")[0]] = "1.0"


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        ({}, "PyTorch is not installed."),
        ({"torch": "2.3.1+cpu"}, "PyTorch 2.3.1+cpu is too old; 2.4 or newer is wanted."),
        ({"torch": "2.8.0"}, "PyTorch 2.8.0; safetensors>=0.4.3 is not installed."),
        ({"torch": "2.10.0a0+git", "safetensors": "0.5"}, "PyTorch 2.10.0a0+git"),
    ],
)
def test_state(monkeypatch: pytest.MonkeyPatch, versions: dict, text: str) -> None:
    machine = Machine(monkeypatch, **versions)
    assert install.state().text == text and install.state().ready is (len(versions) == 2)
    assert machine.done == []


def test_installs_what_is_missing_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    assert install.install().ready and machine.done == ["torch", "safetensors>=0.4.3"]
    assert install.install().ready and machine.done == ["torch", "safetensors>=0.4.3"]


def test_refused_and_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.answer = None
    with pytest.raises(ResourceError, match="was refused"):
        install.install()
    machine.answer = RuntimeError("pip failed\nwith a long tale")
    with pytest.raises(ResourceError, match=r"could not be installed \(pip failed\)$"):
        install.install()
    machine.versions["torch"] = "2.8.0"
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: False)
    with pytest.raises(ResourceError, match="safetensors"):
        install.install()
    assert slicer_double.boxes == []


def test_newer_slicers_have_their_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, torch="2.8.0")
    asked: list = []
    module = types.ModuleType("slicer.packaging")
    module.__spec__ = importlib.machinery.ModuleSpec("slicer.packaging", None)
    module.pip_ensure = lambda names, requester: asked.append((names, requester))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    monkeypatch.setattr(slicer, "packaging", module, raising=False)
    install.install()
    assert asked == [(["safetensors>=0.4.3"], "SRGAN3D")] and machine.done == []
