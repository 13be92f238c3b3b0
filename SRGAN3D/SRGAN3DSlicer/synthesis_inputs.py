"""The rows for the further inputs of a synthesis model: one selector for each contrast that the checkpoint names."""

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from SRGAN3DLib.contract.errors import JobError

from . import mrml
from .slots import connect

MOST = 3  # further inputs that the panel has a row for; a script can give any number


class SynthesisInputs:
    """`changed` is called when another volume is chosen. The first input is the panel's scan."""

    def __init__(self, ui: Any, changed: Callable[..., None]):
        self.rows = [(getattr(ui, f"alsoLabel{n}"), getattr(ui, f"alsoSelector{n}")) for n in range(1, MOST + 1)]
        self.names: list[str] = []
        connect([(selector, "currentNodeChanged(vtkMRMLNode*)", changed) for _label, selector in self.rows])

    def refresh(self, header: Any, busy: bool) -> None:
        """As many rows as the model has further inputs; none for any other model (`header` None)."""
        names = [image.name for image in header.inputs[1:]] if header is not None and header.task == "synthesis" else []
        if names != self.names:
            self.names = names
            for (_label, selector), name in zip(self.rows, names, strict=False):
                selector.setCurrentNode(_named_so(name))
        for number, (label, selector) in enumerate(self.rows):
            there = number < len(names)
            label.setVisible(there)
            selector.setVisible(there)
            selector.enabled = not busy
            label.text = f"{names[number]}:" if there else ""

    def volumes(self, header: Any, scan: Any) -> dict[str, Any]:
        """By the names of the model's inputs. Raises `JobError` where a row is missing or says nothing."""
        names = [image.name for image in header.inputs]
        if len(names) - 1 > MOST:
            raise JobError(_("{name} takes {count} images: use logic.synthesize in a script").format(name=header.name, count=len(names)))
        found = {names[0]: scan}
        for (_label, selector), name in zip(self.rows, names[1:], strict=False):
            node = selector.currentNode()
            if node is None:
                raise JobError(_("choose the {contrast} of the same head").format(contrast=name))
            mrml.check_input(node)
            if any(node.GetID() == other.GetID() for other in found.values()):
                raise JobError(_("{volume} is chosen twice; {contrast} must be another scan").format(volume=node.GetName(), contrast=name))
            found[name] = node
        return found


def _named_so(contrast: str) -> Any:
    """The only volume whose name or DICOM modality says this contrast; else None: nothing is guessed."""
    found = [node for node in mrml.fit_volumes(slicer.mrmlScene) if contrast in {said for _where, said in mrml.contrasts(node)}]
    return found[0] if len(found) == 1 else None
