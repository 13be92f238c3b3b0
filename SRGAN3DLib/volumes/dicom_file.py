"""DicomFile: one DICOM file, opened as far as its pixels; its attributes as checked Python values.

pydicom reads the attributes. The pixels stay on disk: `PixelElement` says where. Everything that pydicom can raise on a damaged file
becomes a `VolumeError` here, without the file's path, which the caller puts in front.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from SRGAN3DLib.contract.errors import VolumeError

IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
UNDEFINED_LENGTH = 0xFFFFFFFF
LARGEST_HEADER = 64 * 2**20  # bytes before the pixels; an enhanced file of 10 000 frames stays below half of it
_LARGEST_INFLATED = 512 * 2**20
_PIXEL_TAGS = {0x0010: "u", 0x0008: "f", 0x0009: "d"}  # element of group 7FE0: integers, float32, float64
_FIRST_ELEMENTS = {(0x0002, 0x0000), (0x0002, 0x0001), (0x0008, 0x0000), (0x0008, 0x0001), (0x0008, 0x0005), (0x0008, 0x0008)}
_FIRST_ELEMENTS |= {(0x0008, 0x0012), (0x0008, 0x0016), (0x0008, 0x0018)}


@dataclass(frozen=True)
class PixelElement:
    """Where the pixels lie: `offset` and `length` in bytes; `kind` u (integers), f (float32) or d (float64); byte order < or >."""

    offset: int
    length: int
    kind: str
    order: str


@dataclass(frozen=True)
class DicomFile:
    """`dataset` is pydicom's, without pixels. `pixels` is None where the file has none, or ends before them."""

    path: Path
    dataset: Any
    syntax: str
    pixels: PixelElement | None


def is_dicom_file(path: Path) -> bool:
    """True for a visible regular file with DICOM's mark (`DICM` at byte 128), or without it, but with a data set's first element."""
    if path.name.startswith((".", "~")) or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or _begins_like_a_data_set(start)


def _begins_like_a_data_set(start: bytes) -> bool:
    """Old files have no preamble: they begin with an element of group 2 or 8, in implicit or explicit little-endian form."""
    if len(start) < 132:
        return False
    tag, size = (int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little")), int.from_bytes(start[4:8], "little")
    return tag in _FIRST_ELEMENTS and (re.fullmatch(rb"UL|OB|CS|UI|DA|SH|LO", start[4:6]) is not None or size < 1024)


def open_dicom(path: Path, last_tag: int | None = None) -> DicomFile:
    """The file's attributes, and where its pixels lie; with `last_tag` the attributes up to that one only, which takes less time.

    Raises `VolumeError` (without the path), `OSError`.
    """
    pydicom = load_pydicom()
    size = path.stat().st_size
    with path.open("rb") as file, untyped_errors_named("damaged DICOM header"):
        marked = file.read(132)[128:] == b"DICM"
        file.seek(0)
        source: Any = _Bounded(file, size)
        if last_tag is not None:
            dataset = pydicom.filereader.read_partial(source, lambda tag, vr, length: tag > last_tag, force=not marked)
            return DicomFile(path, dataset, "", None)
        dataset = pydicom.dcmread(source, stop_before_pixels=True, force=not marked)
        meta = getattr(dataset, "file_meta", None)
        syntax = str(getattr(meta, "TransferSyntaxUID", "") or IMPLICIT_LITTLE)
        if syntax == DEFLATED:
            dataset = pydicom.dcmread(_inflated(file, meta), force=True)
            return DicomFile(path, dataset, syntax, None)
        return DicomFile(path, dataset, syntax, _pixel_element(file, source.tell(), size))


def load_pydicom() -> Any:
    """pydicom, imported on first use: Slicer brings it, pip installs it with this package."""
    try:
        import pydicom
    except ImportError:
        raise VolumeError("DICOM is read with the package pydicom, which is not installed: pip install pydicom") from None
    return pydicom


def uid_name(uid: str) -> str:
    """The name that DICOM gives to a UID, fit for a message; the UID itself where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return one_line(load_pydicom().uid.UID(uid).name, 60)


@contextmanager
def untyped_errors_named(what: str) -> Iterator[None]:
    """pydicom's warnings are not shown; whatever it raises on damaged data becomes a `VolumeError` that begins with `what`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (VolumeError, OSError, MemoryError):
            raise
        except Exception as error:  # of any class: pydicom's own, ValueError, RecursionError, struct.error, ...
            raise VolumeError(f"{what} ({type(error).__name__}: {one_line(error)})") from None


def one_line(value: object, longest: int = 120) -> str:
    """Text of a file or of an exception, fit for a message: printable, on one line, shortened."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= longest else text[:longest] + "..."


class _Bounded:
    """A file of which no more is read than is there, whatever length an element claims, and no more than `LARGEST_HEADER` in all."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.left = file, size, LARGEST_HEADER

    def read(self, count: int = -1) -> bytes:
        there = max(self.size - self.file.tell(), 0)
        count = there if count is None or count < 0 else min(count, there)
        self.left -= count
        if self.left < 0:
            raise VolumeError(f"more than {LARGEST_HEADER >> 20} MiB before the pixels: not a usual DICOM header")
        return self.file.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _inflated(file: BinaryIO, meta: Any) -> Any:
    """The data set of a deflated file, unpacked up to a limit. The file meta information is not packed: 132 bytes, group 2."""
    import io
    import zlib

    file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpacker.decompress(file.read(), _LARGEST_INFLATED)
    if unpacker.unconsumed_tail:
        raise VolumeError(f"deflated data of more than {_LARGEST_INFLATED >> 20} MiB")
    return io.BytesIO(data)


def _pixel_element(file: BinaryIO, at: int, size: int) -> PixelElement | None:
    """The element that begins at byte `at`, if it is one of pixels."""
    file.seek(at)
    head = file.read(12)
    order = {b"\xe0\x7f": "<", b"\x7f\xe0": ">"}.get(head[:2])
    if order is None or len(head) < 12:
        return None
    word: Any = "little" if order == "<" else "big"
    kind = _PIXEL_TAGS.get(int.from_bytes(head[2:4], word))
    if kind is None:
        return None
    explicit = head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN")
    length = int.from_bytes(head[8:12] if explicit else head[4:8], word)
    offset = at + (12 if explicit else 8)
    if length != UNDEFINED_LENGTH and offset + length > size:
        raise VolumeError(f"truncated: its pixels end at byte {offset + length}, the file at {size}")
    return PixelElement(offset, length, kind, order)


# ---------------------------------------------------------------- attributes as checked values
def numbers(item: Any, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
    """The numbers of an attribute (`count` of them); None where it is absent or empty. Raises `VolumeError` naming what it holds."""
    if item is None or keyword not in item:
        return None
    raw = item.get_item(keyword).value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = item[keyword].value
        if value is None or value == "":
            return None
        if isinstance(value, (bytes, str)):
            raise ValueError
        found = tuple(float(one) for one in (value if isinstance(value, Sequence) or hasattr(value, "__iter__") else (value,)))
    except Exception:  # pydicom raises many classes here; the value says what is wrong
        raise VolumeError(
            f"{keyword} is {one_line(raw, 60)!r}: {count or 'a'} number{'s' if (count or 1) > 1 else ''} must be there"
        ) from None
    if not found:
        return None
    if count is not None and len(found) != count:
        raise VolumeError(f"{keyword} holds {len(found)} numbers, not {count}: {list(found[:8])}")
    return found


def number(item: Any, keyword: str) -> float | None:
    """One number, or None where it is absent or empty."""
    found = numbers(item, keyword)
    return None if found is None else found[0]


def whole(item: Any, keyword: str, default: int) -> int:
    """One whole number, `default` where it is absent or empty."""
    found = number(item, keyword)
    if found is None:
        return default
    if found != int(found):
        raise VolumeError(f"{keyword} is {found}: a whole number must be there")
    return int(found)


def text(item: Any, keyword: str) -> str:
    """An attribute's text, several values joined by backslashes; empty where it is absent or cannot be decoded."""
    if item is None or keyword not in item:
        return ""
    try:
        value = item[keyword].value
    except Exception:  # the text is shown only, nothing depends on it
        return ""
    if value is None or isinstance(value, bytes):
        return ""
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return one_line("\\".join(str(part) for part in parts), 200)


def items(item: Any, keyword: str) -> list[Any]:
    """The items of a sequence; none where it is absent. Raises `VolumeError`."""
    if item is None or keyword not in item:
        return []
    value = item[keyword].value
    if isinstance(value, (bytes, str)) or not hasattr(value, "__iter__"):
        raise VolumeError(f"{keyword} is no sequence")
    return list(value)


def first_item(item: Any, keyword: str) -> Any:
    """The first item of a sequence, or None."""
    found = items(item, keyword)
    return found[0] if found else None
