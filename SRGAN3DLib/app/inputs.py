"""Which volumes a super-resolve job reads, and which file each result goes to: one volume, or every scan below a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.checkpoint_header import find_model, read_header
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.job_values import split_models
from SRGAN3DLib.contract.jobs import SuperResolveJob
from SRGAN3DLib.contract.model_choice import AUTO
from SRGAN3DLib.volumes.files import make_folder

from .bids import CONTRASTS, DESCRIPTION, bids_images, is_bids_dataset, write_description

OTHER_MODALITIES = {
    "CT": "computed tomography", "PT": "PET", "NM": "nuclear medicine", "US": "ultrasound", "XA": "angiography", "CR": "radiography",
    "DX": "radiography",
}  # fmt: skip


def with_dicom_told(job: SuperResolveJob) -> SuperResolveJob:
    """The job, with `dicom` where its output is named `OUT/` and its input is one file or a folder of nothing but DICOM."""
    from SRGAN3DLib.volumes.scans import find_scans

    if job.dicom or job.ijk_to_ras is not None or not job.output.endswith(("/", os.sep)):
        return job
    source = Path(job.input)
    if source.is_dir() and not all(scan.path.is_dir() for scan in find_scans(source, job.series)):
        return job
    return replace(job, dicom=True)


def jobs_of_folder(job: SuperResolveJob) -> list[SuperResolveJob] | None:
    """A job for each scan of the folder `job.input`, in the order of their names; None where the input is one volume.

    One volume is a file, an array, or a folder of DICOM with a file's name as output. Scans are found at any depth, as for training;
    results keep the folders of their scans. Of a BIDS dataset they are the anatomical images, and the output is a derivative dataset.
    Raises `VolumeError` where nothing is found, `JobError` where two results would share a name.
    """
    from SRGAN3DLib.volumes.scans import find_scans

    source, target = Path(job.input), Path(job.output)
    several = job.ijk_to_ras is None and source.is_dir()
    if several and is_bids_dataset(source):
        return _jobs_of_bids(job, source, target)
    if job.participants or job.contrasts:
        raise JobError(f"{source}: is no BIDS dataset (it has no {DESCRIPTION}); participants and contrasts can be chosen of one only")
    if not several or _is_one_volume(job, source, target):
        return None
    inside = target.resolve()
    scans = [scan for scan in find_scans(source, job.series) if inside != scan.path.resolve() and inside not in scan.path.resolve().parents]
    if not scans:
        raise JobError(f"{source}: all of its volumes lie in the output folder {target}")
    _check_folder(target)
    jobs: dict[Path, SuperResolveJob] = {}
    for scan in scans:
        file = target / _result_name(scan, source)
        if job.dicom:
            file = file.with_name(without_ending(file.name))
        if file in jobs:
            raise JobError(f"{scan.path}: its result would be called {file.name}, like that of another volume; give them different names")
        jobs[file] = _job_of(job, scan.path, file, target, scan.series)
    return list(jobs.values())


def _jobs_of_bids(job: SuperResolveJob, source: Path, target: Path) -> list[SuperResolveJob]:
    if job.dicom:
        raise JobError(f"{target}: the results of a BIDS dataset are NIfTI files; leave --dicom out")
    _check_folder(target)
    if target.resolve() == source.resolve():
        raise JobError(f"{target}: is the dataset itself; a derivative dataset must have a folder of its own")
    images = bids_images(source, target, job.participants, job.contrasts or CONTRASTS)
    write_description(target, source)
    return [_job_of(job, image.source, image.target, target, None) for image in images]


def _job_of(job: SuperResolveJob, source: Path, file: Path, target: Path, series: str | None) -> SuperResolveJob:
    """The job of one scan; the folders for its files are made. Its other files have the place of its result, in folders of their own."""
    place = file.relative_to(target)
    detail = Path(job.detail_map) / (place.with_name(place.name + ".nii.gz") if job.dicom else place) if job.detail_map else None
    page = Path(job.report) / place.with_name(without_ending(place.name) + ".html") if job.report else None
    for path in filter(None, (file, detail, page)):
        make_folder(path.parent)
    own = replace(job, input=str(source), output=str(file), series=series, participants=(), contrasts=())
    return replace(own, detail_map=str(detail) if detail else None, report=str(page) if page else None)


def _check_folder(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise JobError(f"{target}: is a file; the output of several volumes must be a folder")


def without_ending(name: str) -> str:
    """The name of a volume's file without its ending, `.nii.gz` being one."""
    from SRGAN3DLib.volumes.volume import READABLE

    ending = next((ending for ending in READABLE if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def check_modality(job: SuperResolveJob, volume: Any) -> None:
    """Refuse a scan of another modality than the model's, where its DICOM header states one. Raises `VolumeError`."""
    modality = getattr(volume.acquisition, "modality", "")
    if job.force or modality not in OTHER_MODALITIES:
        return
    trained = {contrast for name in _models(job) for contrast in read_header(find_model(name)).contrasts}
    if modality not in trained:
        what = OTHER_MODALITIES[modality]
        raise VolumeError(f"{job.input}: is {what} ({modality}), and the model was trained on MRI: its result would mean nothing; --force")


def _models(job: SuperResolveJob) -> tuple[str, ...]:
    return () if job.model == AUTO else split_models(job.model, job.alpha)


def _is_one_volume(job: SuperResolveJob, source: Path, target: Path) -> bool:
    """Whether a folder is meant as one DICOM volume: its output is named as a file, or is DICOM too, and it holds DICOM at any depth."""
    from SRGAN3DLib.volumes.dicom import is_dicom
    from SRGAN3DLib.volumes.scans import find_scans
    from SRGAN3DLib.volumes.volume import READABLE

    if job.dicom:
        scans = find_scans(source, job.series)
        return len(scans) == 1 and scans[0].path.is_dir()
    named_as_file = target.name.lower().endswith(READABLE) or (target.suffix != "" and not any(path.is_dir() for path in source.iterdir()))
    return named_as_file and not target.is_dir() and is_dicom(source)


def _result_name(scan: Any, source: Path) -> Path:
    """The scan's path below the folder, with its own ending where that can be written, else that of NRRD, MHA or NIfTI."""
    from SRGAN3DLib.volumes.volume import WRITABLE

    path: Path = scan.path
    place = path.relative_to(source) if path != source else Path(source.resolve().name)
    if path.is_dir():
        return place.with_name(place.name + (f"_series-{scan.label}" if scan.label else "") + ".nii.gz")
    if path.name.lower().endswith(WRITABLE):
        return place
    return place.with_name(place.stem + {".nhdr": ".nrrd", ".mhd": ".mha"}[path.suffix.lower()])
