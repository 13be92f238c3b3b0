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

from SRGAN3DLib.contract.errors import VolumeError
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


def two_forms(path: Path, qform: np.ndarray | None, sform: np.ndarray | None, codes: tuple[int, int], **header: object) -> None:
    image = nib.Nifti1Image(scan().T, None)
    image.set_qform(qform, codes[0])
    image.set_sform(sform, codes[1])
    raw = bytearray(image.to_bytes())
    record = np.frombuffer(raw, image.header.template_dtype, 1)
    for name, value in header.items():
        record[name][0] = value
    path.write_bytes(raw)


MOVED = OBLIQUE.copy()
MOVED[:3, 3] += [5, 0, 0]


@pytest.mark.parametrize("sform", [MOVED, SHEARED, OBLIQUE], ids=["moved", "affine", "template"])
@pytest.mark.parametrize("step", ["refine", "crop", "permute"])
def test_both_forms_go_along(tmp_path: Path, sform: np.ndarray, step: str) -> None:
    """A program that takes the qform sees the result on the scan, and so does one that takes the sform; both codes stay."""
    two_forms(tmp_path / "in.nii", OBLIQUE, sform, (1, 4))
    volume = Volume.read(tmp_path / "in.nii")
    if step == "refine":
        geometry = volume.geometry.refine((2, 1, 3))
        result = volume.with_array(np.repeat(np.repeat(volume.array, 2, 0), 3, 2), geometry)
    elif step == "crop":
        result = volume.with_array(volume.array[1:5, 2:, 3:], volume.geometry.crop(((1, 5), (2, 7), (3, 8))))
    else:
        result = volume.permute((2, 0, 1))
    result.write(tmp_path / "out.nii")
    one, two = (nib.load(tmp_path / name) for name in ("in.nii", "out.nii"))
    assert (int(two.header["qform_code"]), int(two.header["sform_code"])) == (1, 4)
    to_old = np.linalg.inv(volume.geometry.ijk_to_ras) @ result.geometry.ijk_to_ras  # voxels of the result -> of the scan
    np.testing.assert_allclose(two.get_sform(), one.get_sform() @ to_old, atol=1e-4)
    np.testing.assert_allclose(two.get_qform(), one.get_qform() @ to_old, atol=1e-4)


@pytest.mark.parametrize(("codes", "matrix"), [((0, 2), SHEARED), ((0, 1), OBLIQUE), ((3, 0), LEFT_HANDED)])
def test_one_form_stays_one(tmp_path: Path, codes: tuple[int, int], matrix: np.ndarray) -> None:
    two_forms(tmp_path / "in.nii", matrix if codes[0] else None, matrix if codes[1] else None, codes)
    volume = Volume.read(tmp_path / "in.nii")
    volume.with_array(np.repeat(volume.array, 2, 0), volume.geometry.refine((2, 1, 1))).write(tmp_path / "out.nii")
    header = nib.load(tmp_path / "out.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == codes
    assert seen_by_nibabel(tmp_path / "out.nii").box_distance_mm(volume.geometry) < 1e-4


def test_a_bad_form_beside_a_good_one_is_no_reason_to_refuse(tmp_path: Path) -> None:
    bad_pixdim, nan = [1, 0, -1, np.nan, 0, 0, 0, 0], np.nan
    for name, fields in (("pixdim", {"pixdim": bad_pixdim}), ("quaternion", {"quatern_b": nan}), ("offset", {"qoffset_x": np.inf})):
        two_forms(tmp_path / f"{name}.nii", OBLIQUE, OBLIQUE, (1, 1), **fields)
        volume = Volume.read(tmp_path / f"{name}.nii")
        np.testing.assert_allclose(volume.geometry.ijk_to_ras, OBLIQUE, atol=1e-5)
        assert "its qform is left out" in volume.notes[0] and volume.forms.qform_code == 0
    empty = {f"srow_{axis}": [0, 0, 0, 0] for axis in "xyz"}
    two_forms(tmp_path / "empty.nii", OBLIQUE, OBLIQUE, (1, 1), **empty)
    volume = Volume.read(tmp_path / "empty.nii")
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, OBLIQUE, atol=1e-5)
    assert "its sform is left out" in volume.notes[0] and volume.forms.sform_code == 0
    two_forms(tmp_path / "unused.nii", None, OBLIQUE, (0, 1), pixdim=bad_pixdim)
    assert "its pixdim states" in Volume.read(tmp_path / "unused.nii").notes[0]


def test_offset_far_behind_is_refused(tmp_path: Path) -> None:
    nifti(scan(), vox_offset=1e9)(tmp_path / "x.nii.gz")
    with pytest.raises(VolumeError, match="vox_offset is 1000000000"):
        Volume.read(tmp_path / "x.nii.gz")
