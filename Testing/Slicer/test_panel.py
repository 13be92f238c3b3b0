"""The panel, offscreen: what the user sees and clicks, with a made-up process; one run with a real one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pythonqt
import slicer
import slicer_double
from bench import Bench
from fake_process import FakeProcess
from grids import OBLIQUE, SHEARED
from panel_scenarios import SCENARIOS

from SRGAN3DLib.contract.errors import JobError


def make(model: Path | str, process: Any = FakeProcess) -> Bench:
    from SRGAN3DSlicer import preferences

    import SRGAN3D

    if isinstance(model, Path):
        preferences.add_model(str(model))
    widget = SRGAN3D.SRGAN3DWidget()
    widget.setup()
    return Bench(widget, str(model), process)


@pytest.fixture
def bench(app: Any, tiny_model: Path) -> Iterator[Bench]:
    Bench.add_volume("vtkMRMLLabelMapVolumeNode", "labels")
    Bench.add_volume()
    one = make(tiny_model)
    yield one
    one.widget.cleanup()
    assert pythonqt.swallowed == [] and slicer_double.boxes == []


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
    assert not ui.applyButton.enabled and ui.torchLabel.text == "PyTorch is not installed."
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
    assert bench.panel.header.name == "slow" and bench.widget.parameters.model == str(slow_model)
    again = make(slow_model)
    assert again.ui.modelCombo.findData(str(slow_model)) >= 0
    again.widget.cleanup()


def test_choices_live_in_the_scene(bench: Bench, tiny_model: Path) -> None:
    bench.choose(bench.ui.blurCombo, "kspace")
    bench.choose(bench.ui.precisionCombo, "fp32")
    bench.choose(bench.ui.flipsCombo, "4")
    bench.ui.memorySpin.setValue(3.5)
    bench.widget.exit()
    bench.widget.enter()
    bench.click()
    asked = bench.process.told[-1]
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


class Views:
    """Slice views without a screen: real MRML logics behind a layout manager; as a real view, each shows its node's new opacity to the
    views that it is linked with."""

    layout = 3

    def __init__(self, names: tuple[str, ...] = ("Red", "Yellow")) -> None:
        self.logics, self.shown = {}, {}
        self.make(names)

    def make(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name in self.logics:
                continue
            self.logics[name] = slicer.vtkMRMLSliceLogic()
            self.logics[name].SetMRMLScene(slicer.mrmlScene)
            self.logics[name].AddSliceNode(name)
            view = self.logics[name].GetSliceCompositeNode()
            self.shown[view.GetID()] = view.GetForegroundOpacity()
            view.AddObserver("ModifiedEvent", self.broadcast)

    def broadcast(self, view: Any, _event: str) -> None:
        changed = self.shown[view.GetID()] != view.GetForegroundOpacity()
        self.shown[view.GetID()] = view.GetForegroundOpacity()
        for other in self.logics.values() if changed and view.GetLinkedControl() else ():
            other.GetSliceCompositeNode().SetForegroundOpacity(view.GetForegroundOpacity())

    def setLayout(self, layout: int) -> None:
        self.layout = layout
        if layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView:
            self.make(("Red", "Yellow"))

    def sliceWidget(self, name: str) -> Any:
        if name not in self.logics:
            return None  # as a layout manager of a view that no layout has asked for
        return type("Widget", (), {"sliceLogic": lambda _: self.logics[name]})()

    def place(self, name: str, normal: tuple[int, int, int], up: tuple[int, int, int]) -> None:
        self.logics[name].GetSliceNode().SetSliceToRASByNTP(*normal, *up, 3, 4, 5, 0)

    def turn(self, name: str) -> np.ndarray:
        return slicer.util.arrayFromVTKMatrix(self.logics[name].GetSliceNode().GetSliceToRAS()).copy()

    def opacity(self, name: str) -> float:
        return self.logics[name].GetSliceCompositeNode().GetForegroundOpacity()


def test_side_by_side_and_back(app: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result in Yellow where Red shows the input, however the views were linked; then the layout and the turn that stood before."""
    from SRGAN3DSlicer import compare

    views = Views()
    monkeypatch.setattr(app, "layoutManager", lambda: views)
    views.place("Red", (0, 1, 0), (1, 0, 0))
    views.place("Yellow", (1, 0, 0), (0, 1, 0))
    before = views.turn("Yellow")
    source, result = bench.add_volume(name="a"), bench.add_volume(name="b")
    for _ in range(2):
        compare.show("side by side", source, result, 0.5)
        assert views.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
        assert (views.opacity("Red"), views.opacity("Yellow")) == (0, 1)
        assert np.allclose(views.turn("Yellow"), views.turn("Red"))
        app.processEvents()
        assert np.allclose(views.turn("Yellow"), views.turn("Red"))
    compare.show("fade", source, result, 0.5)
    assert views.layout == 3 and np.allclose(views.turn("Yellow"), before)


def test_side_by_side_makes_the_view_that_is_missing(app: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout of Red alone, as one may start Slicer with: Yellow comes with the layout, and is among those that get the layers."""
    from SRGAN3DSlicer import compare

    views = Views(("Red",))
    monkeypatch.setattr(app, "layoutManager", lambda: views)
    asked: list[int] = []
    kind = "vtkMRMLSliceCompositeNode"
    count = lambda **_: asked.append(slicer.mrmlScene.GetNumberOfNodesByClass(kind))  # noqa: E731
    monkeypatch.setattr(slicer.util, "setSliceViewerLayers", count)
    source, result = bench.add_volume(name="a"), bench.add_volume(name="b")
    compare.show("side by side", source, result, 0.5)
    assert asked == [2] and (views.opacity("Red"), views.opacity("Yellow")) == (0, 1)
    compare.show("fade", source, result, 0.5)
    assert views.layout == 3


def test_who_looks_at_a_place_stays_there(app: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are fitted and turned to the volumes only where they showed something else."""
    from SRGAN3DSlicer import compare

    views = Views()
    monkeypatch.setattr(app, "layoutManager", lambda: views)
    source, result = bench.add_volume(name="a"), bench.add_volume(name="b")
    compare.show("fade", source, result, 0.5)
    assert bench.layers[-1]["fit"] and bench.layers[-1]["rotateToVolumePlane"]
    for shown in (source, result):
        views.logics["Red"].GetSliceCompositeNode().SetBackgroundVolumeID(shown.GetID())
        compare.show("checkerboard", source, result, 0.5)
        assert not bench.layers[-1]["fit"] and not bench.layers[-1]["rotateToVolumePlane"]
    views.logics["Red"].GetSliceCompositeNode().SetBackgroundVolumeID(bench.layers[-1]["background"].GetID())
    compare.show("fade", source, result, 0.5)
    assert not bench.layers[-1]["fit"]


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
    assert app.started == [SRGAN3D.registerSampleData]
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
    clicked = slicer.mrmlScene.GetFirstNodeByName("Kopf ü SR x2")
    scripted = one.logic.superResolve(node, model=str(tiny_model))
    assert clicked.GetTransformNodeID() == transform.GetID() == scripted.GetTransformNodeID()
    assert np.abs(mrml.array_of(clicked) - mrml.array_of(scripted)).max() == 0
    assert np.allclose(mrml.ijk_to_ras(clicked), mrml.ijk_to_ras(scripted))
    with pytest.raises(JobError):
        one.logic.superResolve(node, node)
    one.widget.cleanup()
    assert pythonqt.swallowed == [] and slicer_double.boxes == []
