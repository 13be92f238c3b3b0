"""The standard streams: any text reaches any terminal, and a stream that is closed, full or not Unicode ends in no traceback."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import IO

from SRGAN3DLib.contract.errors import ResourceError

_HARMFUL = {0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C, 0xFEFF}  # lines, directions


def prepare() -> None:
    """Call it first. Every standard stream exists afterwards, and writes what it cannot say as an escape such as `\\u8133`.

    A file that the program opens must not get the number of a closed stream: what a library prints would land in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest free number: this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "wb", closefd=False), "utf-8", "backslashreplace", write_through=True))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def printable(text: object) -> str:
    """One line in which every control character, line end, half character and change of direction is an escape such as `\\x1b`.

    File names, model cards and the messages of other libraries may hold such characters, and a terminal would obey them.
    """
    return "".join(_escape(c) if _is_harmful(ord(c)) else c for c in str(text))


def _is_harmful(code: int) -> bool:
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code in _HARMFUL


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def say(text: str) -> None:
    """One line on stderr, for a person. A stderr that cannot be written to is no reason to stop the work."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """One line of the result on stdout."""
    print(printable(text))


def write(text: str, stream: IO[str]) -> None:
    """Several lines as they are. Raises `ResourceError` where stdout is full or broken; a broken stderr raises nothing."""
    try:
        stream.write(text)
    except (OSError, ValueError) as error:
        if stream is sys.stdout:
            drop_output(error)


def finish_output() -> None:
    """Send what stdout still holds. A reader that has left (`srgan3d models | head`) has what it wanted; nothing is raised.

    Raises `ResourceError` where the stream is full or broken, so that the result is lost.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        drop_output(error)


def drop_output(error: OSError | ValueError) -> None:
    """After stdout has failed with `error`: nothing more is written to it, also not by Python at its end. Raises as `finish_output`."""
    _discard(sys.stdout)
    if isinstance(error, OSError) and error.errno not in (errno.EPIPE, errno.EINVAL, errno.ESHUTDOWN):  # EINVAL is Windows' EPIPE
        raise ResourceError(f"standard output: cannot be written ({error.strerror or error})") from None


def finish_errors() -> None:
    """Send what stderr still holds; a stream that refuses it is dropped."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr)


def _discard(stream: IO[str]) -> None:
    """Let a broken stream lead nowhere, so that Python's own flush at the end succeeds."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
