"""Number types of what is written: the input's where it is wide enough, nothing clipped without a word, half a step at most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import nifti, scan
from hypothesis import given
from hypothesis import strategies as st

from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.job_values import NUMBER_TYPES
from SRGAN3DLib.volumes.volume import Volume
from SRGAN3DLib.volumes.voxels import INTEGERS, UNSCALED, choose_type, encode, outside


def test_the_type_follows_the_input_and_widens(tmp_path: Path) -> None:
    for stored, low, high, expect in (
        ("uint8", 0, 255, "uint8"),
        ("uint8", 0, 260, "int16"),
        ("uint8", -3, 255, "int16"),
        ("int16", -5, 32767, "int16"),
        ("int16", 0, 40000, "int32"),
        ("uint16", 0, 65535, "uint16"),
        ("int64", 0, 4000, "int32"),
        ("float32", 0, 10, "float32"),
        ("float64", 0, 10, "float32"),
    ):
        nifti(scan().astype(stored))(tmp_path / "in.nii")
        volume = Volume.read(tmp_path / "in.nii")
        values = np.linspace(low, high, volume.array.size, dtype=np.float32).reshape(volume.array.shape)
        written = volume.with_array(values, volume.geometry).write(tmp_path / "out.nii.gz")
        back = Volume.read(tmp_path / "out.nii.gz")
        assert (written.dtype, back.dtype, written.notes) == (expect, expect, ())
        assert np.abs(back.array - values).max() <= (0.5 if "int" in expect else 0)


def test_a_named_type_that_is_too_narrow_says_so(tmp_path: Path) -> None:
    written = Volume.from_array(scan(), np.eye(4)).write(tmp_path / "x.nii", "int8")
    assert written.dtype == "int8" and "were clipped to what int8 can hold" in written.notes[0]
    with pytest.raises(JobError, match="number type 'int7'"):
        Volume.from_array(scan(), np.eye(4)).write(tmp_path / "y.nii", "int7")
    with pytest.raises(JobError, match="JSON text must be given"):
        Volume.from_array(scan(), np.eye(4)).write(tmp_path / "y.nii", provenance="no json")
    assert not (tmp_path / "y.nii").exists()


def test_scaling_where_only_nifti_has_it(tmp_path: Path) -> None:
    nifti((scan() / 4).astype(np.int16), scl_slope=0.25, scl_inter=-10)(tmp_path / "in.nii")
    volume = Volume.read(tmp_path / "in.nii")
    assert volume.write(tmp_path / "x.nii").scaling == (0.25, -10)
    assert volume.write(tmp_path / "x.nrrd").dtype == "float32"
    with pytest.raises(VolumeError, match=r"x\.nrrd: the input holds int16 numbers scaled by 0\.25"):
        volume.check_write(tmp_path / "x.nrrd", "input")


@given(
    st.floats(-1e9, 1e9),
    st.floats(0, 1e9),
    st.sampled_from(NUMBER_TYPES),
    st.sampled_from([UNSCALED, (0.5, -3.0), (-2.0, 1.0), (1e-3, 0.0)]),
)
def test_auto_never_clips(low: float, width: float, dtype: str, scaling: tuple[float, float]) -> None:
    span = (np.float32(low).item(), np.float32(low + width).item())
    chosen, scale = choose_type("auto", span, dtype, scaling, True)
    assert outside(span, chosen, scale) == 0
    values = np.array(span, np.float32)
    back = encode(values, chosen, scale).astype(np.float64) * scale[0] + scale[1]
    assert np.abs(back - values).max() <= (0.5001 * abs(scale[0]) if chosen in INTEGERS else 0)


def test_non_negative() -> None:
    assert Volume.from_array(np.abs(scan()), np.eye(4)).is_non_negative
    assert not Volume.from_array(scan() - 500, np.eye(4)).is_non_negative
