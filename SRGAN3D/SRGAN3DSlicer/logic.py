"""Super-resolution without a panel: `superResolve` returns the node, `superResolveAsync` a run that can be cancelled.

The user is not asked anything, and the scene is not changed before success: voxels are copied to files in a temporary folder, the
worker writes its results beside them, and nodes appear only when all results are there.
"""

import atexit
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader, catalogue, find_model, read_header
from SRGAN3DLib.contract.errors import Cancelled, JobError, ResourceError
from SRGAN3DLib.contract.limits import PYTHON_SETTING
from SRGAN3DLib.contract.model_choice import AUTO, choose_model, wanted_spacing

from . import mrml, results
from .placement import placed_factors
from .runs import CheckRun, Run, SuperResolveRun, Task
from .synthesis_run import SynthesisRun, ordered_inputs
from .worker_client import WorkerClient
from .worker_process import WorkerProcess, find_python, is_foreign

LIBRARY = Path(__file__).resolve().parents[1]
INPUT_GONE = "the input was removed from the scene"
MODULE_CLOSED = "the module was closed or reloaded"
TICK_MS = 50
_working: set = set()  # logics with a run under way, kept alive here: their maker may have dropped them
_shared: list[WorkerClient] = []  # the one worker of this process, once it is needed


class Logic:
    """One worker, kept warm, for all jobs of all logics; `make_process` gives one its own. Without a `timer` call `pump`."""

    def __init__(self, make_process: Callable[[], Any] | None = None, timer: Any = None):
        self.client = shared_client() if make_process is None else WorkerClient(make_process)
        self.runs: list[Run] = []
        self.folders: list[Path] = []  # of runs that have ended, to be removed
        self.timer = timer
        self.observed: list[tuple[Any, int]] = []

    def superResolve(
        self, inputVolume: Any, outputVolume: Any = None, model: str = AUTO, wait: bool = True, onProgress=None, **options: Any
    ) -> Any:
        """Super-resolve a volume, or a list of volumes; returns the output node, or the list of them.

        `options` are those of `superResolveAsync`. With wait=False it returns the job. Raises `SRGAN3DError` in one line;
        the scene is then as it was.
        """
        run = self.superResolveAsync(inputVolume, outputVolume, model, onProgress=onProgress, **options)
        if not wait:
            return run
        self._wait(run)
        return run.nodes if isinstance(inputVolume, (list, tuple)) else run.nodes[0]

    def superResolveAsync(
        self,
        inputVolume: Any,
        outputVolume: Any = None,
        model: str = AUTO,
        factors: int | tuple[int, int, int] | None = None,
        spacing: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        blur: str = "auto",
        noise: str = "auto",
        memoryLimit: str | None = None,
        roi: Any = None,
        allFrames: bool = False,
        flips: int = 1,
        onProgress: Callable[[Any], None] | None = None,
        onDone: Callable[[SuperResolveRun], None] | None = None,
        onError: Callable[[Exception], None] | None = None,
    ) -> SuperResolveRun:
        """Begin; returns a run with `.cancel()`, `.state`, `.nodes`, `.infos`, `.error`.

        `outputVolume`: None for a new node "<input> SR x2". `model`: a shipped name, a file, or auto (`model_choice.choose_model`).
        `factors`: along the axes I, J, K of the array, or one for all; None: as suits the scan. `spacing`, `blur` and `noise`: as in
        `SuperResolveJob`. `roi`: a Markups ROI node. `allFrames`: every frame of the sequence that the volume shows. `flips` (1, 2, 4, 8):
        the mean over so many mirrored views, in so many times the time. `onProgress` gets `events.Progress` (with `eta_s`) and
        `events.Log`. Then `onDone(run)` or `onError(error)` is called. Raises `SRGAN3DError` at once for unfit volumes, an unknown model,
        a missing interpreter.
        """
        volumes = list(inputVolume) if isinstance(inputVolume, (list, tuple)) else [inputVolume]
        if len(volumes) != 1 and (outputVolume is not None or allFrames or not volumes):
            raise JobError(f"{len(volumes)} volumes: an output or all frames can be chosen for one volume only")
        tasks = []
        for volume in volumes:
            mrml.check_input(volume)
            mrml.check_output(outputVolume, volume)
            target = outputVolume.GetID() if outputVolume is not None else None
            file, header, placed = self._model(model, volume, factors, spacing)
            name = results.output_name(volume.GetName(), placed, header.name, roi is not None, spacing)
            tasks.append(Task(volume.GetID(), volume, name, file, target, mrml.region(volume, roi), placed))
        frames = mrml.frames_of(volumes[0]) if allFrames else None
        if allFrames:
            tasks = _frame_tasks(tasks[0], volumes[0], frames)
        options = {"device": device, "precision": precision, "blur": blur, "memory_limit": memoryLimit, "flips": flips, "spacing": spacing}
        options |= {"noise": noise}
        run = SuperResolveRun(self, volumes[0].GetScene(), tasks, options, _callbacks(onProgress, onDone, onError))
        run.frames = frames
        return self._begin(run)

    def check(self, volume: Any, model: str = AUTO, **options: Any) -> dict[str, Any]:
        """Does the model help on this scan? It is tried on the scan itself, made coarser; the scene is left as it is.

        Returns the row of `srgan3d check`: `verdict` (one sentence), `gain_db`, `fitness` (a list of facts) and more. `options` are
        those of `checkAsync`. Raises `SRGAN3DError`.
        """
        run = self.checkAsync(volume, model, **options)
        self._wait(run)
        return run.row

    def checkAsync(
        self,
        volume: Any,
        model: str = AUTO,
        device: str = "auto",
        precision: str = "auto",
        blur: str = "auto",
        noise: str = "auto",
        memoryLimit: str | None = None,
        onProgress: Callable[[Any], None] | None = None,
        onDone: Callable[[CheckRun], None] | None = None,
        onError: Callable[[Exception], None] | None = None,
    ) -> CheckRun:
        """Begin a check; returns a run with `.cancel()`, `.state`, `.row`, `.error`. Arguments as in `superResolveAsync`."""
        mrml.check_input(volume)
        file = AUTO if model == AUTO else str(find_model(model))
        options = {"model": file, "device": device, "precision": precision, "blur": blur, "noise": noise, "memory_limit": memoryLimit}
        return self._begin(CheckRun(self, volume, options, _callbacks(onProgress, onDone, onError)))

    def synthesize(self, inputs: Mapping[str, Any], outputVolume: Any = None, *, model: str, **options: Any) -> Any:
        """Another contrast from volumes of one head, by the names that the model gives them: `{"T1w": node, "T2w": other}`.

        Returns the node, "<input> CT" for example, on the grid of the model's first input. `options` are those of `synthesizeAsync`.
        Raises `SRGAN3DError`. The image is synthetic: see `contract.synthesis.SYNTHETIC_WARNING`.
        """
        run = self.synthesizeAsync(inputs, outputVolume, model=model, **options)
        self._wait(run)
        return run.nodes[0]

    def synthesizeAsync(
        self,
        inputs: Mapping[str, Any],
        outputVolume: Any = None,
        *,
        model: str,
        device: str = "auto",
        precision: str = "auto",
        memoryLimit: str | None = None,
        roi: Any = None,
        flips: int = 1,
        interpolation: str = "linear",
        register: str = "none",
        onProgress: Callable[[Any], None] | None = None,
        onDone: Callable[[SuperResolveRun], None] | None = None,
        onError: Callable[[Exception], None] | None = None,
    ) -> SuperResolveRun:
        """Begin a synthesis. `interpolation` (linear, cubic) and `register` (none, rigid) are as in `SynthesizeJob`: they tell how
        further inputs come to the first one's grid. The rest is as in `superResolveAsync`.
        """
        header = self.header(model)
        volumes = ordered_inputs(header, inputs)
        first = next(iter(volumes.values()))
        for volume in volumes.values():
            mrml.check_output(outputVolume, volume)
        target = outputVolume.GetID() if outputVolume is not None else None
        name = f"{first.GetName()} {header.output.contrast}" + (" ROI" if roi is not None else "")
        task = Task(first.GetID(), first, name, str(find_model(model)), target, mrml.region(first, roi))
        options = {"device": device, "precision": precision, "memory_limit": memoryLimit, "flips": flips}
        options |= {"interpolation": interpolation, "register": register}
        return self._begin(SynthesisRun(self, volumes, task, options, _callbacks(onProgress, onDone, onError)))

    def _begin(self, run: Any) -> Any:
        """Send its first request. Where that fails, nothing is left of the run."""
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

    def _wait(self, run: Run) -> None:
        """Until the run has ended. Raises its error."""
        while run.state == "running":
            self.pump()
            _process_events()
            time.sleep(0.01)
        if run.error is not None:
            raise run.error

    @staticmethod
    def header(model: str) -> CheckpointHeader:
        """The model's header. Raises `CheckpointError`."""
        return read_header(find_model(model))

    def _model(self, model: str, volume: Any, factors: Any, spacing: str | None) -> tuple[str, CheckpointHeader, tuple[int, int, int]]:
        """(file, header, factors along I, J, K) for this volume, as the command line chooses them. Raises `CheckpointError`, `JobError`."""
        asked = (factors,) * 3 if isinstance(factors, int) else factors
        if model == AUTO:
            every = {name: read_header(path) for name, path in catalogue().items()}
            headers = {name: header for name, header in every.items() if header.task == "super-resolution"}
            wanted = wanted_spacing(spacing, volume.GetSpacing()) if spacing is not None else None
            choice = choose_model(headers, volume.GetSpacing(), wanted, asked)
            return str(find_model(choice.name)), headers[choice.name], choice.factors_ijk
        header = self.header(model)
        return str(find_model(model)), header, placed_factors(header, volume.GetSpacing(), asked)

    def publish(self, run: SuperResolveRun) -> None:
        """All results into the scene, at once. What fails leaves the scene as it was."""
        sources = [run.scene.GetNodeByID(task.source_id) for task in run.tasks]
        if None in sources:
            raise Cancelled(INPUT_GONE)
        for task in run.tasks:
            for file in task.outputs.values():
                _mapped(file)
        run.infos = [task.info for task in run.tasks]
        try:
            matrices = [np.asarray(info["ijk_to_ras"], float).reshape(4, 4) for info in run.infos]
            accounts = [results.provenance(source, info) for source, info in zip(sources, run.infos, strict=True)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResourceError(f"the worker's answer cannot be understood ({type(error).__name__}: {error})") from None
        made: list[Any] = []
        try:
            if run.frames is not None:
                made += _publish_frames(run, sources[0], matrices, accounts[0])
                run.nodes = [made[-1]]
                return
            for task, source, matrix, account in zip(run.tasks, sources, matrices, accounts, strict=True):
                made += _publish_outputs(run, task, source, matrix, account)
                run.nodes.append(made[-1])
        except Exception:
            run.nodes = []
            for node in made:
                if node.GetID() not in {task.target_id for task in run.tasks}:
                    run.scene.RemoveNode(node)
            raise

    def pump(self) -> None:
        """Called by a timer: takes the worker's answers, and cancels runs whose input was removed."""
        for run in list(self.runs):
            if run.source_is_gone():
                run.cancel(INPUT_GONE)
        self.client.pump()
        self.remove_folders()
        if not self.runs and not self.client.busy():
            self.tick(False)

    def tick(self, on: bool) -> None:
        (_working.add if on else _working.discard)(self)
        if self.timer is not None:
            self.timer.start(TICK_MS) if on else self.timer.stop()

    def cleanup(self) -> None:
        """The module is closed or reloaded: no process, observer or folder is left. A worker with jobs of others stays."""
        for run in list(self.runs):
            run.cancel(MODULE_CLOSED)
        if not self.client.pending:
            self.client.stop()
        self.remove_folders(True)
        for scene, tag in self.observed:
            scene.RemoveObserver(tag)
        self.observed.clear()
        self.tick(False)

    def remove_folders(self, at_last: bool = False) -> None:
        """Of ended runs, once the worker has closed their files (Windows cannot remove an open file)."""
        if self.client.is_stopping_a_job() and not at_last:
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
    """One worker for the panel and for every `SRGAN3DLogic()` of a script: only the first waits for its start."""
    if not _shared:
        _shared.append(WorkerClient(new_process))
        atexit.register(_shared[0].stop)  # a script has no panel that would stop it
    return _shared[0]


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


def _mapped(file: str) -> np.ndarray:
    """A result of the worker, read from the file as it is used: the frames of a sequence need not fit into memory twice."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if array.ndim != 3 or array.size == 0:
            raise ValueError("no volume")
    except (OSError, ValueError, EOFError) as error:
        raise ResourceError(f"the worker's result cannot be read ({error})") from None
    return array


def _callbacks(*given: Any) -> Any:
    """(onProgress, onDone, onError), each of which may be None."""
    return tuple(one or (lambda *_: None) for one in given)


def _account_of(output: str, account: dict[str, str]) -> dict[str, str]:
    """A map that comes with a result is no result itself, and has no `Model`."""
    return account if output == results.MAIN else {key: value for key, value in account.items() if key != "Model"} | {"Output": output}


def _named(task: Task, output: str) -> str:
    return task.name if output == results.MAIN else f"{task.name} {output}"


def _publish_outputs(run: SuperResolveRun, task: Task, source: Any, matrix: np.ndarray, account: dict[str, str]) -> list[Any]:
    """The nodes of one volume, the main one last: a chosen output is overwritten only when nothing else can fail."""
    target = run.scene.GetNodeByID(task.target_id) if task.target_id else None
    if task.target_id and target is None:
        run.notes.append("the chosen output was removed meanwhile, so this is a new volume")
    made: list[Any] = []
    try:
        for output, file in reversed(task.outputs.items()):
            own = target if output == results.MAIN else None
            made.append(results.publish(source, own, _named(task, output), _mapped(file), matrix, _account_of(output, account)))
    except Exception:
        for node in made:
            run.scene.RemoveNode(node)
        raise
    return made


def _publish_frames(run: SuperResolveRun, source: Any, matrices: list[np.ndarray], account: dict[str, str]) -> list[Any]:
    """The volumes that show the sequences made, the main one last."""

    def frames(output: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for task, matrix in zip(run.tasks, matrices, strict=True):
            yield _mapped(task.outputs[output]), matrix

    made: list[Any] = []
    first = run.tasks[0]
    try:
        for output in reversed(first.outputs):
            made.append(results.publish_frames(source, *run.frames, _named(first, output), frames(output), _account_of(output, account)))
    except Exception:
        for node in made:
            run.scene.RemoveNode(run.frames[0].GetSequenceNode(node))
            run.scene.RemoveNode(node)
        raise
    return made


def _frame_tasks(first: Task, volume: Any, frames: tuple[Any, Any] | None) -> list[Task]:
    if frames is None:
        raise JobError(f"{volume.GetName()}: shows no frame of a sequence")
    nodes = [frames[1].GetNthDataNode(number) for number in range(frames[1].GetNumberOfDataNodes())]
    for number, node in enumerate(nodes):
        reason = mrml.unfit(node)
        if reason:
            raise JobError(f"frame {number + 1}: {reason}")
    return [Task(first.source_id, node, first.name, first.model, None, first.roi, first.factors) for node in nodes]
