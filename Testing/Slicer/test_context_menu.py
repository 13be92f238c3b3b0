"""The entry for volumes in the data tree, with a double of the subject hierarchy's plugins, and what is selected in the tree."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import pythonqt
import slicer
from bench import Bench
from panels import make


class Handler:
    """Slicer's plugin handler: a current item, and the plugins that were registered."""

    def __init__(self) -> None:
        self.item, self.plugins = 0, []

    def instance(self) -> Handler:
        return self

    def currentItem(self) -> int:
        return self.item

    def subjectHierarchyNode(self) -> Any:
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)

    def registerPlugin(self, plugin: Any) -> None:
        self.plugins.append(plugin)

    def select(self, node: Any) -> None:
        hierarchy = self.subjectHierarchyNode()
        self.item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


class Plugin:
    """What makes a plugin of a Python file."""

    def __init__(self, _parent: Any):
        self.name, self.made = "", None

    def setPythonSource(self, path: str) -> None:
        namespace: dict[str, Any] = {"__file__": path, "__name__": Path(path).stem}
        exec(Path(path).read_text(encoding="utf-8"), namespace)
        self.made = namespace[Path(path).stem](self)


@pytest.fixture
def handler(app: Any, monkeypatch: pytest.MonkeyPatch) -> Handler:
    one = Handler()
    monkeypatch.setattr(slicer, "qSlicerSubjectHierarchyPluginHandler", one, raising=False)
    monkeypatch.setattr(slicer, "qSlicerSubjectHierarchyScriptedPlugin", Plugin, raising=False)
    base = types.ModuleType("AbstractScriptedSubjectHierarchyPlugin")
    base.AbstractScriptedSubjectHierarchyPlugin = type("Base", (), {"__init__": lambda self, plugin: None})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, base.__name__, base)
    monkeypatch.setitem(sys.modules, "SubjectHierarchyPlugins", types.ModuleType("SubjectHierarchyPlugins"))
    return one


def test_the_entry_is_there_for_scans_and_opens_the_panel(handler: Handler, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import SRGAN3D

    first, second, labels = Bench.add_volume(), Bench.add_volume(name="second"), Bench.add_volume("vtkMRMLLabelMapVolumeNode", "labels")
    bench = make(tiny_model)
    SRGAN3D.registerContextMenu()
    (plugin,) = handler.plugins
    action = plugin.made.action
    for node, visible in ((first, True), (labels, False), (second, True)):
        handler.select(node)
        plugin.made.showContextMenuActionsForItem(handler.item)
        assert action.visible is visible
    plugin.made.showContextMenuActionsForItem(0)
    assert action.visible is False
    plugin.made.showContextMenuActionsForItem(handler.item)
    turned: list[str] = []
    monkeypatch.setattr(slicer.util, "selectModule", turned.append, raising=False)
    representation = types.SimpleNamespace(self=lambda: bench.widget)
    module = types.SimpleNamespace(widgetRepresentation=lambda: representation)
    monkeypatch.setattr(slicer, "modules", types.SimpleNamespace(srgan3d=module), raising=False)
    bench.ui.severalButton.setChecked(True)
    action._target.trigger()
    assert turned == ["SRGAN3D"] and bench.ui.inputSelector.currentNode() is second and not bench.ui.severalButton.checked
    bench.widget.cleanup()
    assert pythonqt.swallowed == []


def test_a_result_selected_in_the_tree_is_shown_when_the_panel_is_entered(handler: Handler, tiny_model: Path) -> None:
    scan = Bench.add_volume()
    bench = make(tiny_model)
    for _ in range(2):
        bench.click()
        first = bench.finish()
    assert bench.ui.resultSelector.currentNode() is not first
    bench.widget.exit()
    handler.select(first)
    bench.widget.enter()
    assert bench.ui.resultSelector.currentNode() is first
    handler.select(scan)
    bench.widget.enter()
    assert bench.ui.resultSelector.currentNode() is first
    bench.widget.cleanup()


def test_a_result_made_active_in_the_tree_is_shown(app: Any, tiny_model: Path) -> None:
    """The eye of the data tree makes a volume the active one."""
    selection = slicer.vtkMRMLSelectionNode()
    slicer.mrmlScene.AddNode(selection)
    app.applicationLogic = lambda: types.SimpleNamespace(GetSelectionNode=lambda: selection)
    Bench.add_volume()
    bench = make(tiny_model)
    for _ in range(2):
        bench.click()
        first = bench.finish()
    selection.SetActiveVolumeID(first.GetID())
    assert bench.ui.resultSelector.currentNode() is first
    selection.SetActiveVolumeID(None)
    assert bench.ui.resultSelector.currentNode() is first
    bench.widget.cleanup()


def test_a_slicer_without_the_data_tree(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from SRGAN3DSlicer import context_menu

    import SRGAN3D

    monkeypatch.setitem(sys.modules, "SubjectHierarchyPlugins", None)
    SRGAN3D.registerContextMenu()
    assert context_menu.current_node() is None and context_menu.volume_of_item(3) is None
