"""The panel, offscreen: what the user sees and clicks, with a made-up process; one run with a real one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pythonqt
import slicer
import slicer_double
from bench import Bench
from grids import OBLIQUE, SHEARED
from panel_scenarios import SCENARIOS
from panels import make

from SRGAN3DLib.contract.errors import JobError


@pytest.mark.parametrize("name", SCENARIOS)
def test_panel(bench: Bench, name: str) -> None:
    SCENARIOS[name](bench)


def test_what_forbids_the_click(bench: Bench, add_volume: Any, small_head: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    ui = bench.ui
    ui.inputSelector.setCurrentNode(add_volume(OBLIQUE, small_head[:1], "flat"))
    assert not ui.applyButton.enabled and "2-D image" in ui.forecastLabel.text
    ui.inputSelector.setCurrentNode(add_volume(SHEARED, name="tilted"))
    assert ui.applyButton.enabled and "sheared" in ui.warningLabel.text
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    roi.SetCenter((9000, 0, 0))
    roi.SetSize(5, 5, 5)
    ui.roiSelector.setCurrentNode(roi)
    assert not ui.applyButton.enabled and "holds no voxel" in ui.forecastLabel.text
    ui.roiSelector.setCurrentNode(None)
    from SRGAN3DSlicer import install

    monkeypatch.delenv("SRGAN3D_PYTHON")
    monkeypatch.setattr(install, "state", lambda: install.State(False, "PyTorch is not installed.", False))
    bench.panel.refresh_torch()
    assert not ui.applyButton.enabled and ui.torchLabel.text.startswith("PyTorch is not installed. Install downloads")
    ui.installButton.click()
    assert ui.statusLabel.text.startswith("Not installed: the extension PyTorch is absent")


def test_the_result_scrolls_into_sight(bench: Bench) -> None:
    """Slicer's module panel is a scroll area, and less high than the panel."""
    from PySide6 import QtCore, QtWidgets

    area = QtWidgets.QScrollArea()
    area.setWidgetResizable(True)
    area.resize(460, 400)
    area.setWidget(bench.widget.parent._target)
    area.show()
    group = bench.ui.resultGroup._target
    bench.click()
    bench.finish()
    slicer.app.processEvents()
    try:
        top = group.mapTo(area.viewport(), QtCore.QPoint(0, 0)).y()
        assert area.verticalScrollBar().value() > 0 and top >= 0 and top + group.height() <= area.viewport().height()
    finally:
        area.takeWidget()
        area.close()


def test_models_are_added_and_refused(bench: Bench, slow_model: Path, tmp_path: Path) -> None:
    pickle = tmp_path / "evil.safetensors"
    pickle.write_bytes(b"PK\x03\x04 and so on")
    pythonqt.QFileDialog.answer = str(pickle)
    bench.ui.addModelButton.click()
    assert "Not added" in bench.ui.statusLabel.text and "pickle" in bench.ui.statusLabel.text
    pythonqt.QFileDialog.answer = str(slow_model)
    bench.ui.addModelButton.click()
    key = bench.widget.parameters.model
    assert bench.panel.header.name == "slow" and key.startswith("slow.safetensors sha256:")
    again = make(slow_model)
    assert again.ui.modelCombo.findData(key) >= 0
    again.widget.cleanup()


def test_choices_live_in_the_scene(bench: Bench, tiny_model: Path) -> None:
    bench.choose(bench.ui.blurCombo, "kspace")
    bench.choose(bench.ui.precisionCombo, "fp32")
    bench.choose(bench.ui.flipsCombo, "4")
    bench.ui.memorySpin.setValue(3.5)
    bench.widget.exit()
    bench.widget.enter()
    bench.click()
    asked = bench.process.requests[-1]
    assert (asked["blur"], asked["precision"], asked["memory_limit"], asked["flips"]) == ("kspace", "fp32", "3.5G", 4)
    other = make(tiny_model)
    assert other.ui.memorySpin.value == 3.5 and other.ui.blurCombo.currentIndex == bench.ui.blurCombo.currentIndex
    other.widget.cleanup()


def test_a_loaded_scene_shows_its_choices(bench: Bench, tmp_path: Path) -> None:
    """Blur, precision, model and region are in no widget that connectGui knows of."""
    bench.choose(bench.ui.blurCombo, "kspace")
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    bench.ui.roiSelector.setCurrentNode(roi)
    slicer.mrmlScene.SetURL(str(tmp_path / "saved.mrml"))
    assert slicer.mrmlScene.Commit()
    slicer.mrmlScene.RemoveNode(roi)
    bench.choose(bench.ui.blurCombo, "box")
    slicer.mrmlScene.Import()
    assert bench.ui.blurCombo.itemData(bench.ui.blurCombo.currentIndex) == "kspace"
    assert bench.ui.roiSelector.currentNode() is not None and bench.ui.roiSelector.currentNode().GetName() == "R"


def test_cleanup_bears_a_setup_that_failed(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import SRGAN3D

    widget = SRGAN3D.SRGAN3DWidget()
    monkeypatch.setattr(slicer.util, "loadUI", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        widget.setup()
    widget.cleanup()


def test_reload_really_reloads(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Slicer's Reload: the module file is executed, then the old widget is cleaned up, then a new one made."""
    import SRGAN3D

    old, kept = SRGAN3D.SRGAN3DWidget(), {n: m for n, m in sys.modules.items() if n.split(".")[0] in ("SRGAN3DLib", "SRGAN3DSlicer")}
    old.setup()

    def reload(widget: Any) -> None:
        spec = importlib.util.spec_from_file_location("SRGAN3D_again", SRGAN3D.__file__)
        again = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(again)  # type: ignore[union-attr]
        widget.cleanup()
        made = again.SRGAN3DWidget()
        made.setup()
        reloaded.append(made)

    reloaded: list = []
    monkeypatch.setattr(slicer_double.ScriptedLoadableModuleWidget, "onReload", reload)
    old.onReload()
    assert type(reloaded[0].panel) is not type(old.panel) and type(reloaded[0].logic.client) is not type(old.logic.client)
    reloaded[0].cleanup()
    for name in [name for name in sys.modules if name.split(".")[0] in ("SRGAN3DLib", "SRGAN3DSlicer")]:
        del sys.modules[name]
    sys.modules.update(kept)  # other tests hold these


def test_without_sample_data(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import SRGAN3D

    monkeypatch.setitem(sys.modules, "SampleData", None)
    SRGAN3D.registerSampleData()


def test_states_have_no_other_ways() -> None:
    from SRGAN3DSlicer.states import Machine, State

    machine = Machine()
    with pytest.raises(AssertionError):
        machine.go(State.DONE)
    machine.go(State.STARTING)
    assert machine.busy


def test_doubles_behave_as_pythonqt(app: Any) -> None:
    from PySide6 import QtWidgets

    button = pythonqt.Wrapped(QtWidgets.QPushButton("text"))
    assert button.text == "text"
    with pytest.raises(TypeError, match="'str' object is not callable"):
        button.text()
    with pytest.raises(AttributeError):
        button.colour = 3
    assert button.connect("clicked(bool)", lambda _: 1 / 0) and not button.connect("clicked(int)", print)
    button.click()
    assert isinstance(pythonqt.swallowed.pop(), ZeroDivisionError)


def test_module_and_self_test(app: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer's own entry points: the module's credits, the self-test (here with the tiny model as the shipped one)."""
    import SRGAN3D
    from SRGAN3DLib.contract import checkpoint_header

    parent = type("Parent", (), {})()
    SRGAN3D.SRGAN3D(parent)
    assert parent.categories == ["Image Synthesis"] and parent.contributors and parent.acknowledgementText and parent.helpText
    assert app.started == [SRGAN3D.onStartupCompleted]
    monkeypatch.setattr(checkpoint_header, "catalogue", lambda: {str(tiny_model): tiny_model})
    SRGAN3D.SRGAN3DTest().runTest()


def test_sample_data_is_the_truth_made_coarse(app: Any, add_volume: Any, small_head: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    from SRGAN3DSlicer import mrml, sample_data

    truth, registered = add_volume(OBLIQUE, name="MRHead"), []

    class SampleDataLogic:
        registerCustomSampleDataSource = staticmethod(lambda **source: registered.append(source))

        def downloadSample(self, name: str) -> Any:
            return truth

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    sample_data.register()
    (coarse,) = registered[0]["customDownloader"](None)
    boxes = [[0.0] * 6, [0.0] * 6]
    truth.GetRASBounds(boxes[0])
    coarse.GetRASBounds(boxes[1])
    assert np.abs(np.subtract(*boxes)).max() < 1e-9
    assert mrml.array_of(coarse)[3, 4, 5] == pytest.approx(small_head[6:8, 8:10, 10:12].mean(), rel=1e-5)


def test_click_script_and_worker_agree(app: Any, add_volume: Any, tiny_model: Path) -> None:
    """A real worker behind the panel: the click's result is the script's, under the same parent."""
    from SRGAN3DSlicer import mrml

    node = add_volume(OBLIQUE)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    node.SetAndObserveTransformNodeID(transform.GetID())
    one = make(tiny_model, process=None)
    one.ui.applyButton.click()
    one.until("done", "failed")
    clicked = slicer.mrmlScene.GetFirstNodeByName("Kopf ü SR x2 tiny")
    scripted = one.logic.superResolve(node, model=str(tiny_model))
    assert clicked.GetTransformNodeID() == transform.GetID() == scripted.GetTransformNodeID()
    assert np.abs(mrml.array_of(clicked) - mrml.array_of(scripted)).max() == 0
    assert np.allclose(mrml.ijk_to_ras(clicked), mrml.ijk_to_ras(scripted))
    with pytest.raises(JobError):
        one.logic.superResolve(node, node)
    one.widget.cleanup()
    assert pythonqt.swallowed == [] and slicer_double.boxes == []
