"""The section "Result": any result of the scene, what is said of it, and the comparison with its scan."""

import re
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from . import choices, compare, ct_window, results, summary, texts
from .slots import connect, slot


class ResultView:
    """`fault` is called with an exception that a slot has raised."""

    def __init__(self, ui: Any, fault: Callable[[Exception], None]):
        self.ui, self.fault = ui, fault
        self.comparison = compare.Comparison()
        self.updating = False
        self.chosen_id = ""  # of the result; a selector forgets it when a scene is imported
        ui.resultSelector.addAttribute("vtkMRMLScalarVolumeNode", results.MODEL)
        choices.fill(ui.compareCombo, texts.modes())
        choices.fill(ui.againstCombo, texts.against())
        choices.fill(ui.windowCombo, texts.windows())
        connect(
            [
                (ui.resultSelector, "currentNodeChanged(vtkMRMLNode*)", self.on_result),
                (ui.compareButton, "clicked(bool)", self.on_compare_button),
                (ui.compareCombo, "currentIndexChanged(int)", self.on_mode),
                (ui.againstCombo, "currentIndexChanged(int)", self.on_mode),
                (ui.windowCombo, "currentIndexChanged(int)", self.on_window),
                (ui.fadeSlider, "valueChanged(int)", self.on_fade),
                (ui.holdButton, "pressed()", self.on_hold),
                (ui.holdButton, "released()", self.on_release),
                (ui.detailsButton, "toggled(bool)", self.on_details),
                (ui.copyDetailsButton, "clicked(bool)", self.on_copy),
            ]
        )

    @property
    def node(self) -> Any:
        return self.ui.resultSelector.currentNode()

    @property
    def source(self) -> Any:
        return results.source_of(self.node)

    def choose(self, node: Any) -> None:
        """Show this result (None: no result); the slice views are left alone, unless a comparison is open."""
        self.ui.resultSelector.setCurrentNode(node)
        self.refresh()

    def leave(self) -> None:
        """The scene closes or is imported, or the module is left: the selector changes by itself, and nobody has chosen that."""
        self.updating = True

    def come_back(self, source: Any) -> None:
        """The result that was chosen, or the newest of this scan."""
        self.updating = False
        node = slicer.mrmlScene.GetNodeByID(self.chosen_id) if self.chosen_id else None
        self.choose(node if results.is_result(node) else results.latest_of(source))

    def follow_input(self, node: Any) -> None:
        """Another scan was chosen: its newest result, if it has one."""
        if self.node is None or node is None or node.GetID() == self.node.GetID():
            return
        if self.source is None or self.source.GetID() != node.GetID():
            self.choose(results.latest_of(node))

    def first_look(self, node: Any) -> None:
        """A new result: the views show it alone, and the slider leads back to the scan."""
        self.updating = True
        choices.choose(self.ui.compareCombo, compare.FADE)
        choices.choose(self.ui.againstCombo, compare.SCAN)
        self.ui.fadeSlider.setValue(100)
        self.updating = False
        self.choose(node)
        self.chosen_id = node.GetID()
        self._compare()

    # --- slots

    @slot
    def on_result(self, *_arguments: Any) -> None:
        if self.updating:
            return
        self.chosen_id = self.node.GetID() if self.node is not None else ""
        if self.comparison.is_open:
            if self.source is None:
                self.close()
            else:
                self._compare()
        self.refresh()

    @slot
    def on_compare_button(self, *_arguments: Any) -> None:
        if self.comparison.is_open:
            self.close()
        else:
            self._compare()

    @slot
    def on_mode(self, *_arguments: Any) -> None:
        if not self.updating:
            self._compare()

    @slot
    def on_window(self, *_arguments: Any) -> None:
        if not self.updating and ct_window.is_hounsfield(self.node):
            ct_window.set_window(self.node, choices.data(self.ui.windowCombo))

    @slot
    def on_fade(self, *_arguments: Any) -> None:
        if not self.updating:
            self.comparison.fade(self.ui.fadeSlider.value / 100)

    @slot
    def on_hold(self, *_arguments: Any) -> None:
        compare.peek(0.0)

    @slot
    def on_release(self, *_arguments: Any) -> None:
        compare.peek(self.ui.fadeSlider.value / 100)

    @slot
    def on_details(self, *_arguments: Any) -> None:
        self.refresh()

    @slot
    def on_copy(self, *_arguments: Any) -> None:
        slicer.app.clipboard().setText(self.details())

    # --- what is shown

    def details(self) -> str:
        node = self.node
        return summary.details(node, results.account(node)) if node is not None else ""

    def close(self) -> None:
        """End the comparison."""
        self.comparison.close()
        self.refresh()

    def drop(self) -> None:
        """The scene closes."""
        self.comparison.drop()

    def _compare(self) -> None:
        source, result = self.source, self.node
        if source is not None and result is not None:
            mode, against = choices.data(self.ui.compareCombo), choices.data(self.ui.againstCombo)
            self.comparison.show(mode, against, source, result, self.ui.fadeSlider.value / 100)
        self.refresh()

    def refresh(self) -> None:
        ui, node = self.ui, self.node
        ui.resultGroup.setVisible(node is not None)
        if node is None:
            return
        info = results.account(node)
        source = self.source
        ui.resultSelector.setVisible(ui.resultSelector.nodeCount() > 1)
        ui.summaryLabel.text = "\n".join(summary.lines(node, info))
        ui.detailsLabel.setVisible(bool(ui.detailsButton.checked))
        ui.detailsLabel.text = _breakable(self.details()) if ui.detailsButton.checked else ""
        ui.windowCombo.setVisible(ct_window.is_hounsfield(node))
        if ct_window.is_hounsfield(node) and ct_window.chosen(node):
            self.updating, before = True, self.updating
            choices.choose(ui.windowCombo, ct_window.chosen(node))
            self.updating = before
        is_open = self.comparison.is_open
        ui.compareButton.checked = is_open
        mode = choices.data(ui.compareCombo)
        for widget in (ui.compareButton, ui.compareCombo, ui.againstCombo):
            widget.enabled = source is not None
        ui.againstCombo.enabled = source is not None and mode != compare.CHECKERBOARD
        ui.compareButton.toolTip = (
            _("The scan of this result is not in the scene.")
            if source is None
            else _("Show scan and result in the slice views. Click again to put the views back as they were.")
        )
        for widget in (ui.fadeSlider, ui.holdButton):
            widget.setVisible(is_open and mode == compare.FADE)
        base = _("interpolation") if choices.data(ui.againstCombo) == compare.INTERPOLATION else _("scan")
        ui.holdButton.text = _("Hold to see the {base}").format(base=base)


def _breakable(text: str) -> str:
    """Long words, as hashes are, get places where a line may end (zero-width spaces), else they would widen the panel."""
    return re.sub(r"([0-9a-f]{16})(?=[0-9a-f])", "\\1\u200b", text)
