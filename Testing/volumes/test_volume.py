"""Volumes through real files: every format, any matrix, any type; other readers agree; bad input ends in one clear line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from corpus import make_corpus, nifti, scan
from grids import MATRICES, OBLIQUE, seen_by_nibabel, seen_by_sitk

from SRGAN3DLib.contract.errors import ResourceError, VolumeError
from SRGAN3DLib.volumes.geometry import Geometry
from SRGAN3DLib.volumes.scans import find_scans
from SRGAN3DLib.volumes.volume import WRITABLE, Volume, check_output

FORMATS = pytest.mark.parametrize("suffix", WRITABLE)
TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


# ---------------------------------------------------------------- matrices
@FORMATS
@pytest.mark.parametrize("kind", MATRICES)
def test_matrix_and_array_survive(tmp_path: Path, suffix: str, kind: str) -> None:
    volume = Volume.from_array(scan(), MATRICES[kind])
    path = tmp_path / f"a scan{suffix}"
    volume.write(path)
    back = Volume.read(path)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.geometry.box_distance_mm(volume.geometry) < (1e-4 if "nii" in suffix else 1e-9)
    assert back.geometry.is_left_handed == volume.geometry.is_left_handed
    assert (back.dtype, back.scaling, back.path, back.notes) == ("float32", (1.0, 0.0), path, ())


@FORMATS
@pytest.mark.parametrize("kind", MATRICES)
def test_other_readers_agree(tmp_path: Path, suffix: str, kind: str) -> None:
    volume = Volume.from_array(scan(), MATRICES[kind])
    path = tmp_path / f"x{suffix}"
    volume.write(path)
    if "nii" in suffix:
        assert seen_by_nibabel(path).box_distance_mm(volume.geometry) < 1e-4
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj).T, volume.array)
    if "nii" in suffix and "sheared" in kind:  # SimpleITK refuses it, as docs/coordinates.md says: never a wrong place
        with pytest.raises(RuntimeError, match="orthonormal"):
            seen_by_sitk(path)
        return
    array, geometry = seen_by_sitk(path)
    np.testing.assert_array_equal(array, volume.array)
    assert geometry.box_distance_mm(volume.geometry) < 1e-4


# ---------------------------------------------------------------- types
@FORMATS
@pytest.mark.parametrize("dtype", TYPES)
def test_the_type_of_the_input(tmp_path: Path, suffix: str, dtype: str) -> None:
    stored = (scan() / 10).astype(dtype)
    values = stored.astype(np.float32) + np.float32(0.4)
    source = tmp_path / "in.nii"
    nifti(stored)(source)
    volume = Volume.read(source)
    assert volume.dtype == dtype
    path = tmp_path / f"out{suffix}"
    volume.with_array(values, volume.geometry).write(path, dtype="input")
    array, _ = seen_by_sitk(path)
    assert array.dtype.name == dtype
    np.testing.assert_array_equal(array, stored if "int" in dtype else values)
    assert Volume.read(path).dtype == dtype
    volume.write(path, dtype="float32")
    assert Volume.read(path).dtype == "float32"


def test_rounds_and_clips() -> None:
    from SRGAN3DLib.volumes.voxels import encode

    values = np.array([-1e30, -3.5, -0.4, 0.5, 1.5, 254.6, 1e30], np.float32)
    assert encode(values, "uint8", (1.0, 0.0)).tolist() == [0, 0, 0, 0, 2, 255, 255]
    assert encode(values[[0, 1, -1]], "int16", (1.0, 0.0)).tolist() == [-32768, -4, 32767]
    assert encode(values[[0, -1]], "int32", (1.0, 0.0)).tolist() == [-(2**31), 2**31 - 1]
    assert encode(values[[0, -1]], "int64", (1.0, 0.0)).tolist() == [-(2**63), 2**63 - 1024]  # the last float64 below 2^63
    assert encode(np.array([1.26, 100], np.float32), "uint8", (0.25, 1.0)).tolist() == [1, 255]


def test_scaled_integers_keep_their_scaling(tmp_path: Path) -> None:
    stored = (scan() / 4).astype(np.int16)
    nifti(stored, scl_slope=0.25, scl_inter=-10)(tmp_path / "in.nii")
    volume = Volume.read(tmp_path / "in.nii")
    np.testing.assert_allclose(volume.array, stored * 0.25 - 10)
    volume.write(tmp_path / "out.nii.gz", dtype="input")
    again = nib.load(tmp_path / "out.nii.gz")
    assert again.get_data_dtype() == np.int16 and (again.dataobj.slope, again.dataobj.inter) == (0.25, -10)
    np.testing.assert_array_equal(again.dataobj.get_unscaled().T, stored)
    with pytest.raises(VolumeError, match="only NIfTI can store"):
        volume.write(tmp_path / "out.nrrd", dtype="input")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.nii", "out.nii.gz"]


# ---------------------------------------------------------------- bad input, bad output
def test_bad_input_is_one_clear_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = make_corpus(tmp_path)
    assert len(corpus) >= 25
    for bad in corpus:
        start = time.perf_counter()
        with pytest.raises(bad.error) as caught:
            Volume.read(bad.path)
        message = str(caught.value)
        assert type(caught.value) is bad.error
        assert message.startswith(f"{bad.path}: ") and bad.words in message, message
        assert len(message.splitlines()) == 1 and len(message) - len(str(bad.path)) < 350
        assert time.perf_counter() - start < 2, bad.path
    assert capfd.readouterr() == ("", "")  # nothing of C++ comes through, and no warning of numpy's


def test_two_voxel_slabs_and_odd_sizes(tmp_path: Path) -> None:
    for shape in ((2, 2, 2), (2, 31, 17), (33, 2, 5)):
        for suffix in WRITABLE:
            volume = Volume.from_array(scan(shape), OBLIQUE)
            volume.write(tmp_path / f"x{suffix}")
            np.testing.assert_array_equal(Volume.read(tmp_path / f"x{suffix}").array, volume.array)


def test_few_values_of_a_tiny_or_real_valued_volume_are_no_labels(tmp_path: Path) -> None:
    for name, array in (("tiny", np.arange(8).reshape(2, 2, 2)), ("real", scan().round(-2) + 0.5)):
        Volume.from_array(array, np.eye(4)).write(tmp_path / f"{name}.nii")
        Volume.read(tmp_path / f"{name}.nii")


def test_arrays_must_fit_their_grid() -> None:
    with pytest.raises(VolumeError, match=r"it must be \(K, J, I\)"):
        Volume.from_array(scan()[0], np.eye(4))
    with pytest.raises(VolumeError, match="on a grid of"):
        Volume(scan(), Geometry((6, 7, 9), np.eye(4)))


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    volume = Volume.from_array(scan(), np.eye(4))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.nii").mkdir()
    cases = [("x.nhdr", "pair of files"), ("x.mhd", "pair of files"), ("x.png", "unknown extension"), ("none/x.nii", "does not exist")]
    for name, words in [*cases, ("file/x.nii", "does not exist"), ("folder.nii", "is a folder")]:
        for act in (check_output, volume.write):
            with pytest.raises(VolumeError, match=words) as caught:
                act(tmp_path / name)
            assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.nii"]


def test_folder_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    volume = Volume.from_array(scan(), np.eye(4))
    if sys.platform == "linux":  # where not even root can make a file
        with pytest.raises(VolumeError, match=r"x\.nii: .*cannot be written"):
            volume.write("/proc/self/x.nii")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(VolumeError, match="cannot be written to"):
        check_output(tmp_path / "x.nii")


@FORMATS
def test_nothing_half_done_is_left(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"the old file")
    array = scan()
    array[-1, -1, -1] = np.nan
    with pytest.raises(VolumeError, match="NaN or infinite"):
        Volume.from_array(array, OBLIQUE).write(path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="no room on the disk"):
        Volume.from_array(scan(), OBLIQUE).write(path)
    assert path.read_bytes() == b"the old file" and list(tmp_path.iterdir()) == [path]


CHILD = """
import os, resource, signal, sys
import numpy as np
from SRGAN3DLib.volumes.volume import Volume
from SRGAN3DLib.contract.errors import SRGAN3DError
volume = Volume.from_array(np.random.default_rng(0).normal(size=(64, 128, 128)), np.eye(4))
if sys.argv[2] == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
else:
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
try:
    volume.write(sys.argv[1])
except SRGAN3DError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_file_size_limit_and_kill(tmp_path: Path) -> None:
    def child(how: str) -> subprocess.CompletedProcess[str]:
        here = Path(__file__).resolve().parents[2]
        return subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "x.nii"), how], capture_output=True, text=True, cwd=here)

    limited = child("limit")
    assert limited.returncode == ResourceError.exit_code and "File too large" in limited.stdout and not limited.stderr
    assert not list(tmp_path.iterdir())
    assert child("kill").returncode == -9
    assert not (tmp_path / "x.nii").exists()
    with pytest.raises(VolumeError, match="holds no volume"):
        find_scans(tmp_path)  # what the killed one left is hidden


def test_same_volume_same_bytes_and_usual_permissions(tmp_path: Path) -> None:
    volume = Volume.from_array(scan(), OBLIQUE)
    for name in ("a.nii.gz", "b.nii.gz", "a.nrrd", "b.nrrd"):
        volume.write(tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nrrd").read_bytes() == (tmp_path / "b.nrrd").read_bytes()
    (tmp_path / "usual").write_text("")
    assert (tmp_path / "a.nrrd").stat().st_mode == (tmp_path / "usual").stat().st_mode


# ---------------------------------------------------------------- folders, memory, imports
@FORMATS
def test_memory_is_the_array_and_a_slab(tmp_path: Path, suffix: str) -> None:
    volume = Volume.from_array(scan((48, 256, 256)), OBLIQUE)
    path = tmp_path / f"x{suffix}"
    tracemalloc.start()
    volume.write(path, dtype="input")
    writing = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    back = Volume.read(path)
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    slab = 4 * 2**20
    assert writing < 3 * slab
    assert reading < back.array.nbytes + 4 * slab


def test_import_is_cheap() -> None:
    code = "import SRGAN3DLib.volumes.volume, sys; print([m for m in ('torch', 'SimpleITK', 'nibabel', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.shared
def test_shared_scans_round_trip(tmp_path: Path) -> None:
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    for source in sorted(data.glob("validation/*/*.nii.gz"))[:3]:
        volume = Volume.read(source)
        volume.write(tmp_path / "x.nii.gz", dtype="input")
        one, two = nib.load(source), nib.load(tmp_path / "x.nii.gz")
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
        assert two.get_data_dtype() == one.get_data_dtype() and seen_by_nibabel(source).box_distance_mm(volume.geometry) < 1e-9
