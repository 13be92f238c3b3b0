"""Hostile and damaged DICOM files: one typed line each, at once, whatever a header claims."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from fuzz_dicom import fuzz
from tinydicom import IMPLICIT, Items, classic, enhanced, file_bytes, save, slice_items

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.volumes.dicom_file import is_dicom_file, open_dicom
from SRGAN3DLib.volumes.volume import Volume

N = 6
STACK = np.random.default_rng(0).integers(0, 900, (N, 10, 12)).astype(np.uint16)
ALONG = [(0.0, 0.0, 3.0 * k) for k in range(N)]
ROWS, COLUMNS, FRAMES, SAMPLES, ALLOCATED, STORED, HIGH = 0x00280010, 0x00280011, 0x00280008, 0x00280002, 0x00280100, 0x00280101, 0x00280102
PIXELS = 0x7FE00010


def refusal(path: Path) -> str:
    with pytest.raises(VolumeError) as caught:
        Volume.read(path)
    return str(caught.value)


def test_a_slice_with_too_few_or_too_many_bytes(tmp_path: Path) -> None:
    """What is missing was once taken from memory that held other things."""
    for count in (100, 238, 242, 480):
        folder = tmp_path / str(count)
        classic(folder, STACK, ALONG)
        save(folder / "IM0004", slice_items(STACK[3], ALONG[3], 3) | {PIXELS: ("OW", bytes(count))})
        assert f"IM0004: its pixels take {count} bytes, but 1 x 10 rows x 12 columns of 16 bits take 240" in refusal(folder)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({ROWS: ("US", 65535), COLUMNS: ("US", 65535)}, "65535 rows x 65535 columns of 16 bits take "),
        ({ROWS: ("US", 0)}, "0 rows"),
        ({FRAMES: ("IS", 2**31 - 1)}, "2147483647 x 10 rows"),
        ({FRAMES: ("IS", "many")}, "NumberOfFrames is"),
        ({SAMPLES: ("US", 3)}, "3 components per voxel"),
        ({0x00280004: ("CS", "RGB")}, "colour"),
        ({ALLOCATED: ("US", 1)}, "1 bits allocated"),
        ({STORED: ("US", 17)}, "17 stored"),
        ({HIGH: ("US", 3)}, "highest 3"),
        ({ROWS: ("CS", "ten")}, ""),
    ],
)
@pytest.mark.parametrize("write", [enhanced, classic], ids=["enhanced", "classic"])
def test_headers_that_claim_what_cannot_be(tmp_path: Path, more: Items, words: str, write: object) -> None:
    tracemalloc.start()
    write(tmp_path / "all.dcm" if write is enhanced else tmp_path, STACK, ALONG, more=more)  # type: ignore[operator]
    assert words in refusal(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()


def test_a_file_cut_anywhere(tmp_path: Path) -> None:
    """Never a volume with what is not there; one line that names the file, unless too little is left to be DICOM."""
    whole = file_bytes(slice_items(STACK[3], ALONG[3], 3))
    classic(tmp_path, STACK, ALONG)
    for end in [*range(133, len(whole), 23), len(whole) - 1]:
        (tmp_path / "IM0004").write_bytes(whole[:end])
        message = refusal(tmp_path)
        assert "IM0004" in message or "1 missing" in message, message


def nested(depth: int, undefined: bool) -> bytes:
    """A sequence in a sequence in a sequence ..."""
    data = b""
    for _ in range(depth):
        size = 0xFFFFFFFF if undefined else len(data)
        data = struct.pack("<HHI", 0xFFFE, 0xE000, size) + data + (struct.pack("<HHI", 0xFFFE, 0xE00D, 0) if undefined else b"")
        size = 0xFFFFFFFF if undefined else len(data)
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if undefined else b""
        data = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, size) + data + end
    return data


@pytest.mark.parametrize("undefined", [False, True])
def test_deep_nesting(tmp_path: Path, undefined: bool) -> None:
    classic(tmp_path, STACK, ALONG)
    whole = file_bytes(slice_items(STACK[3], ALONG[3], 3))
    at = whole.index(struct.pack("<HH", 0x0010, 0x0010))
    (tmp_path / "IM0004").write_bytes(whole[:at] + nested(3000, undefined) + whole[at:])
    try:
        np.testing.assert_array_equal(Volume.read(tmp_path).array, STACK)
    except VolumeError as error:
        assert "IM0004" in str(error)


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFE, 0xFFFFFFFF])
def test_lengths_beyond_the_file(tmp_path: Path, length: int) -> None:
    """No room is made for what an element claims."""
    classic(tmp_path, STACK, ALONG)
    whole = file_bytes(slice_items(STACK[3], ALONG[3], 3))
    at = whole.index(struct.pack("<HH", 0x0010, 0x0010))
    element = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, length)
    (tmp_path / "IM0004").write_bytes(whole[:at] + element + whole[at:])
    tracemalloc.start()
    assert "IM0004" in refusal(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()


def test_frames_without_a_description_each(tmp_path: Path) -> None:
    enhanced(tmp_path / "all.dcm", STACK, ALONG[:4])
    assert "6 frames, but 4 descriptions of frames" in refusal(tmp_path)


def test_files_that_only_look_like_dicom(tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"\x08\0\x05\0" + b"a letter" * 100)
    (tmp_path / "short").write_bytes(b"\x08\0\x05\0CS")
    (tmp_path / "mark").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "empty.dcm").write_bytes(b"")
    assert [is_dicom_file(tmp_path / name) for name in ("letter", "short", "empty.dcm")] == [False, False, False]
    assert is_dicom_file(tmp_path / "mark") and "mark" in refusal(tmp_path)
    (tmp_path / "mark").unlink()
    assert "without a DICOM series" in refusal(tmp_path)


def test_a_header_without_end(tmp_path: Path) -> None:
    element = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 2**20) + bytes(2**20)
    whole = file_bytes(slice_items(STACK[0], ALONG[0]))
    at = whole.index(struct.pack("<HH", 0x0010, 0x0010))
    (tmp_path / "big").write_bytes(whole[:at] + element * 65 + whole[at:])
    with pytest.raises(VolumeError, match="more than 64 MiB before the pixels"):
        open_dicom(tmp_path / "big")


def test_the_first_attributes_alone(tmp_path: Path) -> None:
    save(tmp_path / "x", slice_items(STACK[0], ALONG[0]), IMPLICIT)
    assert "Rows" not in open_dicom(tmp_path / "x", 0x00200011).dataset and "Rows" in open_dicom(tmp_path / "x").dataset


def test_without_pydicom_one_line_says_so(tmp_path: Path) -> None:
    classic(tmp_path, STACK, ALONG)
    code = f"import sys; sys.modules['pydicom'] = None\nfrom SRGAN3DLib.volumes.volume import Volume\nVolume.read({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert "VolumeError" in done.stderr and "DICOM is read with the package pydicom, which is not installed" in done.stderr


def test_random_damage() -> None:
    counts, failures = fuzz(100, seed=7)
    assert failures == {} and counts["read"] > 10 and counts["VolumeError"] > 30
