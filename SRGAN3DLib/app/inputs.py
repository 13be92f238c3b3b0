"""Which volumes a super-resolve job reads, and which file each result goes to: one volume, or every scan below a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.jobs import SuperResolveJob
from SRGAN3DLib.volumes.files import make_folder


def jobs_of_folder(job: SuperResolveJob) -> list[SuperResolveJob] | None:
    """A job for each scan of the folder `job.input`, in the order of their names; None where the input is one volume.

    One volume is a file, an array, or a folder of DICOM with a file's name as output. Scans are found at any depth, as for training;
    results keep the folders of their scans. Raises `VolumeError` where nothing is found, `JobError` where two results would share a name.
    """
    from SRGAN3DLib.volumes.scans import find_scans

    source, target = Path(job.input), Path(job.output)
    if job.ijk_to_ras is not None or not source.is_dir() or _is_one_volume(source, target):
        return None
    inside = target.resolve()
    scans = [scan for scan in find_scans(source, job.series) if inside != scan.path.resolve() and inside not in scan.path.resolve().parents]
    if not scans:
        raise JobError(f"{source}: all of its volumes lie in the output folder {target}")
    if target.exists() and not target.is_dir():
        raise JobError(f"{target}: is a file; the output of several volumes must be a folder")
    jobs: dict[Path, SuperResolveJob] = {}
    for scan in scans:
        file = target / _result_name(scan, source)
        if file in jobs:
            raise JobError(f"{scan.path}: its result would be called {file.name}, like that of another volume; give them different names")
        make_folder(file.parent)
        jobs[file] = replace(job, input=str(scan.path), output=str(file), series=scan.series)
    return list(jobs.values())


def _is_one_volume(source: Path, target: Path) -> bool:
    """Whether a folder is meant as one DICOM volume: its output is named as a file, and it holds DICOM at any depth."""
    from SRGAN3DLib.volumes.dicom import is_dicom
    from SRGAN3DLib.volumes.volume import READABLE

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
