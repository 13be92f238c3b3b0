"""Writing whole files or none: a file appears under its final name only when every byte of it is on disk."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from SRGAN3DLib.contract.errors import JobError, ResourceError

_unfinished: set[Path] = set()  # temporary files of this process that have not become whole
# What a share or a FUSE mount answers where it knows no fsync; a full disk or a fault of the disk is not among these.
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.ENOSYS), errno.EPERM, errno.EACCES}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a hidden temporary name beside `path`; moved to `path` on success, removed on any failure. Raises `OSError`.

    A symbolic link is written through: the file that it leads to is replaced. A file system that refuses to set the mode or to
    flush does not cost the file. One that refuses the move gets a copy; if that fails too, the whole file is kept under the
    temporary name, and the error names it.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "a file name cannot hold a NUL character")
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    part = target.with_name(f".srgan3d-{secrets.token_hex(8)}.part")
    keep = False
    _unfinished.add(part)
    try:
        part.touch(exist_ok=False)
        mode = part.stat().st_mode  # the user's own; some writers leave a file for its owner alone
        yield part
        with contextlib.suppress(OSError):
            part.chmod(mode)
        _flush(part)
        try:
            _move(part, target)
        except OSError as error:
            keep = not target.is_dir()
            raise OSError(error.errno, f"{error.strerror or error}" + (f"; the whole file is kept as {part}" if keep else "")) from None
    finally:
        if not keep:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        _unfinished.discard(part)


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yields a hidden temporary folder beside `folder`; moved to `folder`, which is empty or not there, on success. Raises `OSError`."""
    part = folder.with_name(f".srgan3d-{secrets.token_hex(8)}.part")
    _unfinished.add(part)
    try:
        part.mkdir()
        yield part
        if folder.is_dir():
            folder.rmdir()
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        _unfinished.discard(part)


def remove_parts() -> None:
    """Remove every temporary file that is still being written: for a process that is about to end without unwinding."""
    for part in list(_unfinished):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
            continue
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """`replacing`, with errors a user can read: `JobError` (folder absent or unwritable), `ResourceError` (disk full), naming `path`."""
    with write_errors_named(path), replacing(Path(path)) as part:
        yield part


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
    """Make the folder and those above it, unless it is there. Raises `JobError` that names it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise JobError(f"{folder}: cannot be made ({getattr(error, 'strerror', None) or error})") from None


def is_full(error: OSError) -> bool:
    """True for a full disk, a quota that is used up, or a limit on the size of a file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all. Raises `JobError`, `ResourceError`."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _flush(part: Path) -> None:
    """Bring the bytes to the disk, where the file system can say so."""
    try:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def _move(part: Path, target: Path) -> None:
    """Rename; where that is refused, make room and rename, then copy. Raises the `OSError` of the first refusal."""
    try:
        os.replace(part, target)
    except OSError as refused:
        if target.is_dir() or is_full(refused):
            raise
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)  # some shares do not rename onto a file that exists
            os.rename(part, target)
            return
        try:
            _copy(part, target)
        except OSError:
            raise refused from None


def _copy(part: Path, target: Path) -> None:
    with part.open("rb") as source, target.open("xb") as copy:
        try:
            shutil.copyfileobj(source, copy, 2**20)
        except BaseException:
            copy.close()
            target.unlink(missing_ok=True)
            raise
