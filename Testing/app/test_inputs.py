"""What a super-resolve job reads and where its results go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import scan
from tinydicom import Items, classic

from SRGAN3DLib.app.inputs import jobs_of_folder
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.jobs import SuperResolveJob
from SRGAN3DLib.volumes.volume import Volume

STACK = np.random.default_rng(0).integers(0, 900, (6, 20, 24)).astype(np.uint16)
ALONG = [(0.0, 0.0, 3.0 * k) for k in range(6)]


def series(folder: Path, number: int, name: str) -> None:
    more: Items = {0x00200011: ("IS", number), 0x0008103E: ("LO", name)}
    classic(folder, STACK + number, ALONG, series=f"1.2.3.{number}", more=more, first=100 * number)


def planned(source: Path, target: Path, wanted: str | None = None) -> list[tuple[str, str, str | None]] | None:
    jobs = jobs_of_folder(SuperResolveJob(str(source), str(target), series=wanted))
    if jobs is None:
        return None
    return [(Path(job.input).relative_to(source).as_posix(), Path(job.output).relative_to(target).as_posix(), job.series) for job in jobs]


def test_one_dicom_series_into_a_file_or_a_folder(tmp_path: Path) -> None:
    for name in ("no depth", "disc/DICOM", "patient/study/series"):
        series(tmp_path / name, 1, "T1")
        top = tmp_path / name.split("/")[0]
        assert planned(top, tmp_path / "one.nii.gz") is None  # read as one volume
        place = Path(name).relative_to(top.name).as_posix()
        result = "no depth.nii.gz" if place == "." else f"{place}.nii.gz"
        assert planned(top, tmp_path / f"out of {top.name}") == [(place, result, "1.2.3.1")]
    assert planned(tmp_path / "no depth", tmp_path / "picture.png") is None  # refused for its ending, not taken for a folder


def test_every_scan_below_a_folder(tmp_path: Path) -> None:
    series(tmp_path / "in" / "a" / "dicom", 1, "T1")
    for name in ("b/x.nii.gz", "c/x.nii.gz", "c/y.mhd", ".hidden.nii", "~lock.nii", "notes.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("")
    assert planned(tmp_path / "in", tmp_path / "out") == [
        ("a/dicom", "a/dicom.nii.gz", "1.2.3.1"),
        ("b/x.nii.gz", "b/x.nii.gz", None),
        ("c/x.nii.gz", "c/x.nii.gz", None),
        ("c/y.mhd", "c/y.mha", None),
    ]
    assert (tmp_path / "out" / "a").is_dir()


def test_results_of_before_are_no_input(tmp_path: Path) -> None:
    Volume.from_array(scan(), np.eye(4)).write(tmp_path / "x.nii.gz")
    (tmp_path / "out").mkdir()
    Volume.from_array(scan(), np.eye(4)).write(tmp_path / "out" / "y.nii.gz")
    assert planned(tmp_path, tmp_path / "out") == [("x.nii.gz", "x.nii.gz", None)]
    with pytest.raises(JobError, match="all of its volumes lie in the output folder"):
        planned(tmp_path / "out", tmp_path / "out")


def test_a_series_of_every_patient(tmp_path: Path) -> None:
    for patient in ("a", "b"):
        for number, name in ((1, "T1"), (2, "T2")):
            more: Items = {0x00200011: ("IS", number), 0x0008103E: ("LO", name)}
            classic(tmp_path / "in" / patient, STACK, ALONG, series=f"1.2.{patient == 'a'}.{number}", more=more, first=100 * number)
    found = planned(tmp_path / "in", tmp_path / "out", "T2")
    assert found is not None and [(one, result) for one, result, _ in found] == [("a", "a_series-2.nii.gz"), ("b", "b_series-2.nii.gz")]
    assert planned(tmp_path / "in" / "a", tmp_path / "one.nii.gz", "T2") is None
    with pytest.raises(VolumeError, match="no DICOM series fits --series 'T3'"):
        planned(tmp_path / "in", tmp_path / "out", "T3")


def test_two_results_of_one_name(tmp_path: Path) -> None:
    for name in ("a.mha", "a.mhd"):
        (tmp_path / name).write_text("")
    with pytest.raises(JobError, match=r"its result would be called a\.mha"):
        planned(tmp_path, tmp_path / "out")
