"""The errors that a user can meet. Each class has the exit code with which the command line ends.

Every message is one line. It names the file or the option, the value that was wrong, and what would be right.
"""

from __future__ import annotations

import errno
import re

CANCELLED = 130  # the exit code after Ctrl-C or a polite kill, as shells use it


class SRGAN3DError(Exception):
    """Parent of all errors that this library raises on purpose."""

    exit_code = 1


class JobError(SRGAN3DError):
    """A job, an option or a configuration that does not make sense (exit code 2)."""

    exit_code = 2


class VolumeError(SRGAN3DError):
    """A volume that cannot be read, does not suit the model, or cannot be written (exit code 3)."""

    exit_code = 3


class CheckpointError(SRGAN3DError):
    """A checkpoint that is absent, damaged, of another version or not one of ours (exit code 4)."""

    exit_code = 4


class ResourceError(SRGAN3DError):
    """Not enough memory, disk or time. The message says the least that would be enough, where that is known (exit code 5)."""

    exit_code = 5


class DeviceError(ResourceError):
    """A device that is absent or computes wrong numbers (exit code 5)."""


class Cancelled(SRGAN3DError):
    """The user asked to stop. No file was left behind (exit code 130)."""

    exit_code = CANCELLED


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RESOURCE = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
_BAD_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.ELOOP}
_MEMORY_CLASSES = {"MemoryError", "OutOfMemoryError", "_ArrayMemoryError", "BrokenProcessPool"}
# What the libraries below say, in errors of general classes, when the system refuses memory or threads.
_MEMORY_WORDS = re.compile(
    r"out of memory|not enough memory|cannot allocate|can't allocate|could not create a (primitive|memory)|bad_alloc|bad allocation"
    r"|failed to map segment|failed to allocate|memory allocation|can't start new thread|without (setting an exception|exception set)"
    r"|allocation (fail|of)|unable to allocate",
    re.IGNORECASE,
)
_BAD_TEXT = re.compile(r"embedded null|surrogates not allowed", re.IGNORECASE)


def typed_error(error: BaseException) -> BaseException:
    """The error of ours that says the same as `error`; `error` itself where it is ours, or where it is a fault of the program.

    The last line of defence of the command line, of a batch and of the worker: memory that ran out, a file system that refuses,
    a library that cannot be loaded and a name that no file can have are faults of the surroundings, wherever they show.
    """
    if isinstance(error, SRGAN3DError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return Cancelled("cancelled")
    if type(error).__name__ in _MEMORY_CLASSES or (
        isinstance(error, RuntimeError | SystemError | ImportError) and _MEMORY_WORDS.search(text)
    ):
        return ResourceError(f"memory ran out ({text or 'the system gave no more'}); free some, or choose a smaller volume or memory limit")
    if isinstance(error, OSError):
        return _typed_os_error(error)
    if isinstance(error, ImportError):
        return ResourceError(f"{error.name or 'a library'}: cannot be loaded ({text}); install it again")
    if isinstance(error, RecursionError):
        return JobError("the input is nested too deeply")
    if isinstance(error, ValueError) and _BAD_TEXT.search(text):
        return JobError(f"a file name or text holds characters that it must not hold ({text})")
    return error


def _typed_os_error(error: OSError) -> SRGAN3DError:
    """The name comes first, where the system tells it."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where, reason = " -> ".join(names) or "a file or pipe", error.strerror or " ".join(str(error).split()) or type(error).__name__
    if error.errno in _NO_ROOM:
        return ResourceError(f"{where}: the disk is full ({reason})")
    if error.errno in _NO_RESOURCE:
        return ResourceError(f"{where}: the system gives no more memory, files or processes ({reason})")
    if error.errno in _BAD_NAME:
        return JobError(f"{where}: cannot be the name of a file ({reason})")
    return VolumeError(f"{where}: cannot be read or written ({reason})")
