"""The entry "Super-resolve..." in the context menu of a volume in the data tree, and what is selected there."""

from pathlib import Path
from typing import Any

import slicer

from . import mrml

PLUGIN = "SRGAN3DSubjectHierarchyPlugin"


def register() -> None:
    """Once Slicer has started. Raises `ImportError` where it has no subject hierarchy plugins."""
    import SubjectHierarchyPlugins  # noqa: F401  (puts its folder within reach of the plugin's file)

    plugin = slicer.qSlicerSubjectHierarchyScriptedPlugin(None)
    plugin.setPythonSource(str(Path(__file__).with_name(f"{PLUGIN}.py")))
    slicer.qSlicerSubjectHierarchyPluginHandler.instance().registerPlugin(plugin)


def current_node() -> Any:
    """The node that is selected in the data tree, or None."""
    handler = _handler()
    return _node_of_item(handler.currentItem()) if handler is not None else None


def volume_of_item(item: int) -> Any:
    """The volume behind an item of the subject hierarchy, if it can be super-resolved; else None."""
    node = _node_of_item(item)
    return node if node is not None and not mrml.unfit(node) else None


def _node_of_item(item: int) -> Any:
    handler = _handler()
    hierarchy = handler.subjectHierarchyNode() if handler is not None and item else None
    return hierarchy.GetItemDataNode(item) if hierarchy is not None else None


def _handler() -> Any:
    """None where Slicer runs without the subject hierarchy's widgets."""
    kind = getattr(slicer, "qSlicerSubjectHierarchyPluginHandler", None)
    return kind.instance() if kind is not None else None


def open_panel_with(node: Any) -> None:
    """Turn to the module, with this scan chosen."""
    slicer.util.selectModule("SRGAN3D")
    slicer.modules.srgan3d.widgetRepresentation().self().panel.choose_input(node)
