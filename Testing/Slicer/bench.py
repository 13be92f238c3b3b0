"""A module's widget on a made-up process, and hands to work it with; the same with doubles and in a real Slicer.

No pytest and no PySide6 here, only what both worlds have.
"""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from fake_process import FakeProcess
from SRGAN3DSlicer import mrml, worker_client

OBLIQUE = np.array([[0.77, -0.52, -0.46, -91.3], [0.37, 0.95, -0.67, 45.7], [0.28, 0.19, 2.15, 12.1], [0, 0, 0, 1.0]])
FINE = OBLIQUE @ np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])
INFO = {
    "model": {"name": "tiny", "sha256": "0123456789abcdef"},
    "device": "cpu",
    "precision": "fp32",
    "blur": {"source": "estimated", "mtf_kji": [0.4, 0.4, 0.4]},
    "consistency": {"rms_of_range": 0.0123, "voxels": 80, "assumes": "gaussian blur of MTF 0.40 / 0.40 / 0.40 (estimated)"},
    "shape_kji": [80, 96, 88],
    "factors_kji": [2, 2, 2],
    "spacing_ijk_mm": [0.45, 0.55, 1.15],
    "seconds": 2.0,
    "version": "0.1.0",
    "warnings": [],
    "fallbacks": [],
    "ijk_to_ras": FINE.tolist(),
}

layers: list[dict] = []  # what the slice views were asked to show; both worlds record it here


class Bench:
    """A module's widget on a made-up process, and hands to work it with."""

    def __init__(self, widget: Any, model: str, process: Any = FakeProcess):
        self.widget, self.layers = widget, layers
        if process is not None:  # not the worker that all share
            widget.logic.client.listeners.remove(widget.panel.on_hello)
            widget.logic.client = worker_client.WorkerClient(process)
            widget.logic.client.patience_s = 600.0  # however busy the machine
            widget.logic.client.listeners.append(widget.panel.on_hello)
        self.ui, self.panel, self.logic = widget.ui, widget.panel, widget.logic
        self.choose_model(model)

    def choose_model(self, key: str) -> None:
        self.choose(self.ui.taskCombo, "other")
        self.choose(self.ui.modelCombo, key)

    @staticmethod
    def add_volume(kind: str = "vtkMRMLScalarVolumeNode", name: str = "Kopf ü", matrix: np.ndarray = OBLIQUE, array: Any = None) -> Any:
        """40 x 48 x 44 (K, J, I) voxels on an oblique grid."""
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        mrml.fill(node, np.random.default_rng(0).normal(100, 20, (40, 48, 44)).astype(np.float32) if array is None else array, matrix)
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
        asked = self.process.asked()
        np.save(asked["output"], np.ones((80, 96, 88), np.float32))
        model = INFO["model"] | {"name": self.panel.header.name}
        changed = {"outputs": {"sr": asked["output"]}} | changed
        self.process.say(event="done", id=asked["id"], info=INFO | {"model": model} | changed)
        self.logic.pump()
        return slicer.mrmlScene.GetFirstNodeByName(self.result_name())

    def result_name(self, scan: str = "Kopf ü") -> str:
        """A model that is not shipped stands in the name."""
        name = self.panel.models.headers[self.ui.modelCombo.itemData(self.ui.modelCombo.currentIndex)].name
        return f"{scan} SR x2" + ("" if name == "t1-x2" else f" {name}")

    def says(self, words: str) -> None:
        """One line that begins with these words, and a panel that can be used."""
        assert self.ui.statusLabel.text.startswith(words) and "\n" not in self.ui.statusLabel.text, self.ui.statusLabel.text
        assert self.logic.runs == [] and self.ui.applyButton.text.startswith("Super-resolve")

    def forbids(self, words: str) -> None:
        """The button is off, and the line above it says why."""
        assert not self.ui.applyButton.enabled and words in self.ui.forecastLabel.text, self.ui.forecastLabel.text

    def until(self, *states: str) -> None:
        end = time.monotonic() + 60
        while self.panel.machine.state.value not in states:
            assert time.monotonic() < end, self.ui.statusLabel.text
            self.logic.pump()
            slicer.app.processEvents()
            time.sleep(0.01)


@contextlib.contextmanager
def model_files(*models: tuple[str, list[int]], **changed: Any) -> Iterator[list[str]]:
    """Checkpoints with a header and no tensor: enough for a panel."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, factors in models:
            header = {"name": name, "generator": {"factors": factors}, "contrasts": ["T1w"], "format_version": 1, **changed}
            text = json.dumps({"__metadata__": {"SRGAN3D": json.dumps(header)}}).encode()
            paths.append(str(Path(folder) / f"{name}.safetensors"))
            Path(paths[-1]).write_bytes(struct.pack("<Q", len(text)) + text)
        yield paths
