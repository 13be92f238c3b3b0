"""NRRD and MetaImage headers: nothing outside the header's folder is read, nothing crashes, and what a header leaves open is said."""

from __future__ import annotations

import bz2
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from corpus import SHAPE, meta, nrrd, scan
from grids import seen_by_sitk

from SRGAN3DLib.contract.errors import ResourceError, VolumeError
from SRGAN3DLib.volumes.volume import Volume, read_geometry, read_provenance

VOXELS = scan().astype("<f4").tobytes()
NOTHING = np.zeros((0, 7, 8), np.float32)


def pair(folder: Path, ending: str, name: str, **fields: str) -> Path:
    """A header whose voxels are said to lie in the file `name`."""
    path = folder / f"pair{ending}"
    if ending == ".nhdr":
        nrrd(NOTHING, sizes="8 7 6", data_file=name, **fields)(path)
    else:
        meta(NOTHING, DimSize="8 7 6", **fields, ElementDataFile=name)(path)
    return path


PAIRS = pytest.mark.parametrize("ending", [".nhdr", ".mhd"])


@PAIRS
def test_data_files_in_and_below_the_folder(tmp_path: Path, ending: str) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a b.raw", "below/b.raw", "Ünï.raw"):
        (tmp_path / name).write_bytes(VOXELS)
        np.testing.assert_array_equal(Volume.read(pair(tmp_path, ending, name)).array, scan())
    (tmp_path / "link.raw").symlink_to("below/b.raw")
    np.testing.assert_array_equal(Volume.read(pair(tmp_path, ending, "link.raw")).array, scan())


@PAIRS
def test_data_files_elsewhere_are_not_read(tmp_path: Path, ending: str) -> None:
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    secret = tmp_path / "secret.raw"
    secret.write_bytes(VOXELS)
    (home / "out.raw").symlink_to(secret)
    os.mkfifo(home / "pipe.raw")
    (home / "device.raw").symlink_to("/dev/zero")
    names = [str(secret), "../secret.raw", "folder/../../secret.raw", "..\\secret.raw", "C:\\secret.raw", "\\\\host\\x.raw", "/dev/zero"]
    names += ["out.raw", "pipe.raw", "device.raw", "folder", "file:///dev/zero", "%n%n%s", "%s", "a%d%d.raw 1 6 1", "a%999d.raw 1 6 1"]
    names += ["a%03d.raw 1 6 0", "a%03d.raw 1 999999999 1", "a%03d.raw 6 1 1", "../a%d.raw 1 6 1", "absent.raw"]
    for name in names:
        with pytest.raises(VolumeError, match=r"pair\.\w+: .*data file") as caught:
            Volume.read(pair(home, ending, name))
        assert "\n" not in str(caught.value)


@PAIRS
def test_slices_in_files_of_their_own(tmp_path: Path, ending: str) -> None:
    for k, plane in enumerate(scan()):
        (tmp_path / f"s{k:03d}.raw").write_bytes(plane.astype("<f4").tobytes())
    for name in ("s%03d.raw 0 5 1", "LIST\n" + "\n".join(f"s{k:03d}.raw" for k in range(6))):
        path = pair(tmp_path, ending, name)
        if name.startswith("LIST") and ending == ".nhdr":  # the list is the header's end
            lines = path.read_text().rstrip("\n").split("\n")
            listed = [line for line in lines if line.startswith(("s0", "data file"))]
            path.write_text("\n".join([line for line in lines if line not in listed] + listed) + "\n")
        np.testing.assert_array_equal(Volume.read(path).array, scan())
    (tmp_path / "s003.raw").unlink()
    with pytest.raises(VolumeError, match=r"'s003\.raw' is absent"):
        Volume.read(path)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("x.mha", {"NDims": "-1"}, "NDims is -1: 1 to 10"),
        ("x.mha", {"NDims": "11"}, "NDims is 11"),
        ("x.mha", {"DimSize": "8 7"}, "DimSize is '8 7': 3 whole numbers"),
        ("x.mha", {"DimSize": "8 7 99999999999"}, "no image has such a size"),
        ("x.mha", {"ElementType": "MET_FLOAT_ARRAY"}, "one plain number"),
        ("x.mha", {"ElementSpacing": "1_0 1 1"}, "ElementSpacing"),
        ("x.mha", {"ElementSpacing": "1e400 1 1"}, "spacing"),
        ("x.mha", {"Comment": "x" * 1000}, "more than 900 bytes"),
        ("x.mha", {"TransformMatrix": "1 0 0"}, "9 numbers"),
        ("x.nrrd", {"dimension": "0"}, "dimension is 0"),
        ("x.nrrd", {"type": "A" * 5000}, "more than 900 bytes"),
        ("x.nrrd", {"type": "block"}, "one plain number"),
        ("x.nrrd", {"encoding": "hex"}, "encoding is 'hex': raw, gzip, bzip2 or text"),
        ("x.nrrd", {"endian": "middle"}, "little or big"),
        ("x.nrrd", {"space": "heaven"}, "space is 'heaven'"),
        ("x.nrrd", {"byte_skip": "-5"}, "byte skip -5"),
        ("x.nrrd", {"space_directions": "(1,0) (0,1,0) (0,0,1)"}, "space vector"),
        ("x.nrrd", {"space_units": '"mm"'}, "space units"),
    ],
)
def test_fields_that_cannot_be(tmp_path: Path, name: str, fields: dict[str, str], words: str) -> None:
    (nrrd if name.endswith("nrrd") else meta)(scan(), **fields)(tmp_path / name)
    for read in (Volume.read, read_geometry) if "ElementType" not in fields and "type" not in fields else (Volume.read,):
        if words.startswith(("encoding", "little", "byte")) and read is read_geometry:
            continue
        with pytest.raises(VolumeError) as caught:
            read(tmp_path / name)
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_header_without_end(tmp_path: Path) -> None:
    (tmp_path / "x.nrrd").write_bytes(b"NRRD0004\n" + b"# a comment\n" * 100_000)
    (tmp_path / "x.mha").write_bytes(b"Name = value\n" * 100_000)
    for name in ("x.nrrd", "x.mha"):
        with pytest.raises(VolumeError, match="longer than 1048576 bytes"):
            Volume.read(tmp_path / name)


@pytest.mark.parametrize("encoding", ["raw", "bzip2", "text"])
def test_nrrd_encodings(tmp_path: Path, encoding: str) -> None:
    text = " ".join(repr(float(value)) for value in scan().ravel()).encode()
    body = {"raw": VOXELS, "bzip2": bz2.compress(VOXELS), "text": text}[encoding]
    nrrd(NOTHING, sizes="8 7 6", encoding=encoding)(tmp_path / "x.nrrd")
    (tmp_path / "x.nrrd").write_bytes((tmp_path / "x.nrrd").read_bytes() + body)
    np.testing.assert_array_equal(Volume.read(tmp_path / "x.nrrd").array, scan())
    (tmp_path / "x.nrrd").write_bytes((tmp_path / "x.nrrd").read_bytes()[:-50])
    with pytest.raises(VolumeError, match="truncated"):
        Volume.read(tmp_path / "x.nrrd")


def test_skips(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(b"one\ntwo\n" + bytes(5) + VOXELS)
    for skips in ({"line_skip": "2", "byte_skip": "5"}, {"byte_skip": "-1"}):
        np.testing.assert_array_equal(Volume.read(pair(tmp_path, ".nhdr", "x.raw", **skips)).array, scan())
    for size in ("13", "-1"):
        np.testing.assert_array_equal(Volume.read(pair(tmp_path, ".mhd", "x.raw", HeaderSize=size)).array, scan())


def old_nrrd(*lines: str) -> bytes:
    head = ["NRRD0001", "type: float", "dimension: 3", "sizes: 8 7 6", "endian: little", "encoding: raw", *lines]
    return ("\n".join(head) + "\n\n").encode() + VOXELS


@pytest.mark.parametrize("lines", [[], ["spacings: 1 2 3"], ["spacings: 1 2 3", "axis mins: 5 6 7"]])
@pytest.mark.parametrize("centers", [[], ["centers: node node node"]])
def test_old_nrrd_lies_where_simpleitk_sees_it(tmp_path: Path, lines: list[str], centers: list[str]) -> None:
    (tmp_path / "x.nrrd").write_bytes(old_nrrd(*lines, *centers))
    volume = Volume.read(tmp_path / "x.nrrd")
    assert volume.geometry.box_distance_mm(seen_by_sitk(tmp_path / "x.nrrd")[1]) < 1e-9
    assert any("no orientation" in note for note in volume.notes)
    assert any("no voxel spacing" in note for note in volume.notes) == (not lines)


@pytest.mark.parametrize(
    "fields",
    [
        {"Rotation": "0 1 0 1 0 0 0 0 1", "Position": "1 2 3"},
        {"TransformMatrix": "0 1 0 0 0 1 1 0 0", "Offset": "1 2 3"},
        {"TransformMatrix": "2 0 0 0 1 0 0 0 1", "Offset": "1 2 3", "ElementSpacing": "0.5 0.7 3"},
        {},
    ],
)
def test_metaimage_lies_where_simpleitk_sees_it(tmp_path: Path, fields: dict[str, str]) -> None:
    meta(scan(), **fields)(tmp_path / "x.mha")
    volume = Volume.read(tmp_path / "x.mha")
    array, geometry = seen_by_sitk(tmp_path / "x.mha")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.geometry.box_distance_mm(geometry) < 1e-9 and bool(volume.notes) == (not fields)


def test_units_and_spaces_of_nrrd(tmp_path: Path) -> None:
    nrrd(scan(), space_units='"m" "m" "m"', space_directions="(.001,0,0) (0,.002,0) (0,0,.003)", space_origin="(.01,0,0)")(
        tmp_path / "m.nrrd"
    )
    volume = Volume.read(tmp_path / "m.nrrd")
    np.testing.assert_allclose(volume.geometry.spacing_ijk_mm, (1, 2, 3))
    assert volume.geometry.ijk_to_ras[0, 3] == -10 and volume.notes == ("its header counts in m: turned into mm",)
    nrrd(scan(), space_units='"league" "mm" "mm"')(tmp_path / "l.nrrd")
    assert "unknown unit" in Volume.read(tmp_path / "l.nrrd").notes[0]
    nrrd(scan(), space="scanner-xyz")(tmp_path / "s.nrrd")
    assert "names no body axes" in Volume.read(tmp_path / "s.nrrd").notes[0]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    for ending in (".nrrd", ".mha", ".nii.gz"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xe4" + ending.encode()))
        Volume.from_array(scan(), np.eye(4)).write(path)
        np.testing.assert_array_equal(Volume.read(path).array, scan())


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "device.nrrd").symlink_to("/dev/zero")
    (tmp_path / "gone.nii").symlink_to("nowhere.nii")
    (tmp_path / "annex.nii.gz").symlink_to(".git/annex/objects/xx/MD5E-s1--00.nii.gz")
    (tmp_path / "unlocked.nii.gz").write_text("/annex/objects/MD5E-s6424242--d41d8cd98f00b204e9800998ecf8427e.nii.gz\n")
    (tmp_path / "lfs.nrrd").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 6424242\n")
    server = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    server.bind("s.mha")
    cases = {"pipe.nii": "a pipe", "device.nrrd": "a device", "gone.nii": "a link to nowhere", "annex.nii.gz": "git annex get"}
    cases |= {"unlocked.nii.gz": "git annex get", "lfs.nrrd": "git lfs pull", "s.mha": "a socket", "x" * 300 + ".nii": "too long"}
    for name, words in (cases | {"a\0b.nii": "NUL"}).items():
        for read in (Volume.read, read_geometry, read_provenance):
            with pytest.raises(VolumeError, match=words):
                read(tmp_path / name)
    server.close()


def test_more_than_fits_into_memory_is_refused_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import SRGAN3DLib.volumes.voxels as voxels

    monkeypatch.setattr(voxels, "free_bytes", lambda: 1000)
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha"):
        Volume.from_array(scan(), np.eye(4)).write(tmp_path / f"x{ending}")
        with pytest.raises(ResourceError, match=r"x\.\S+: its voxels need .* are free"):
            Volume.read(tmp_path / f"x{ending}")
        assert read_geometry(tmp_path / f"x{ending}").shape_kji == SHAPE


def test_simpleitk_reads_what_carries_provenance(tmp_path: Path) -> None:
    text = '{"program":"SRGAN3D","path":"C:\\\\scans","note":"' + "long " * 300 + 'ü"}'
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha"):
        path = tmp_path / f"x{ending}"
        Volume.from_array(scan(), np.eye(4)).write(path, provenance=text)
        back = read_provenance(path)
        assert back is not None and json.loads(back) == json.loads(text)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), scan())
        np.testing.assert_array_equal(Volume.read(path).array, scan())
        Volume.from_array(scan(), np.eye(4)).write(path)
        assert read_provenance(path) is None
