"""The rows "Task" and "Model": the task, the model that follows from it and the volume, its card, and the list of added checkpoints."""

from typing import Any

from slicer.i18n import tr as _

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader, read_header

from . import choices, model_card, mrml, preferences, tasks
from .tasks import OTHER, SYNTHESIS, Plan


class ModelChooser:
    """`headers` maps a shipped name, or the key of an added checkpoint, to its header."""

    def __init__(self, ui: Any):
        self.ui = ui
        self.headers: dict[str, CheckpointHeader] = {}

    def fill(self) -> None:
        """Both combo boxes; what is chosen stays chosen, where it is still there."""
        self.headers = model_card.models()
        choices.fill(self.ui.taskCombo, tasks.choices(self.headers))
        self._fill_models(True)

    def _fill_models(self, anew: bool = False) -> None:
        """The models for the chosen task."""
        fit = tasks.for_synthesis(self.headers) if self.is_synthesis else tasks.for_super_resolution(self.headers)
        combo = self.ui.modelCombo
        if anew or [combo.itemData(number) for number in range(combo.count)] != list(fit):
            choices.fill(combo, {key: model_card.title(key, header) for key, header in fit.items()})

    @property
    def is_by_hand(self) -> bool:
        return choices.data(self.ui.taskCombo) in (OTHER, SYNTHESIS)

    @property
    def is_synthesis(self) -> bool:
        return choices.data(self.ui.taskCombo) == SYNTHESIS

    def restore(self, task: str, key: str) -> str:
        """The choice of a scene. Returns what to say, if it cannot be had."""
        choices.choose(self.ui.taskCombo, task)
        self._fill_models()
        if not self.is_by_hand or not key:
            return ""
        return "" if choices.choose(self.ui.modelCombo, key) else model_card.missing(key)

    def plan_for(self, node: Any) -> Plan | None:
        """For this volume; None without a model or a volume that fits."""
        if mrml.unfit(node):
            return None
        by_hand = choices.data(self.ui.modelCombo)
        return tasks.plan(choices.data(self.ui.taskCombo), by_hand, self.headers, node.GetSpacing(), mrml.directions(node))

    def add(self, path: str) -> None:
        """Into the list of this computer, and chosen. Raises `CheckpointError`."""
        read_header(path)
        key = preferences.add_model(path)
        self.fill()
        self.choose_by_hand(key)

    def choose_by_hand(self, key: str) -> None:
        choices.choose(self.ui.taskCombo, SYNTHESIS if key in tasks.for_synthesis(self.headers) else OTHER)
        self._fill_models()
        choices.choose(self.ui.modelCombo, key)

    def remove(self) -> str:
        """Take the chosen checkpoint out of the list; returns its file name."""
        key = choices.data(self.ui.modelCombo)
        preferences.remove_model(key)
        self.fill()
        return preferences.file_of_key(key)[0]

    def refresh(self, node: Any, measured: Any) -> None:
        """The line below, the card and the buttons."""
        self._fill_models()
        ui, plan = self.ui, self.plan_for(node)
        for widget in (ui.modelLabel, ui.modelCombo):
            widget.setVisible(self.is_by_hand)
        if not self.is_by_hand and plan is not None:
            choices.choose(ui.modelCombo, plan.key)
        header = plan.header if plan is not None else self.headers.get(choices.data(ui.modelCombo))
        ui.reasonLabel.text = _("Model {reason}").format(reason=plan.reason) if plan is not None else ""
        ui.reasonLabel.setVisible(bool(ui.reasonLabel.text))
        seconds = 1e6 / measured.voxels_per_s if measured is not None else None
        ui.cardLabel.text = model_card.card(header, seconds) if header is not None else ""
        ui.cardLabel.setVisible(bool(ui.aboutButton.checked) and header is not None)
        ui.aboutButton.enabled = header is not None
        added = bool(preferences.file_of_key(choices.data(ui.modelCombo))[0])
        ui.removeModelButton.enabled = added and self.is_by_hand
        ui.removeModelButton.toolTip = (
            _("Take the chosen checkpoint out of the list. Its file stays.")
            if ui.removeModelButton.enabled
            else _("Choose a checkpoint that you added: Task > Other model..., then Model.")
        )
