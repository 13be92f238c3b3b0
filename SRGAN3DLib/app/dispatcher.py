"""The one dispatcher behind the command line, the worker and the panel: `do_job(job, report)`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.checkpoint_header import catalogue, file_hash, find_model, read_header
from SRGAN3DLib.contract.configs import to_json
from SRGAN3DLib.contract.errors import Cancelled, JobError, ResourceError, SRGAN3DError, typed_error
from SRGAN3DLib.contract.events import Failed, IsCancelled, Log, Progress, Report
from SRGAN3DLib.contract.job_values import place_factors, split_models
from SRGAN3DLib.contract.jobs import (
    BlendJob,
    CheckJob,
    DemoJob,
    EvaluateJob,
    FitJob,
    Job,
    ModelsJob,
    SuperResolveJob,
    SynthesizeJob,
    TrainJob,
)
from SRGAN3DLib.contract.limits import LEAST_ADDRESS_SPACE
from SRGAN3DLib.contract.model_choice import AUTO, wanted_spacing
from SRGAN3DLib.inference import memory
from SRGAN3DLib.training.ranks import Ranks

from .checks import check
from .inputs import jobs_of_folder
from .synthesis import LoadSynthesizer, load_synthesizer, synthesize

LoadResolver = Callable[[SuperResolveJob], Any]


def load_resolver(job: SuperResolveJob) -> Any:
    """A `SuperResolver` for the job's model, device, precision and memory limit; for the model auto an `AutoResolver`."""
    from SRGAN3DLib.inference.auto_resolver import AutoResolver
    from SRGAN3DLib.inference.super_resolver import SuperResolver

    if job.model == AUTO:
        return AutoResolver(job.device, job.precision, job.memory_limit)
    names = split_models(job.model, job.alpha)
    model: Any = names[0] if job.alpha is None else names
    return SuperResolver.load(model, job.device, job.precision, job.memory_limit, job.alpha)


def check_job(job: Job) -> None:
    """Refuse now what the system and the job's models alone can tell. Reads headers only and loads no library.

    Raises `CheckpointError`, `JobError`, `ResourceError`.
    """
    if not isinstance(job, ModelsJob):
        check_address_space()
    headers = [read_header(find_model(name)) for name in _models_of(job)]
    task = "synthesis" if isinstance(job, SynthesizeJob) or getattr(job, "task", "") == "synthesis" else "super-resolution"
    for name, header in zip(_models_of(job), headers, strict=True):
        if header.task != task:
            raise JobError(f"{name}: is a model for {header.task}; {task} is asked of it")
    if headers and isinstance(job, SuperResolveJob) and job.factors_ijk is not None:
        k, j, i = headers[0].generator.factors
        place_factors((i, j, k), (1.0, 1.0, 1.0), job.factors_ijk)


def check_address_space() -> None:
    """Below this limit the libraries do not raise an error when they are loaded: they end the process. Raises `ResourceError`."""
    if sys.platform == "win32":
        return
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        least = LEAST_ADDRESS_SPACE >> 20
        raise ResourceError(f"ulimit -v: {limit >> 20}M of address space are too few to load PyTorch; it must be at least {least}M")


def _models_of(job: Job) -> tuple[str, ...]:
    if isinstance(job, SuperResolveJob):
        return () if job.model == AUTO else split_models(job.model, job.alpha)
    if isinstance(job, CheckJob):
        return () if job.model == AUTO else (job.model,)
    if isinstance(job, BlendJob):
        return (job.faithful, job.sharp)
    if isinstance(job, EvaluateJob | DemoJob | SynthesizeJob):
        return (job.model,)
    if isinstance(job, FitJob):
        return () if job.init in ("auto", "none") else (job.init,)
    return ()


def do_job(
    job: Job,
    report: Report,
    cancelled: IsCancelled = lambda: False,
    load: LoadResolver = load_resolver,
    on_ready: Callable[[], None] = lambda: None,
    load_synthesizer: LoadSynthesizer = load_synthesizer,
) -> dict[str, Any]:
    """Do one job; returns its info, ready for JSON. Raises an `SRGAN3DError`; nothing half-done is left behind.

    `load` and `load_synthesizer` are for those who keep one ready between jobs. `on_ready` is called once, when the libraries are
    loaded and before anything is written.
    """
    if isinstance(job, SuperResolveJob):
        return _super_resolve(job, report, cancelled, load, on_ready)
    if isinstance(job, SynthesizeJob):
        return synthesize(job, report, cancelled, load_synthesizer, on_ready)
    if isinstance(job, EvaluateJob):
        from SRGAN3DLib.evaluation.evaluation import evaluate
        from SRGAN3DLib.evaluation.synthesis_evaluation import evaluate_synthesis

        on_ready()
        if job.task == "synthesis":
            return evaluate_synthesis(job, report, cancelled)
        return evaluate(job, report, cancelled)
    if isinstance(job, CheckJob):
        return check(job, report, cancelled, load, on_ready)
    if isinstance(job, DemoJob):
        from .demo import demo

        on_ready()
        return demo(job, report, cancelled)
    if isinstance(job, TrainJob):
        from SRGAN3DLib.training.synthesis_trainer import SynthesisTrainer
        from SRGAN3DLib.training.trainer import Trainer

        on_ready()
        if job.config.synthesis is not None:
            return SynthesisTrainer(job.config, report, cancelled=cancelled).fit(cancelled)
        return Trainer(job.config, report, cancelled=cancelled).fit(cancelled)
    if isinstance(job, FitJob):
        from SRGAN3DLib.training.fit import fit

        on_ready()
        return fit(job, report, cancelled)
    if isinstance(job, BlendJob):
        return _blend(job, on_ready)
    if isinstance(job, ModelsJob):
        return _models(job)
    raise JobError(f"not a job: {job!r}")


# ---------------------------------------------------------------- super-resolve
def _super_resolve(
    job: SuperResolveJob, report: Report, cancelled: IsCancelled, load: LoadResolver, on_ready: Callable[[], None]
) -> dict[str, Any]:
    several = jobs_of_folder(job)
    for one in [job] if several is None else several:
        source, target = Path(one.input), Path(one.output)
        if target.exists() and source.exists() and target.samefile(source):
            raise JobError(f"{target}: is the input itself; give the output another name")
    if several is not None:
        return _folder(job, several, report, cancelled, load, on_ready)
    source, target = Path(job.input), Path(job.output)
    if Ranks.here().world > 1:
        raise JobError(f"{source}: one volume cannot be shared by {Ranks.here().world} ranks; start it without torchrun")
    with _naming(source, target):
        volume = _read(job, source, target)  # bad input is told before the network is loaded
        resolver = load(job)
        on_ready()
        return _one(job, resolver, volume, source, target, report, cancelled)


def _folder(
    job: SuperResolveJob,
    several: list[SuperResolveJob],
    report: Report,
    cancelled: IsCancelled,
    load: LoadResolver,
    on_ready: Callable[[], None],
) -> dict[str, Any]:
    """Every volume for itself: a failure is kept for the summary, and the next volume is done.

    Under torchrun each rank does its share, and all return the result of all.
    """
    ranks = Ranks.here()
    if ranks.world > 1:
        ranks.join("cpu")
        job, report = _of_rank(job, ranks), ranks.telling(report)
    resolver = load(job)
    on_ready()
    mine, results = ranks.share(several), []
    for index, own in enumerate(mine):
        one, other = Path(own.input), Path(own.output)
        report(Progress("volumes", index, len(mine)))
        try:
            with _naming(one, other):
                results.append(_one(job, resolver, _read(own, one, other), one, other, report, cancelled))
        except Cancelled:
            raise
        except Exception as error:
            failure = Failed.of(error)
            results.append({"input": str(one), "error": failure.error, "message": failure.message, "exit_code": failure.exit_code})
            report(Log(failure.message, "warning"))
            del error  # with it go the arrays that it holds
        memory.release()
    report(Progress("volumes", len(mine), len(mine)))
    with ranks.watched():
        results = ranks.gather(results)
    ranks.leave()
    done, failed = ([r for r in results if ("exit_code" in r) is bad] for bad in (False, True))
    return {"batch": True, "input": job.input, "output": job.output, "done": done, "failed": failed}


def _of_rank(job: SuperResolveJob, ranks: Ranks) -> SuperResolveJob:
    """The job on the rank's own device, within its part of the machine's free memory."""
    limit = job.memory_limit or memory.megabytes(memory.resident_bytes() + memory.available_bytes() / ranks.local_world)
    return replace(job, device=ranks.device(job.device), memory_limit=limit)


@contextlib.contextmanager
def _naming(source: Path, target: Path) -> Iterator[None]:
    """Whatever goes wrong is an error of ours as far as possible, and its message names the volume."""
    try:
        yield
    except Exception as error:
        known = typed_error(error)
        if not isinstance(known, SRGAN3DError):
            raise RuntimeError(f"{source}: {type(error).__name__}: {error}") from error
        if isinstance(known, Cancelled) or any(str(path) in str(known) for path in (source, target)):
            raise known from (None if known is error else error)
        raise type(known)(f"{source}: {known}") from (None if known is error else error)


def _is_array(job: SuperResolveJob, target: Path) -> bool:
    return job.ijk_to_ras is not None and target.suffix == ".npy"


def _read(job: SuperResolveJob, source: Path, target: Path) -> Any:
    """The volume, once it is clear that its result could be written. Raises `VolumeError`."""
    from SRGAN3DLib.volumes.npy import read_array
    from SRGAN3DLib.volumes.volume import Volume, check_output

    if not _is_array(job, target):
        check_output(target)
    return Volume.read(source, job.series) if job.ijk_to_ras is None else read_array(source, job.ijk_to_ras)


def _one(
    job: SuperResolveJob, resolver: Any, volume: Any, source: Path, target: Path, report: Report, cancelled: IsCancelled
) -> dict[str, Any]:
    if not _is_array(job, target):
        volume.check_write(target, _number_type(job))
    names = ("blur", "noise", "roi_ijk", "factors_ijk", "back_projection", "flips", "allow_negative")
    options = {name: getattr(job, name) for name in names}
    spacing = wanted_spacing(job.spacing, volume.geometry.spacing_ijk_mm) if job.spacing else None
    result = resolver(volume, on_progress=report, cancelled=cancelled, spacing_ijk_mm=spacing, **options)
    outputs = {"sr": target}  # a name of the result's volumes -> its file
    written: dict[str, Any] = {"dtype": "float32"}
    for done, (name, file) in enumerate(outputs.items()):
        report(Progress("writing", done, len(outputs)))
        if _is_array(job, file):
            from SRGAN3DLib.volumes.npy import write_array

            write_array(file, result.volumes[name].array)
        else:
            done_as = result.volumes[name].write(file, _number_type(job))
            written = {"dtype": done_as.dtype, "packed_by": done_as.packed_by or None}
            result.info["warnings"] += done_as.notes
            for note in done_as.notes:
                report(Log(note, "warning"))
    report(Progress("writing", len(outputs), len(outputs)))
    files = {"input": str(source), "output": str(target), "outputs": {name: str(file) for name, file in outputs.items()}}
    return {**files, **written, "ijk_to_ras": result.volume.geometry.ijk_to_ras.tolist(), **result.info}


def _number_type(job: SuperResolveJob) -> str:
    return "input" if job.like_input_dtype else job.dtype


# ---------------------------------------------------------------- models
def _blend(job: BlendJob, on_ready: Callable[[], None]) -> dict[str, Any]:
    from SRGAN3DLib.networks.checkpoint import Checkpoint

    on_ready()
    blended = Checkpoint.load(job.faithful).blend(Checkpoint.load(job.sharp), job.alpha)
    replace(blended, header=replace(blended.header, name=Path(job.output).stem)).save(job.output)
    return {"output": job.output, "sha256": file_hash(job.output), **blended.header.training["blend"]}


def _models(job: ModelsJob) -> dict[str, Any]:
    paths = list(catalogue().values()) if job.name is None else [find_model(job.name)]
    models = []
    for path in paths:
        try:
            header = read_header(path)
        except SRGAN3DError:
            if job.name is not None:
                raise
            continue
        models.append({"file": str(path), "sha256": file_hash(path), "megabytes": round(path.stat().st_size / 1e6, 2), **to_json(header)})
    return {"models": models}
