"""A derived DICOM series: read again it is the same volume in the same place, with the patient of its source and none of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tinydicom
from grids import LEFT_HANDED, OBLIQUE, SHEARED

from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.volumes import dicom_writer
from SRGAN3DLib.volumes.dicom_writer import check_for_dicom, check_series_folder, write_dicom
from SRGAN3DLib.volumes.volume import Volume, read_provenance

FACTS = '{"GeneratedBy":[{"Name":"SRGAN3D"}],"a":"\\u00e4"}'


def same_place(one: Volume, other: Volume) -> float:
    """The largest difference of voxels at one place, where both grids are the same but for the direction of axes."""
    to_other = np.linalg.inv(other.geometry.ijk_to_ras) @ one.geometry.ijk_to_ras
    k, j, i = np.indices(one.array.shape)
    places = np.stack([i, j, k, np.ones_like(i)], -1) @ to_other.T
    whole = np.rint(places).astype(int)
    assert np.abs(places - whole).max() < 1e-3
    return float(np.abs(other.array[whole[..., 2], whole[..., 1], whole[..., 0]] - one.array).max())


def box(volume: Volume) -> np.ndarray:
    return np.array(sorted(map(tuple, volume.geometry.corners_ras().round(6).tolist())))


@pytest.mark.parametrize("matrix", [OBLIQUE, LEFT_HANDED], ids=["oblique", "left-handed"])
def test_round_trip(matrix: np.ndarray, small_head: np.ndarray, tmp_path: Path) -> None:
    volume = Volume.from_array(small_head * 1.37 - 20, matrix)
    assert write_dicom(tmp_path / "out", volume.array, volume.geometry, "SR 2x2x2 t1-x2", FACTS) == "MR"
    back = Volume.read(tmp_path / "out")
    assert same_place(volume, back) < np.ptp(volume.array) / 2000
    assert np.abs(box(volume) - box(back)).max() < 1e-3
    assert read_provenance(tmp_path / "out") == read_provenance(tmp_path / "out" / "IM00003.dcm") == FACTS
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert len({one.SOPInstanceUID for one in slices}) == len(slices) == 40 and len({one.SeriesInstanceUID for one in slices}) == 1
    one = slices[0]
    assert list(one.ImageType[:2]) == ["DERIVED", "SECONDARY"] and one.SeriesDescription == "SR 2x2x2 t1-x2, not for diagnosis"
    assert one.DerivationCodeSequence[0].CodeValue == "113085" and one.file_meta.MediaStorageSOPClassUID == tinydicom.MR
    assert not one.PatientName and not one.PatientID and not one.StudyDate and "SourceImageSequence" not in one


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_patient_and_study_come_from_the_source(modality: str, small_head: np.ndarray, tmp_path: Path) -> None:
    more = {
        0x0008103E: ("LO", "a description so long that it has no room beside the warning"), 0x00100040: ("CS", "F"),
        0x00080060: ("CS", modality), 0x00080016: ("UI", getattr(tinydicom, modality)), 0x00080050: ("SH", "77"),
        0x00080020: ("DA", "20200101"),
    }  # fmt: skip
    tinydicom.classic(tmp_path / "in", small_head.astype(np.uint16), [(0, 0, 2.0 * k) for k in range(40)], more=more)
    scan = Volume.read(tmp_path / "in")
    write_dicom(tmp_path / "out", scan.array, scan.geometry, "SR", FACTS, scan.acquisition)
    source, one = pydicom.dcmread(tmp_path / "in" / "IM0001"), pydicom.dcmread(tmp_path / "out" / "IM00001.dcm")
    for keyword in ("PatientName", "PatientID", "PatientSex", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber", "StudyDate"):
        assert one[keyword].value == source[keyword].value
    assert one.SeriesInstanceUID != source.SeriesInstanceUID and one.SOPInstanceUID != source.SOPInstanceUID
    assert (
        one.SOPClassUID == source.SOPClassUID and len(one.SeriesDescription) <= 64 and one.SeriesDescription.endswith("not for diagnosis")
    )
    assert len(one.SourceImageSequence) == 40
    assert {item.ReferencedSOPInstanceUID for item in one.SourceImageSequence} >= {source.SOPInstanceUID}
    assert Volume.read(tmp_path / "out").geometry.box_distance_mm(scan.geometry) < 1e-3
    checker = shutil.which("dciodvfy")  # of Debian's dicom3tools
    if checker:
        done = subprocess.run(
            [checker, str(tmp_path / "out" / "IM00001.dcm")], capture_output=True, text=True, errors="replace", check=False
        )
        assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


def test_whole_or_not_at_all(small_head: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume.from_array(small_head, OBLIQUE)
    real, written = dicom_writer._write_slice, []

    def full(*given: object) -> None:
        written.append(given)
        if len(written) == 5:
            raise OSError(5, "Input/output error")
        real(*given)

    monkeypatch.setattr(dicom_writer, "_write_slice", full)
    with pytest.raises(JobError, match="out: cannot be written"):
        write_dicom(tmp_path / "out", volume.array, volume.geometry, "SR", FACTS)
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_before_the_work(tmp_path: Path, small_head: np.ndarray) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    (tmp_path / "empty").mkdir()
    check_series_folder(tmp_path / "empty")
    check_series_folder(tmp_path / "new")
    for name in ("full", "full/a"):
        with pytest.raises(JobError, match="is there already"):
            check_series_folder(tmp_path / name)
    with pytest.raises(VolumeError, match="does not exist"):
        check_series_folder(tmp_path / "a" / "b")
    with pytest.raises(VolumeError, match="cannot store a sheared grid"):
        check_for_dicom(tmp_path / "x", Volume.from_array(small_head, SHEARED).geometry)
