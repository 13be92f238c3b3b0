"""The panel: widgets on one side, the logic on the other, a machine of named states between. No computation, no question."""

import time
import traceback
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SRGAN3DLib.contract.errors import Cancelled, SRGAN3DError
from SRGAN3DLib.contract.events import Log, Progress
from SRGAN3DLib.contract.jobs import DEFAULT_MODEL

from . import choices, compare, forecast, install, model_card, mrml, preferences, texts
from .logic import Logic
from .slots import connect, scroll_to, slot
from .states import Machine, State
from .watch import Watch

KEPT = ("blur", "precision", "flips")  # parameters of combo boxes: connectGui would keep their texts, which are translated


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
        self.source, self.region = Watch(self.on_source), Watch(self.on_bound)
        self._fill_choices()
        self._connect()
        logic.client.listeners.append(self.on_hello)
        self.refresh_torch()

    # --- set-up

    def _fill_choices(self) -> None:
        ui = self.ui
        choices.fill(ui.blurCombo, texts.blurs())
        choices.fill(ui.precisionCombo, texts.precisions())
        choices.fill(ui.flipsCombo, texts.views())
        choices.fill(ui.compareCombo, texts.modes())
        self._fill_devices()
        self._fill_models()

    def _fill_models(self) -> None:
        self.updating = True
        self.headers = choices.fill_models(self.ui.modelCombo)
        self.updating = False

    def _fill_devices(self) -> None:
        self.updating = True
        choices.fill_devices(self.ui.deviceCombo, self.logic.client.hello)
        self.updating = False

    def _connect(self) -> None:
        ui = self.ui
        wiring = [
            (ui.inputSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_input),
            (ui.outputSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_bound),
            (ui.roiSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_roi),
            (ui.outputSelector, "nodeAboutToBeRemoved(vtkMRMLNode*)", self.on_node_goes),
            (ui.roiSelector, "nodeAboutToBeRemoved(vtkMRMLNode*)", self.on_node_goes),
            (ui.memorySpin, "valueChanged(double)", self.on_bound),
            (ui.allFramesCheck, "toggled(bool)", self.on_bound),
            (ui.applyButton, "clicked(bool)", self.on_apply),
            (ui.addModelButton, "clicked(bool)", self.on_add_model),
            (ui.installButton, "clicked(bool)", self.on_install),
            (ui.compareCombo, "currentIndexChanged(int)", self.on_compare),
            (ui.fadeSlider, "valueChanged(int)", self.on_fade),
            (ui.copyCitationButton, "clicked(bool)", lambda *_: slicer.app.clipboard().setText(ui.citationLabel.text)),
            (ui.copyLogButton, "clicked(bool)", lambda *_: slicer.app.clipboard().setText(ui.logText.plainText)),
        ]
        wiring += [(getattr(ui, f"{name}Combo"), "currentIndexChanged(int)", self.on_choice) for name in ("model", "device", *KEPT)]
        connect(wiring)

    def set_parameters(self, parameters: Any) -> None:
        """Show another scene's choices (None: the panel is left, or its scene closes)."""
        self.parameters = parameters
        if parameters is None:
            self.source.stop()
            self.region.stop()
            return
        if parameters.inputVolume is None:
            parameters.inputVolume = mrml.first_fit(slicer.mrmlScene)
        self._turn_to(parameters.inputVolume)  # its selector gets it only now, from connectGui
        self.updating, ui = True, self.ui
        model = parameters.model or self._suggestion(parameters.inputVolume)
        wanted = {"model": model, **{name: getattr(parameters, name) for name in KEPT}}
        for combo, value in ((getattr(ui, f"{name}Combo"), value) for name, value in wanted.items()):
            combo.setCurrentIndex(max(0, combo.findData(value)))
            if combo.findData(value) < 0 and combo.count:
                self.say(_("{choice}, chosen in this scene, is not here; another stands in its place").format(choice=value))
        self.ui.roiSelector.setCurrentNode(slicer.mrmlScene.GetNodeByID(parameters.roiID) if parameters.roiID else None)
        self.updating = False
        self.region.follow(self.ui.roiSelector.currentNode())
        self.refresh()

    # --- what the widgets say

    @property
    def deaf(self) -> bool:
        """What the widgets tell now is nobody's choice. After `detach` too: Slicer's Reload hides them, and leaves them alive."""
        return self.updating or self.parameters is None

    @property
    def header(self) -> Any:
        return self.headers.get(choices.data(self.ui.modelCombo))

    @slot
    def on_input(self, *_arguments: Any) -> None:
        """Another volume, or the same by another name; or one that was just made, and gets its voxels later."""
        if self.deaf:
            return
        self._turn_to(self.ui.inputSelector.currentNode())
        self.on_source()

    @slot
    def on_source(self, *_arguments: Any) -> None:
        if self.deaf:
            return
        if not self.parameters.model:  # nobody has chosen: what suits this volume
            self.updating = True
            self.ui.modelCombo.setCurrentIndex(max(0, self.ui.modelCombo.findData(self._suggestion(self.ui.inputSelector.currentNode()))))
            self.updating = False
        self.refresh()

    @slot
    def on_bound(self, *_arguments: Any) -> None:
        """A widget that connectGui binds: its value is not yet in the parameter node, so nothing may be written there from here."""
        if not self.deaf:
            self.refresh()

    @slot
    def on_roi(self, *_arguments: Any) -> None:
        if self.deaf:
            return
        roi, node = self.ui.roiSelector.currentNode(), self.ui.inputSelector.currentNode()
        if roi is not None and node is not None and roi.GetNumberOfControlPoints() == 0:
            mrml.place(roi, node)
        self.region.follow(roi)
        self.on_choice()

    @slot
    def on_node_goes(self, node: Any) -> None:
        """A selector whose node goes turns to the next one: another volume would be overwritten, which nobody has chosen."""
        for selector in (self.ui.outputSelector, self.ui.roiSelector):
            current = selector.currentNode()
            if current is not None and current.GetID() == node.GetID():
                selector.setCurrentNode(None)

    @slot
    def on_choice(self, *_arguments: Any) -> None:
        if self.deaf:
            return
        roi = self.ui.roiSelector.currentNode()
        self.parameters.roiID = roi.GetID() if roi is not None else ""
        model = choices.data(self.ui.modelCombo)
        if self.parameters.model or model != self._suggestion(self.ui.inputSelector.currentNode()):
            self.parameters.model = model
        for name in KEPT:
            setattr(self.parameters, name, choices.data(getattr(self.ui, f"{name}Combo")))
        device = choices.data(self.ui.deviceCombo)
        if device:
            preferences.set_device(device)
        else:  # an unusable one: back to what was chosen, with the reason
            self.say(choices.reason(self.ui.deviceCombo))
            self._fill_devices()
        self.refresh()

    # --- the click

    @slot
    def on_apply(self, *_arguments: Any) -> None:
        if self.machine.busy:
            self.cancel()
            return
        node = self.ui.inputSelector.currentNode()
        self.machine.go(State.STARTING)
        self.say(_("Starting"))
        self.begun, self.voxels = time.monotonic(), 0
        try:
            roi = self.ui.roiSelector.currentNode()
            self.voxels = mrml.voxel_count(node, roi)
            self.run = self.logic.superResolveAsync(
                node,
                self.ui.outputSelector.currentNode(),
                model=choices.data(self.ui.modelCombo),
                device=preferences.device(),
                precision=choices.data(self.ui.precisionCombo),
                blur=choices.data(self.ui.blurCombo),
                memoryLimit=choices.memory_limit(self.ui.memorySpin),
                roi=roi,
                flips=int(choices.data(self.ui.flipsCombo)),
                allFrames=bool(self.ui.allFramesCheck.checked) and mrml.frames_of(node) is not None,
                onProgress=self.on_progress,
                onDone=self.on_done,
                onError=self.on_error,
            )
        except SRGAN3DError as error:
            self.on_error(error)
        self.refresh()

    def cancel(self) -> None:
        """The panel is free at once; `on_error` tells it so. The worker lets go of the job by itself, or is ended."""
        if self.run is not None:
            self.run.cancel()

    # --- what the logic says

    @slot
    def on_hello(self, hello: dict) -> None:
        self._fill_devices()
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
        self.say(texts.progress(event))

    @slot
    def on_done(self, run: Any) -> None:
        self.machine.go(State.DONE)
        node, info = run.nodes[0], run.infos[0]
        if info.get("seconds") and len(run.infos) == 1:
            preferences.set_speed(info["model"]["name"], info["device"].split(":")[0], self.voxels * info.get("flips", 1) / info["seconds"])
        text = _("Done in {time}: {name}").format(time=forecast.clock(time.monotonic() - self.begun), name=node.GetName())
        self.say(f"{text} ({'; '.join(run.notes)})" if run.notes else text)
        self.log(f"done: {node.GetName()}, {info['device']} {info['precision']}, blur {model_card.told(info)}")
        for line in info.get("fallbacks", []):
            self.log(_("Warning: {text}").format(text=line))
        self.shown = (run.tasks[0].source_id, node.GetID())
        self.ui.measuredLabel.text = model_card.measured(self.header, info) if self.header else ""
        self.ui.citationLabel.text = texts.citation(info)
        self.run = None
        self.refresh()
        self.on_compare()
        scroll_to(self.ui.resultGroup)

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
        if self.on_hello in self.logic.client.listeners:
            self.logic.client.listeners.remove(self.on_hello)
        self.set_parameters(None)

    # --- other buttons

    @slot
    def on_add_model(self, *_arguments: Any) -> None:
        path = qt.QFileDialog.getOpenFileName(None, _("Add checkpoint file"), "", _("Checkpoints (*.safetensors)"))
        if path:
            self.add_model(str(Path(path)))

    def add_model(self, path: str) -> None:
        """To the list of this machine, and chosen; or the reason why not."""
        try:
            self.logic.header(path)
        except SRGAN3DError as error:
            self.say(_("Not added: {text}").format(text=error))
            return
        preferences.add_model(path)
        self._fill_models()
        self.ui.modelCombo.setCurrentIndex(self.ui.modelCombo.findData(path))
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
        source, result = compare.nodes(self.shown)
        if source is not None and not self.updating:
            compare.show(choices.data(self.ui.compareCombo), source, result, self.ui.fadeSlider.value / 100)
        self.ui.fadeSlider.setVisible(choices.data(self.ui.compareCombo) == "fade")

    @slot
    def on_fade(self, *_arguments: Any) -> None:
        if compare.nodes(self.shown)[0] is not None:
            compare.fade(self.ui.fadeSlider.value / 100)

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
        reason = texts.hindrance(self.parameters is None, self.header, self.ready, node)
        ui.applyButton.text = _("Cancel") if busy else _("Super-resolve")
        ui.applyButton.enabled = busy or not reason
        ui.applyButton.toolTip = reason or _("Compute the result in a process of its own; Slicer stays usable.")
        for group in (ui.volumesGroup, ui.modelGroup, ui.optionsGroup):
            group.enabled = not busy
        ui.progressBar.setVisible(busy)
        if self.machine.state is State.STARTING:
            ui.progressBar.setRange(0, 0)
        ui.resultGroup.setVisible(self.machine.state is State.DONE and compare.nodes(self.shown)[0] is not None)
        ui.allFramesCheck.setVisible(not mrml.unfit(node) and mrml.frames_of(node) is not None)
        self._refresh_forecast(node, reason)

    def _refresh_forecast(self, node: Any, reason: str) -> None:
        ui, header = self.ui, self.header
        speed = preferences.speed(header.name, preferences.device_kind(self.logic.client.hello)) if header is not None else None
        ui.cardLabel.text = texts.card(header, speed)
        ui.warningLabel.setVisible(False)
        if reason:
            named = node is not None and reason.startswith(node.GetName())  # names stay as they are
            ui.forecastLabel.text = reason if named else reason[:1].upper() + reason[1:]
            return
        try:
            region = mrml.region(node, ui.roiSelector.currentNode())
            cost = (choices.memory_limit(ui.memorySpin) or "", int(choices.data(ui.flipsCombo)))
            ui.forecastLabel.text = texts.ahead(header, node, region, speed, *cost)
        except SRGAN3DError as error:
            ui.forecastLabel.text = str(error)
            ui.applyButton.enabled = self.machine.busy
            return
        ui.warningLabel.text = texts.notes(header, node, self.headers.get(self._suggestion(node)))
        ui.warningLabel.setVisible(bool(ui.warningLabel.text))

    def _suggestion(self, node: Any) -> str:
        """The key of the model that suits the volume."""
        return forecast.suggest(self.headers, node.GetSpacing() if node is not None else (1.0, 1.0, 1.0), DEFAULT_MODEL)

    def _turn_to(self, node: Any) -> None:
        """The input: what is said of it follows it, and the result of another is forgotten."""
        self.source.follow(node)
        if node is None or self.shown is None or node.GetID() != self.shown[0]:
            self.forget_result()

    def forget_result(self) -> None:
        """What failed or was cancelled stays told: the input may have gone with the scene."""
        self.shown = None
        if self.machine.state is State.DONE:
            self.machine.go(State.IDLE)
            self.say("")
