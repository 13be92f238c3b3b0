"""NIfTI headers: which matrix wins, byte orders, versions, units, scaling; nibabel and SimpleITK see the same box."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from corpus import nifti, scan
from grids import LEFT_HANDED, MATRICES, OBLIQUE, SHEARED, grid, rotation, seen_by_nibabel, seen_by_sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from SRGAN3DLib.volumes.volume import Volume


def test_nifti_has_both_forms_where_both_can_say_it(tmp_path: Path) -> None:
    for name, expect in (("oblique", 1), ("left-handed", 1), ("half a turn", 1), ("sheared", 0)):
        Volume.from_array(scan(), MATRICES[name]).write(tmp_path / "x.nii")
        header = nib.load(tmp_path / "x.nii").header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (expect, 1)
        if expect:
            np.testing.assert_allclose(header.get_qform(), MATRICES[name], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(-3.2, 3.2)] * 3), st.tuples(*[st.floats(0.3, 3)] * 3), st.booleans())
def test_nifti_box_in_both_readers(tmp_path_factory, angles, spacing, left) -> None:
    matrix = grid(rotation(*angles), spacing) @ np.diag([-1.0 if left else 1, 1, 1, 1])
    array = np.broadcast_to(np.float32(0), (2, 130, 180)).copy()
    volume = Volume.from_array(array, matrix)
    path = tmp_path_factory.getbasetemp() / "box.nii"
    volume.write(path)
    assert seen_by_nibabel(path).box_distance_mm(volume.geometry) < 1e-4
    assert seen_by_sitk(path)[1].box_distance_mm(volume.geometry) < 1e-4


def test_sform_wins_and_says_so(tmp_path: Path) -> None:
    image = nib.Nifti1Image(scan().T, None)
    image.set_qform(OBLIQUE, 1)
    image.set_sform(SHEARED, 4)
    nib.save(image, tmp_path / "x.nii")
    volume = Volume.read(tmp_path / "x.nii")
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, SHEARED, atol=1e-5)
    assert (volume.forms.sform_code, volume.forms.qform_code) == (4, 1) and "sform and qform lie" in volume.notes[0]


def test_qform_alone_and_no_form_at_all(tmp_path: Path) -> None:
    image = nib.Nifti1Image(scan().T, None)
    image.set_qform(LEFT_HANDED, 2)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "q.nii")
    volume = Volume.read(tmp_path / "q.nii")
    assert volume.geometry.box_distance_mm(seen_by_nibabel(tmp_path / "q.nii")) < 1e-4
    assert volume.geometry.is_left_handed and (volume.forms.sform_code, volume.forms.qform_code) == (0, 2) and not volume.notes
    nifti(scan(), pixdim=[1, 2, 3, 4, 1, 1, 1, 1], qform_code=0, sform_code=0)(tmp_path / "none.nii")
    bare = Volume.read(tmp_path / "none.nii")
    assert bare.geometry.box_distance_mm(seen_by_nibabel(tmp_path / "none.nii")) < 1e-9
    assert "neither sform nor qform" in bare.notes[0] and bare.forms.sform_code == bare.forms.qform_code == 2


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_order_version_units_and_scaling(tmp_path: Path, kind: type, order: str) -> None:
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("micron")
    image = kind((scan() * 0.01).T, np.diag([1000.0, 2000, 3000, 1]), header)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "x.nii.gz")
    stored = nib.load(tmp_path / "x.nii.gz")
    volume = Volume.read(tmp_path / "x.nii.gz")
    np.testing.assert_allclose(volume.array, np.asarray(stored.dataobj).T, rtol=1e-6)
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, np.diag([1.0, 2, 3, 1]))
    assert volume.notes == ("its header counts in micrometres: turned into mm",)
    assert volume.dtype == "int16" and volume.scaling == (stored.dataobj.slope, stored.dataobj.inter)


def test_gzip_whatever_the_name(tmp_path: Path) -> None:
    nifti(scan())(tmp_path / "x.nii")
    (tmp_path / "y.nii").write_bytes(gzip.compress((tmp_path / "x.nii").read_bytes()))
    np.testing.assert_array_equal(Volume.read(tmp_path / "y.nii").array, scan())
