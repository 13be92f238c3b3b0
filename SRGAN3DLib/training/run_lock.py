"""One process at a time works in a run's folder: a lock that a dead process cannot hold.

The system itself locks the file (`fcntl` or `msvcrt`) and lets it go when its holder ends, however it ends. The file also names the
holder (process and machine), for the message and for shares that cannot lock: there a holder on this machine counts for as long as its
process lives, and one on another machine for as long as its file stands.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from SRGAN3DLib.contract.errors import JobError

NAME = "in-use.lock"
_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK}  # what the systems say of a lock that another one holds
_LOCK_AT = 2**30  # Windows keeps others from reading the bytes that are locked, so these lie behind the text


class RunLock:
    """`with RunLock(run):` holds the folder `run`, which must exist. Raises `JobError` naming who holds it."""

    def __init__(self, run: Path, name: str = NAME):
        self.run, self.path = run, run / name
        self.descriptor: int | None = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def acquire(self) -> None:
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise JobError(f"{self.path}: cannot be written ({error.strerror or error})") from None
            try:
                self._take(descriptor)
                if not _same_file(descriptor, self.path):  # its last holder took the file away in the meantime
                    os.close(descriptor)
                    continue
                os.ftruncate(descriptor, 0)
                os.write(descriptor, (json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n").encode())
            except OSError as error:
                os.close(descriptor)
                raise JobError(f"{self.path}: cannot be written ({error.strerror or error})") from None
            except JobError:
                os.close(descriptor)
                raise
            self.descriptor = descriptor
            return

    def release(self) -> None:
        if self.descriptor is None:
            return
        descriptor, self.descriptor = self.descriptor, None
        if os.name == "nt":  # an open file cannot be removed there
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self.path.unlink()
        else:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            lock_file(descriptor)
        except OSError as error:
            holder = _read(self.path)
            if error.errno in _HELD:
                raise JobError(self._refusal(holder)) from None
            if holder and not _ended(holder):  # this file system cannot lock
                raise JobError(f"{self._refusal(holder)}; delete {self.path} if that process has ended") from None

    def _refusal(self, holder: dict[str, Any]) -> str:
        who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
        return f"{self.run}: {who} is at work in this folder; wait for its end, or stop it, or choose another folder"


def check_free(run: Path, name: str = NAME) -> None:
    """Raises `JobError` where another process holds `run`; makes nothing."""
    if (run / name).exists():
        with RunLock(run, name):
            pass


def lock_file(descriptor: int) -> None:
    """The system's lock on an open file, without waiting. Raises `OSError`: of `_HELD` where another one holds it."""
    if os.name == "nt":
        import msvcrt

        os.lseek(descriptor, _LOCK_AT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """Who wrote the lock; empty where the file does not say."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {"pid": int(data["pid"]), "host": str(data["host"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}


def _ended(holder: dict[str, Any]) -> bool:
    """Whether the holder is a process of this machine that does not live any more."""
    if holder["host"] != socket.gethostname() or os.name == "nt":
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
