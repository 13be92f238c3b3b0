"""The worker as a process: started without a window, read and written by lines, and ended with everything it started.

PythonSlicer is a launcher: killing it leaves Python itself running. Hence a group of its own, which is killed whole.
No Qt here: a thread puts lines into a queue, and the owner of the main thread empties it.
"""

import collections
import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Protocol

from SRGAN3DLib.contract.errors import ResourceError
from SRGAN3DLib.contract.protocol import WORKER_PROTOCOL


class Process(Protocol):
    """What `WorkerClient` needs of a process. Tests give it a made-up one."""

    def start(self) -> None: ...
    def write(self, line: str) -> None: ...
    def lines(self) -> list[str]: ...
    def exit_code(self) -> int | None: ...
    def error_text(self) -> str: ...
    def stop(self, patience_s: float) -> None: ...
    def kill(self) -> None: ...


class WorkerProcess:
    """`python -m SRGAN3DLib worker`; `python` is an interpreter that has torch, `library_folder` the one that holds SRGAN3DLib."""

    def __init__(self, python: str, library_folder: Path, environment: dict[str, str]):
        self.python, self.folder, self.environment = python, Path(library_folder), environment
        self.child: subprocess.Popen | None = None
        self.received: queue.SimpleQueue = queue.SimpleQueue()
        self.errors: collections.deque = collections.deque(maxlen=200)

    def start(self) -> None:
        """Raises `ResourceError` naming the interpreter."""
        try:
            self.child = subprocess.Popen(
                [self.python, "-m", "SRGAN3DLib", "worker", "--protocol", str(WORKER_PROTOCOL)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env=worker_environment(self.environment, self.folder),
                **_own_group(),
            )
        except OSError as error:
            raise ResourceError(f"{self.python}: cannot be started ({error.strerror or error})") from None
        threading.Thread(target=self._read, args=(self.child.stdout, self.received.put), daemon=True).start()
        threading.Thread(target=self._read, args=(self.child.stderr, self.errors.append), daemon=True).start()

    @staticmethod
    def _read(stream, put) -> None:
        for raw in stream:
            put(raw.decode("utf-8", "replace").rstrip("\r\n"))

    def write(self, line: str) -> None:
        """A broken pipe is ignored here: `exit_code` shows that the process has ended."""
        try:
            self.child.stdin.write((line + "\n").encode("utf-8"))
            self.child.stdin.flush()
        except (OSError, ValueError):
            pass

    def lines(self) -> list[str]:
        time.sleep(0.001)  # Slicer's event loop holds the interpreter lock: this lets the reading threads run
        found = []
        while not self.received.empty():
            found.append(self.received.get())
        return found

    def exit_code(self) -> int | None:
        return None if self.child is None else self.child.poll()

    def error_text(self) -> str:
        return "\n".join(self.errors)

    def stop(self, patience_s: float) -> None:
        """Close its stdin, give it a moment to leave, then `kill`."""
        if self.child is None:
            return
        with contextlib.suppress(OSError):
            self.child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(patience_s)
        self.kill()

    def kill(self) -> None:
        """The whole tree, now."""
        if self.child is None:
            return
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
        elif self.child.poll() is None:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self.child.pid)], capture_output=True, **_own_group())
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(5)


def find_python(setting: str = "") -> str:
    """`setting`, else SRGAN3D_PYTHON, else PythonSlicer, else this Python. Raises `ResourceError` for one that is not there."""
    for source, value in (("setting SRGAN3D/python", setting), ("SRGAN3D_PYTHON", os.environ.get("SRGAN3D_PYTHON", ""))):
        if value:
            found = shutil.which(value)
            if found is None:
                raise ResourceError(f"{source} names {value}: no such program")
            return found
    if found := shutil.which("PythonSlicer"):
        return found
    if "python" in Path(sys.executable or "").name.lower():  # within Slicer it is empty, or Slicer itself
        return sys.executable
    raise ResourceError("PythonSlicer: no such program on the PATH; let SRGAN3D_PYTHON name a Python that has torch")


def is_foreign(python: str) -> bool:
    """Whether it is another Python than Slicer's own: Slicer's environment must not reach it."""
    return "PythonSlicer" not in Path(python).name and python != sys.executable


def worker_environment(base: dict[str, str], folder: Path) -> dict[str, str]:
    path = os.pathsep.join(one for one in (str(folder), base.get("PYTHONPATH", "")) if one)
    return {**base, "PYTHONPATH": path, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1"}


def _own_group() -> dict:
    if os.name == "posix":
        return {"start_new_session": True}
    window = subprocess.STARTUPINFO()
    window.dwFlags, window.wShowWindow = subprocess.STARTF_USESHOWWINDOW, 0
    return {"startupinfo": window, "creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
