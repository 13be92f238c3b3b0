"""Writing whole files or none: a file appears under its final name only when every byte of it is on disk."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from SRGAN3DLib.contract.errors import JobError, ResourceError

_unfinished: set[Path] = set()  # temporary files of this process that have not become whole


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a hidden temporary name beside `path`; moved to `path` on success, removed on any failure. Raises `OSError`."""
    part = path.with_name(f".srgan3d-{secrets.token_hex(8)}.part")
    _unfinished.add(part)
    try:
        part.touch(exist_ok=False)
        mode = part.stat().st_mode  # the user's own; some writers leave a file for its owner alone
        yield part
        part.chmod(mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
        _unfinished.discard(part)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """`replacing`, with errors a user can read: `JobError` (folder absent or unwritable), `ResourceError` (disk full), naming `path`."""
    with write_errors_named(path), replacing(Path(path)) as part:
        yield part


def remove_parts() -> None:
    """Remove every temporary file that is still being written: for a process that is about to end without unwinding."""
    for part in list(_unfinished):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def write_errors_named(path: str | Path) -> Iterator[None]:
    """An `OSError` while `path` is written, as an error a user can read: `JobError` or, where the disk is full, `ResourceError`."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise ResourceError(f"{path}: the disk is full") from None
        raise JobError(f"{path}: cannot be written ({error.strerror or error})") from None


def make_folder(folder: str | Path) -> None:
    """The folder, with those above it, unless it is there. Raises `JobError` naming it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"{folder}: cannot be made ({error.strerror or error})") from None


def is_full(error: OSError) -> bool:
    """No room: a full disk, a quota, or a limit on the size of a file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(path: str | Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
