"""The numbers of DICOM pixels: types, byte orders, bits, compressed syntaxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from tinydicom import BIG, IMPLICIT, LITTLE, Items, classic, enhanced, file_bytes, pack_jpeg, slice_items

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.volumes import dicom_decoder
from SRGAN3DLib.volumes.dicom_decoder import picture_size
from SRGAN3DLib.volumes.volume import Volume

N = 6
STACK = np.random.default_rng(0).integers(0, 900, (N, 64, 66)).astype(np.uint16)
ALONG = [(0.0, 0.0, 3.0 * k) for k in range(N)]
RLE, JPEG2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"
DEFLATED = "1.2.840.10008.1.2.1.99"


def pack(folder: Path, syntax: str) -> None:
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        if syntax == DEFLATED:
            one.file_meta.TransferSyntaxUID = syntax
        else:
            one.compress(syntax, generate_instance_uid=False)
        one.save_as(path)


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT, BIG])
def test_native_syntaxes(tmp_path: Path, syntax: str) -> None:
    classic(tmp_path, STACK, ALONG, syntax=syntax)
    np.testing.assert_array_equal(Volume.read(tmp_path).array, STACK)


@pytest.mark.parametrize("syntax", [RLE, JPEG2000, DEFLATED])
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_packed_syntaxes(tmp_path: Path, syntax: str, kind: str) -> None:
    if kind == "classic":
        classic(tmp_path, STACK, ALONG)
    else:
        enhanced(tmp_path / "all.dcm", STACK[[3, 0, 5, 1, 2, 4]], [ALONG[k] for k in (3, 0, 5, 1, 2, 4)])
    pack(tmp_path, syntax)
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, STACK)
    assert volume.dtype == "uint16"


def test_a_missing_decoder_is_named(tmp_path: Path) -> None:
    classic(tmp_path, STACK, ALONG)
    pack(tmp_path, RLE)
    for path in tmp_path.iterdir():
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # a film
        one.save_as(path)
    with pytest.raises(
        VolumeError, match=r"compressed \(MPEG-4 .*\), and no decoder for that is installed: pip install 'SRGAN3D\[dicom\]'"
    ):
        Volume.read(tmp_path)


def test_a_crash_of_a_decoder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GDCM ends the process by an exception of C++ that nobody catches, where a table of lossless JPEG is damaged."""
    classic(tmp_path / "plain", STACK, ALONG)
    pack_jpeg(tmp_path / "plain", tmp_path / "packed")
    monkeypatch.setattr(dicom_decoder, "_CHILD", "import os; input(); os.abort()")
    with pytest.raises(VolumeError, match=r"IM0001\.dcm: its compressed pixels .* are damaged: the decoder crashed"):
        Volume.read(tmp_path / "packed")


def test_lossless_jpeg(tmp_path: Path) -> None:
    """The commonest packing of archives; here written by SimpleITK."""
    classic(tmp_path / "plain", STACK, ALONG)
    pack_jpeg(tmp_path / "plain", tmp_path / "packed")
    np.testing.assert_array_equal(Volume.read(tmp_path / "packed").array, STACK)


def test_a_decoder_that_goes_on_over_damage(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It says so on stderr alone, and makes up the rest of the picture."""
    classic(tmp_path / "plain", STACK, ALONG)
    pack_jpeg(tmp_path / "plain", tmp_path / "packed")
    path = tmp_path / "packed" / "IM0003.dcm"
    whole = bytearray(path.read_bytes())
    at = whole.rindex(b"\xff\xd9")
    whole[at - 2000 : at - 1998] = b"\xff\xd9"  # an end of the picture in its midst
    path.write_bytes(whole)
    with pytest.raises(VolumeError, match=r"IM0003\.dcm: its compressed pixels .* are damaged"):
        Volume.read(tmp_path / "packed")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("syntax", [RLE, JPEG2000])
def test_damaged_and_lying_compressed_pixels(tmp_path: Path, syntax: str) -> None:
    classic(tmp_path, STACK, ALONG)
    pack(tmp_path, syntax)
    path = tmp_path / "IM0003"
    whole = path.read_bytes()
    for end in (len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:end])
        with pytest.raises(VolumeError, match="IM0003: truncated: its compressed pixels"):
            Volume.read(tmp_path)
    one = pydicom.dcmread(path)
    one.Rows = 32
    one.save_as(path)
    with pytest.raises(VolumeError):
        Volume.read(tmp_path)


def test_a_picture_larger_than_its_header_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    classic(tmp_path, STACK, ALONG)
    pack(tmp_path, JPEG2000)
    for path in tmp_path.iterdir():
        whole = bytearray(path.read_bytes())
        at = whole.index(b"\xff\x4f\xff\x51")
        whole[at + 8 : at + 16] = (60000).to_bytes(4, "big") * 2
        path.write_bytes(whole)
    with pytest.raises(VolumeError, match="compressed picture is 60000 x 60000, its header says 66 x 64"):
        Volume.read(tmp_path)


def test_the_size_of_a_jpeg_by_its_markers() -> None:
    head = b"\xff\xd8\xff\xe0\x00\x04ab"
    assert picture_size(head + b"\xff\xc3\x00\x0b\x0c\x00\x40\x00\x42\x01\x01\x11\x00") == (66, 64)
    assert picture_size(head) is None and picture_size(b"") is None


def test_signed_numbers_of_twelve_bits(tmp_path: Path) -> None:
    """The sign is the highest stored bit, whatever stands in the four bits above it."""
    values = (STACK.astype(np.int16) - 450).clip(-2048, 2047)
    more: Items = {0x00280101: ("US", 12), 0x00280102: ("US", 11), 0x00280103: ("US", 1)}
    classic(tmp_path, values.view(np.uint16) & 0x0FFF, ALONG, more=more)
    np.testing.assert_array_equal(Volume.read(tmp_path).array, values)


def test_overlays_in_the_free_bits_are_no_signal(tmp_path: Path) -> None:
    more: Items = {0x00280101: ("US", 12), 0x00280102: ("US", 11), 0x60000100: ("US", 16), 0x60000102: ("US", 15)}
    classic(tmp_path, STACK | 0x8000, ALONG, more=more)
    np.testing.assert_array_equal(Volume.read(tmp_path).array, STACK)


@pytest.mark.parametrize(("bits", "dtype"), [(8, "uint8"), (32, "uint32")])
def test_other_widths(tmp_path: Path, bits: int, dtype: str) -> None:
    values = (STACK % 251).astype(dtype)
    for k in range(N):
        more: Items = {
            0x00280100: ("US", bits),
            0x00280101: ("US", bits),
            0x00280102: ("US", bits - 1),
            0x7FE00010: ("OW", values[k].tobytes()),
        }
        (tmp_path / f"{k}").write_bytes(file_bytes(slice_items(STACK[k], ALONG[k], k) | more))
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.dtype == dtype


def test_float_pixels(tmp_path: Path) -> None:
    values = STACK.astype(np.float32) / 7
    for k in range(N):
        items = slice_items(STACK[k], ALONG[k], k) | {0x00280100: ("US", 32), 0x7FE00008: ("OF", values[k].tobytes())}
        del items[0x7FE00010]
        (tmp_path / f"{k}").write_bytes(file_bytes(items))
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.dtype == "float32"
