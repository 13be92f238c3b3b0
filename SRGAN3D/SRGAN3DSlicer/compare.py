"""Input and result in the slice views, and the views afterwards as they were before. Safe without a main window."""

from dataclasses import dataclass, field
from typing import Any

import qt
import slicer
import vtk

from . import helper_volumes

FADE, SIDE_BY_SIDE, CHECKERBOARD = "fade", "side by side", "checkerboard"
SCAN, INTERPOLATION = "scan", "interpolation"
RED = "vtkMRMLSliceNodeRed"
LAYERS = ("BackgroundVolumeID", "ForegroundVolumeID", "LabelVolumeID", "ForegroundOpacity", "LinkedControl", "HotLinkedControl")


@dataclass
class Snapshot:
    """What the slice views showed, where they looked, and how they were arranged."""

    layout: int | None
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the ID of a slice composite node
    places: dict[str, tuple[Any, tuple, tuple]] = field(default_factory=dict)  # by the ID of a slice node: matrix, field of view, origin

    @staticmethod
    def take() -> "Snapshot":
        manager = slicer.app.layoutManager()
        shot = Snapshot(manager.layout if manager is not None else None)
        for view in _nodes("vtkMRMLSliceCompositeNode"):
            shot.layers[view.GetID()] = {name: getattr(view, f"Get{name}")() for name in LAYERS}
        for node in _nodes("vtkMRMLSliceNode"):
            matrix = vtk.vtkMatrix4x4()
            matrix.DeepCopy(node.GetSliceToRAS())
            shot.places[node.GetID()] = (matrix, tuple(node.GetFieldOfView()), tuple(node.GetXYZOrigin()))
        return shot

    def restore(self, layers: bool = True) -> None:
        """Layout and places; what is shown and linked too, unless `layers` is false."""
        manager = slicer.app.layoutManager()
        _link(False)  # linked views would follow each other while they are put back
        if manager is not None and self.layout is not None and manager.layout != self.layout:
            manager.setLayout(self.layout)
        self.restore_places()
        qt.QTimer.singleShot(0, self.restore_places)  # by then the views have the size that they have in this layout
        for identifier, values in self.layers.items() if layers else ():
            view = slicer.mrmlScene.GetNodeByID(identifier)
            if view is not None:
                for name, value in values.items():
                    if value is None or not name.endswith("VolumeID") or slicer.mrmlScene.GetNodeByID(value) is not None:
                        getattr(view, f"Set{name}")(value)

    def follow(self, identifier: str) -> None:
        """Let this slice node keep the position that it has now; its field of view is still given back."""
        node = slicer.mrmlScene.GetNodeByID(identifier)
        if node is not None and identifier in self.places:
            self.places[identifier][0].DeepCopy(node.GetSliceToRAS())

    def restore_places(self) -> None:
        for identifier, (matrix, view, origin) in self.places.items():
            node = slicer.mrmlScene.GetNodeByID(identifier)
            if node is not None:
                node.GetSliceToRAS().DeepCopy(matrix)
                node.SetFieldOfView(*view)
                node.SetXYZOrigin(*origin)
                node.UpdateMatrices()


class Comparison:
    """Opened by the first `show`, until `close` gives back the views."""

    def __init__(self) -> None:
        self.before: Snapshot | None = None
        self.single: Snapshot | None = None  # the views before they were put side by side
        self.shown: tuple[str, str, str, str, float] | None = None  # mode, against, IDs of input and result, share

    @property
    def is_open(self) -> bool:
        return self.before is not None

    def show(self, mode: str, against: str, source: Any, result: Any, share: float) -> None:
        """`share` (0 to 1) is that of the result in `FADE`; `against` is `SCAN` or `INTERPOLATION`.

        Views that show one of the two volumes already stay where they are.
        """
        if self.before is None:
            self.before = Snapshot.take()
        self.shown = (mode, against, source.GetID(), result.GetID(), share)
        manager = slicer.app.layoutManager()
        begin = not _in_view(source, result)
        turn = begin and manager is not None  # rotateToVolumePlane needs the layout manager, which --no-main-window lacks
        beside = mode == SIDE_BY_SIDE and manager is not None
        self._arrange(beside)
        _link(False)  # linked views take over each other's opacity
        base = helper_volumes.interpolation(source, result) if against == INTERPOLATION and mode != CHECKERBOARD else source
        layers: dict[str, Any] = {"background": base, "foreground": result, "foregroundOpacity": share}
        if mode == CHECKERBOARD:
            layers = {"background": helper_volumes.checkerboard(source, result), "foreground": None}
        slicer.util.setSliceViewerLayers(**layers, fit=begin, rotateToVolumePlane=turn)
        if beside:
            _show_beside(manager)
        _link(True)

    def fade(self, share: float) -> None:
        """Only the opacity, so that a slider moves smoothly."""
        if self.shown is not None and self.shown[0] == FADE:
            self.shown = (*self.shown[:4], share)
            peek(share)

    def close(self) -> None:
        """The views as they were before the comparison."""
        if self.before is not None:
            before, self.before, self.single, self.shown = self.before, None, None, None
            before.restore()
            helper_volumes.remove_all(slicer.mrmlScene)

    def drop(self) -> None:
        """The scene closes: there is nothing to give back."""
        self.before = self.single = self.shown = None

    def before_save(self) -> None:
        """A helper volume is not saved: the views must not refer to it in the file."""
        if self.shown is not None and helper_volumes.find(slicer.mrmlScene):
            source, result = (slicer.mrmlScene.GetNodeByID(one) for one in self.shown[2:4])
            for view in _nodes("vtkMRMLSliceCompositeNode"):
                if _is_helper(view.GetBackgroundVolumeID()) and source is not None and result is not None:
                    view.SetBackgroundVolumeID(source.GetID())
                    view.SetForegroundVolumeID(result.GetID())

    def after_save(self) -> None:
        if self.shown is not None and helper_volumes.find(slicer.mrmlScene):
            mode, against, source_id, result_id, share = self.shown
            source, result = (slicer.mrmlScene.GetNodeByID(one) for one in (source_id, result_id))
            if source is not None and result is not None:
                self.show(mode, against, source, result, share)

    def _arrange(self, beside: bool) -> None:
        manager = slicer.app.layoutManager()
        if beside and self.single is None:
            self.single = Snapshot.take()
        elif not beside and self.single is not None:
            self.single.follow(RED)  # the user may have moved to another slice meanwhile
            self.single.restore(layers=False)
            self.single = None
        if beside:
            manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)  # first: a view that is new has no layers yet


def peek(share: float) -> None:
    """Show another share of the result for a moment."""
    slicer.util.setSliceViewerLayers(foregroundOpacity=share)


def _show_beside(manager: Any) -> None:
    """The input where Red is, the result in Yellow at the same place."""
    red, yellow = (manager.sliceWidget(name).sliceLogic() for name in ("Red", "Yellow"))
    offset = red.GetSliceOffset()
    node = yellow.GetSliceNode()
    node.GetSliceToRAS().DeepCopy(red.GetSliceNode().GetSliceToRAS())
    node.UpdateMatrices()
    for view, opacity in ((red, 0.0), (yellow, 1.0)):
        view.GetSliceCompositeNode().SetForegroundOpacity(opacity)

    def fit() -> None:
        for view in (red, yellow):
            view.FitSliceToBackground()
            view.SetSliceOffset(offset)

    qt.QTimer.singleShot(0, fit)  # by then the views have their new size


def _nodes(kind: str) -> list[Any]:
    return slicer.util.getNodesByClass(kind)


def _is_helper(identifier: str | None) -> bool:
    node = slicer.mrmlScene.GetNodeByID(identifier) if identifier else None
    return node is not None and bool(node.GetAttribute(helper_volumes.ATTRIBUTE))


def _in_view(source: Any, result: Any) -> bool:
    """Whether a slice view shows one of them, or a helper made of them."""
    ids = {source.GetID(), result.GetID()}
    shown = [view.GetBackgroundVolumeID() for view in _nodes("vtkMRMLSliceCompositeNode")]
    return any(one in ids or _is_helper(one) for one in shown)


def _link(linked: bool) -> None:
    """Whether all slice views move together."""
    for view in _nodes("vtkMRMLSliceCompositeNode"):
        view.SetLinkedControl(linked)
