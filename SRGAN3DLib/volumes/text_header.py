"""What NRRD and MetaImage headers have in common: lines of text, numbers, and files that hold the voxels.

Everything is checked before it is used: a line has at most 900 bytes, a header at most 1 MB, an image 1 to 10 dimensions. Voxels
may lie in regular files in or below the header's folder and nowhere else. Errors are `VolumeError`s without the file's name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from SRGAN3DLib.contract.errors import VolumeError

from .sources import check_source

LINE_LIMIT = 900  # bytes
HEADER_LIMIT = 2**20
DIMENSION_LIMIT = 10
FILE_LIMIT = 65_536  # slices in files of their own
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?|[+-]?(nan|inf|infinity)", re.I)
_PATTERN = re.compile(r"[^%]*%(0?\d{0,2})d[^%]*")


class Lines:
    """The lines of a text header, without their ends, as far as somebody asks for them."""

    def __init__(self, file: BinaryIO):
        self._file, self._size = file, 0

    def next(self) -> str | None:
        """The next line; None at the end of the file."""
        raw = self._file.readline(LINE_LIMIT + 1)
        self._size += len(raw)
        if len(raw) > LINE_LIMIT:
            raise VolumeError(f"its header has a line of more than {LINE_LIMIT} bytes: damaged, truncated or not of its format")
        if self._size > HEADER_LIMIT:
            raise VolumeError(f"its header is longer than {HEADER_LIMIT} bytes")
        return raw.decode("utf-8", "surrogateescape").rstrip("\r\n") if raw else None


def whole_numbers(text: str, name: str, count: int | None = None) -> list[int]:
    """The whole numbers of a field, `count` of them. Raises `VolumeError` that shows the field."""
    words = text.split()
    if not all(_WHOLE.fullmatch(word) for word in words) or not words or (count is not None and len(words) != count):
        raise VolumeError(f"its header's {name} is {shown(text)}: {'' if count is None else f'{count} '}whole numbers must stand there")
    return [int(word) for word in words]


def real_numbers(words: Sequence[str], name: str, count: int) -> list[float]:
    """`count` numbers. Raises `VolumeError` that shows the field."""
    if len(words) != count or not all(_REAL.fullmatch(word) for word in words):
        raise VolumeError(f"its header's {name} is {shown(' '.join(words))}: {count} numbers must stand there")
    return [float(word) for word in words]


def check_dimensions(count: int, name: str) -> int:
    if not 1 <= count <= DIMENSION_LIMIT:
        raise VolumeError(f"its header's {name} is {count}: 1 to {DIMENSION_LIMIT} is possible")
    return count


def check_sizes(sizes: list[int], name: str) -> list[int]:
    if min(sizes) < 0 or max(sizes) > 2**31 or math.prod(sizes) > 2**48:
        raise VolumeError(f"its header's {name} is {shown(' '.join(map(str, sizes)))}: no image has such a size")
    return sizes


def shown(text: str) -> str:
    """A part of a header for a message: short, and without characters that a terminal would obey."""
    return repr(text if len(text) <= 60 else text[:57] + "...").encode("ascii", "backslashreplace").decode("ascii")


def find_data_file(header: Path, name: str) -> Path:
    """The file of voxels that a header names. Raises `VolumeError` for whatever is not a regular file in or below its folder."""
    parts = PureWindowsPath(name)
    if not name.strip() or any(ord(letter) < 32 for letter in name) or "%" in name or "://" in name:
        raise VolumeError(f"its data file is {shown(name)}, which is no file name")
    if parts.is_absolute() or parts.drive or name[0] in "/\\" or ".." in parts.parts:
        raise VolumeError(f"its data file {shown(name)} lies outside the header's folder: only a file in it or below it is read")
    path = header.parent / name
    try:
        check_source(path)
    except VolumeError as error:
        absent = "no such file" in str(error)
        raise VolumeError(f"its data file {shown(name)}{' is absent' if absent else f': {error}'}") from None
    real, folder = path.resolve(), header.parent.resolve()
    if folder not in real.parents:
        raise VolumeError(f"its data file {shown(name)} is a link that leads outside the header's folder: it is not read")
    return real


def find_slice_files(header: Path, names: Sequence[str], slices: int) -> list[Path]:
    """The files of voxels of an image in several files, each with as many slices as the others."""
    if not 1 <= len(names) <= FILE_LIMIT or slices % len(names):
        raise VolumeError(f"its voxels lie in {len(names)} data files: they cannot hold {slices} slices")
    return [find_data_file(header, name) for name in names]


def names_of_pattern(text: str) -> list[str]:
    """The file names of `PATTERN FIRST LAST STEP`, where the pattern holds one %d or %03d and nothing else that is special."""
    words = text.rsplit(None, 3)
    if len(words) != 4 or not (match := _PATTERN.fullmatch(words[0])):
        raise VolumeError(f"its data file is {shown(text)}: a name, or a pattern with one %d and its first, last and step must stand there")
    first, last, step = whole_numbers(" ".join(words[1:]), "data file", 3)
    if step == 0 or (last - first) // step < 0 or (last - first) // step >= FILE_LIMIT or min(first, last) < 0:
        raise VolumeError(f"its data file is {shown(text)}: no list of file names has this first, last and step")
    before, after = words[0].split(f"%{match[1]}d")
    width = int(match[1] or 0)
    fill = "0" if match[1].startswith("0") else " "
    return [f"{before}{str(number).rjust(width, fill)}{after}" for number in range(first, last + (1 if step > 0 else -1), step)]
