"""The panel: widgets on one side, the logic on the other, a machine of named states between. It computes nothing and asks nothing."""

import traceback
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SRGAN3DLib.contract.errors import SRGAN3DError

from . import choices, install, mrml, preferences, results, texts
from .check_view import CheckView
from .display import Display
from .logic import Logic
from .measurement import Measurement
from .model_chooser import ModelChooser
from .result_view import ResultView
from .run_control import RunControl
from .scan_list import ScanList
from .slots import connect, scroll_to, slot
from .states import State
from .synthesis_inputs import SynthesisInputs
from .watch import Watch

KEPT = ("blur", "noise", "precision", "flips")  # parameters of combo boxes: connectGui would keep their texts, which are translated


class Panel:
    """`ui` has the widgets of SRGAN3D.ui by name; `parameters` is a `Parameters` wrapper, set by `set_parameters`."""

    def __init__(self, ui: Any, logic: Logic):
        self.ui, self.logic = ui, logic
        self.parameters: Any = None
        self.ready = False
        self.updating = False
        self.display, self.control = Display(ui), RunControl(self)
        self.machine = self.control.machine
        self.source, self.region = Watch(self.on_source), Watch(self.on_bound)
        self.models, self.scans = ModelChooser(ui), ScanList(ui)
        self.inputs = SynthesisInputs(ui, self.on_bound)
        self.result = ResultView(ui, self.fault)
        self.check = CheckView(self)
        self.measurement = Measurement(logic, self.refresh)
        self._fill_choices()
        self._connect()
        logic.client.listeners.append(self.on_hello)
        self.say(preferences.take_note())
        self.refresh_torch()

    # --- set-up

    def _fill_choices(self) -> None:
        self.updating = True
        choices.fill(self.ui.blurCombo, texts.blurs())
        choices.fill(self.ui.noiseCombo, texts.noises())
        choices.fill(self.ui.precisionCombo, texts.precisions())
        choices.fill(self.ui.flipsCombo, texts.views())
        choices.fill_devices(self.ui.deviceCombo, self.logic.client.hello)
        self.models.fill()
        self.updating = False

    def _connect(self) -> None:
        ui = self.ui
        wiring = [
            (ui.inputSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_input),
            (ui.outputSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_bound),
            (ui.roiSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_roi),
            (ui.outputSelector, "nodeAboutToBeRemoved(vtkMRMLNode*)", self.on_node_removed),
            (ui.roiSelector, "nodeAboutToBeRemoved(vtkMRMLNode*)", self.on_node_removed),
            *((one, "nodeAboutToBeRemoved(vtkMRMLNode*)", self.on_node_removed) for _label, one in self.inputs.rows),
            (ui.memorySpin, "valueChanged(double)", self.on_bound),
            (ui.allFramesCheck, "toggled(bool)", self.on_bound),
            (ui.severalButton, "toggled(bool)", self.on_several),
            (ui.volumesList, "itemChanged(QListWidgetItem*)", self.on_bound),
            (ui.aboutButton, "toggled(bool)", self.on_bound),
            (ui.applyButton, "clicked(bool)", self.on_apply),
            (ui.addModelButton, "clicked(bool)", self.on_add_model),
            (ui.removeModelButton, "clicked(bool)", self.on_remove_model),
            (ui.installButton, "clicked(bool)", self.on_install),
            (ui.copyLogButton, "clicked(bool)", lambda *_: slicer.app.clipboard().setText(ui.logText.plainText)),
        ]
        names = ("task", "model", "device", *KEPT)
        wiring += [(getattr(ui, f"{name}Combo"), "currentIndexChanged(int)", self.on_choice) for name in names]
        connect(wiring)

    def set_parameters(self, parameters: Any) -> None:
        """Show another scene's choices (None: the panel is left, or its scene closes)."""
        self.parameters = parameters
        if parameters is None:
            self.source.stop()
            self.region.stop()
            self.result.leave()
            return
        if parameters.inputVolume is None:
            fit = [node for node in mrml.fit_volumes(slicer.mrmlScene) if not results.is_result(node)]
            parameters.inputVolume = fit[0] if fit else None
        self.source.follow(parameters.inputVolume)  # connectGui gives it to the selector later
        self.updating, ui = True, self.ui
        problem = self.models.restore(parameters.task, parameters.model)
        for name in KEPT:
            choices.choose(getattr(ui, f"{name}Combo"), getattr(parameters, name))
        ui.roiSelector.setCurrentNode(slicer.mrmlScene.GetNodeByID(parameters.roiID) if parameters.roiID else None)
        if problem:
            self.complain(problem)
        self.scans.fill()
        self.updating = False
        self.region.follow(ui.roiSelector.currentNode())
        self.result.come_back(parameters.inputVolume)
        self.refresh()

    def warm_up(self) -> None:
        """The user opens the module: the worker starts now, so that the first forecast is a measured one."""
        if self.ready and not mrml.unfit(self.node) and not self.machine.busy:
            try:
                self.logic.client.start()
                self.logic.tick(True)
            except SRGAN3DError as error:
                self.log(str(error))

    def choose_input(self, node: Any) -> None:
        """From the data tree's context menu."""
        self.ui.severalButton.checked = False
        self.ui.inputSelector.setCurrentNode(node)

    def choose_result(self, node: Any) -> None:
        """Selected in the data tree: the panel shows a result, and ignores everything else."""
        if results.is_result(node) and not self.machine.busy:
            self.result.choose(node)

    def on_scene_nodes(self) -> None:
        """A node has come or gone: the list of scans follows."""
        if self.scans.is_on and not self.machine.busy:
            self.updating = True
            self.scans.fill()
            self.updating = False

    # --- what the widgets say

    @property
    def ignores_widgets(self) -> bool:
        """A change of a widget is no choice of the user. Also after `detach`: Slicer's Reload hides the widgets and keeps them alive."""
        return self.updating or self.parameters is None

    @property
    def node(self) -> Any:
        """The scan that the texts are about."""
        chosen = self.scans.volumes() if self.scans.is_on else []
        return chosen[0] if chosen else self.ui.inputSelector.currentNode()

    @property
    def header(self) -> Any:
        """Of the model that is used for the scan; None without one."""
        plan = self.models.plan_for(self.node)
        return plan.header if plan is not None else None

    @slot
    def on_input(self, *_arguments: Any) -> None:
        """Another volume, or the same by another name; or one that was just made, and gets its voxels later."""
        if self.ignores_widgets:
            return
        node = self.ui.inputSelector.currentNode()
        self.source.follow(node)
        self.result.follow_input(node)
        self.refresh()

    @slot
    def on_source(self, *_arguments: Any) -> None:
        if not self.ignores_widgets:
            self.refresh()

    @slot
    def on_bound(self, *_arguments: Any) -> None:
        """A widget that connectGui binds: its value is not yet in the parameter node, so nothing may be written there from here."""
        if not self.ignores_widgets:
            self.refresh()

    @slot
    def on_several(self, *_arguments: Any) -> None:
        if not self.ignores_widgets:
            self.updating = True
            self.scans.states = {}
            self.scans.fill()
            node = self.ui.inputSelector.currentNode()
            if self.scans.is_on and not self.scans.volumes() and node is not None:
                self.scans.tick([node.GetID()])
            self.updating = False
            self.refresh()

    @slot
    def on_roi(self, *_arguments: Any) -> None:
        if self.ignores_widgets:
            return
        roi, node = self.ui.roiSelector.currentNode(), self.ui.inputSelector.currentNode()
        if roi is not None and node is not None and roi.GetNumberOfControlPoints() == 0:
            mrml.place_roi(roi, node)
        self.region.follow(roi)
        self.on_choice()

    @slot
    def on_node_removed(self, node: Any) -> None:
        """A selector whose node is removed turns to the next one. It would be overwritten, though the user did not choose it."""
        for selector in (self.ui.outputSelector, self.ui.roiSelector, *(one for _label, one in self.inputs.rows)):
            current = selector.currentNode()
            if current is not None and current.GetID() == node.GetID():
                selector.setCurrentNode(None)

    @slot
    def on_choice(self, *_arguments: Any) -> None:
        if self.ignores_widgets:
            return
        self.display.withdraw_complaint()
        roi = self.ui.roiSelector.currentNode()
        self.parameters.roiID = roi.GetID() if roi is not None else ""
        self.parameters.task = choices.data(self.ui.taskCombo)
        self.parameters.model = choices.data(self.ui.modelCombo) if self.models.is_by_hand else ""
        for name in KEPT:
            setattr(self.parameters, name, choices.data(getattr(self.ui, f"{name}Combo")))
        device = choices.data(self.ui.deviceCombo)
        if device:
            preferences.set_device(device)
        else:  # one that cannot be used: back to the choice before, with the reason
            self.complain(choices.reason(self.ui.deviceCombo))
            self._fill_devices()
        self.refresh()

    def _fill_devices(self) -> None:
        self.updating = True
        choices.fill_devices(self.ui.deviceCombo, self.logic.client.hello)
        self.updating = False

    @slot
    def on_apply(self, *_arguments: Any) -> None:
        self.control.cancel() if self.machine.busy else self.control.start()

    # --- what the logic says

    @slot
    def on_hello(self, hello: dict) -> None:
        self._fill_devices()
        self.log(f"worker {hello['version']}, Python {hello['python']}, PyTorch {hello['torch']}, self-test: {hello['self_test']}")
        for one in hello["devices"]:
            self.log(f"{one['device']}: {one['reason'] or one['name']}")
        self.refresh()

    def fault(self, error: Exception) -> None:
        """An error of ours, in a slot: one line, and the panel can be used again."""
        self.log("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        self.control.abort()
        self.say(_("Failed: {text}").format(text=f"{type(error).__name__}: {error} " + _("(see the log under Advanced)")))
        self.refresh()

    def detach(self) -> None:
        """The widgets are about to be deleted: nothing may use them any more."""
        if self.machine.busy:
            preferences.leave_note(_("The last run was cancelled, because the module was reloaded or Slicer was closed."))
        if self.control.run is not None:
            self.control.run.silence()
        self.measurement.cancel()
        if self.on_hello in self.logic.client.listeners:
            self.logic.client.listeners.remove(self.on_hello)
        self.result.close()
        self.set_parameters(None)

    # --- other buttons

    @slot
    def on_add_model(self, *_arguments: Any) -> None:
        path = qt.QFileDialog.getOpenFileName(None, _("Add checkpoint file"), "", _("Checkpoints (*.safetensors)"))
        if path:
            self.add_model(str(Path(path)))

    def add_model(self, path: str) -> None:
        """To the list of this computer, and chosen; or the reason why not."""
        self.updating = True
        try:
            self.models.add(path)
        except SRGAN3DError as error:
            self.complain(_("Not added: {text}").format(text=error))
            return
        finally:
            self.updating = False
        self.on_choice()
        self.say(_("Added: {file}").format(file=Path(path).name))

    @slot
    def on_remove_model(self, *_arguments: Any) -> None:
        self.updating = True
        file = self.models.remove()
        self.updating = False
        self.on_choice()
        self.say(_("Taken out of the list: {file}").format(file=file))

    @slot
    def on_install(self, *_arguments: Any) -> None:
        self.ui.progressBar.setRange(0, 0)
        self.ui.progressBar.setVisible(True)
        try:
            self.logic.client.stop()  # it may hold the files that are to be replaced
            install.install(self._show_step)
            self.say(_("PyTorch is installed."))
        except SRGAN3DError as error:
            self.say(_("Not installed: {text}").format(text=error))
        self.refresh_torch()
        scroll_to(self.ui.statusLabel)

    def _show_step(self, text: str) -> None:
        self.say(text)
        slicer.app.processEvents()  # the installation blocks the main thread

    # --- what is shown

    def say(self, text: str) -> None:
        self.display.say(text)

    def complain(self, text: str) -> None:
        self.display.complain(text)

    def log(self, text: str) -> None:
        self.display.log(text)

    def refresh_torch(self) -> None:
        state = install.state()
        self.ready = state.ready or bool(preferences.foreign_python())  # another Python says in its hello what it lacks
        self.display.torch(self.ready, f"{state.text} {install.download()}")
        self.refresh()

    def refresh(self) -> None:
        """Everything that follows from the state and the choices; then the model is timed, if it has not been on this computer."""
        self.updating, before = True, self.updating
        self.display.refresh(self)
        self.check.refresh()
        self.updating = before
        self._measure()

    def measured(self, node: Any) -> Any:
        """What is known of the speed of the model for this volume."""
        plan = self.models.plan_for(node)
        return preferences.measured(plan.key if plan is not None else "", preferences.device_kind(self.logic.client.hello))

    def _measure(self) -> None:
        node = self.node
        plan = self.models.plan_for(node)
        calm = self.machine.state in (State.IDLE, State.DONE)  # not after a failure: the user looks into that first
        if self.parameters is None or not calm or plan is None or self.models.is_synthesis or self.measured(node) is not None:
            return
        self.measurement.begin(plan.key, preferences.device_kind(self.logic.client.hello))
