"""NRRD and MetaImage of other programs, DICOM series, and a quiet stderr."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from corpus import SHAPE, dicom, meta, nifti, nrrd, scan
from grids import MATRICES, OBLIQUE

from SRGAN3DLib.volumes.geometry import Geometry, ras_from_lps
from SRGAN3DLib.volumes.itk import is_dicom_folder
from SRGAN3DLib.volumes.volume import Volume, list_volumes


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".nii.gz"])
def test_files_of_simpleitk(tmp_path: Path, suffix: str, kind: str) -> None:
    if "nii" in suffix and "sheared" in kind:
        return  # SimpleITK cannot write one
    image = sitk.GetImageFromArray(scan().astype(np.int16))
    geometry = Geometry(SHAPE, MATRICES[kind])
    lps = ras_from_lps(geometry.ijk_to_ras)
    image.SetSpacing(geometry.spacing_ijk_mm)
    image.SetDirection((lps[:3, :3] / geometry.spacing_ijk_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    path = tmp_path / f"itk{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    volume = Volume.read(path)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    assert volume.geometry.box_distance_mm(geometry) < 1e-4 and volume.dtype == "int16"


def test_nrrd_in_ras_and_trailing_axis(tmp_path: Path) -> None:
    nrrd(scan(), space="right-anterior-superior", space_directions="(2,0,0) (0,3,0) (0,0,4)", space_origin="(5,6,7)")(tmp_path / "r.nrrd")
    expect = np.diag([2.0, 3, 4, 1])
    expect[:3, 3] = [5, 6, 7]
    np.testing.assert_allclose(Volume.read(tmp_path / "r.nrrd").geometry.ijk_to_ras, expect)
    for name, write in (("t.nrrd", nrrd), ("t.mha", meta), ("t.nii", nifti)):
        extra = {"space_directions": "(1,0,0) (0,1,0) (0,0,1) none", "kinds": "domain domain domain list"} if write is nrrd else {}
        write(scan((1, *SHAPE)), **extra)(tmp_path / name)
        np.testing.assert_array_equal(Volume.read(tmp_path / name).array, scan())


def test_stderr_comes_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    meta(scan())(tmp_path / "x.mha")
    Volume.read(tmp_path / "x.mha")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"
    assert sitk.ProcessObject.GetGlobalWarningDisplay()


# ---------------------------------------------------------------- DICOM
def test_dicom_series(tmp_path: Path) -> None:
    folder = tmp_path / "Ünïcode and spaces 脳"
    lps = ras_from_lps(OBLIQUE)
    dicom(scan().astype(np.int16), lps)(folder)
    (folder / "README").write_text("a letter")
    volume = Volume.read(folder)
    np.testing.assert_array_equal(volume.array, scan().astype(np.int16))
    assert volume.geometry.box_distance_mm(Geometry(SHAPE, OBLIQUE)) < 1e-4
    assert volume.dtype == "int16" and is_dicom_folder(folder) and list_volumes(tmp_path) == [folder]
    volume.write(folder / "脳.nii.gz", dtype="input")
    assert nib.load(folder / "脳.nii.gz").get_data_dtype() == np.int16


def test_dicom_tilted_gantry_is_sheared_not_straightened(tmp_path: Path) -> None:
    lps = np.diag([0.8, 0.9, 2.0, 1])
    lps[1, 2] = 0.5
    dicom(scan().astype(np.int16), lps)(tmp_path / "ct")
    volume = Volume.read(tmp_path / "ct")
    assert volume.geometry.is_sheared
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, ras_from_lps(lps), atol=1e-6)


def test_dicom_rescaled_to_real_numbers(tmp_path: Path) -> None:
    stored = scan().astype(np.int16)
    bits = {"0028_0100": "16", "0028_0101": "16", "0028_0102": "15", "0028_0103": "1", "0028_1053": "0.37", "0028_1052": "-5"}
    dicom((stored * 0.37 - 5).astype(np.float64), **bits)(tmp_path / "pet")
    volume = Volume.read(tmp_path / "pet")
    np.testing.assert_allclose(volume.array, stored * 0.37 - 5, rtol=1e-6)
    assert volume.dtype == "int16" and volume.scaling == (0.37, -5.0)
    volume.write(tmp_path / "x.nii", dtype="input")
    np.testing.assert_array_equal(nib.load(tmp_path / "x.nii").dataobj.get_unscaled().T, stored)


def test_dicom_with_a_scaling_of_its_own_for_every_slice(tmp_path: Path) -> None:
    bits = {"0028_0100": "16", "0028_0101": "16", "0028_0102": "15", "0028_0103": "1", "0028_1052": "0", "0020_000e": "1.2.3.1"}
    values, upper = scan().astype(np.int16) * np.array([0.5] * 3 + [0.25] * 3)[:, None, None], np.eye(4)
    upper[2, 3] = 3
    dicom(values[:3], **bits, **{"0028_1053": "0.5"})(tmp_path / "pet")
    dicom(values[3:], upper, series="2", **bits, **{"0028_1053": "0.25"})(tmp_path / "pet")
    volume = Volume.read(tmp_path / "pet")
    np.testing.assert_array_equal(volume.array, values)
    assert (volume.dtype, volume.scaling) == ("float32", (1.0, 0.0))


def test_dicom_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "enhanced").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(scan().astype(np.uint16)), str(tmp_path / "enhanced" / "all.dcm"))
    np.testing.assert_array_equal(Volume.read(tmp_path / "enhanced").array, scan().astype(np.uint16))
