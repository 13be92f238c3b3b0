"""run(job, report): the one dispatcher behind the command line, the worker and the panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checkpoint_header import catalogue, file_hash, find_model, read_header
from .configs import to_json
from .errors import JobError, SRGAN3DError, VolumeError
from .events import Failed, Log, Progress, Report
from .jobs import DemoJob, EvaluateJob, Job, ModelsJob, SuperResolveJob, TrainJob

Cancelled = Callable[[], bool]


def load_resolver(job: SuperResolveJob) -> Any:
    """A `SuperResolver` for the job's model, device, precision and memory limit."""
    from .super_resolver import SuperResolver

    return SuperResolver.load(job.model, job.device, job.precision, job.memory_limit)


def run(
    job: Job, report: Report, cancelled: Cancelled = lambda: False, load: Callable[[SuperResolveJob], Any] = load_resolver
) -> dict[str, Any]:
    """Do one job; returns its info (ready for JSON). Raises an `SRGAN3DError`; nothing half-done is left behind.

    `load` is for those who keep a resolver ready between jobs.
    """
    if isinstance(job, SuperResolveJob):
        return _super_resolve(job, report, cancelled, load)
    if isinstance(job, EvaluateJob):
        from .evaluation import evaluate

        return evaluate(job, report, cancelled)
    if isinstance(job, DemoJob):
        from .demo import demo

        return demo(job, report, cancelled)
    if isinstance(job, TrainJob):
        from .trainer import Trainer

        return Trainer(job.config, report).fit(cancelled)
    if isinstance(job, ModelsJob):
        return _models(job)
    raise JobError(f"not a job: {job!r}")


def _super_resolve(job: SuperResolveJob, report: Report, cancelled: Cancelled, load: Callable[[SuperResolveJob], Any]) -> dict[str, Any]:
    from .volume import Volume, check_output, list_volumes

    source, target = Path(job.input), Path(job.output)
    batch = job.ijk_to_ras is None and source.is_dir() and not _holds_dicom(source)
    inputs = list_volumes(source) if batch else [source]
    outputs = _batch_outputs(inputs, target) if batch else [target]
    for one, other in zip(inputs, outputs, strict=True):
        if other.exists() and one.exists() and other.samefile(one):
            raise JobError(f"{other}: is the input itself; give the output another name")
    if not batch and not _is_array(job, target):
        check_output(target)
    first = None if batch else _read(job, source)  # bad input is told before the network is loaded
    resolver = load(job)
    if not batch:
        assert first is not None
        return _one(job, resolver, first, source, target, report, cancelled)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for index, (one, other) in enumerate(zip(inputs, outputs, strict=True)):
        report(Progress("volumes", index, len(inputs)))
        try:
            done.append(_one(job, resolver, Volume.read(one), one, other, report, cancelled))
        except VolumeError as error:
            failure = Failed.of(error)
            failed.append({"input": str(one), "error": failure.error, "message": failure.message, "exit_code": failure.exit_code})
            report(Log(failure.message, "warning"))
    report(Progress("volumes", len(inputs), len(inputs)))
    return {"batch": True, "input": str(source), "output": str(target), "done": done, "failed": failed}


def _is_array(job: SuperResolveJob, target: Path) -> bool:
    return job.ijk_to_ras is not None and target.suffix == ".npy"


def _read(job: SuperResolveJob, source: Path) -> Any:
    from .arrays import read_array
    from .volume import Volume

    return Volume.read(source) if job.ijk_to_ras is None else read_array(source, job.ijk_to_ras)


def _one(
    job: SuperResolveJob, resolver: Any, volume: Any, source: Path, target: Path, report: Report, cancelled: Cancelled
) -> dict[str, Any]:
    result = resolver(volume, job.blur, report, cancelled, job.roi_ijk)
    report(Progress("writing", 0, 1))
    if _is_array(job, target):
        from .arrays import write_array

        write_array(target, result.volume.array)
    else:
        result.volume.write(target, like_input_dtype=job.like_input_dtype)
    report(Progress("writing", 1, 1))
    written = volume.dtype if job.like_input_dtype else "float32"
    matrix = result.volume.geometry.ijk_to_ras.tolist()
    return {"input": str(source), "output": str(target), "dtype": written, "ijk_to_ras": matrix, **result.info}


def _holds_dicom(folder: Path) -> bool:
    from .itk_files import is_dicom_folder

    return is_dicom_folder(folder)


def _batch_outputs(inputs: list[Path], folder: Path) -> list[Path]:
    """One file an input in `folder`, of the same name and format where that can be written, else NRRD, MHA or NIfTI."""
    from .volume import WRITABLE

    if folder.exists() and not folder.is_dir():
        raise JobError(f"{folder}: a file; several volumes need a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"{folder}: cannot be made ({error.strerror or error})") from None
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
