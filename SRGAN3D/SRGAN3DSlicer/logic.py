"""super-resolve without a panel: `superResolve` returns the node, `superResolveAsync` a job that can be cancelled.

No question is asked and the scene is not touched before success: inputs are copied to files in a folder of ours, the worker
writes its results beside them, and only when all are there do nodes appear.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from SRGAN3DLib.checkpoint_header import CheckpointHeader, find_model, read_header
from SRGAN3DLib.errors import Cancelled, JobError, ResourceError, SRGAN3DError
from SRGAN3DLib.events import Done, Log, Progress
from SRGAN3DLib.jobs import DEFAULT_MODEL, SuperResolveJob, job_to_json

from . import mrml
from .worker_client import WorkerClient
from .worker_process import WorkerProcess, find_python, is_foreign

LIBRARY = Path(__file__).resolve().parents[1]
PYTHON_SETTING = "SRGAN3D/python"
TICK_MS = 50
_working: set = set()  # logics with a job under way: whoever made one may let go of it


@dataclass
class Task:
    """One volume, or one frame of a sequence, on its way: `matrix` and `info` come with the answer."""

    source_id: str
    node: Any  # whose voxels are taken, at the moment the task is sent
    name: str
    target_id: str | None = None
    roi: mrml.Roi | None = None
    info: dict = field(default_factory=dict)
    file: str = ""


class SuperResolveRun:
    """A job under way. `state` is running, done, failed or cancelled; then `nodes`, `infos` or `error` are set."""

    def __init__(self, logic: "Logic", scene: Any, tasks: list[Task], options: dict, callbacks: tuple):
        self.logic, self.scene, self.tasks, self.options = logic, scene, tasks, options
        self.on_progress, self.on_done, self.on_error = callbacks
        self.state, self.nodes, self.infos, self.error = "running", [], [], None
        self.frames: tuple[Any, Any] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="SRGAN3D-"))
        self.at, self.job_id = 0, None

    def cancel(self, reason: str = "cancelled") -> None:
        """Soon `state` is cancelled, and the scene as it was. Nothing happens to a job that has ended."""
        if self.state != "running":
            return
        self.error = Cancelled(reason)
        if self.job_id is not None:
            self.logic.client.cancel(self.job_id)

    def forget(self) -> None:
        """Whoever asked does not want to hear any more."""
        self.on_progress = self.on_done = self.on_error = lambda *_: None

    def send(self) -> None:
        """The next task to the worker."""
        task = self.tasks[self.at]
        source, target = self.folder / f"in{self.at}.npy", self.folder / f"out{self.at}.npy"
        try:
            np.save(source, mrml.array_of(task.node))
        except OSError as error:
            raise ResourceError(f"{source}: cannot be written ({error.strerror or error})") from None
        matrix = tuple(tuple(row) for row in mrml.ijk_to_ras(task.node).tolist())
        job = SuperResolveJob(str(source), str(target), roi_ijk=task.roi, ijk_to_ras=matrix, **self.options)
        request = job_to_json(job)
        request["request"] = request.pop("job")
        task.file = str(target)
        self.job_id = self.logic.client.submit(request, self.hear)

    def hear(self, answer: Any) -> None:
        if self.state != "running":
            return
        if isinstance(answer, (Progress, Log)):
            self._tell(answer)
            return
        try:
            if isinstance(answer, SRGAN3DError):
                raise answer
            assert isinstance(answer, Done)
            self.tasks[self.at].info = answer.info
            (self.folder / f"in{self.at}.npy").unlink(missing_ok=True)
            if self.error is not None:  # cancelled, a moment after the worker was done
                raise self.error
            self.at += 1
            if self.at < len(self.tasks):
                self.send()
            else:
                self.logic.publish(self)
                self.finish("done")
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self.error = self.error or error
            self.finish("cancelled")
        else:
            self.error = error if isinstance(error, SRGAN3DError) else SRGAN3DError(f"{type(error).__name__}: {error}")
            self.finish("failed")

    def finish(self, state: str) -> None:
        self.state = state
        shutil.rmtree(self.folder, ignore_errors=True)
        self.logic.runs.remove(self)
        if state == "cancelled" and not self.logic.runs:
            self.logic.client.stop()  # nothing of it is left: no process, no memory
        if state == "done":
            self.on_done(self)
        else:
            self.on_error(self.error)

    def _tell(self, event: Any) -> None:
        if isinstance(event, Progress) and event.stage == "network" and len(self.tasks) > 1:
            share = event.done / event.total if event.total else 0.0
            event = Progress(f"{self.at + 1} of {len(self.tasks)}", self.at + share, len(self.tasks), None)
        self.on_progress(event)

    def sources_gone(self) -> bool:
        return any(mrml.node_gone(self.scene, task.source_id) for task in self.tasks)


class Logic:
    """One worker, kept warm, for all jobs. `make_process` and `timer` are replaced by tests; without a timer call `pump`."""

    def __init__(self, make_process: Callable[[], Any] | None = None, timer: Any = None):
        self.client = WorkerClient(make_process or new_process)
        self.runs: list[SuperResolveRun] = []
        self.timer = timer
        self.observed: list[tuple[Any, int]] = []

    def superResolve(
        self, inputVolume: Any, outputVolume: Any = None, model: str = DEFAULT_MODEL, wait: bool = True, onProgress=None, **options: Any
    ) -> Any:
        """Super-resolve a volume, or a list of volumes; returns the output node, or the list of them.

        `options` are those of `superResolveAsync`. With wait=False it returns the job. Raises `SRGAN3DError` in one line;
        the scene is then as it was.
        """
        run = self.superResolveAsync(inputVolume, outputVolume, model, onProgress=onProgress, **options)
        if not wait:
            return run
        while run.state == "running":
            self.pump()
            _process_events()
            time.sleep(0.01)
        if run.error is not None:
            raise run.error
        return run.nodes if isinstance(inputVolume, (list, tuple)) else run.nodes[0]

    def superResolveAsync(
        self,
        inputVolume: Any,
        outputVolume: Any = None,
        model: str = DEFAULT_MODEL,
        factors: tuple[int, int, int] | None = None,
        device: str = "auto",
        precision: str = "auto",
        blur: str = "auto",
        memoryLimit: str | None = None,
        roi: Any = None,
        allFrames: bool = False,
        onProgress: Callable[[Any], None] | None = None,
        onDone: Callable[[SuperResolveRun], None] | None = None,
        onError: Callable[[Exception], None] | None = None,
    ) -> SuperResolveRun:
        """Begin; returns a job with `.cancel()`, `.state`, `.nodes`, `.infos`, `.error`.

        `outputVolume`: None for a new node "<input> SR x2". `factors` (I, J, K) must be the model's, if given. `roi`: a Markups
        ROI node. `allFrames`: every frame of the sequence that the volume shows. `onProgress` gets `events.Progress` (with
        `eta_s`) and `events.Log`; then one of `onDone(job)` and `onError(error)` is called. Raises `SRGAN3DError` at once
        for what can be seen now: unfit volumes, no such model, no interpreter.
        """
        header = self.header(model, factors)
        volumes = list(inputVolume) if isinstance(inputVolume, (list, tuple)) else [inputVolume]
        if len(volumes) != 1 and (outputVolume is not None or allFrames or not volumes):
            raise JobError(f"{len(volumes)} volumes: an output or all frames can be asked for one volume only")
        tasks = []
        for volume in volumes:
            mrml.check_input(volume)
            mrml.check_output(outputVolume, volume)
            target = outputVolume.GetID() if outputVolume is not None else None
            name = output_name(volume.GetName(), header)
            tasks.append(Task(volume.GetID(), volume, name, target, mrml.region(volume, roi)))
        frames = mrml.frames_of(volumes[0]) if allFrames else None
        if allFrames:
            tasks = _frame_tasks(tasks[0], volumes[0], frames)
        options = {"model": str(find_model(model)), "device": device, "precision": precision, "blur": blur, "memory_limit": memoryLimit}
        nothing = (lambda *_: None,) * 3
        callbacks = tuple(given or none for given, none in zip((onProgress, onDone, onError), nothing, strict=True))
        run = SuperResolveRun(self, volumes[0].GetScene(), tasks, options, callbacks)
        run.frames = frames
        self.runs.append(run)
        try:
            run.send()
        except Exception:
            self.runs.remove(run)
            shutil.rmtree(run.folder, ignore_errors=True)
            raise
        self._watch(run.scene)
        self.tick(True)
        return run

    @staticmethod
    def header(model: str, factors: tuple[int, int, int] | None = None) -> CheckpointHeader:
        """The model's header. Raises `CheckpointError`, or `JobError` where `factors` (I, J, K) are not the model's."""
        header = read_header(find_model(model))
        own = tuple(reversed(header.generator.factors))
        if factors is not None and tuple(factors) != own:
            raise JobError(f"factors {tuple(factors)}: model {header.name} has {own} (I, J, K)")
        return header

    def publish(self, run: SuperResolveRun) -> None:
        """All results into the scene, at once; arrays are read before the first node is made."""
        gone = [task.name for task in run.tasks if mrml.node_gone(run.scene, task.source_id)]
        if gone:
            raise Cancelled("the input was removed from the scene")
        try:
            arrays = [(np.load(task.file, allow_pickle=False), task.info["ijk_to_ras"]) for task in run.tasks]
        except (OSError, ValueError, KeyError) as error:
            raise ResourceError(f"the worker's result cannot be read ({error})") from None
        run.infos = [task.info for task in run.tasks]
        first = run.tasks[0]
        source = run.scene.GetNodeByID(first.source_id)
        if run.frames is not None:
            run.nodes = [mrml.publish_frames(source, *run.frames, first.name, arrays, mrml.provenance(source, first.info))]
            return
        for task, (array, matrix) in zip(run.tasks, arrays, strict=True):
            source = run.scene.GetNodeByID(task.source_id)
            target = run.scene.GetNodeByID(task.target_id) if task.target_id else None
            run.nodes.append(mrml.publish(source, target, task.name, array, matrix, mrml.provenance(source, task.info)))

    def pump(self) -> None:
        """What a timer calls: answers of the worker, and inputs that are gone."""
        for run in list(self.runs):
            if run.error is None and run.sources_gone():
                run.cancel("the input was removed from the scene")
        self.client.pump()
        if not self.runs and not self.client.busy():
            self.tick(False)

    def tick(self, on: bool) -> None:
        (_working.add if on else _working.discard)(self)
        if self.timer is not None:
            self.timer.start(TICK_MS) if on else self.timer.stop()

    def cleanup(self) -> None:
        """The end of the module: no process, no observer, no folder is left."""
        self.client.stop()
        for scene, tag in self.observed:
            scene.RemoveObserver(tag)
        self.observed.clear()
        self.tick(False)

    def _watch(self, scene: Any) -> None:
        if any(watched is scene for watched, _ in self.observed):
            return
        tag = scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, lambda *_: self._scene_closes(scene))
        self.observed.append((scene, tag))

    def _scene_closes(self, scene: Any) -> None:
        for run in list(self.runs):
            if run.scene is scene:
                run.cancel("the scene was closed")


def output_name(name: str, header: CheckpointHeader) -> str:
    """`<input> SR x2`, or `SR 2x2x1` where the axes differ."""
    factors = tuple(reversed(header.generator.factors))
    return f"{name} SR x{factors[0]}" if len(set(factors)) == 1 else f"{name} SR {'x'.join(map(str, factors))}"


def new_process() -> WorkerProcess:
    """Raises `ResourceError` where the setting or SRGAN3D_PYTHON names nothing."""
    python = find_python(_setting())
    environment = dict(os.environ)
    if is_foreign(python):  # Slicer's libraries and packages are not its own
        if hasattr(slicer, "app") and hasattr(slicer.app, "startupEnvironment"):
            environment = dict(slicer.util.startupEnvironment())
        environment.pop("PYTHONHOME", None)
        environment.pop("PYTHONPATH", None)
    folder = LIBRARY if (LIBRARY / "SRGAN3DLib").is_dir() else LIBRARY.parent
    return WorkerProcess(python, folder, environment)


def _setting() -> str:
    if not hasattr(slicer, "app"):
        return ""
    return str(slicer.app.userSettings().value(PYTHON_SETTING) or "")


def _process_events() -> None:
    if hasattr(slicer, "app"):
        slicer.app.processEvents()


def _frame_tasks(first: Task, volume: Any, frames: tuple[Any, Any] | None) -> list[Task]:
    if frames is None:
        raise JobError(f"{volume.GetName()}: shows no sequence")
    nodes = [frames[1].GetNthDataNode(number) for number in range(frames[1].GetNumberOfDataNodes())]
    for number, node in enumerate(nodes):
        reason = mrml.unfit(node)
        if reason:
            raise JobError(f"frame {number + 1}: {reason}")
    return [Task(first.source_id, node, first.name, None, first.roi) for node in nodes]
