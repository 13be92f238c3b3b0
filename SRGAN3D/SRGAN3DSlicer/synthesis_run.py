"""Synthesis: several volumes of one head to the worker, and one of another contrast back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.errors import CheckpointError, JobError
from SRGAN3DLib.contract.jobs import SynthesizeJob

from . import mrml
from .runs import Callbacks, SuperResolveRun, Task, save_voxels


class SynthesisRun(SuperResolveRun):
    """`inputs` are volumes by the names that the model gives them; the first one has the result's grid."""

    def __init__(self, logic: Any, inputs: dict[str, Any], task: Task, options: dict[str, Any], callbacks: Callbacks):
        super().__init__(logic, task.node.GetScene(), [task], options, callbacks)
        self.inputs = inputs
        self.source_ids = [node.GetID() for node in inputs.values()]

    def send(self) -> None:
        task = self.tasks[0]
        source, target = self._pair()
        first, *others = self.inputs
        matrix = save_voxels(self.inputs[first], source)
        also = {name: self._file(number) for number, name in enumerate(others)}
        matrices = {name: save_voxels(self.inputs[name], file) for name, file in also.items()}
        self.ask(
            SynthesizeJob(
                str(source),
                str(target),
                task.model,
                {name: str(file) for name, file in also.items()},
                roi_ijk=task.roi,
                ijk_to_ras=matrix,
                also_ijk_to_ras=matrices,
                **self.options,
            )
        )

    def files(self) -> dict[Path, str]:
        others = {self._file(number): name for number, name in enumerate(list(self.inputs)[1:])}
        return super().files() | others

    def _file(self, number: int) -> Path:
        return self.folder / f"also{number}.npy"


def ordered_inputs(header: CheckpointHeader, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The volumes in the order of the model. Raises `CheckpointError` for a model of another task, `JobError`, `VolumeError`."""
    if header.task != "synthesis" or header.output is None:
        raise CheckpointError(f"{header.name}: a model for {header.task}, not for synthesis")
    names = [image.name for image in header.inputs]
    missing = [name for name in names if inputs.get(name) is None]
    surplus = [name for name in inputs if name not in names]
    if missing or surplus:
        wrong = f"{', '.join(missing)} is missing" if missing else f"{', '.join(surplus)} is none of them"
        raise JobError(f"model {header.name} takes {', '.join(names)}: {wrong}")
    found = {name: inputs[name] for name in names}
    for node in found.values():
        mrml.check_input(node)
    if len({node.GetID() for node in found.values()}) < len(found):
        raise JobError(f"model {header.name} takes {', '.join(names)}: one volume is given for two of them")
    return found
