"""Input and result in the slice views: faded into each other, in squares by turns, or side by side. Safe without a main window."""

from typing import Any

import qt
import slicer
import vtk

from . import mrml

YELLOW = "vtkMRMLSliceNodeYellow"
_before: list[tuple[int, Any]] = []  # what side by side has replaced: the layout, and where Yellow was turned, if it was there


def nodes(ids: tuple[str, str] | None) -> tuple[Any, Any]:
    """Input and result by their IDs, if both are still there."""
    found = [slicer.mrmlScene.GetNodeByID(one) for one in ids or ()]
    return (found[0], found[1]) if len(found) == 2 and None not in found else (None, None)


def show(mode: str, source: Any, result: Any, share: float) -> None:
    """`mode` is fade, checkerboard or side by side; `share` (0 to 1) is that of the result in a fade.

    Slicer interpolates the input linearly where it shows it on a finer screen. Views that show either already stay where they are.
    """
    manager = slicer.app.layoutManager()
    begin = not _in_view(source, result)
    turn = begin and manager is not None  # rotateToVolumePlane asks the layout manager, which is absent with --no-main-window
    beside = mode == "side by side" and manager is not None
    if beside:
        _layout_beside(manager)  # first, since a view that comes with it has no layers yet
    else:
        _layout_back(manager)
    _link(False)  # linked views take over each other's opacity
    if mode == "checkerboard":
        board = mrml.checkerboard(source, result)
        slicer.util.setSliceViewerLayers(background=board, foreground=None, fit=begin, rotateToVolumePlane=turn)
    else:
        slicer.util.setSliceViewerLayers(background=source, foreground=result, foregroundOpacity=share, fit=begin, rotateToVolumePlane=turn)
    if beside:
        _show_beside(manager)
    _link(True)


def fade(share: float) -> None:
    """Only the opacity, so that a slider moves smoothly."""
    slicer.util.setSliceViewerLayers(foregroundOpacity=share)


def _layout_beside(manager: Any) -> None:
    if not _before:
        node, turned = slicer.mrmlScene.GetNodeByID(YELLOW), None
        if node is not None:  # the view may not have been made yet
            turned = vtk.vtkMatrix4x4()
            turned.DeepCopy(node.GetSliceToRAS())
        _before.append((manager.layout, turned))
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)


def _show_beside(manager: Any) -> None:
    """The input where Red is, the result in Yellow at the same place."""
    red, yellow = (manager.sliceWidget(name).sliceLogic() for name in ("Red", "Yellow"))
    offset = red.GetSliceOffset()
    _turn(yellow.GetSliceNode(), red.GetSliceNode().GetSliceToRAS())
    for view, opacity in ((red, 0.0), (yellow, 1.0)):
        view.GetSliceCompositeNode().SetForegroundOpacity(opacity)

    def fit() -> None:
        for view in (red, yellow):
            view.FitSliceToBackground()
            view.SetSliceOffset(offset)

    qt.QTimer.singleShot(0, fit)  # by then the views have their new size


def _turn(node: Any, slice_to_ras: Any) -> None:
    node.GetSliceToRAS().DeepCopy(slice_to_ras)
    node.UpdateMatrices()


def _layout_back(manager: Any) -> None:
    if manager is None or not _before:
        return
    layout, turned = _before.pop()
    manager.setLayout(layout)
    node = slicer.mrmlScene.GetNodeByID(YELLOW)
    if node is not None and turned is not None:
        _turn(node, turned)


def _views() -> list[Any]:
    """What each slice view shows."""
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


def _in_view(source: Any, result: Any) -> bool:
    """Whether a slice view shows one of them, or their checkerboard."""
    board = slicer.mrmlScene.GetFirstNodeByName(mrml.checkerboard_name(source, result))
    ids = {node.GetID() for node in (source, result, board) if node is not None}
    return any(view.GetBackgroundVolumeID() in ids for view in _views())


def _link(linked: bool) -> None:
    """Whether all slice views move together."""
    for view in _views():
        view.SetLinkedControl(linked)
