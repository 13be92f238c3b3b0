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
        self.versions |= {one.split(">=")[0]: "1.0" for one in what.split()}


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        ({}, "PyTorch is not installed."),
        ({"torch": "2.3.1+cpu"}, "PyTorch 2.3.1+cpu is too old; it must be 2.4 or newer."),
        ({"torch": "2.8.0"}, "PyTorch 2.8.0 is there, but not safetensors>=0.4.3, psutil>=5.9."),
        ({"torch": "2.8.0", "safetensors": "0.5"}, "PyTorch 2.8.0 is there, but not psutil>=5.9."),
        ({"torch": "2.10.0a0+git", "safetensors": "0.5", "psutil": "7.0"}, "PyTorch 2.10.0a0+git"),
    ],
)
def test_state(monkeypatch: pytest.MonkeyPatch, versions: dict, text: str) -> None:
    machine = Machine(monkeypatch, **versions)
    assert install.state().text == text and install.state().ready is (len(versions) == 3)
    assert machine.done == []


def test_installs_what_is_missing_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    steps: list[str] = []
    for _ in range(2):  # the second time nothing is missing
        assert install.install(steps.append).ready and machine.done == ["torch", "safetensors>=0.4.3 psutil>=5.9"]
    assert steps == ["Installing PyTorch (step 1 of 2); this takes some minutes", "Installing safetensors, psutil (step 2 of 2)"]


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
    assert asked == [(["safetensors>=0.4.3", "psutil>=5.9"], "SRGAN3D")] and machine.done == []


@pytest.mark.parametrize(
    ("platform", "nvidia", "words"),
    [("darwin", None, "0.1 GB"), ("linux", None, "0.2 GB, or 3 GB"), ("win32", "nvidia-smi.exe", "3 GB, for the NVIDIA card")],
)
def test_the_download_is_announced(monkeypatch: pytest.MonkeyPatch, platform: str, nvidia: str | None, words: str) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setattr(install.sys, "platform", platform)
    monkeypatch.setattr(install.shutil, "which", lambda name: nvidia)
    assert words in install.download() and "safetensors, psutil" in install.download()
    machine.versions |= {"torch": "2.8.0", "psutil": "7"}
    assert install.download() == "Install downloads safetensors (1 MB)."
    machine.versions["safetensors"] = "1"
    assert install.download() == ""


def test_the_extension_itself_is_installed_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a checkout. Slicer must be restarted before its logic can be used."""
    machine = Machine(monkeypatch)
    monkeypatch.delitem(sys.modules, "PyTorchUtils")
    asked: list[str] = []

    class Manager:
        interactive = True

        def isExtensionInstalled(self, name: str) -> bool:
            return False

        def installExtensionFromServer(self, name: str) -> bool:
            asked.append(name)
            return not self.interactive

    manager = Manager()
    monkeypatch.setattr(slicer, "app", types.SimpleNamespace(extensionsManagerModel=lambda: manager), raising=False)
    with pytest.raises(ResourceError, match="is installed now: restart Slicer"):
        install.install()
    assert asked == ["PyTorch"] and machine.done == []
    monkeypatch.setattr(slicer, "app", types.SimpleNamespace(), raising=False)
    with pytest.raises(ResourceError, match="install it in the Extensions Manager"):
        install.install()
