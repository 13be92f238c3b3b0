"""Thin doubles of PythonQt over PySide6: what slicer.md measured, and nothing that PySide6 alone would forgive.

- properties are values: `button.text`, `combo.count`; `button.text()` is a TypeError ("'str' object is not callable");
- an unknown attribute cannot be set on a widget (AttributeError);
- `connect("clicked(bool)", f)` returns True; a wrong signature returns False and only prints;
- an exception in a slot is printed and swallowed; `swallowed` lists them, for tests to look at;
- `a is b` may be False for the same widget: wrappers are made anew.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import vtk
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import QMetaObject

swallowed: list[BaseException] = []
kept: list[QtCore.QObject] = []  # Qt objects of tests that are over: Python's collector would end them in an order that Qt does not bear


class Wrapped:
    """A Qt object as PythonQt shows it."""

    def __init__(self, target: QtCore.QObject):
        object.__setattr__(self, "_target", target)
        if target.parent() is None and not any(one is target for one in kept):
            kept.append(target)

    def __getattr__(self, name: str) -> Any:
        target = object.__getattribute__(self, "_target")
        if name == "name":
            return target.objectName()
        if target.metaObject().indexOfProperty(name) >= 0 or name in getattr(target, "properties", ()):
            return target.property(name)
        found = getattr(target, name)
        return _through(found) if callable(found) and not isinstance(found, type) else found

    def __setattr__(self, name: str, value: Any) -> None:
        if self._target.metaObject().indexOfProperty(name) < 0 and name not in getattr(self._target, "properties", ()):
            raise AttributeError(f"{self._target.metaObject().className()} has no attribute {name!r}")
        self._target.setProperty(name, value)

    def connect(self, signature: str, slot: Any) -> bool:
        normalized = bytes(QMetaObject.normalizedSignature(signature)).decode()
        real = getattr(self._target, "signatures", {}).get(normalized, normalized)
        if self._target.metaObject().indexOfSignal(real) < 0:
            print(f"QObject::connect: no such signal {signature}")
            return False

        def guarded(*arguments: Any) -> None:
            try:
                slot(*arguments)
            except BaseException as error:
                traceback.print_exc()
                swallowed.append(error)

        name, types = real[:-1].split("(")
        signal = getattr(self._target, name)
        overloads = {"int": int, "bool": bool, "double": float}
        (signal[overloads[types]] if types in overloads and "," not in types else signal).connect(guarded)
        return True

    def className(self) -> str:
        return self._target.metaObject().className()

    def children(self) -> list[Wrapped]:
        return [Wrapped(child) for child in self._target.children()]


def _through(method: Any) -> Any:
    """Arguments and results cross the border: PythonQt objects on one side, PySide6's on the other."""

    def call(*arguments: Any) -> Any:
        result = method(*(a._target if isinstance(a, Wrapped) else a for a in arguments))
        return Wrapped(result) if isinstance(result, QtCore.QObject) else result

    return call


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    """The nodes of a class in a scene, `None` first where that is allowed; what it chooses by itself was seen in Slicer's own.

    An empty one takes the first node that comes, long before its voxels; one whose node goes turns to the next; an import empties
    it, and it begins again with the first; a new name counts as a new node.
    """

    nodeChanged = QtCore.Signal(object)
    nodeGoes = QtCore.Signal(object)
    signatures = {  # noqa: RUF012
        "currentNodeChanged(vtkMRMLNode*)": "nodeChanged(PyObject)",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeGoes(PyObject)",
    }

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self.scene, self.types, self.none, self.none_display = None, [], False, "None"
        self.attributes: list[str] = []
        self.nodes: list[Any] = []
        self.observed: list[Any] = []
        self.currentIndexChanged.connect(self._changed)

    def _changed(self, *_: Any) -> None:
        self.nodeChanged.emit(self.currentNode())

    def event(self, event: QtCore.QEvent) -> bool:
        if event.type() == QtCore.QEvent.Type.DynamicPropertyChange:
            self.types = list(self.property("nodeTypes") or [])
            self.none = bool(self.property("noneEnabled"))
            self.none_display = self.property("noneDisplay") or "None"
        return super().event(event)

    def addAttribute(self, kind: str, name: str) -> None:
        """Only nodes that have this attribute."""
        assert kind in self.types
        self.attributes.append(name)
        if self.scene is not None:
            self.fill()

    def setMRMLScene(self, scene: Any) -> None:
        self.scene = scene
        self.observed = []

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def goes(_scene: Any, _event: str, node: Any) -> None:
            if not scene.IsClosing() and node in self.nodes:
                self.nodeGoes.emit(node)
                self.fill(without=node)

        scene.AddObserver(scene.NodeAboutToBeRemovedEvent, goes)
        for event in (scene.NodeAddedEvent, scene.EndCloseEvent):
            scene.AddObserver(event, lambda *_: self.fill())
        scene.AddObserver(scene.EndImportEvent, lambda *_: self.reset())
        self.fill()

    def reset(self) -> None:
        self.nodes = []
        self.clear()
        self.fill()

    def fill(self, without: Any = None) -> None:
        before, row, empty = self.currentNode(), self.currentIndex(), not self.nodes
        children = bool(self.property("showChildNodeTypes"))
        self.nodes = [None] if self.none else []
        for kind in self.types:
            for number in range(self.scene.GetNumberOfNodesByClass(kind)):
                node = self.scene.GetNthNodeByClass(number, kind)
                if (children or node.GetClassName() == kind) and not node.GetHideFromEditors() and node is not without:
                    if node not in self.observed:
                        self.observed.append(node)
                        node.AddObserver("ModifiedEvent", self._modified)
                    if all(node.GetAttribute(name) is not None for name in self.attributes):
                        self.nodes.append(node)
        self.blockSignals(True)
        self.clear()
        self.addItems([self.none_display if node is None else node.GetName() for node in self.nodes])
        if empty or before is not None:
            row = self.nodes.index(before) if before in self.nodes else min(max(row, 0), len(self.nodes) - 1)
        self.setCurrentIndex(row)
        self.blockSignals(False)
        if self.currentNode() is not before:
            self._changed()

    def _modified(self, node: Any, _event: str) -> None:
        fits = all(node.GetAttribute(name) is not None for name in self.attributes)
        if self.attributes and fits != (node in self.nodes) and self.scene.IsNodePresent(node):
            self.fill()
        at = self.nodes.index(node) if node in self.nodes else -1
        if at >= 0 and self.itemText(at) != node.GetName():
            self.setItemText(at, node.GetName())
            if at == self.currentIndex():
                self._changed()

    def currentNode(self) -> Any:
        at = self.currentIndex()
        return self.nodes[at] if 0 <= at < len(self.nodes) else None

    def nodeCount(self) -> int:
        return len([node for node in self.nodes if node is not None])

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentIndex(self.nodes.index(node) if node in self.nodes else -1)


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A header that hides what is below it."""

    properties = ("collapsed", "text")  # of the real class; here they are dynamic ones

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self.head = QtWidgets.QToolButton(self)
        self.head.setObjectName("")
        self.head.setToolButtonStyle(QtCore.Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.head.setAutoRaise(True)
        self.head.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        font = self.head.font()
        font.setBold(True)
        self.head.setFont(font)
        self.hidden_by_us: list[QtWidgets.QWidget] = []

    def event(self, event: QtCore.QEvent) -> bool:
        kinds = (QtCore.QEvent.Type.DynamicPropertyChange, QtCore.QEvent.Type.Show, QtCore.QEvent.Type.Polish)
        if event.type() in kinds and self.layout() is not None:
            self._arrange()
        return super().event(event)

    def _arrange(self) -> None:
        collapsed = bool(self.property("collapsed"))
        self.head.setText(self.property("text") or "")
        self.head.setArrowType(QtCore.Qt.ArrowType.RightArrow if collapsed else QtCore.Qt.ArrowType.DownArrow)
        self.head.adjustSize()
        self.layout().setContentsMargins(14, self.head.height() + 4, 4, 4)
        direct = QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        for child in self.findChildren(QtWidgets.QWidget, options=direct) if collapsed else ():
            if child is not self.head and not child.isHidden():
                self.hidden_by_us.append(child)
                child.setVisible(False)
        while not collapsed and self.hidden_by_us:
            self.hidden_by_us.pop().setVisible(True)
        self.setMaximumHeight(self.head.height() + 2 if collapsed else 16777215)


class qMRMLWidget(QtWidgets.QWidget):
    """Hands its scene to every node selector below it, as the .ui's connections do in Slicer."""

    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        for selector in self.findChildren(qMRMLNodeComboBox):
            selector.setMRMLScene(scene)


class Loader(QtUiTools.QUiLoader):
    def createWidget(self, kind: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        own = {one.__name__: one for one in (qMRMLNodeComboBox, ctkCollapsibleButton, qMRMLWidget)}
        if kind not in own:
            return super().createWidget(kind, parent, name)
        widget = own[kind](parent)
        widget.setObjectName(name)
        return widget


def load_ui(path: str) -> Wrapped:
    found = Loader().load(path)
    assert found is not None, path
    return Wrapped(found)


def child_widgets(widget: Wrapped) -> Any:
    """As slicer.util.childWidgetVariables: an object whose attributes are the named widgets."""
    ui = type("Ui", (), {})()
    for child in widget._target.findChildren(QtWidgets.QWidget):
        if child.objectName().isidentifier() and not child.objectName().startswith("qt_"):
            setattr(ui, child.objectName(), Wrapped(child))
    return ui


class QTimer(Wrapped):
    def __init__(self) -> None:
        super().__init__(QtCore.QTimer())

    @staticmethod
    def singleShot(milliseconds: int, call: Callable[[], Any]) -> None:
        QtCore.QTimer.singleShot(milliseconds, call)


class QSettings:
    """In memory, of text only, as an ini file gives back."""

    values: dict[str, str] = {}  # noqa: RUF012

    def value(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def setValue(self, key: str, value: Any) -> None:
        self.values[key] = str(value)


QListWidgetItem = QtWidgets.QListWidgetItem


class QAction(Wrapped):
    def __init__(self, text: str, parent: Any = None):
        super().__init__(QtGui.QAction(text))


class QFileDialog:
    answer = ""

    @staticmethod
    def getOpenFileName(*_: Any) -> str:
        return QFileDialog.answer


class Qt:
    Checked, Unchecked = QtCore.Qt.CheckState.Checked, QtCore.Qt.CheckState.Unchecked
    ItemIsEnabled, ItemIsUserCheckable = QtCore.Qt.ItemFlag.ItemIsEnabled, QtCore.Qt.ItemFlag.ItemIsUserCheckable
    ToolTipRole = int(QtCore.Qt.ItemDataRole.ToolTipRole)
