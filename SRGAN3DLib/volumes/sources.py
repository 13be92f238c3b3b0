"""What lies at a path that is to be read: a regular file, or something else that is named and never opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from SRGAN3DLib.contract.errors import VolumeError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_LFS = b"version https://git-lfs.github.com/spec/"
_POINTER_SIZE = 4096  # bytes; a pointer to content that lies elsewhere is a short text


def check_source(path: Path) -> None:
    """Raises `VolumeError`, without the path in it, unless there is a regular file with content of its own."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise VolumeError(_absent(path)) from None
    except ValueError:
        raise VolumeError("a file name cannot hold a NUL character") from None
    if not stat.S_ISREG(mode):
        raise VolumeError(f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file")
    size = path.stat().st_size
    if size == 0:
        raise VolumeError("empty file (0 bytes)")
    if size <= _POINTER_SIZE:
        with path.open("rb") as file:
            _check_pointer(file.read(_POINTER_SIZE))


def _absent(path: Path) -> str:
    """Why nothing is there; a link may say where its content should be."""
    if not os.path.islink(path):
        return "no such file or folder"
    target = os.readlink(path)
    if "annex/objects" in target.replace("\\", "/"):
        return "a git-annex link whose content is not on this machine: run `git annex get` (or `datalad get`) on it"
    return f"a link to {target}, which does not exist"


def _check_pointer(data: bytes) -> None:
    if data.startswith(_LFS):
        raise VolumeError("a Git LFS pointer: its content is not on this machine, run `git lfs pull`")
    line = data.strip().replace(b"\\", b"/")
    if line.count(b"\n") <= 1 and (line.startswith(b"/annex/objects/") or b".git/annex/objects/" in line):
        raise VolumeError("a git-annex pointer: its content is not on this machine, run `git annex get` (or `datalad get`) on it")
