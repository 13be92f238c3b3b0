"""Input and result in the slice views: faded into each other, in squares by turns, or side by side. Safe without a main window."""

from typing import Any

import slicer
import vtk

from . import mrml

_before: list[tuple[int, dict[str, Any]]] = []  # what side by side has replaced: the layout, and where each view was turned


def nodes(ids: tuple[str, str] | None) -> tuple[Any, Any]:
    """Input and result by their IDs, if both are still there."""
    found = [slicer.mrmlScene.GetNodeByID(one) for one in ids or ()]
    return (found[0], found[1]) if len(found) == 2 and None not in found else (None, None)


def show(mode: str, source: Any, result: Any, share: float) -> None:
    """`mode` is fade, checkerboard or side by side; `share` (0 to 1) is that of the result in a fade.

    Slicer interpolates the input linearly where it shows it on a finer screen.
    """
    manager = slicer.app.layoutManager()
    turn = manager is not None  # rotateToVolumePlane asks the layout manager, which is absent with --no-main-window
    if mode == "checkerboard":
        _layout_back(manager)
        board = mrml.checkerboard(source, result)
        slicer.util.setSliceViewerLayers(background=board, foreground=None, fit=True, rotateToVolumePlane=turn)
    elif mode == "side by side":
        slicer.util.setSliceViewerLayers(background=source, foreground=result, foregroundOpacity=0.0, fit=True, rotateToVolumePlane=turn)
        if manager is not None:
            _side_by_side(manager, result)
    else:
        _layout_back(manager)
        slicer.util.setSliceViewerLayers(background=source, foreground=result, foregroundOpacity=share, fit=True, rotateToVolumePlane=turn)
    _link()


def fade(share: float) -> None:
    """Only the opacity, so that a slider moves smoothly."""
    slicer.util.setSliceViewerLayers(foregroundOpacity=share)


def _side_by_side(manager: Any, result: Any) -> None:
    if not _before:
        turned = {}
        for name in ("vtkMRMLSliceNodeRed", "vtkMRMLSliceNodeYellow"):  # the view of one may not have been made yet
            node = slicer.mrmlScene.GetNodeByID(name)
            if node is not None:
                turned[name] = vtk.vtkMatrix4x4()
                turned[name].DeepCopy(node.GetSliceToRAS())
        _before.append((manager.layout, turned))
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    for name, opacity in (("Red", 0.0), ("Yellow", 1.0)):
        logic = manager.sliceWidget(name).sliceLogic()
        logic.GetSliceNode().SetOrientationToAxial()
        logic.GetSliceNode().RotateToVolumePlane(result)
        logic.GetSliceCompositeNode().SetForegroundVolumeID(result.GetID())
        logic.GetSliceCompositeNode().SetForegroundOpacity(opacity)
        logic.FitSliceToBackground()


def _layout_back(manager: Any) -> None:
    if manager is None or not _before:
        return
    layout, turned = _before.pop()
    manager.setLayout(layout)
    for name, matrix in turned.items():
        node = slicer.mrmlScene.GetNodeByID(name)
        if node is not None:
            node.GetSliceToRAS().DeepCopy(matrix)
            node.UpdateMatrices()


def _link() -> None:
    """All slice views move together."""
    scene = slicer.mrmlScene
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode").SetLinkedControl(True)
