"""run(job, report): the one dispatcher behind the command line, the worker and the panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.checkpoint_header import catalogue, file_hash, find_model, read_header
from SRGAN3DLib.contract.configs import to_json
from SRGAN3DLib.contract.errors import JobError, SRGAN3DError, VolumeError
from SRGAN3DLib.contract.events import Failed, Log, Progress, Report
from SRGAN3DLib.contract.jobs import BlendJob, DemoJob, EvaluateJob, FitJob, Job, ModelsJob, SuperResolveJob, TrainJob, split_models
from SRGAN3DLib.contract.model_choice import AUTO, wanted_spacing
from SRGAN3DLib.inference.memory import available_bytes, megabytes, resident_bytes
from SRGAN3DLib.training.ranks import Ranks
from SRGAN3DLib.volumes.files import make_folder

Cancelled = Callable[[], bool]


def load_resolver(job: SuperResolveJob) -> Any:
    """A `SuperResolver` for the job's model, device, precision and memory limit; for the model auto an `AutoResolver`."""
    from SRGAN3DLib.inference.auto_resolver import AutoResolver
    from SRGAN3DLib.inference.super_resolver import SuperResolver

    if job.model == AUTO:
        return AutoResolver(job.device, job.precision, job.memory_limit)
    names = split_models(job.model, job.alpha)
    model: Any = names[0] if job.alpha is None else names
    return SuperResolver.load(model, job.device, job.precision, job.memory_limit, job.alpha)


def run(
    job: Job, report: Report, cancelled: Cancelled = lambda: False, load: Callable[[SuperResolveJob], Any] = load_resolver
) -> dict[str, Any]:
    """Do one job; returns its info (ready for JSON). Raises an `SRGAN3DError`; nothing half-done is left behind.

    `load` is for those who keep a resolver ready between jobs.
    """
    if isinstance(job, SuperResolveJob):
        return _super_resolve(job, report, cancelled, load)
    if isinstance(job, EvaluateJob):
        from SRGAN3DLib.evaluation.evaluation import evaluate

        return evaluate(job, report, cancelled)
    if isinstance(job, DemoJob):
        from .demo import demo

        return demo(job, report, cancelled)
    if isinstance(job, TrainJob):
        from SRGAN3DLib.training.trainer import Trainer

        return Trainer(job.config, report, cancelled=cancelled).fit(cancelled)
    if isinstance(job, FitJob):
        from SRGAN3DLib.training.fit import fit

        return fit(job, report, cancelled)
    if isinstance(job, BlendJob):
        return _blend(job)
    if isinstance(job, ModelsJob):
        return _models(job)
    raise JobError(f"not a job: {job!r}")


def _super_resolve(job: SuperResolveJob, report: Report, cancelled: Cancelled, load: Callable[[SuperResolveJob], Any]) -> dict[str, Any]:
    from SRGAN3DLib.volumes.volume import check_output, list_volumes

    source, target = Path(job.input), Path(job.output)
    batch = job.ijk_to_ras is None and source.is_dir() and not _holds_dicom(source)
    inputs = list_volumes(source) if batch else [source]
    outputs = _batch_outputs(inputs, target) if batch else [target]
    for one, other in zip(inputs, outputs, strict=True):
        if other.exists() and one.exists() and other.samefile(one):
            raise JobError(f"{other}: is the input itself; give the output another name")
    if not batch and not _is_array(job, target):
        check_output(target)
    if batch:
        return _folder(job, list(zip(inputs, outputs, strict=True)), report, cancelled, load)
    if Ranks.here().world > 1:
        raise JobError(f"{source}: one volume is no work for {Ranks.here().world} ranks; start it without torchrun")
    first = _read(job, source)  # bad input is told before the network is loaded
    return _one(job, load(job), first, source, target, report, cancelled)


def _folder(
    job: SuperResolveJob, pairs: list[tuple[Path, Path]], report: Report, cancelled: Cancelled, load: Callable[[SuperResolveJob], Any]
) -> dict[str, Any]:
    """Every volume, as far as it can be read; under torchrun each rank takes its share, and all return the result of all."""
    from SRGAN3DLib.volumes.volume import Volume

    ranks = Ranks.here()
    if ranks.world > 1:
        ranks.join("cpu")
        job, report = _of_rank(job, ranks), ranks.telling(report)
    resolver = load(job)
    mine, results = ranks.share(pairs), []
    for index, (one, other) in enumerate(mine):
        report(Progress("volumes", index, len(mine)))
        try:
            results.append(_one(job, resolver, Volume.read(one), one, other, report, cancelled))
        except VolumeError as error:
            failure = Failed.of(error)
            results.append({"input": str(one), "error": failure.error, "message": failure.message, "exit_code": failure.exit_code})
            report(Log(failure.message, "warning"))
    report(Progress("volumes", len(mine), len(mine)))
    with ranks.watched():
        results = ranks.gather(results)
    ranks.leave()
    done, failed = ([r for r in results if ("exit_code" in r) is bad] for bad in (False, True))
    return {"batch": True, "input": job.input, "output": job.output, "done": done, "failed": failed}


def _of_rank(job: SuperResolveJob, ranks: Ranks) -> SuperResolveJob:
    """The job on the rank's own device, within its part of the machine's free memory."""
    limit = job.memory_limit or megabytes(resident_bytes() + available_bytes() / ranks.local_world)
    return replace(job, device=ranks.device(job.device), memory_limit=limit)


def _is_array(job: SuperResolveJob, target: Path) -> bool:
    return job.ijk_to_ras is not None and target.suffix == ".npy"


def _read(job: SuperResolveJob, source: Path) -> Any:
    from SRGAN3DLib.volumes.npy import read_array
    from SRGAN3DLib.volumes.volume import Volume

    return Volume.read(source) if job.ijk_to_ras is None else read_array(source, job.ijk_to_ras)


def _one(
    job: SuperResolveJob, resolver: Any, volume: Any, source: Path, target: Path, report: Report, cancelled: Cancelled
) -> dict[str, Any]:
    if not _is_array(job, target):
        volume.check_write(target, _number_type(job))
    options = {name: getattr(job, name) for name in ("blur", "roi_ijk", "factors_ijk", "back_projection", "flips", "allow_negative")}
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


def _holds_dicom(folder: Path) -> bool:
    from SRGAN3DLib.volumes.itk import is_dicom_folder

    return is_dicom_folder(folder)


def _batch_outputs(inputs: list[Path], folder: Path) -> list[Path]:
    """One file an input in `folder`, of the same name and format where that can be written, else NRRD, MHA or NIfTI."""
    from SRGAN3DLib.volumes.volume import WRITABLE

    if folder.exists() and not folder.is_dir():
        raise JobError(f"{folder}: a file; several volumes need a folder")
    make_folder(folder)
    outputs = []
    for path in inputs:
        if path.is_dir():
            name = path.name + ".nii.gz"
        elif path.name.lower().endswith(WRITABLE):
            name = path.name
        else:
            name = path.stem + {".nhdr": ".nrrd", ".mhd": ".mha"}[path.suffix.lower()]
        if folder / name in outputs:
            raise JobError(f"{path}: its result would have the name {name}, as another's; give the volumes different names")
        outputs.append(folder / name)
    return outputs


def _blend(job: BlendJob) -> dict[str, Any]:
    from SRGAN3DLib.networks.checkpoint import Checkpoint

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
