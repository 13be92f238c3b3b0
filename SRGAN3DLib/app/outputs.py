"""What one super-resolve job writes: its volumes, the JSON beside each, and the page. All of it is checked before the work."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.events import Log, Progress, Report
from SRGAN3DLib.contract.jobs import SuperResolveJob
from SRGAN3DLib.contract.provenance import facts_in_json, json_beside, parse_provenance, provenance_facts


@dataclass(frozen=True)
class Outputs:
    """`files`: a name of the result's volumes -> its file, or for DICOM the folder of a series. `page`: the report, if there is one."""

    job: SuperResolveJob
    files: dict[str, Path]
    page: Path | None

    @staticmethod
    def of(job: SuperResolveJob) -> Outputs:
        files = {"sr": Path(job.output)} | ({"detail": Path(job.detail_map)} if job.detail_map else {})
        return Outputs(job, files, Path(job.report) if job.report else None)

    @property
    def number_type(self) -> str:
        return "input" if self.job.like_input_dtype else self.job.dtype

    def is_array(self, file: Path) -> bool:
        """A .npy file, as Slicer and the worker exchange them."""
        return self.job.ijk_to_ras is not None and file.suffix == ".npy"

    def is_series(self, name: str) -> bool:
        """A folder with a DICOM series."""
        return name == "sr" and self.job.dicom

    def check_names(self) -> None:
        """Before the scan is read. Raises `VolumeError`, `JobError`."""
        from SRGAN3DLib.volumes.dicom_writer import check_series_folder
        from SRGAN3DLib.volumes.volume import check_output

        beside: dict[Path, Path] = {}
        for name, file in self.files.items():
            if self.is_series(name):
                check_series_folder(file)
            elif not self.is_array(file):
                check_output(file)
            if not self.is_array(file):
                own = beside_of(file)
                if own in beside:
                    raise JobError(f"{file}: its JSON would be called {own.name}, like that of {beside[own].name}; give it another name")
                beside[own] = file
        check_page(self.page)
        places = [path.resolve() for path in (*self.files.values(), *([self.page] if self.page else []))]
        if len(set(places)) < len(places):
            raise JobError(f"{self.job.output}: two of the files to write have one name; give each a name of its own")

    def check_volume(self, volume: Any) -> None:
        """Before the network works: what the formats could not store. Raises `VolumeError`, `JobError`."""
        from SRGAN3DLib.volumes.dicom_writer import check_for_dicom

        for name, file in self.files.items():
            if self.is_series(name):
                check_for_dicom(file, volume.geometry, volume.acquisition)
            elif not self.is_array(file):
                volume.check_write(file, "float32" if name == "detail" else self.number_type)

    def write(self, volume: Any, result: Any, info: dict[str, Any], scan: dict[str, Any], report: Report) -> dict[str, Any]:
        """Write all; returns the account of it. `volume` is the scan, `scan` its facts, `info` that of the job."""
        written: dict[str, Any] = {"dtype": "float32", "provenance": {}, "report": str(self.page) if self.page else None}
        for done, (name, file) in enumerate(self.files.items()):
            report(Progress("writing", done, len(self.files)))
            if self.is_array(file):
                from SRGAN3DLib.volumes.npy import write_array

                write_array(file, result.volumes[name].array)
                continue
            text = json.dumps(provenance_facts(info, name, scan), indent=2)
            done_as = self._write_volume(name, file, volume, result.volumes[name], info, text)
            written |= done_as if name == "sr" else {}
            for note in done_as["notes"]:
                report(Log(note, "warning"))
            written["provenance"][name] = write_beside(file, text)
        if self.page is not None:
            from SRGAN3DLib.evaluation.html_report import write_html_report

            write_html_report(self.page, volume, result)
        report(Progress("writing", len(self.files), len(self.files)))
        result.info["warnings"] += written.pop("notes", ())
        return written

    def _write_volume(self, name: str, file: Path, scan: Any, volume: Any, info: dict[str, Any], text: str) -> dict[str, Any]:
        if self.is_series(name):
            from SRGAN3DLib.volumes.dicom_writer import write_dicom

            factors = "x".join(str(f) for f in reversed(info["factors_kji"]))
            modality = write_dicom(file, volume.array, volume.geometry, f"SR {factors} {info['model']['name']}", text, scan.acquisition)
            return {"dtype": "uint16", "packed_by": None, "modality": modality, "notes": ()}
        done_as = volume.write(file, "float32" if name == "detail" else self.number_type, text)
        return {"dtype": done_as.dtype, "packed_by": done_as.packed_by or None, "notes": done_as.notes}


def beside_of(file: Path) -> Path:
    """The JSON beside a result. Raises `JobError` where a file of that name holds something else.

    Where the JSON of the stem belongs to another result that is there (`a.nii.gz` and `a.nrrd`), it is the file's whole name and `.json`.
    """
    for path in (json_beside(file), file.with_name(file.name + ".json")):
        if not path.exists():
            return path
        facts = facts_in_json(path) if path.is_file() else None
        if facts is None:
            raise JobError(f"{path}: is there already and is no JSON of SRGAN3D; it is not replaced, give {file.name} another name")
        if facts["Output"] == file.name or not file.with_name(str(facts["Output"])).exists():
            return path
    return path


def write_beside(file: Path, text: str) -> str:
    """Write the JSON beside a result; returns its name. Raises `JobError`, `ResourceError`."""
    from SRGAN3DLib.volumes.files import write_text

    path = beside_of(file)
    write_text(path, text + "\n")
    return str(path)


def check_page(page: Path | None) -> None:
    """Raise now what would fail after the work: the name of the page. Raises `JobError`."""
    if page is None:
        return
    if page.suffix.lower() not in (".html", ".htm"):
        raise JobError(f"{page}: the name of a report must end in .html")
    if not page.parent.is_dir() or page.is_dir():
        raise JobError(f"{page}: " + ("is a folder; a file must be named" if page.is_dir() else "its folder does not exist"))


def is_done(job: SuperResolveJob) -> bool:
    """Whether the result of one scan and its JSON are there."""
    file = Path(job.output)
    facts = [facts_in_json(path) for path in (json_beside(file), file.with_name(file.name + ".json")) if path.is_file()]
    there = any(file.iterdir()) if file.is_dir() else file.is_file()
    return there and any(one is not None and one["Output"] == file.name for one in facts)


def read_facts(file: str) -> dict[str, Any]:
    """The provenance in a result, in the JSON beside it, or in a DICOM series. Raises `VolumeError` where there is none."""
    from SRGAN3DLib.volumes.volume import read_provenance

    path = Path(file)
    if path.is_file() and path.suffix.lower() == ".json":
        facts = facts_in_json(path)
    else:
        text = read_provenance(path)
        facts = parse_provenance(text) if text else None
    if facts is None:
        raise VolumeError(f"{file}: holds no provenance of SRGAN3D; the JSON beside a result does, too")
    return facts
