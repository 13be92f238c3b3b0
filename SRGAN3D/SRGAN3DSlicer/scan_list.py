"""Several scans at once: a list to tick them in, which then shows how far each is."""

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from . import batch, mrml, results


class ScanList:
    """Shown while the button "Several..." is down."""

    def __init__(self, ui: Any):
        self.ui = ui
        self.ids: list[str] = []
        self.states: dict[str, str] = {}
        self.errors: dict[str, str] = {}

    @property
    def is_on(self) -> bool:
        return bool(self.ui.severalButton.checked)

    def volumes(self) -> list[Any]:
        """The ticked ones that are still there and fit."""
        found = [slicer.mrmlScene.GetNodeByID(one) for row, one in enumerate(self.ids) if self._ticked(row)]
        return [node for node in found if node is not None and not mrml.unfit(node)]

    def _ticked(self, row: int) -> bool:
        return int(self.ui.volumesList.item(row).checkState() == qt.Qt.Checked) == 1

    def fill(self, keep: bool = True) -> None:
        """The scans of the scene, results apart. With `keep` what was ticked stays ticked; a new one is not ticked."""
        ticked = {one for row, one in enumerate(self.ids) if keep and self._ticked(row)}
        nodes = [node for node in mrml.fit_volumes(slicer.mrmlScene) if not results.is_result(node)]
        self.ui.volumesList.clear()
        self.ids = [node.GetID() for node in nodes]
        for node in nodes:
            item = qt.QListWidgetItem(self._text(node))
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Checked if node.GetID() in ticked else qt.Qt.Unchecked)
            self.ui.volumesList.addItem(item)

    def tick(self, ids: list[str]) -> None:
        for row, one in enumerate(self.ids):
            self.ui.volumesList.item(row).setCheckState(qt.Qt.Checked if one in ids else qt.Qt.Unchecked)

    def follow(self, states: dict[str, str], errors: dict[str, str]) -> None:
        """How far each is, behind its name."""
        self.states, self.errors = dict(states), dict(errors)
        for row, one in enumerate(self.ids):
            node = slicer.mrmlScene.GetNodeByID(one)
            if node is not None:
                self.ui.volumesList.item(row).setText(self._text(node))

    def _text(self, node: Any) -> str:
        words = {
            batch.WAITING: _("waiting"),
            batch.COMPUTING: _("computing"),
            batch.DONE: _("done"),
            batch.FAILED: _("failed"),
            batch.CANCELLED: _("cancelled"),
        }
        state = self.states.get(node.GetID())
        if state is None:
            return str(node.GetName())
        error = self.errors.get(node.GetID(), "")
        return f"{node.GetName()}: {words[state]}" + (f" ({error})" if error and state == batch.FAILED else "")
