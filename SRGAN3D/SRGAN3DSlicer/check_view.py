"""What a check on the scan has found: the verdict in one line, and the facts behind it on demand."""

from typing import Any

from slicer.i18n import tr as _

from . import summary
from .slots import connect, slot


class CheckView:
    """Shows what was found for the scan and the model that are chosen now; `panel` is the Panel."""

    def __init__(self, panel: Any):
        self.panel, self.ui = panel, panel.ui
        self.found: dict[tuple[Any, ...], dict[str, Any]] = {}  # the last row, by what it was found for
        connect(
            [
                (self.ui.checkButton, "clicked(bool)", self.on_check),
                (self.ui.checkDetailsButton, "toggled(bool)", self.on_details),
            ]
        )

    def fault(self, error: Exception) -> None:
        self.panel.fault(error)

    @slot
    def on_check(self, *_arguments: Any) -> None:
        if not self.panel.machine.busy:
            self.panel.control.start_check()

    @slot
    def on_details(self, *_arguments: Any) -> None:
        if not self.panel.updating:
            self.panel.refresh()

    def state(self) -> tuple[Any, ...]:
        """What a verdict holds for: scan, voxels, model, and what the model is told."""
        node, plan = self.panel.node, self.panel.models.plan_for(self.panel.node)
        if node is None or plan is None:
            return ()
        options = self.panel.control.check_options(node)
        return (node.GetID(), node.GetImageData().GetMTime(), node.GetSpacing(), options["model"], options["blur"], options["noise"])

    def remember(self, state: tuple[Any, ...], row: dict[str, Any]) -> None:
        self.found = {state: row}

    def refresh(self) -> None:
        """The button, where the worker can check; the line, where something was found."""
        ui, panel = self.ui, self.panel
        several = panel.scans.is_on
        ui.checkButton.setVisible(panel.logic.client.offers("check") and not panel.models.is_synthesis)
        ui.checkButton.enabled = not panel.machine.busy and not several and bool(ui.applyButton.enabled)
        row = self.found.get(self.state()) if self.found and not several else None
        ui.checkLabel.setVisible(row is not None)
        ui.checkDetailsButton.setVisible(row is not None)
        ui.checkDetailsLabel.setVisible(row is not None and bool(ui.checkDetailsButton.checked))
        if row is not None:
            ui.checkLabel.text = verdict(row)
            ui.checkDetailsLabel.text = "\n".join(lines(row, panel.node))


def verdict(row: dict[str, Any]) -> str:
    """One sentence. It begins with the model's name, which stays as it is."""
    return str(row["verdict"]).removesuffix(".") + "."


def lines(row: dict[str, Any], node: Any) -> list[str]:
    """One fact a line, those outside the training first."""
    facts = sorted(row["fitness"], key=lambda fact: bool(fact["as_in_training"]))  # sorted keeps the order of equals
    found = []
    for fact in facts:
        word = _("as in training") if fact["as_in_training"] else _("outside: {expect}").format(expect=fact.get("expect", ""))
        found.append(summary.plain(f"{fact['fact']}: {fact['shows']} ({word})", node))
    return found
