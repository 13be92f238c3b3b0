"""gzip and zlib data, streamed: packed by the fastest library at hand, unpacked no further than is asked for.

`isal` packs about five times as fast as zlib at the same size, int16 voxels of a head; see docs/coordinates.md. It comes with
the package; where it is absent (in Slicer's Python, say), `zlib-ng` or Python's own zlib does the work, and `engine_name` says which.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any, BinaryIO, Protocol

from SRGAN3DLib.contract.errors import VolumeError

GZIP, ZLIB_OR_GZIP = 31, 47  # zlib's codes ("wbits") for the frame around the data
EXPANSION_LIMIT = 1100  # no deflate stream expands by more than 1032
_CHUNK = 2**18


class Source(Protocol):
    """Anything that gives the next bytes: fewer than asked for only at the end."""

    def read(self, count: int, /) -> bytes: ...


@functools.cache
def _engine() -> tuple[str, Any, int]:
    """(name, module with zlib's functions, level). The levels were chosen by time against size on the voxels of heads."""
    try:
        from isal import isal_zlib

        return "isal", isal_zlib, 2
    except ImportError:
        pass
    try:
        from zlib_ng import zlib_ng

        return "zlib-ng", zlib_ng, 2
    except ImportError:
        return "zlib", zlib, 1


def engine_name() -> str:
    """What packs and at which level, as in `isal level 2`."""
    name, _, level = _engine()
    return f"{name} level {level}"


class Deflated:
    """A file to write to, packed with gzip. No name and no time go in: the same bytes give the same file."""

    def __init__(self, file: BinaryIO):
        _, library, level = _engine()
        self._file, self._packer = file, library.compressobj(level, library.DEFLATED, GZIP)

    def write(self, data: Any) -> None:
        self._file.write(self._packer.compress(data))

    def close(self) -> None:
        """Write the rest and the checksum; the file below stays open."""
        self._file.write(self._packer.flush())


class Inflated:
    """The unpacked bytes of `file`, from where it stands. Several gzip members in a row are read as one.

    Zeros behind the data are padding. Whatever else lies there is not read: `extra` is then True. Raises `VolumeError` for data
    that are truncated or damaged.
    """

    def __init__(self, file: Source, frame: int = GZIP):
        self.extra = False
        self._file, self._frame, self._pending, self._ended = file, frame, b"", False
        self._start()

    def _start(self) -> None:
        self._member = _engine()[1].decompressobj(self._frame)

    def read(self, count: int, /) -> bytes:
        parts, left = [], count
        while left and not self._ended:
            if self._member.eof and not self._next_member():
                break
            chunk = self._pending or self._file.read(_CHUNK)
            try:
                part = self._member.decompress(chunk, left)
            except _errors() as error:
                raise VolumeError(f"truncated or damaged gzip data ({error})") from None
            if not chunk and not part and not self._member.eof:
                raise VolumeError("truncated or damaged gzip data (it ends too early)")
            self._pending = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next_member(self) -> bool:
        rest = self._pending.lstrip(b"\0")
        while len(rest) < 3 and (more := self._file.read(_CHUNK)):
            rest = (rest + more).lstrip(b"\0")
        if rest[:3] == b"\x1f\x8b\x08":
            self._pending = rest
            self._start()
            return True
        self._ended, self.extra = True, bool(rest)
        return False


def finish(body: Inflated, limit: int = 2**26) -> tuple[str, ...]:
    """Read on to the end, where gzip keeps its checksum; at most `limit` bytes. Returns notes on what lies there."""
    left = limit
    while left and (data := body.read(min(left, 2**20))):
        left -= len(data)
    if not left:
        return (f"more than {limit >> 20} MiB lie behind its voxels: they were not read, and the checksum was not compared",)
    return ("bytes that are no gzip data lie behind its gzip data: they were not read",) if body.extra else ()


def _errors() -> tuple[type[Exception], ...]:
    return (zlib.error, _engine()[1].error)
