"""Ctrl-C and polite kills, from the first moment on: exit code 130, one line, no traceback, no half-written file.

While the program starts, nothing has been written, and libraries that load cannot be interrupted safely: the process ends at once.
While it works, a signal raises `KeyboardInterrupt` where the work is, so that temporary files go. Training is asked to stop first,
so that it can save its state; the next signal ends it like any other work. When all is done, a signal comes too late and is ignored.

Standard library only, and few of it: this file is imported before everything else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

EXIT_CODE = 130
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last is Windows' Ctrl-Break


class Interrupts:
    """What a signal does now, and whether one has come."""

    def __init__(self) -> None:
        self.phase = "starting"
        self.count = 0

    def install(self) -> None:
        """Take the signals over, except those that the parent has told us to ignore (`nohup`, a shell's background job)."""
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        sys.unraisablehook = self._unraisable

    def end(self) -> None:
        """All is done: the exit code stands."""
        self.phase = "ended"

    def work(self, asked_first: bool = False) -> None:
        """The program has started. With `asked_first` the work is asked to stop before it is interrupted."""
        self.phase = "asked first" if asked_first else "working"

    def requested(self) -> bool:
        """Whether to stop; an `IsCancelled`."""
        return self.count > 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.phase == "ended":
            return
        self.count += 1
        if self.phase == "starting" or self.count > 3:
            leave()
        if self.phase == "asked first" and self.count == 1:
            _write("srgan3d: stopping; the state is being saved (once more to stop at once)\n")
            return
        raise KeyboardInterrupt

    def _unraisable(self, event: Any) -> None:
        """An interrupt that fell into a destructor: `requested` tells of it all the same."""
        if not (self.count and event.exc_type is KeyboardInterrupt):
            sys.__unraisablehook__(event)


def leave() -> NoReturn:
    """End the process now; a file that is being written goes."""
    _write("srgan3d: cancelled\n")
    files = sys.modules.get("SRGAN3DLib.volumes.files")
    if files is not None:
        files.remove_parts()
    os._exit(EXIT_CODE)


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(2, text.encode("ascii"))
