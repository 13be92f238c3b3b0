"""Input and result in the slice views: faded into each other, in squares by turns, or side by side. Safe without a main window."""

from typing import Any

import slicer

from . import mrml

_layout_before: list[int] = []  # what side by side has replaced


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
    if not _layout_before:
        _layout_before.append(manager.layout)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    for name, opacity in (("Red", 0.0), ("Yellow", 1.0)):
        logic = manager.sliceWidget(name).sliceLogic()
        logic.GetSliceNode().SetOrientationToAxial()
        logic.GetSliceCompositeNode().SetForegroundVolumeID(result.GetID())
        logic.GetSliceCompositeNode().SetForegroundOpacity(opacity)


def _layout_back(manager: Any) -> None:
    if manager is not None and _layout_before:
        manager.setLayout(_layout_before.pop())


def _link() -> None:
    """All slice views move together."""
    scene = slicer.mrmlScene
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode").SetLinkedControl(True)
