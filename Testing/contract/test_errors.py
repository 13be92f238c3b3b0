"""Whatever the surroundings do to a job is an error of ours, with its exit code and, where the system tells, the file's name."""

from __future__ import annotations

import errno
import os

import pytest

from SRGAN3DLib.contract.errors import Cancelled, CheckpointError, JobError, ResourceError, VolumeError, typed_error
from SRGAN3DLib.contract.events import LONGEST_MESSAGE, Failed

OUT_OF_MEMORY = type("OutOfMemoryError", (RuntimeError,), {})


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "scan.nii")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (VolumeError("a"), VolumeError, "a"),
        (KeyboardInterrupt(), Cancelled, "cancelled"),
        (MemoryError(), ResourceError, "memory ran out"),
        (OUT_OF_MEMORY("CUDA out of memory. Tried to allocate 2 GiB"), ResourceError, "2 GiB"),
        (RuntimeError("could not create a primitive"), ResourceError, "primitive"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), ResourceError, "memory"),
        (RuntimeError("std::bad_alloc"), ResourceError, "bad_alloc"),
        (RuntimeError("can't start new thread"), ResourceError, "thread"),
        (SystemError("error return without exception set"), ResourceError, "memory ran out"),
        (SystemError("<built-in function x> returned NULL without setting an exception"), ResourceError, "memory ran out"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), ResourceError, "memory ran out"),
        (ModuleNotFoundError("No module named 'pydicom'", name="pydicom"), ResourceError, "pydicom: cannot be loaded"),
        (os_error(errno.EACCES), VolumeError, "scan.nii: cannot be read or written"),
        (os_error(errno.EIO), VolumeError, "scan.nii"),
        (os_error(errno.ENOSPC), ResourceError, "scan.nii: the disk is full"),
        (os_error(errno.EMFILE), ResourceError, "scan.nii"),
        (os_error(errno.ENAMETOOLONG), JobError, "scan.nii: cannot be the name"),
        (ValueError("embedded null byte"), JobError, "characters"),
        (RecursionError("maximum recursion depth exceeded"), JobError, "nested too deeply"),
    ],
)
def test_surroundings_are_no_fault_of_the_program(error: BaseException, kind: type, words: str) -> None:
    found = typed_error(error)
    assert type(found) is kind and words in str(found)
    assert Failed.of(error).exit_code == kind.exit_code != 1


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), RuntimeError("shapes differ"), ValueError("x"), KeyError("k")])
def test_a_fault_of_the_program_stays_one(error: Exception) -> None:
    assert typed_error(error) is error and Failed.of(error).exit_code == 1 and type(error).__name__ in Failed.of(error).message


def test_a_message_quotes_no_megabyte() -> None:
    message = Failed.of(CheckpointError("start " + "x" * 10**6 + " end")).message
    assert len(message) < LONGEST_MESSAGE + 10 and message.startswith("start") and message.endswith("end")
