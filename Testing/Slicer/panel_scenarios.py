"""What is done with the panel and what must come of it: once with doubles (test_panel.py), once in a real Slicer (run_in_slicer.py).

No pytest and no PySide6 here, only what both worlds have. Each of `SCENARIOS` takes a `Bench`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
from fake_process import FakeProcess
from SRGAN3DSlicer import mrml

OBLIQUE = np.array([[0.77, -0.52, -0.46, -91.3], [0.37, 0.95, -0.67, 45.7], [0.28, 0.19, 2.15, 12.1], [0, 0, 0, 1.0]])
INFO = {
    "model": {"name": "tiny", "sha256": "0123456789abcdef"},
    "device": "cpu",
    "precision": "fp32",
    "blur": {"source": "estimated", "mtf_kji": [0.4, 0.4, 0.4]},
    "seconds": 2.0,
    "version": "0.1.0",
    "warnings": [],
    "fallbacks": [],
    "ijk_to_ras": OBLIQUE.tolist(),
}

layers: list[dict] = []  # what the slice views were asked to show; both worlds record it here


class Bench:
    """A module's widget on a made-up process, and hands to work it with."""

    def __init__(self, widget: Any, model: str, process: Any = FakeProcess):
        self.widget, self.layers = widget, layers
        if process is not None:
            widget.logic.client.make = process
        self.ui, self.panel, self.logic = widget.ui, widget.panel, widget.logic
        self.choose(self.ui.modelCombo, model)

    @staticmethod
    def add_volume(kind: str = "vtkMRMLScalarVolumeNode", name: str = "Kopf ü") -> Any:
        """40 x 48 x 44 (K, J, I) voxels on an oblique grid."""
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        mrml.fill(node, np.random.default_rng(0).normal(100, 20, (40, 48, 44)).astype(np.float32), OBLIQUE)
        node.CreateDefaultDisplayNodes()
        return node

    def choose(self, combo: Any, data: str) -> None:
        assert combo.findData(data) >= 0, data
        combo.setCurrentIndex(combo.findData(data))

    @property
    def process(self) -> FakeProcess:
        return FakeProcess.made[-1]

    def click(self) -> None:
        self.ui.applyButton.click()
        self.logic.pump()

    def finish(self, **changed: Any) -> Any:
        """The made-up worker writes a result, and says so."""
        asked = self.process.told[-1]
        np.save(asked["output"], np.ones((80, 96, 88), np.float32))
        self.process.say(event="done", id=asked["id"], info=INFO | changed)
        self.logic.pump()
        return slicer.mrmlScene.GetFirstNodeByName("Kopf ü SR x2")

    def until(self, *states: str) -> None:
        end = time.monotonic() + 60
        while self.panel.machine.state.value not in states:
            assert time.monotonic() < end, self.ui.statusLabel.text
            self.logic.pump()
            slicer.app.processEvents()
            time.sleep(0.01)


def end(bench: Bench, error: str, message: str) -> None:
    bench.process.say(event="failed", id=bench.process.told[-1]["id"], error=error, message=message, exit_code=3)


def dies(bench: Bench) -> None:
    bench.process.errors, bench.process.code = "Killed\n", -9


def writes_nothing(bench: Bench) -> None:
    bench.process.say(event="done", id=bench.process.told[-1]["id"], info=INFO)


def writes_garbage(bench: Bench) -> None:
    Path(bench.process.told[-1]["output"]).write_bytes(b"no array")
    writes_nothing(bench)


def input_goes(bench: Bench) -> None:
    slicer.mrmlScene.RemoveNode(bench.ui.inputSelector.currentNode())
    bench.process.say(event="failed", id=bench.process.told[-1]["id"], error="Cancelled", message="cancelled", exit_code=130)


UNHAPPY = {
    "memory": (lambda bench: end(bench, "ResourceError", "needs at least 900M"), "Failed: needs at least 900M"),
    "volume": (lambda bench: end(bench, "VolumeError", "looks like a label map"), "Failed: looks like a label map"),
    "checkpoint": (lambda bench: end(bench, "CheckpointError", "tensor 'a' has NaN"), "Failed: tensor 'a' has NaN"),
    "disk full": (lambda bench: end(bench, "ResourceError", "the disk is full"), "Failed: the disk is full"),
    "device": (lambda bench: end(bench, "DeviceError", "cuda:0 computes wrongly"), "Failed: cuda:0 computes wrongly"),
    "fault of the worker": (lambda bench: end(bench, "KeyError", "KeyError: 'x'"), "Failed: KeyError: 'x'"),
    "killed": (dies, "Failed: the worker ended unexpectedly (code -9): Killed"),
    "no result": (writes_nothing, "Failed: the worker's result cannot be read"),
    "garbage": (writes_garbage, "Failed: the worker's result cannot be read"),
    "input removed": (input_goes, "Cancelled: the input was removed from the scene"),
}


def first_look(bench: Bench) -> None:
    """The first fit volume is chosen, label maps are not offered, size and cost stand there, nothing has been started."""
    ui, made = bench.ui, len(FakeProcess.made)
    assert ui.inputSelector.currentNode().GetName() == "Kopf ü" and ui.inputSelector.nodeCount() == 1
    assert ui.applyButton.enabled and ui.applyButton.text == "Super-resolve"
    assert "88 x 96 x 80 voxels, 3 MB" in ui.forecastLabel.text and "not measured on this machine" in ui.forecastLabel.text
    assert "T1w" in ui.cardLabel.text and "Apache-2.0" in ui.cardLabel.text
    assert not ui.resultGroup.isVisibleTo(bench.widget.parent) and len(FakeProcess.made) == made
    assert "torch" not in vars(sys.modules["SRGAN3DSlicer.panel"])


def a_run_from_click_to_comparison(bench: Bench) -> None:
    ui = bench.ui
    bench.click()
    asked = bench.process.told[-1]
    assert asked["request"] == "super-resolve" and np.allclose(asked["ijk_to_ras"], OBLIQUE) and asked["blur"] == "auto"
    assert ui.applyButton.text == "Cancel" and not ui.volumesGroup.enabled and bench.panel.machine.state.value == "starting"
    bench.process.say(event="log", id=asked["id"], level="warning", message="spacing odd")
    bench.process.say(event="progress", id=asked["id"], stage="network", done=30, total=120, eta_s=61.0)
    bench.logic.pump()
    assert ui.progressBar.value == 25 and ui.statusLabel.text == "Computing, 1 min 01 s left"
    out = bench.finish()
    assert out is not None and bench.panel.machine.state.value == "done" and ui.statusLabel.text.startswith("Done in")
    assert ui.applyButton.text == "Super-resolve" and ui.volumesGroup.enabled and ui.resultGroup.isVisibleTo(bench.widget.parent)
    assert "every voxel of the result" in ui.measuredLabel.text and "estimated, MTF at Nyquist 0.40" in ui.measuredLabel.text
    assert bench.layers[-1]["foreground"] is out and bench.layers[-1]["foregroundOpacity"] == 0.5
    ui.fadeSlider.setValue(80)
    assert bench.layers[-1] == {"foregroundOpacity": 0.8}
    bench.choose(ui.compareCombo, "checkerboard")
    assert bench.layers[-1]["background"].GetName() == "Kopf ü SR x2 | Kopf ü"
    ui.copyCitationButton.click()
    assert "0123456789ab" in qt.QApplication.clipboard().text()
    assert "Warning: spacing odd" in ui.logText.plainText
    assert "about" in ui.forecastLabel.text and "not measured" not in ui.forecastLabel.text


def cancel_and_again(bench: Bench) -> None:
    nodes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    bench.click()
    bench.click()
    assert bench.process.told[-1]["request"] == "cancel" and bench.ui.applyButton.text == "Cancelling" and not bench.ui.applyButton.enabled
    bench.process.say(event="failed", id=bench.process.told[-1]["id"], error="Cancelled", message="cancelled", exit_code=130)
    bench.logic.pump()
    assert bench.ui.statusLabel.text == "Cancelled: nothing was changed" and bench.ui.applyButton.text == "Super-resolve"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == nodes
    bench.click()
    assert bench.finish() is not None


def output_is_the_input(bench: Bench) -> None:
    bench.ui.outputSelector.setCurrentNode(bench.ui.inputSelector.currentNode())
    bench.click()
    assert bench.ui.statusLabel.text == "Failed: Kopf ü: is the input itself; choose another output"


def devices_by_name_and_why_not(bench: Bench) -> None:
    bench.click()
    combo = bench.ui.deviceCombo
    texts = [combo.itemText(n) for n in range(combo.count)]
    assert texts == ["Automatic", "cuda:0: not usable", "cpu: 2 threads, no fast bf16"]
    bench.finish()
    combo.setCurrentIndex(1)
    assert combo.itemData(combo.currentIndex) == "auto" and "Conv3d in fp32 failed" in bench.ui.statusLabel.text
    bench.choose(combo, "cpu")
    bench.click()
    assert bench.process.told[-1]["device"] == "cpu"


def scene_closes_in_mid_run(bench: Bench) -> None:
    bench.click()
    slicer.mrmlScene.Clear(0)
    bench.process.say(event="failed", id=bench.process.told[-1]["id"], error="Cancelled", message="cancelled", exit_code=130)
    bench.logic.pump()
    assert "the scene was closed" in bench.ui.statusLabel.text and not bench.ui.applyButton.enabled
    assert bench.ui.forecastLabel.text == "No volume is selected"


def a_fault_of_ours_is_one_line(bench: Bench) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("deep inside")

    bench.logic.superResolveAsync = broken
    bench.click()
    assert bench.ui.statusLabel.text == "Failed: ZeroDivisionError: deep inside (see the log)" and "Traceback" in bench.ui.logText.plainText
    assert bench.ui.applyButton.enabled


def module_goes_while_running(bench: Bench) -> None:
    bench.click()
    bench.widget.cleanup()
    assert bench.process.was_stopped and bench.logic.runs == []


def _unhappy(bench: Bench, what: str) -> None:
    """One clear line, no box, the scene without a result, and the panel usable again."""
    happens, words = UNHAPPY[what]
    bench.click()
    happens(bench)
    bench.logic.pump()
    bench.logic.pump()
    assert bench.ui.statusLabel.text.startswith(words) and "\n" not in bench.ui.statusLabel.text
    assert bench.logic.runs == [] and slicer.mrmlScene.GetFirstNodeByName("Kopf ü SR x2") is None
    if bench.ui.inputSelector.currentNode() is None:
        bench.ui.inputSelector.setCurrentNode(bench.add_volume())
    assert bench.ui.applyButton.enabled and bench.ui.applyButton.text == "Super-resolve"
    bench.click()
    assert bench.finish() is not None


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    one.__name__: one
    for one in (
        first_look,
        a_run_from_click_to_comparison,
        cancel_and_again,
        output_is_the_input,
        devices_by_name_and_why_not,
        scene_closes_in_mid_run,
        a_fault_of_ours_is_one_line,
        module_goes_while_running,
    )
}
SCENARIOS |= {f"unhappy, {what}": lambda bench, what=what: _unhappy(bench, what) for what in UNHAPPY}  # type: ignore[misc]
