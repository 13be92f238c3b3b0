"""The voxels behind a text header: in the same file or in others, plain, packed or written as text."""

from __future__ import annotations

import bz2
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .deflate import EXPANSION_LIMIT, GZIP, ZLIB_OR_GZIP, Inflated, finish
from .voxels import Shape, check_memory, read_text_voxels, read_voxels

SKIP_LIMIT = 2**26  # bytes of packed data that are unpacked for nothing
Packing = Literal["raw", "gzip", "zlib", "bzip2", "text"]
Reader = Callable[[int], bytes]


@dataclass(frozen=True)
class Body:
    """Where the voxels lie: in `files`, one behind the other, each from byte `start` on, packed as `packing` says.

    `start` -1: the voxels are the last bytes of the file. `line_skip` lines are left out before unpacking, `byte_skip` bytes after it.
    """

    files: tuple[Path, ...]
    start: int
    packing: Packing
    line_skip: int = 0
    byte_skip: int = 0

    def read(self, shape_kji: Shape, stored: np.dtype) -> tuple[np.ndarray, tuple[str, ...]]:
        """(array float32 (K, J, I), notes). Raises `VolumeError`, and `ResourceError` before unpacking what does not fit in memory."""
        share = stored.itemsize * math.prod(shape_kji) // len(self.files)
        check_memory(shape_kji, stored)
        if self.packing != "text":
            self._check_size(share)
        notes: list[str] = []
        with contextlib.ExitStack() as stack:
            bodies: list[Inflated] = []

            def open_body(path: Path) -> Reader:
                file = stack.enter_context(path.open("rb"))
                return self._unpacked(file, share, bodies)

            try:
                if self.packing == "text":
                    if len(self.files) > 1:
                        raise VolumeError("its voxels are text in several data files: this is not supported")
                    return read_text_voxels(_Text(open_body(self.files[0])), shape_kji, stored.name), ()
                array = read_voxels(joined(self.files, share, open_body), shape_kji, stored)
            except (EOFError, ValueError) as error:  # of bz2
                raise VolumeError(f"truncated or damaged {self.packing} data ({error})") from None
            for body in bodies:
                notes += finish(body)
        return array, tuple(dict.fromkeys(notes))

    def _check_size(self, share: int) -> None:
        for path in self.files:
            size = path.stat().st_size - max(0, self.start)
            if self.packing in ("raw", "gzip", "zlib") and share > size * (1 if self.packing == "raw" else EXPANSION_LIMIT):
                held = f"{max(0, size)} bytes{'' if self.packing == 'raw' else ' of gzip'}"
                raise VolumeError(f"truncated: its data hold {held}, its header says {share} bytes of voxels")

    def _unpacked(self, file: BinaryIO, share: int, bodies: list[Inflated]) -> Reader:
        if self.start < 0:
            file.seek(-share, 2)
            return file.read
        file.seek(self.start)
        for _ in range(self.line_skip):
            if not file.readline(SKIP_LIMIT):
                break
        if self.packing in ("gzip", "zlib"):
            bodies.append(Inflated(file, GZIP if self.packing == "gzip" else ZLIB_OR_GZIP))
            body: Reader = bodies[-1].read
        else:
            body = bz2.BZ2File(file).read if self.packing == "bzip2" else file.read
        if self.byte_skip > SKIP_LIMIT and self.packing != "raw":
            raise VolumeError(f"its header's byte skip is {self.byte_skip}: at most {SKIP_LIMIT} is possible in packed data")
        if self.packing == "raw":
            file.seek(self.byte_skip, 1)
        else:
            body(self.byte_skip)
        return body


@dataclass(frozen=True)
class _Text:
    """A reader with the method's name."""

    body: Reader

    def read(self, count: int, /) -> bytes:
        return self.body(count)


def joined(files: Sequence[Path], share: int, open_body: Callable[[Path], Reader]) -> Reader:
    """A function that gives the next bytes of the files one behind the other, `share` bytes of each."""
    waiting: list[Path] = list(files)
    current: Reader | None = None
    left = 0

    def next_bytes(count: int) -> bytes:
        nonlocal current, left
        parts: list[bytes] = []
        while count:
            if not left:
                if not waiting:
                    break
                current, left = open_body(waiting.pop(0)), share
            assert current is not None
            data = current(min(count, left))
            if not data:
                break
            parts.append(data)
            count -= len(data)
            left -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    return next_bytes
