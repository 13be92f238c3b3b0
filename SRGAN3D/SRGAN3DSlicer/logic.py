"""super-resolve without a panel: `superResolve` returns the node, `superResolveAsync` a job that can be cancelled.

No question is asked and the scene is not touched before success: inputs are copied to files in a folder of ours, the worker
writes its results beside them, and only when all are there do nodes appear.
"""

import atexit
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

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader, find_model, read_header
from SRGAN3DLib.contract.errors import Cancelled, JobError, ResourceError, SRGAN3DError, VolumeError
from SRGAN3DLib.contract.events import Failed, Log, Progress
from SRGAN3DLib.contract.jobs import DEFAULT_MODEL, SuperResolveJob, job_to_json, place_factors

from . import mrml
from .worker_client import RemoteError, WorkerClient
from .worker_process import WorkerProcess, find_python, is_foreign

LIBRARY = Path(__file__).resolve().parents[1]
PYTHON_SETTING = "SRGAN3D/python"
INPUT_GONE = "the input was removed from the scene"
TICK_MS = 50
_working: set = set()  # logics with a job under way: whoever made one may let go of it
_shared: list[WorkerClient] = []  # the one worker of this process, once it is wanted


@dataclass
class Task:
    """One volume, or one frame of a sequence, on its way: `matrix` and `info` come with the answer."""

    source_id: str
    node: Any  # whose voxels are taken, at the moment the task is sent
    name: str
    target_id: str | None = None
    roi: mrml.Roi | None = None
    factors: tuple[int, int, int] | None = None
    info: dict = field(default_factory=dict)
    file: str = ""


class SuperResolveRun:
    """A job under way. `state` is running, done, failed or cancelled; then `nodes`, `infos` and `notes`, or `error`, are set."""

    def __init__(self, logic: "Logic", scene: Any, tasks: list[Task], options: dict, callbacks: tuple):
        self.logic, self.scene, self.tasks, self.options = logic, scene, tasks, options
        self.on_progress, self.on_done, self.on_error = callbacks
        self.state, self.nodes, self.infos, self.notes, self.error = "running", [], [], [], None
        self.frames: tuple[Any, Any] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="SRGAN3D-"))
        self.at, self.job_id = 0, None

    def cancel(self, reason: str = "cancelled") -> None:
        """At once `state` is cancelled, and the scene as it was. Nothing happens to a job that has ended."""
        if self.state == "running" and self.job_id is not None:
            self.logic.client.cancel(self.job_id, reason)

    def forget(self) -> None:
        """Whoever asked does not want to hear any more."""
        self.on_progress = self.on_done = self.on_error = lambda *_: None

    def send(self) -> None:
        """The next task to the worker."""
        task = self.tasks[self.at]
        source, target = self._files()
        array = mrml.array_of(task.node)
        if array.dtype.kind == "f" and not np.isfinite(array).all():  # VTK's range does not tell of NaN
            raise VolumeError(f"{task.node.GetName()}: holds NaN or infinite values")
        try:
            np.save(source, array)
        except OSError as error:
            raise ResourceError(f"{source}: cannot be written ({error.strerror or error})") from None
        matrix = tuple(tuple(row) for row in mrml.ijk_to_ras(task.node).tolist())
        job = SuperResolveJob(str(source), str(target), roi_ijk=task.roi, ijk_to_ras=matrix, factors_ijk=task.factors, **self.options)
        request = job_to_json(job)
        request["request"] = request.pop("job")
        task.file = str(target)
        self.job_id = self.logic.client.submit(request, self.hear)

    def _files(self) -> tuple[Path, Path]:
        return self.folder / f"in{self.at}.npy", self.folder / f"out{self.at}.npy"

    def _in_words(self, error: RemoteError) -> RemoteError:
        """A person knows nothing of our files."""
        text = str(error)
        for file, name in zip(self._files(), ("the input", "the result"), strict=True):
            text = text.replace(str(file), name)
        return RemoteError(Failed(error.kind, text, error.exit_code))

    def hear(self, answer: Any) -> None:
        if self.state != "running":
            return
        if isinstance(answer, (Progress, Log)):
            self._tell(answer)
            return
        try:
            if isinstance(answer, SRGAN3DError):
                raise self._in_words(answer) if isinstance(answer, RemoteError) else answer
            self.tasks[self.at].info = answer.info
            self._files()[0].unlink(missing_ok=True)
            self.at += 1
            if self.at < len(self.tasks):
                self.send()
            else:
                self.logic.publish(self)
                self.finish("done")
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        self.error = error if isinstance(error, SRGAN3DError) else SRGAN3DError(f"{type(error).__name__}: {error}")
        self.finish("cancelled" if isinstance(error, Cancelled) else "failed")

    def finish(self, state: str) -> None:
        self.state = state
        self.logic.runs.remove(self)
        self.logic.folders.append(self.folder)
        self.logic.sweep()
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
    """One worker, kept warm, for all jobs of all logics; `make_process` gives one its own. Without a `timer` call `pump`."""

    def __init__(self, make_process: Callable[[], Any] | None = None, timer: Any = None):
        self.client = shared_client() if make_process is None else WorkerClient(make_process)
        self.runs: list[SuperResolveRun] = []
        self.folders: list[Path] = []  # of runs that have ended, to be removed
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
        factors: int | tuple[int, int, int] | None = None,
        device: str = "auto",
        precision: str = "auto",
        blur: str = "auto",
        memoryLimit: str | None = None,
        roi: Any = None,
        allFrames: bool = False,
        flips: int = 1,
        noise: str = "auto",
        onProgress: Callable[[Any], None] | None = None,
        onDone: Callable[[SuperResolveRun], None] | None = None,
        onError: Callable[[Exception], None] | None = None,
    ) -> SuperResolveRun:
        """Begin; returns a job with `.cancel()`, `.state`, `.nodes`, `.infos`, `.error`.

        `outputVolume`: None for a new node "<input> SR x2". `factors`: along the axes I, J, K of the array, or one for all; they must be
        the model's own, in any order of the axes; None lays a model for slices along the thick axis (`jobs.place_factors`). `roi`: a
        Markups ROI node. `allFrames`: every frame of the sequence that the volume shows. `flips` (1, 2, 4, 8): the mean over so many
        mirrored views, in so many times the time. `noise`: auto, unknown, percent of bright tissue, or 0 to keep it. `onProgress` gets
        `events.Progress` (with `eta_s`) and `events.Log`; then one of `onDone(job)` and `onError(error)` is called. Raises
        `SRGAN3DError` at once for what can be seen now: unfit volumes, no such model, no interpreter.
        """
        header = self.header(model)
        volumes = list(inputVolume) if isinstance(inputVolume, (list, tuple)) else [inputVolume]
        if len(volumes) != 1 and (outputVolume is not None or allFrames or not volumes):
            raise JobError(f"{len(volumes)} volumes: an output or all frames can be asked for one volume only")
        tasks = []
        for volume in volumes:
            mrml.check_input(volume)
            mrml.check_output(outputVolume, volume)
            target = outputVolume.GetID() if outputVolume is not None else None
            placed = laid(header, volume.GetSpacing(), factors)
            name = output_name(volume.GetName(), placed)
            tasks.append(Task(volume.GetID(), volume, name, target, mrml.region(volume, roi), placed))
        frames = mrml.frames_of(volumes[0]) if allFrames else None
        if allFrames:
            tasks = _frame_tasks(tasks[0], volumes[0], frames)
        options = {"model": str(find_model(model)), "device": device, "precision": precision, "blur": blur}
        options |= {"memory_limit": memoryLimit, "flips": flips, "noise": noise}
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
    def header(model: str) -> CheckpointHeader:
        """The model's header. Raises `CheckpointError`."""
        return read_header(find_model(model))

    def publish(self, run: SuperResolveRun) -> None:
        """All results into the scene, at once; whatever can go wrong does so before the first node is made."""
        sources = [run.scene.GetNodeByID(task.source_id) for task in run.tasks]
        if None in sources:
            raise Cancelled(INPUT_GONE)
        try:
            arrays = [np.load(task.file, allow_pickle=False) for task in run.tasks]
            if any(array.ndim != 3 or array.size == 0 for array in arrays):
                raise ValueError("no volume")
        except (OSError, ValueError, EOFError) as error:
            raise ResourceError(f"the worker's result cannot be read ({error})") from None
        run.infos = [task.info for task in run.tasks]
        try:
            matrices = [np.asarray(info["ijk_to_ras"], float).reshape(4, 4) for info in run.infos]
            accounts = [mrml.provenance(source, info) for source, info in zip(sources, run.infos, strict=True)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResourceError(f"the worker's answer cannot be understood ({type(error).__name__}: {error})") from None
        if run.frames is not None:
            frames = list(zip(arrays, matrices, strict=True))
            run.nodes = [mrml.publish_frames(sources[0], *run.frames, run.tasks[0].name, frames, accounts[0])]
            return
        for task, source, array, matrix, account in zip(run.tasks, sources, arrays, matrices, accounts, strict=True):
            target = run.scene.GetNodeByID(task.target_id) if task.target_id else None
            if task.target_id and target is None:
                run.notes.append("the chosen output was removed meanwhile, so this is a new volume")
            run.nodes.append(mrml.publish(source, target, task.name, array, matrix, account))

    def pump(self) -> None:
        """What a timer calls: answers of the worker, and inputs that are gone."""
        for run in list(self.runs):
            if run.sources_gone():
                run.cancel(INPUT_GONE)
        self.client.pump()
        self.sweep()
        if not self.runs and not self.client.busy():
            self.tick(False)

    def tick(self, on: bool) -> None:
        (_working.add if on else _working.discard)(self)
        if self.timer is not None:
            self.timer.start(TICK_MS) if on else self.timer.stop()

    def cleanup(self) -> None:
        """The end of the module: no process, no observer, no folder is left; but a worker that others use stays."""
        for run in list(self.runs):
            run.cancel("the module was closed")
        if not self.client.pending:
            self.client.stop()
        self.sweep(True)
        for scene, tag in self.observed:
            scene.RemoveObserver(tag)
        self.observed.clear()
        self.tick(False)

    def sweep(self, at_last: bool = False) -> None:
        """Folders of ended runs go, once the worker has let go of their files (Windows removes none that is open)."""
        if self.client.letting_go() and not at_last:
            return
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
        self.folders.clear()

    def _watch(self, scene: Any) -> None:
        if any(watched is scene for watched, _ in self.observed):
            return
        tag = scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, lambda *_: self._scene_closes(scene))
        self.observed.append((scene, tag))

    def _scene_closes(self, scene: Any) -> None:
        for run in list(self.runs):
            if run.scene is scene:
                run.cancel("the scene was closed")


def shared_client() -> WorkerClient:
    """One worker for the panel and for every `SRGAN3DLogic()` of a script: none but the first waits for its start."""
    if not _shared:
        _shared.append(WorkerClient(new_process))
        atexit.register(_shared[0].stop)  # a script's job has no panel that would see to its files
    return _shared[0]


def laid(header: CheckpointHeader, spacing_ijk: Any, factors: int | tuple[int, int, int] | None = None) -> tuple[int, int, int]:
    """The model's factors along I, J, K of a volume: as asked, else by its thick axis. Raises `JobError` for what the model has not."""
    asked = None if factors is None else tuple(factors) if np.ndim(factors) else (factors,) * 3
    own = tuple(reversed(header.generator.factors))
    try:
        order = place_factors(own, tuple(spacing_ijk), asked)
    except JobError:
        raise JobError(f"factors {asked}: model {header.name} has {own}, along I, J, K in any order") from None
    return tuple(own[axis] for axis in order)


def output_name(name: str, factors_ijk: tuple[int, int, int]) -> str:
    """`<input> SR x2`, or `SR 2x2x1` where the axes differ."""
    alike = len(set(factors_ijk)) == 1
    return f"{name} SR x{factors_ijk[0]}" if alike else f"{name} SR {'x'.join(map(str, factors_ijk))}"


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
    return [Task(first.source_id, node, first.name, None, first.roi, first.factors) for node in nodes]
