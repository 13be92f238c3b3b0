"""The parts of Slicer's application that slicer-core lacks, put onto the real `slicer`: app, i18n, module bases, parameter nodes."""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path
from typing import Any

import pythonqt
import slicer
from PySide6 import QtWidgets

ROOT = Path(__file__).resolve().parents[2]
boxes: list[str] = []  # message boxes, of which there must be none


class App:
    """`--no-main-window`: no layout manager."""

    def __init__(self) -> None:
        self.real = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
        self.started: list[Any] = []

    def layoutManager(self) -> None:
        return None

    def clipboard(self) -> Any:
        return pythonqt.Wrapped(QtWidgets.QApplication.clipboard())

    def processEvents(self) -> None:
        self.real.processEvents()

    def userSettings(self) -> pythonqt.QSettings:
        return pythonqt.QSettings()

    def connect(self, signature: str, slot: Any) -> bool:
        self.started.append(slot)
        return True


class WithinRange:
    def __init__(self, least: float, most: float):
        self.least, self.most = least, most


def parameterNodeWrapper(cls: type) -> type:
    """Attributes by name in a vtkMRMLScriptedModuleNode: nodes as references, all else as text of its own kind."""
    hints = typing.get_type_hints(cls)
    defaults = {name: getattr(cls, name, None) for name in hints}

    def init(self: Any, node: Any) -> None:
        object.__setattr__(self, "parameterNode", node)
        object.__setattr__(self, "bound", [])

    def get(self: Any, name: str) -> Any:
        if hasattr(hints[name], "GetID"):
            return self.parameterNode.GetNodeReference(name)
        text = self.parameterNode.GetParameter(name)
        return defaults[name] if text == "" else (text == "True" if hints[name] is bool else hints[name](text))

    def put(self: Any, name: str, value: Any) -> None:
        if name not in hints:
            raise AttributeError(name)
        if hasattr(hints[name], "GetID"):
            self.parameterNode.SetNodeReferenceID(name, value.GetID() if value is not None else None)
        else:
            assert isinstance(value, (hints[name], int) if hints[name] is float else hints[name]), (name, value)
            if self.parameterNode.GetParameter(name) == str(value):
                return
            self.parameterNode.SetParameter(name, str(value))
        for update in list(self.bound):  # as in Slicer: whatever changes, every bound widget is written anew
            update()

    def connect_gui(self: Any, ui: Any) -> int:
        """Both ways, for the widgets with the dynamic property SlicerParameterName; types are compared exactly."""
        known = {"qMRMLNodeComboBox": ("currentNode", "setCurrentNode", "currentNodeChanged(vtkMRMLNode*)")}
        known |= {
            "QCheckBox": ("isChecked", "setChecked", "toggled(bool)"),
            "QDoubleSpinBox": ("value", "setValue", "valueChanged(double)"),
        }
        for widget in vars(ui).values():
            name = widget._target.property("SlicerParameterName")
            if not name:
                continue
            read, write, signal = known[type(widget._target).__name__]
            target = widget._target

            def from_gui(*_: Any, name: str = name, target: Any = target, read: str = read) -> None:
                if self.bound:
                    value = getattr(target, read)()
                    if value is not get(self, name):
                        put(self, name, value)

            def to_gui(name: str = name, target: Any = target, write: str = write) -> None:
                getattr(target, write)(get(self, name))

            to_gui()
            assert widget.connect(signal, from_gui)
            self.bound.append(to_gui)
        return len(self.bound)

    body = {name: property(lambda self, name=name: get(self, name)) for name in hints}
    body |= {"__init__": init, "__setattr__": put, "connectGui": connect_gui, "disconnectGui": lambda self, tag: self.bound.clear()}
    return type(cls.__name__, (), body)


class ScriptedLoadableModule:
    def __init__(self, parent: Any):
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None):
        self.parent = pythonqt.Wrapped(QtWidgets.QWidget())
        self.parent._target.setLayout(QtWidgets.QVBoxLayout())
        self.layout = pythonqt.Wrapped(self.parent._target.layout())

    def setup(self) -> None: ...

    def onReload(self) -> None: ...

    def resourcePath(self, name: str) -> str:
        return str(ROOT / "SRGAN3D" / "Resources" / name)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None): ...

    def getParameterNode(self) -> Any:
        found = slicer.mrmlScene.GetSingletonNode("SRGAN3D", "vtkMRMLScriptedModuleNode")
        if found is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag("SRGAN3D")
            node.SetModuleName("SRGAN3D")
            found = slicer.mrmlScene.AddNode(node)
        return found


class ScriptedLoadableModuleTest:
    def delayDisplay(self, text: str, *_: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        import unittest

        if name.startswith("assert"):
            return getattr(unittest.TestCase(), name)
        raise AttributeError(name)


class VTKObservationMixin:
    def __init__(self) -> None:
        self.observations: list[tuple[Any, int]] = []

    def addObserver(self, caller: Any, event: Any, method: Any) -> None:
        self.observations.append((caller, caller.AddObserver(event, lambda o, e: method(o, e))))

    def removeObservers(self) -> None:
        for caller, tag in self.observations:
            caller.RemoveObserver(tag)
        self.observations.clear()


language = {"longer by": 0.0}  # 1/3: a made-up translation whose texts are a third longer than the English ones


def tr(text: str) -> str:
    """Words that mean nothing behind the English ones, as many as the language needs."""
    words = "und dazu noch ein paar andere kurze Worte mehr als man hier im Englischen braucht " * (1 + len(text) // 80)
    extra = round(len(text) * language["longer by"])
    return f"{text} {words[: extra - 1].rstrip()}" if extra > 1 else text


def load_ui(path: str) -> Any:
    """As slicer.util.loadUI, whose texts are translated too."""
    widget = pythonqt.load_ui(path)
    for child in widget._target.findChildren(QtWidgets.QWidget):
        text = child.property("text")
        if text and not child.objectName().startswith("qt_") and child.objectName():
            child.setProperty("text", tr(text))
    return widget


def _modules() -> None:
    """What the module imports by name."""
    modules = {
        "qt": {name: getattr(pythonqt, name) for name in ("QAction", "QTimer", "QSettings", "QFileDialog", "QListWidgetItem", "Qt")},
        "slicer.i18n": {"tr": tr, "translate": lambda context, text: tr(text)},
        "slicer.parameterNodeWrapper": {"parameterNodeWrapper": parameterNodeWrapper, "WithinRange": WithinRange},
        "slicer.ScriptedLoadableModule": {
            one.__name__: one
            for one in (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic, ScriptedLoadableModuleTest)
        },
    }
    for name, content in modules.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)


_modules()


def install(scene: Any) -> App:
    """Everything in place, for one test; what was recorded before is forgotten."""
    boxes.clear()
    pythonqt.swallowed.clear()
    pythonqt.QSettings.values.clear()
    slicer.mrmlScene, slicer.app = scene, App()
    slicer.util.loadUI, slicer.util.childWidgetVariables = load_ui, pythonqt.child_widgets
    slicer.util.VTKObservationMixin = VTKObservationMixin
    from bench import layers  # needs the modules above

    layers.clear()
    slicer.util.setSliceViewerLayers = lambda **asked: layers.append(asked)
    for name in ("errorDisplay", "warningDisplay", "infoDisplay", "confirmOkCancelDisplay"):
        setattr(slicer.util, name, lambda text, *_, **__: boxes.append(text))
    return slicer.app
