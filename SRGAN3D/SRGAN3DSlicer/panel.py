"""The panel: widgets on one side, the logic on the other, a machine of named states between. No computation, no question."""

import time
import traceback
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SRGAN3DLib.errors import Cancelled, SRGAN3DError
from SRGAN3DLib.events import Log, Progress

from . import compare, forecast, install, model_card, mrml, preferences, texts
from .logic import Logic
from .slots import slot
from .states import Machine, State


class Panel:
    """`ui` has the widgets of SRGAN3D.ui by name; `parameters` is a `Parameters` wrapper, set by `set_parameters`."""

    def __init__(self, ui: Any, logic: Logic):
        self.ui, self.logic, self.machine = ui, logic, Machine()
        self.parameters: Any = None
        self.run: Any = None
        self.shown: tuple[str, str] | None = None  # IDs of the input and the result to compare
        self.headers: dict = {}
        self.ready = False
        self.begun, self.voxels = 0.0, 0
        self.updating = False
        self._fill_choices()
        self._connect()
        logic.client.listeners.append(self.on_hello)
        self.refresh_torch()

    # --- set-up

    def _fill_choices(self) -> None:
        ui = self.ui
        for combo, choices in ((ui.blurCombo, texts.blurs()), (ui.precisionCombo, texts.precisions()), (ui.compareCombo, texts.modes())):
            for key, text in choices.items():
                combo.addItem(text, key)
        self._fill_devices([])
        self._fill_models()

    def _fill_models(self) -> None:
        self.updating = True
        self.headers = model_card.models(preferences.added_models())
        self.ui.modelCombo.clear()
        for key, header in self.headers.items():
            self.ui.modelCombo.addItem(model_card.title(key, header), key)
        self.updating = False

    def _fill_devices(self, devices: list[dict]) -> None:
        """Automatic, then every device by name; the unusable ones say why and cannot be chosen."""
        self.updating = True
        combo, wanted = self.ui.deviceCombo, preferences.device()
        combo.clear()
        combo.addItem(_("Automatic"), "auto")
        for one in devices or [{"device": "cpu", "name": "", "usable": True, "reason": ""}]:
            if one["usable"]:
                combo.addItem(f"{one['device']}: {one['name']}" if one["name"] else one["device"], one["device"])
            else:
                combo.addItem(_("{device}: not usable").format(device=one["device"]), "")
                combo.setItemData(combo.count - 1, one["reason"], qt.Qt.ToolTipRole)
        if combo.findData(wanted) < 0:  # not seen yet, or gone: what was asked stays asked, and the worker will say
            combo.addItem(wanted, wanted)
        combo.setCurrentIndex(combo.findData(wanted))
        self.updating = False

    def _connect(self) -> None:
        ui = self.ui
        wiring = [
            (ui.inputSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_input),
            (ui.outputSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_choice),
            (ui.roiSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_choice),
            (ui.memorySpin, "valueChanged(double)", self.on_choice),
            (ui.allFramesCheck, "toggled(bool)", self.on_choice),
            (ui.applyButton, "clicked(bool)", self.on_apply),
            (ui.addModelButton, "clicked(bool)", self.on_add_model),
            (ui.installButton, "clicked(bool)", self.on_install),
            (ui.compareCombo, "currentIndexChanged(int)", self.on_compare),
            (ui.fadeSlider, "valueChanged(int)", self.on_fade),
            (ui.copyCitationButton, "clicked(bool)", self.on_copy_citation),
            (ui.copyLogButton, "clicked(bool)", self.on_copy_log),
        ]
        wiring += [
            (c, "currentIndexChanged(int)", self.on_choice) for c in (ui.modelCombo, ui.blurCombo, ui.deviceCombo, ui.precisionCombo)
        ]
        for widget, signal, method in wiring:
            if not widget.connect(signal, method):
                raise RuntimeError(f"no signal {signal}")  # PythonQt only prints

    def set_parameters(self, parameters: Any) -> None:
        """Show another scene's choices (None: the panel is left, or its scene closes)."""
        self.parameters = parameters
        if parameters is None:
            return
        self.updating = True
        for combo, value in (
            (self.ui.modelCombo, parameters.model),
            (self.ui.blurCombo, parameters.blur),
            (self.ui.precisionCombo, parameters.precision),
        ):
            combo.setCurrentIndex(max(0, combo.findData(value)))
            if combo.findData(value) < 0 and combo.count:
                self.say(_("{choice}, chosen in this scene, is not here; another stands in its place").format(choice=value))
        self.ui.roiSelector.setCurrentNode(slicer.mrmlScene.GetNodeByID(parameters.roiID) if parameters.roiID else None)
        self.updating = False
        if parameters.inputVolume is None:
            parameters.inputVolume = mrml.first_fit(slicer.mrmlScene)
        self.refresh()

    # --- what the widgets say

    def _data(self, combo: Any) -> str:
        return str(combo.itemData(combo.currentIndex) or "")

    @property
    def header(self) -> Any:
        return self.headers.get(self._data(self.ui.modelCombo))

    @slot
    def on_input(self, *_arguments: Any) -> None:
        if not self.updating:
            self._forget_result()
            self.refresh()

    @slot
    def on_choice(self, *_arguments: Any) -> None:
        if self.updating or self.parameters is None:
            return
        roi = self.ui.roiSelector.currentNode()
        self.parameters.roiID = roi.GetID() if roi is not None else ""
        self.parameters.model = self._data(self.ui.modelCombo)
        self.parameters.blur = self._data(self.ui.blurCombo)
        self.parameters.precision = self._data(self.ui.precisionCombo)
        device = self._data(self.ui.deviceCombo)
        if device:
            preferences.set_device(device)
        else:  # an unusable one: back to what was chosen, with the reason
            self.say(str(self.ui.deviceCombo.itemData(self.ui.deviceCombo.currentIndex, qt.Qt.ToolTipRole)))
            self._fill_devices((self.logic.client.hello or {}).get("devices", []))
        self.refresh()

    # --- the click

    @slot
    def on_apply(self, *_arguments: Any) -> None:
        if self.machine.busy:
            self.cancel()
            return
        node, parameters = self.ui.inputSelector.currentNode(), self.parameters
        self.machine.go(State.STARTING)
        self.say(_("Starting"))
        self.begun, self.voxels = time.monotonic(), 0
        try:
            roi = self.ui.roiSelector.currentNode()
            self.voxels = mrml.voxel_count(node, roi)
            self.run = self.logic.superResolveAsync(
                node,
                self.ui.outputSelector.currentNode(),
                model=parameters.model,
                device=preferences.device(),
                precision=parameters.precision,
                blur=parameters.blur,
                memoryLimit=self._memory_limit(),
                roi=roi,
                allFrames=bool(self.ui.allFramesCheck.checked) and mrml.frames_of(node) is not None,
                onProgress=self.on_progress,
                onDone=self.on_done,
                onError=self.on_error,
            )
        except SRGAN3DError as error:
            self.on_error(error)
        self.refresh()

    def cancel(self) -> None:
        if self.machine.state is not State.CANCELLING:
            self.machine.go(State.CANCELLING)
            self.say(_("Cancelling"))
        if self.run is not None:
            self.run.cancel()
        self.refresh()

    # --- what the logic says

    @slot
    def on_hello(self, hello: dict) -> None:
        self._fill_devices(hello["devices"])
        self.log(f"worker {hello['version']}, Python {hello['python']}, PyTorch {hello['torch']}, self-test: {hello['self_test']}")
        for one in hello["devices"]:
            self.log(f"{one['device']}: {one['reason'] or one['name']}")
        self.refresh()

    @slot
    def on_progress(self, event: Any) -> None:
        if isinstance(event, Log):
            self.log(event.message if event.level == "info" else _("Warning: {text}").format(text=event.message))
            return
        if self.machine.state is State.STARTING:
            self.machine.go(State.RUNNING)
            self.refresh()
        if not isinstance(event, Progress) or self.machine.state is not State.RUNNING:
            return
        self.ui.progressBar.setRange(0, 100)
        self.ui.progressBar.setValue(round(100 * event.done / event.total) if event.total else 0)
        stages = {"network": _("Computing"), "writing": _("Storing")}
        left = "" if event.eta_s is None else _(", {time} left").format(time=forecast.clock(event.eta_s))
        self.say(stages.get(event.stage, event.stage) + left)

    @slot
    def on_done(self, run: Any) -> None:
        self.machine.go(State.DONE)
        node, info = run.nodes[0], run.infos[0]
        if info.get("seconds") and len(run.infos) == 1:
            preferences.set_speed(info["model"]["name"], info["device"].split(":")[0], self.voxels / info["seconds"])
        self.say(_("Done in {time}: {name}").format(time=forecast.clock(time.monotonic() - self.begun), name=node.GetName()))
        self.log(f"done: {node.GetName()}, {info['device']} {info['precision']}, {info['seconds']} s, blur {model_card.told(info)}")
        for line in info.get("fallbacks", []):
            self.log(_("Warning: {text}").format(text=line))
        self.shown = (run.tasks[0].source_id, node.GetID())
        self.ui.measuredLabel.text = model_card.measured(self.header, info) if self.header else ""
        self.ui.citationLabel.text = texts.citation(info)
        self.run = None
        self.refresh()
        self.on_compare()

    @slot
    def on_error(self, error: Exception) -> None:
        self.run = None
        cancelled = isinstance(error, Cancelled)
        self.machine.go(State.CANCELLED if cancelled else State.FAILED)
        text = str(error) if str(error) != "cancelled" else _("nothing was changed")
        self.say((_("Cancelled: {text}") if cancelled else _("Failed: {text}")).format(text=text))
        self.log(f"{type(error).__name__}: {error}")
        if self.logic.client.process is not None and not cancelled:
            self.log(self.logic.client.process.error_text())
        self.refresh_torch()

    def fault(self, error: Exception) -> None:
        """An error of ours, in a slot: one line, and the panel usable again."""
        self.log("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        if self.machine.busy:
            run, self.run = self.run, None
            if run is not None:
                run.forget()
                run.cancel()
            self.machine.go(State.FAILED)
        self.say(_("Failed: {text}").format(text=f"{type(error).__name__}: {error} " + _("(see the log)")))
        self.refresh()

    def detach(self) -> None:
        """The widgets are about to go: nothing may reach for them any more."""
        if self.run is not None:
            self.run.forget()
        self.logic.client.listeners.clear()

    # --- other buttons

    @slot
    def on_add_model(self, *_arguments: Any) -> None:
        path = qt.QFileDialog.getOpenFileName(None, _("Add checkpoint file"), "", _("Checkpoints (*.safetensors)"))
        path = path[0] if isinstance(path, tuple) else path
        if not path:
            return
        try:
            self.logic.header(path)
        except SRGAN3DError as error:
            self.say(_("Not added: {text}").format(text=error))
            return
        preferences.add_model(str(Path(path)))
        self._fill_models()
        self.ui.modelCombo.setCurrentIndex(self.ui.modelCombo.findData(str(Path(path))))
        self.on_choice()

    @slot
    def on_install(self, *_arguments: Any) -> None:
        self.say(_("Installing"))
        try:
            self.logic.client.stop()  # it may hold the files that are to be replaced
            self.say(install.install().text)
        except SRGAN3DError as error:
            self.say(_("Not installed: {text}").format(text=error))
        self.refresh_torch()

    @slot
    def on_compare(self, *_arguments: Any) -> None:
        source, result = self._shown_nodes()
        if source is not None and not self.updating:
            compare.show(self._data(self.ui.compareCombo), source, result, self.ui.fadeSlider.value / 100)
        self.ui.fadeSlider.setVisible(self._data(self.ui.compareCombo) == "fade")

    @slot
    def on_fade(self, *_arguments: Any) -> None:
        if self._shown_nodes()[0] is not None:
            compare.fade(self.ui.fadeSlider.value / 100)

    @slot
    def on_copy_citation(self, *_arguments: Any) -> None:
        qt.QApplication.clipboard().setText(self.ui.citationLabel.text)

    @slot
    def on_copy_log(self, *_arguments: Any) -> None:
        qt.QApplication.clipboard().setText(self.ui.logText.plainText)

    # --- what is shown

    def say(self, text: str) -> None:
        self.ui.statusLabel.text = text

    def log(self, text: str) -> None:
        if text.strip():
            self.ui.logText.appendPlainText(text.rstrip())

    def refresh_torch(self) -> None:
        state = install.state()
        self.ready = state.ready or bool(preferences.foreign_python())  # another Python tells of its torch when it starts
        self.ui.torchLabel.text = state.text
        self.ui.torchLabel.setVisible(not self.ready)
        self.ui.installButton.setVisible(not self.ready)
        self.refresh()

    def refresh(self) -> None:
        """Everything that follows from the state and the choices."""
        ui, busy = self.ui, self.machine.busy
        node = ui.inputSelector.currentNode()
        reason = self._why_not(node)
        ui.applyButton.text = {State.CANCELLING: _("Cancelling")}.get(self.machine.state, _("Cancel") if busy else _("Super-resolve"))
        ui.applyButton.enabled = self.machine.state is not State.CANCELLING if busy else not reason
        ui.applyButton.toolTip = reason or _("Compute the result in a process of its own; Slicer stays usable.")
        for group in (ui.volumesGroup, ui.modelGroup, ui.optionsGroup):
            group.enabled = not busy
        ui.progressBar.setVisible(busy)
        if self.machine.state in (State.STARTING, State.CANCELLING):
            ui.progressBar.setRange(0, 0)
        ui.resultGroup.setVisible(self.machine.state is State.DONE and self._shown_nodes()[0] is not None)
        ui.allFramesCheck.setVisible(not mrml.unfit(node) and mrml.frames_of(node) is not None)
        self._refresh_forecast(node, reason)

    def _why_not(self, node: Any) -> str:
        """What stands in the way of a click, in one line."""
        if self.parameters is None:
            return _("the scene is closing")
        if self.header is None:
            return _("no model: add a checkpoint file")
        if not self.ready:
            return _("PyTorch is wanted: use Install")
        return mrml.unfit(node)

    def _refresh_forecast(self, node: Any, reason: str) -> None:
        ui, header = self.ui, self.header
        speed = preferences.speed(header.name, self._speed_device()) if header is not None else None
        ui.cardLabel.text = texts.card(header, speed)
        ui.warningLabel.setVisible(False)
        if reason:
            ui.forecastLabel.text = reason[:1].upper() + reason[1:]
            return
        try:
            region = mrml.region(node, ui.roiSelector.currentNode())
            ui.forecastLabel.text = texts.ahead(header, node, region, speed, self._memory_limit() or "")
        except SRGAN3DError as error:
            ui.forecastLabel.text = str(error)
            ui.applyButton.enabled = self.machine.busy
            return
        ui.warningLabel.text = texts.notes(header, node)
        ui.warningLabel.setVisible(bool(ui.warningLabel.text))

    def _memory_limit(self) -> str | None:
        gigabytes = self.ui.memorySpin.value
        return f"{gigabytes:g}G" if gigabytes > 0 else None

    def _speed_device(self) -> str:
        device = preferences.device()
        if device == "auto":
            devices = (self.logic.client.hello or {}).get("devices", [])
            device = next((one["device"] for one in devices if one["usable"]), "cpu")
        return device.split(":")[0]

    def _shown_nodes(self) -> tuple[Any, Any]:
        """Input and result of the last run, if both are still there."""
        nodes = [slicer.mrmlScene.GetNodeByID(one) for one in self.shown or ()]
        return (nodes[0], nodes[1]) if len(nodes) == 2 and None not in nodes else (None, None)

    def _forget_result(self) -> None:
        self.shown = None
        if not self.machine.busy and self.machine.state is not State.IDLE:
            self.machine.go(State.IDLE)
            self.say("")
