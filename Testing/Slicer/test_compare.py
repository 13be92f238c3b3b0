"""The comparison in real MRML slice logics: what the views show, and that they are given back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from bench import Bench


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


def seen(views: Views) -> dict[str, Any]:
    """All that the views show, where they look, and how they are arranged."""
    found: dict[str, Any] = {"layout": views.layout}
    for name, logic in views.logics.items():
        view, node = logic.GetSliceCompositeNode(), logic.GetSliceNode()
        found[name] = (
            view.GetBackgroundVolumeID(), view.GetForegroundVolumeID(), view.GetForegroundOpacity(), view.GetLinkedControl(),
            view.GetHotLinkedControl(), tuple(node.GetFieldOfView()), tuple(node.GetXYZOrigin()), views.turn(name).tolist(),
        )  # fmt: skip
    return found


def set_layers(background: Any = None, foreground: Any = None, foregroundOpacity: float | None = None, **_: Any) -> None:
    """The part of slicer.util.setSliceViewerLayers that changes composite nodes."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if background is not None:
            view.SetBackgroundVolumeID(background.GetID())
            view.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        if foregroundOpacity is not None:
            view.SetForegroundOpacity(foregroundOpacity)


@pytest.fixture
def views(app: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Views:
    """Red and Yellow, unlinked, zoomed and turned by the user, showing a volume of his."""
    one = Views()
    monkeypatch.setattr(app, "layoutManager", lambda: one)
    monkeypatch.setattr(slicer.util, "setSliceViewerLayers", set_layers)
    one.place("Red", (0, 1, 0), (1, 0, 0))
    one.place("Yellow", (1, 0, 0), (0, 1, 0))
    before = bench.add_volume(name="before")
    for number, logic in enumerate(one.logics.values()):
        logic.GetSliceNode().SetFieldOfView(120.0 + number, 80.0, 1.0)
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(before.GetID())
        logic.GetSliceCompositeNode().SetForegroundOpacity(0.3)
        logic.GetSliceCompositeNode().SetHotLinkedControl(1)
    return one


@pytest.mark.parametrize("modes", ["fade", "side by side", "checkerboard", "fade|side by side|checkerboard|side by side"])
def test_closing_the_comparison_gives_the_views_back(app: Any, bench: Bench, views: Views, modes: str) -> None:
    bench.click()
    before = seen(views)
    bench.finish()
    for mode in modes.split("|"):
        bench.choose(bench.ui.compareCombo, mode)
        app.processEvents()
        assert seen(views) != before
    bench.ui.compareButton.click()
    app.processEvents()
    assert seen(views) == before and not bench.ui.compareButton.checked
    bench.ui.compareButton.click()
    assert bench.panel.result.comparison.is_open and seen(views) != before
    bench.widget.cleanup()
    assert seen(views) == before


def test_leaving_side_by_side_gives_fields_of_view_back(app: Any, bench: Bench, views: Views) -> None:
    """And the place stays where the user has gone meanwhile."""
    bench.click()
    bench.finish()
    layout, fields = views.layout, {name: tuple(logic.GetSliceNode().GetFieldOfView()) for name, logic in views.logics.items()}
    bench.choose(bench.ui.compareCombo, "side by side")
    app.processEvents()
    assert views.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    for logic in views.logics.values():
        logic.GetSliceNode().SetFieldOfView(33.0, 33.0, 1.0)
    views.logics["Red"].SetSliceOffset(17.0)
    bench.choose(bench.ui.compareCombo, "fade")
    app.processEvents()
    assert views.layout == layout and views.logics["Red"].GetSliceOffset() == pytest.approx(17.0)
    assert {name: tuple(logic.GetSliceNode().GetFieldOfView()) for name, logic in views.logics.items()} == fields


def test_side_by_side_shows_both_at_one_place(app: Any, bench: Bench, views: Views) -> None:
    """The result in Yellow where Red shows the input, however the views were linked."""
    from SRGAN3DSlicer import compare

    source, result = bench.add_volume(name="a"), bench.add_volume(name="b")
    comparison = compare.Comparison()
    for _ in range(2):
        comparison.show("side by side", "scan", source, result, 0.5)
        assert (views.opacity("Red"), views.opacity("Yellow")) == (0, 1)
        assert np.allclose(views.turn("Yellow"), views.turn("Red"))
        app.processEvents()
        assert np.allclose(views.turn("Yellow"), views.turn("Red"))


def test_side_by_side_makes_the_view_that_is_missing(app: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout of Red alone, as one may start Slicer with: Yellow comes with the layout, and is among those that get the layers."""
    from SRGAN3DSlicer import compare

    one = Views(("Red",))
    monkeypatch.setattr(app, "layoutManager", lambda: one)
    asked: list[int] = []
    kind = "vtkMRMLSliceCompositeNode"
    count = lambda **_: asked.append(slicer.mrmlScene.GetNumberOfNodesByClass(kind))  # noqa: E731
    monkeypatch.setattr(slicer.util, "setSliceViewerLayers", count)
    source, result = bench.add_volume(name="a"), bench.add_volume(name="b")
    comparison = compare.Comparison()
    comparison.show("side by side", "scan", source, result, 0.5)
    assert asked == [2] and (one.opacity("Red"), one.opacity("Yellow")) == (0, 1)
    comparison.close()
    assert one.layout == 3


def test_who_looks_at_a_place_stays_there(app: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are fitted and turned to the volumes only where they showed something else."""
    from SRGAN3DSlicer import compare

    one = Views()
    monkeypatch.setattr(app, "layoutManager", lambda: one)
    source, result = bench.add_volume(name="a"), bench.add_volume(name="b")
    comparison = compare.Comparison()
    comparison.show("fade", "scan", source, result, 0.5)
    assert bench.layers[-1]["fit"] and bench.layers[-1]["rotateToVolumePlane"]
    for shown in (source, result):
        one.logics["Red"].GetSliceCompositeNode().SetBackgroundVolumeID(shown.GetID())
        comparison.show("checkerboard", "scan", source, result, 0.5)
        assert not bench.layers[-1]["fit"] and not bench.layers[-1]["rotateToVolumePlane"]
    one.logics["Red"].GetSliceCompositeNode().SetBackgroundVolumeID(bench.layers[-1]["background"].GetID())
    comparison.show("fade", "interpolation", source, result, 0.5)
    assert not bench.layers[-1]["fit"]


def test_a_scene_saved_while_comparing_can_be_loaded_elsewhere(app: Any, bench: Bench, views: Views, tmp_path: Path) -> None:
    """No helper is in the file, no view refers to one; result, account and Compare work in the loaded scene; no path is in it."""
    bench.click()
    out = bench.finish()
    bench.choose(bench.ui.compareCombo, "checkerboard")
    slicer.mrmlScene.SetURL(str(tmp_path / "saved.mrml"))
    assert slicer.mrmlScene.Commit()
    shown = views.logics["Red"].GetSliceCompositeNode().GetBackgroundVolumeID()
    assert slicer.mrmlScene.GetNodeByID(shown).GetName() == f"{out.GetName()} | Kopf ü"  # the views go on as before
    text = (tmp_path / "saved.mrml").read_text(encoding="utf-8")
    assert " | Kopf" not in text and str(Path.home()) not in text and "SRGAN3D-" not in text and "tiny.safetensors sha256:" in text
    name = out.GetName()
    slicer.mrmlScene.Clear(0)
    assert not bench.ui.resultGroup.isVisibleTo(bench.widget.parent)
    slicer.mrmlScene.Import()
    assert bench.ui.resultSelector.currentNode().GetName() == name and "Agrees with your scan" in bench.ui.summaryLabel.text
    assert bench.panel.result.source.GetName() == "Kopf ü" and bench.ui.compareButton.enabled
    bench.ui.detailsButton.setChecked(True)
    assert "0123456789abcdef" in bench.ui.detailsLabel.text.replace("\u200b", "")


def test_holding_the_button_down(bench: Bench) -> None:
    """With the mouse, as a user does."""
    from PySide6 import QtCore
    from PySide6.QtTest import QTest

    bench.widget.parent._target.show()
    bench.click()
    bench.finish()
    button, left = bench.ui.holdButton._target, QtCore.Qt.MouseButton.LeftButton
    QTest.mousePress(button, left)
    assert bench.layers[-1] == {"foregroundOpacity": 0.0}
    QTest.mouseRelease(button, left)
    assert bench.layers[-1] == {"foregroundOpacity": 1.0}
