"""Everything that the panel shows of its state and of the user's choices."""

from typing import Any

import slicer
from slicer.i18n import tr as _

from SRGAN3DLib.contract.errors import SRGAN3DError
from SRGAN3DLib.contract.job_values import parse_bytes

from . import bug_report, choices, forecast, mrml, scan_look, texts
from .slots import scroll_to
from .states import State

INPUTS = (  # off while a run is under way
    "inputSelector", "severalButton", "volumesList", "taskCombo", "modelCombo", "outputSelector", "allFramesCheck", "roiSelector",
    "blurCombo", "noiseCombo", "deviceCombo", "precisionCombo", "flipsCombo", "memorySpin", "addModelButton", "removeModelButton",
    "installButton",
)  # fmt: skip


class Display:
    """Writes to the widgets and reads none but the user's choices."""

    def __init__(self, ui: Any):
        self.ui = ui
        self.complains = False  # the status line shows a refused choice, which the next good choice takes away
        self.looked: tuple[Any, str] = ((), "")  # what the line about the scan was made from, and the line

    def say(self, text: str) -> None:
        self.complains = False
        self.ui.statusLabel.text = text
        self.ui.statusLabel.setVisible(bool(text))

    def complain(self, text: str) -> None:
        self.say(text)
        self.complains = True
        scroll_to(self.ui.statusLabel)

    def withdraw_complaint(self) -> None:
        if self.complains:
            self.say("")

    def log(self, text: str) -> None:
        if text.strip():
            self.ui.logText.appendPlainText(bug_report.anonymous(text.rstrip(), slicer.mrmlScene))

    def torch(self, ready: bool, text: str) -> None:
        self.ui.torchLabel.text = text
        self.ui.torchLabel.setVisible(not ready)
        self.ui.installButton.setVisible(not ready)

    def refresh(self, panel: Any) -> None:
        """`panel` is the Panel, which is not changed."""
        ui, busy, node, several = self.ui, panel.machine.busy, panel.node, panel.scans.is_on
        for name in INPUTS:
            getattr(ui, name).enabled = not busy
        fit = not mrml.unfit(node)
        ui.volumesList.setVisible(several)
        ui.inputSelector.enabled = not busy and not several
        for widget, hint in (
            (ui.outputSelector, _("Each scan of the list gets a new volume.")),
            (ui.roiSelector, _("Not for a list of scans.")),
        ):
            widget.enabled = not busy and not several
            widget.toolTip = hint if several else TOOLTIPS[widget.name]()
        ui.allFramesCheck.setVisible(not several and fit and mrml.frames_of(node) is not None)
        panel.models.refresh(node, panel.measured(node))
        if busy:
            ui.removeModelButton.enabled = False
        self._synthesis(panel, busy, several)
        self._scan_line(node, fit)
        self._forecast_and_button(panel, node, several)
        ui.advancedLabel.text = texts.changed_options(ui, choices.data)
        ui.advancedLabel.setVisible(bool(ui.advancedLabel.text))
        ui.progressBar.setVisible(busy)
        if panel.machine.state is State.STARTING:
            ui.progressBar.setRange(0, 0)

    def _synthesis(self, panel: Any, busy: bool, several: bool) -> None:
        """What differs where another contrast is made: further inputs, one scan at a time, the stronger warning."""
        ui, synthetic = self.ui, panel.models.is_synthesis
        panel.inputs.refresh(panel.header if synthetic else None, busy)
        ui.severalButton.enabled = not busy and (several or not synthetic)
        for widget in (ui.blurCombo, ui.noiseCombo):
            widget.enabled = not busy and not synthetic
        if synthetic:
            ui.allFramesCheck.setVisible(False)
        ui.noticeLabel.text = texts.notice(synthetic)

    def _scan_line(self, node: Any, fit: bool) -> None:
        """Made anew only when the voxels, the grid or the name change: it looks at the voxels."""
        if fit:
            earlier = scan_look.earlier_result(node)
            state = (node.GetID(), node.GetName(), node.GetImageData().GetMTime(), node.GetSpacing(), earlier and earlier.GetID())
            if state != self.looked[0]:
                self.looked = (state, scan_look.line(node))
        self.ui.scanLabel.text = self.looked[1] if fit else ""
        self.ui.scanLabel.setVisible(fit)

    def _forecast_and_button(self, panel: Any, node: Any, several: bool) -> None:
        ui, busy = self.ui, panel.machine.busy
        volumes = panel.scans.volumes() if several else []
        reason = texts.hindrance(
            panel.parameters is None, panel.models.headers, panel.ready, node, None if several else ui.outputSelector.currentNode()
        )
        if several and not volumes and panel.parameters is not None:
            reason = _("Tick at least one scan in the list.")
        notes = ""
        try:
            if not reason and panel.models.is_synthesis:
                reason = texts.hindrance_of_synthesis(panel, several)
            text = reason or (self._of_list(panel, volumes) if several else self._of_one(panel, node))
            notes = "" if reason else texts.notes(panel.models.plan_for(node), node)
        except SRGAN3DError as error:
            reason = text = texts.sentence(str(error), node)
        ui.forecastLabel.text = text
        ui.warningLabel.text = notes
        ui.warningLabel.setVisible(bool(notes))
        count = _("Super-resolve {count} scans").format(count=len(volumes)) if len(volumes) > 1 else _("Super-resolve")
        if panel.models.is_synthesis:
            count = _("Synthesize")
        ui.applyButton.text = _("Cancel") if busy else count
        ui.applyButton.enabled = busy or not reason
        ui.applyButton.toolTip = reason or _("Compute the result in a separate process. Slicer stays usable.")

    def _of_one(self, panel: Any, node: Any) -> str:
        region = mrml.region(node, self.ui.roiSelector.currentNode())
        frames = mrml.frames_of(node) if self.ui.allFramesCheck.checked else None
        count = frames[1].GetNumberOfDataNodes() if frames is not None else 1
        return texts.ahead(panel.models.plan_for(node), node, region, panel.measured(node), *self._cost(), count)

    def _of_list(self, panel: Any, volumes: list[Any]) -> str:
        """Of all scans together; the memory is that of the largest."""
        limit, flips = self._cost()
        found = []
        for node in volumes:
            plan = panel.models.plan_for(node)
            found.append(forecast.forecast(plan, mrml.shape_kji(node), node.GetSpacing(), panel.measured(node), limit, flips))
        size = forecast.in_words(sum(one.output_bytes for one in found))
        text = _("{count} results, {size} together.").format(count=len(found), size=size)
        seconds, most = sum(one.seconds for one in found), max(one.bytes_needed for one in found)
        return text + "\n" + texts.needs(seconds, most, all(one.measured for one in found))

    def _cost(self) -> tuple[str, int]:
        """Memory limit and number of mirrored views. Raises `JobError` for a limit that is none."""
        limit = choices.memory_limit(self.ui.memorySpin) or ""
        parse_bytes(limit or None)
        return limit, int(choices.data(self.ui.flipsCombo))


TOOLTIPS = {
    "outputSelector": lambda: _("Where the result goes: a new volume beside the scan, or one to overwrite."),
    "roiSelector": lambda: _("Only the voxels inside a Markups ROI. Their values are those of the whole result."),
}
