"""Runs under way: their volumes, one after the other, to the worker and back."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import Cancelled, ResourceError, SRGAN3DError, VolumeError
from SRGAN3DLib.contract.events import Failed, Log, Progress
from SRGAN3DLib.contract.jobs import CheckJob, SuperResolveJob, job_to_json

from . import mrml, results
from .worker_client import RemoteError

Callbacks = tuple[Callable[..., None], Callable[..., None], Callable[..., None]]


@dataclass
class Task:
    """One volume, or one frame of a sequence. `info` and `outputs` (name -> .npy file) come with the worker's answer."""

    source_id: str
    node: Any  # its voxels are copied when the task is sent
    name: str
    model: str  # its file
    target_id: str | None = None
    roi: mrml.Roi | None = None
    factors: tuple[int, int, int] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


class Run:
    """One request after the other to the worker. `state` is running, done, failed or cancelled; then `error` may be set.

    `source_ids` are the volumes that must stay in the scene meanwhile.
    """

    def __init__(self, logic: Any, scene: Any, source_ids: list[str], callbacks: Callbacks):
        self.logic, self.scene, self.source_ids = logic, scene, source_ids
        self.on_progress, self.on_done, self.on_error = callbacks
        self.state, self.error = "running", None
        self.folder = Path(tempfile.mkdtemp(prefix="SRGAN3D-"))
        self.job_id, self.begun = None, time.monotonic()

    def send(self) -> None:
        """The next request to the worker."""
        raise NotImplementedError

    def take(self, info: dict[str, Any]) -> None:
        """The answer to the last request."""
        raise NotImplementedError

    def files(self) -> dict[Path, str]:
        """Our temporary files, and what to call them in an error."""
        raise NotImplementedError

    def cancel(self, reason: str = "cancelled") -> None:
        """`state` is cancelled at once, and the scene as it was. Does nothing to a run that has ended."""
        if self.state == "running" and self.job_id is not None:
            self.logic.client.cancel(self.job_id, reason)

    def silence(self) -> None:
        """No callback is called any more."""
        self.on_progress = self.on_done = self.on_error = lambda *_: None

    def ask(self, job: Any) -> None:
        """Send a job to the worker."""
        request = job_to_json(job)
        request["request"] = request.pop("job")
        self.job_id = self.logic.client.submit(request, self.on_answer)

    def on_answer(self, answer: Any) -> None:
        if self.state != "running":
            return
        if isinstance(answer, (Progress, Log)):
            self.report(answer)
            return
        try:
            if isinstance(answer, SRGAN3DError):
                raise self._in_words(answer) if isinstance(answer, RemoteError) else answer
            self.take(answer.info)
        except Exception as error:
            self.fail(error)

    def report(self, event: Any) -> None:
        self.on_progress(event)

    def fail(self, error: Exception) -> None:
        if isinstance(error, MemoryError):
            error = ResourceError("memory ran out in Slicer itself; close other data, or choose a region")
        self.error = error if isinstance(error, SRGAN3DError) else SRGAN3DError(f"{type(error).__name__}: {error}")
        self.finish("cancelled" if isinstance(error, Cancelled) else "failed")

    def finish(self, state: str) -> None:
        self.state = state
        self.logic.runs.remove(self)
        self.logic.folders.append(self.folder)
        self.logic.remove_folders()
        if state == "done":
            self.on_done(self)
        else:
            self.on_error(self.error)

    def source_is_gone(self) -> bool:
        return any(mrml.node_gone(self.scene, source_id) for source_id in self.source_ids)

    def _in_words(self, error: RemoteError) -> RemoteError:
        """The error with words in place of the names of our temporary files."""
        text = str(error)
        for file, name in self.files().items():
            text = text.replace(str(file), name)
        return RemoteError(Failed(error.kind, text, error.exit_code))


class SuperResolveRun(Run):
    """When it is done, `nodes`, `infos` and `notes` are set."""

    def __init__(self, logic: Any, scene: Any, tasks: list[Task], options: dict[str, Any], callbacks: Callbacks):
        super().__init__(logic, scene, [task.source_id for task in tasks], callbacks)
        self.tasks, self.options, self.at = tasks, options, 0
        self.nodes: list[Any] = []
        self.infos: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.frames: tuple[Any, Any] | None = None

    def send(self) -> None:
        task = self.tasks[self.at]
        source, target = self._pair()
        matrix = save_voxels(task.node, source)
        own = {"model": task.model, "roi_ijk": task.roi, "ijk_to_ras": matrix, "factors_ijk": task.factors}
        self.ask(SuperResolveJob(str(source), str(target), **own, **self.options))

    def take(self, info: dict[str, Any]) -> None:
        task = self.tasks[self.at]
        task.info, task.outputs = info, _outputs(info, self._pair()[1])
        self._pair()[0].unlink(missing_ok=True)
        self.at += 1
        if self.at < len(self.tasks):
            self.send()
        else:
            self.logic.publish(self)
            self.finish("done")

    def files(self) -> dict[Path, str]:
        source, target = self._pair()
        return {source: "the input", target: "the result"}

    def _pair(self) -> tuple[Path, Path]:
        return self.folder / f"in{self.at}.npy", self.folder / f"out{self.at}.npy"

    def report(self, event: Any) -> None:
        """Of several tasks the share of all is reported; `values` says which one is computed."""
        count = len(self.tasks)
        if isinstance(event, Progress) and count > 1:
            share = event.done / event.total if event.total and event.stage == "network" else float(event.stage == "writing")
            done = self.at + share
            left = (time.monotonic() - self.begun) * (count - done) / done if done else None
            event = Progress("network", done, count, left, {"part": self.at + 1, "parts": count})
        self.on_progress(event)


class CheckRun(Run):
    """A model tried on one volume itself. When it is done, `row` is what the worker found: verdict, figures, fitness."""

    def __init__(self, logic: Any, node: Any, options: dict[str, Any], callbacks: Callbacks):
        super().__init__(logic, node.GetScene(), [node.GetID()], callbacks)
        self.node, self.options = node, options
        self.row: dict[str, Any] = {}

    def send(self) -> None:
        (source,) = self.files()
        self.ask(CheckJob(str(source), ijk_to_ras=save_voxels(self.node, source), **self.options))

    def take(self, info: dict[str, Any]) -> None:
        try:
            row = info["scans"][0]
            row["verdict"], row["gain_db"], row["fitness"]
        except (KeyError, IndexError, TypeError) as error:
            raise ResourceError(f"the worker's answer cannot be understood ({type(error).__name__}: {error})") from None
        self.row = {**row, "scan": self.node.GetName()}
        self.finish("done")

    def files(self) -> dict[Path, str]:
        return {self.folder / "in.npy": self.node.GetName()}


def save_voxels(node: Any, file: Path) -> tuple[tuple[float, ...], ...]:
    """The voxels into a .npy file (K, J, I); returns the matrix. Raises `VolumeError`, `ResourceError`."""
    array = mrml.array_of(node)
    if array.dtype.kind == "f" and not np.isfinite(array).all():  # VTK's range does not show NaN
        raise VolumeError(f"{node.GetName()}: holds NaN or infinite values")
    try:
        np.save(file, array)
    except OSError as error:
        raise ResourceError(f"{file}: cannot be written ({error.strerror or error})") from None
    return tuple(tuple(row) for row in mrml.ijk_to_ras(node).tolist())


def _outputs(info: dict[str, Any], target: Path) -> dict[str, str]:
    """Name -> file of every volume of the answer, the main one first. A worker that lists none has written the one it was asked for."""
    listed = info.get("outputs") or {}
    files = {str(name): str(file) for name, file in listed.items()} if isinstance(listed, dict) else {}
    return {results.MAIN: str(target)} | files
