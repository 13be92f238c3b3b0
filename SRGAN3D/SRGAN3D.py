"""The module as Slicer finds it. Panel, logic, worker and MRML are in SRGAN3DSlicer/, the computation in SRGAN3DLib/.

Slicer's own process never loads torch: the worker, a separate process, does.
"""

import logging
import sys

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from SRGAN3DSlicer.logic import Logic


class SRGAN3D(ScriptedLoadableModule):
    """Name, category and credits."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Super-Resolution (SRGAN3D)")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        self.parent.dependencies = []
        self.parent.contributors = ["SRGAN3D contributors (the SRGAN3D project)"]
        self.parent.helpText = _(
            "Puts an MRI scan of the head on a finer grid, in the same place, and says how sure one can be of the result. "
            "Research software, not for diagnosis: detail finer than the voxels of the scan is inferred, not measured. "
            'See the <a href="https://github.com/SRGAN3D/SlicerSRGAN3D#in-3d-slicer">tutorial</a>.'
        )
        self.parent.acknowledgementText = _(
            "After I. Sánchez and V. Vilaplana, 3D Medical Image Synthesis using Generative Adversarial Networks (womENCourage 2017), "
            "and Brain MRI super-resolution using 3D generative adversarial networks (arXiv 1812.11440)."
        )
        slicer.app.connect("startupCompleted()", onStartupCompleted)


def onStartupCompleted():
    registerSampleData()
    registerContextMenu()


def registerSampleData():
    """A Slicer that was started without Sample Data has none of ours either."""
    from SRGAN3DSlicer import sample_data

    try:
        sample_data.register()
    except ImportError as error:
        logging.info("SRGAN3D: no sample data, since %s is absent", error.name)


def registerContextMenu():
    """The entry "Super-resolve..." for volumes in the data tree, where Slicer has one."""
    from SRGAN3DSlicer import context_menu

    try:
        context_menu.register()
    except ImportError as error:
        logging.info("SRGAN3D: no context menu, since %s is absent", error.name)


class SRGAN3DWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Puts the panel into Slicer, and reports to it when the scene changes and when the user comes and goes."""

    def __init__(self, parent=None):
        self.parameters, self.connection, self.panel, self.logic, self.active = None, None, None, None, True
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)  # last: without a parent it calls setup()

    def setup(self):
        from SRGAN3DSlicer.panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/SRGAN3D.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = SRGAN3DLogic()
        self.panel = Panel(self.ui, self.logic)
        scene = slicer.mrmlScene
        for event, method in (
            (scene.StartCloseEvent, self.onSceneStartClose),
            (scene.EndCloseEvent, self.onSceneEnd),
            (scene.StartImportEvent, self.onSceneStartImport),
            (scene.EndImportEvent, self.onSceneEnd),
            (scene.StartSaveEvent, self.onSceneStartSave),
            (scene.EndSaveEvent, self.onSceneEndSave),
            (scene.NodeAddedEvent, self.onSceneNodes),
            (scene.NodeRemovedEvent, self.onSceneNodes),
        ):
            self.addObserver(scene, event, method)
        self.observeSelection()
        self.bind()

    def cleanup(self):
        """The module is reloaded or Slicer ends: no process is left."""
        self.unbind()
        self.removeObservers()
        if self.panel is not None:  # else setup() has failed
            self.panel.detach()
            self.logic.cleanup()

    def enter(self):
        from SRGAN3DSlicer import context_menu

        self.active = True
        self.bind()
        self.panel.refresh_torch()
        self.panel.choose_result(context_menu.current_node())
        self.panel.warm_up()

    def exit(self):
        self.active = False
        self.unbind()

    def onSceneStartClose(self, caller, event):
        self.unbind()
        self.panel.result.drop()

    def onSceneStartImport(self, caller, event):
        """Selectors are emptied and turn to the first node. The user did not choose it, and it must not be written into the scene."""
        self.unbind()

    def onSceneStartSave(self, caller, event):
        self.panel.result.comparison.before_save()

    def onSceneEndSave(self, caller, event):
        self.panel.result.comparison.after_save()

    def onSceneNodes(self, caller, event):
        """A volume has come or gone."""
        if self.parameters is not None:
            self.panel.on_scene_nodes()

    def observeSelection(self):
        """The data tree makes the volume active that is shown by its eye: if that is a result, the panel shows it."""
        logic = slicer.app.applicationLogic() if hasattr(slicer.app, "applicationLogic") else None
        self.selection = logic.GetSelectionNode() if logic is not None else None
        if self.selection is not None:
            self.addObserver(self.selection, "ModifiedEvent", self.onSelection)

    def onSelection(self, caller, event):
        if self.parameters is not None:
            self.panel.choose_result(slicer.mrmlScene.GetNodeByID(self.selection.GetActiveVolumeID() or ""))

    def onSceneEnd(self, caller, event):
        """Of a close or an import: the choices are those of the scene as it is now. The selectors follow the scene before us."""
        if self.active:
            self.bind()

    def bind(self):
        """The scene's choices into the widgets, and back from then on."""
        from SRGAN3DSlicer.parameters import Parameters

        if self.parameters is None:
            self.parameters = Parameters(self.logic.getParameterNode())
            self.panel.set_parameters(self.parameters)
            self.connection = self.parameters.connectGui(self.ui)
            self.panel.refresh()

    def unbind(self):
        if self.parameters is not None:
            self.parameters.disconnectGui(self.connection)
            self.connection, self.parameters = None, None
            self.panel.set_parameters(None)

    def onReload(self):
        """Slicer executes this file again, and it must import its packages anew."""
        for name in [name for name in sys.modules if name.split(".")[0] in ("SRGAN3DLib", "SRGAN3DSlicer")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class SRGAN3DLogic(ScriptedLoadableModuleLogic, Logic):
    """`SRGAN3DLogic().superResolve(volume)` returns the node; `superResolveAsync` a run. See SRGAN3DSlicer/logic.py."""

    def __init__(self, make_process=None):
        ScriptedLoadableModuleLogic.__init__(self)
        Logic.__init__(self, make_process, qt.QTimer())
        self.timer.connect("timeout()", self.pump)


class SRGAN3DTest(ScriptedLoadableModuleTest):
    """Run by Reload and Test (runTest) and by ctest (each test method)."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            getattr(self, name)()
        self.delayDisplay("Tests passed")

    def makeVolume(self):
        """A small oblique volume: a soft ball in noise."""
        from SRGAN3DSlicer import mrml

        k, j, i = np.indices((24, 28, 26)) - 12
        ball = 200.0 / (1 + np.exp(np.sqrt(k**2 + j**2 + i**2) - 9.0)) + np.random.default_rng(0).normal(20, 3, (24, 28, 26))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "ball")
        turned = [[0.9, -0.3, 0, -20], [0.3, 0.9, 0, 10], [0, 0, 2, 5], [0, 0, 0, 1]]
        mrml.fill(node, ball.astype(np.float32), turned)
        node.CreateDefaultDisplayNodes()
        return node

    def test_inputsAreChecked(self):
        from SRGAN3DSlicer import mrml

        self.assertEqual(mrml.unfit(self.makeVolume()), "")
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        self.assertIn("label map", mrml.unfit(labels))

    def test_superResolves(self):
        """With torch and a model; else it says what is missing."""
        from SRGAN3DSlicer import install, preferences

        from SRGAN3DLib.contract.checkpoint_header import catalogue
        from SRGAN3DLib.contract.job_values import DEFAULT_MODEL

        if not (catalogue() and (install.state().ready or preferences.foreign_python())):
            self.delayDisplay(f"Not computed: models {list(catalogue())}, {install.state().text}")
            return
        before = "torch" in sys.modules
        node, logic = self.makeVolume(), SRGAN3DLogic()
        try:
            out = logic.superResolve(node, model=min(catalogue(), key=lambda name: name != DEFAULT_MODEL), device="cpu")
        finally:
            logic.cleanup()
        boxes = [[0.0] * 6, [0.0] * 6]
        node.GetRASBounds(boxes[0])
        out.GetRASBounds(boxes[1])
        self.assertLess(np.abs(np.subtract(*boxes)).max(), 1e-4)
        self.assertEqual("torch" in sys.modules, before)
