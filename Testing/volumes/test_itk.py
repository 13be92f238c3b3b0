"""NRRD and MetaImage files of other programs, and a quiet stderr."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from corpus import SHAPE, meta, nifti, nrrd, scan
from grids import MATRICES

from SRGAN3DLib.volumes.geometry import Geometry, ras_from_lps
from SRGAN3DLib.volumes.volume import Volume


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
