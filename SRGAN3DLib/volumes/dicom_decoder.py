"""Decoder: compressed DICOM pixels, unpacked by pydicom's plugins in a process of its own.

The plugins are libraries in C++. On damaged data some end the whole process (GDCM does), some go on with made-up values and say so on
stderr only. A child process takes the first, and its stderr is read for the second. One child serves all files of a series.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .dicom_file import load_pydicom, one_line, uid_name

_DECODERS = "pip install 'SRGAN3D[dicom]'"
_LARGEST_COMPRESSION = 2000  # of noise-free pictures; beyond it a header claims more than its data can hold
_PATIENCE_SECONDS = 120  # for one file
_ROOT = str(Path(__file__).resolve().parents[2])
# The first entry of sys.path is the current folder, whose files must not be run.
_CHILD = f"import sys; sys.path[0] = {_ROOT!r}; from SRGAN3DLib.volumes.dicom_decoder import serve; serve()"


class Decoder:
    """Used in a `with` block; its child process starts with the first compressed file and ends with the block."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._printed: Any = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._printed.close()

    def frames(self, path: Path, syntax: str, size_ij: tuple[int, int], frame_count: int, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The stored numbers (J, I) of the frames asked for. Raises `VolumeError`."""
        columns, rows = size_ij
        claimed, held = rows * columns * frame_count, path.stat().st_size
        if claimed > held * _LARGEST_COMPRESSION:
            raise VolumeError(f"its header tells of {claimed} voxels, which {held} bytes of compressed data cannot hold")
        request = {"path": str(path), "syntax": syntax, "size_ij": size_ij, "frame_count": frame_count, "numbers": list(numbers)}
        child = self._started()
        assert child.stdin is not None and child.stdout is not None
        watch = threading.Timer(_PATIENCE_SECONDS, child.kill)
        watch.start()
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            for _ in numbers:
                yield self._frame(child.stdout, rows, columns, uid_name(syntax))
        except BrokenPipeError:
            raise VolumeError(f"its compressed pixels ({uid_name(syntax)}) are damaged: the decoder crashed") from None
        finally:
            watch.cancel()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            if not sys.executable:
                raise VolumeError("its pixels are compressed, and there is no Python to decode them with in a process of its own")
            self.__exit__()
            self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._printed}
            self._child = subprocess.Popen([sys.executable, "-c", _CHILD], **pipes)  # type: ignore[call-overload]
        assert self._child is not None
        return self._child

    def _frame(self, answers: IO[bytes], rows: int, columns: int, name: str) -> np.ndarray:
        line = answers.readline(10_000)
        answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"crash": True}
        data = answers.read(answer["bytes"]) if "bytes" in answer else b""
        if "crash" in answer or len(data) != answer.get("bytes", 0):
            raise VolumeError(f"its compressed pixels ({name}) are damaged: the decoder crashed or took over {_PATIENCE_SECONDS} s")
        if "error" in answer:
            raise VolumeError(answer["error"])
        self._printed.seek(0)
        complaint = next((line for line in self._printed.read(100_000).splitlines() if b"corrupt" in line.lower()), None)
        if complaint is not None:
            raise VolumeError(f"its compressed pixels ({name}) are damaged ({one_line(complaint.decode('utf-8', 'replace'))})")
        return np.frombuffer(data, answer["dtype"]).reshape(rows, columns)


# ---------------------------------------------------------------- in the child
def serve() -> None:
    """Requests as JSON lines on stdin; for each frame a JSON line and the bytes of its numbers on stdout. Ends with stdin."""
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        try:
            for frame in _decoded(**json.loads(line)):
                packed = np.ascontiguousarray(frame)
                out.write(json.dumps({"bytes": packed.nbytes, "dtype": packed.dtype.str}).encode() + b"\n" + packed.tobytes())
                out.flush()
        except VolumeError as error:
            out.write(json.dumps({"error": str(error)}).encode() + b"\n")
            out.flush()


def _decoded(path: str, syntax: str, size_ij: Sequence[int], frame_count: int, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    columns, rows = size_ij
    name = uid_name(syntax)
    pydicom = load_pydicom()
    try:
        dataset = pydicom.dcmread(path)
        if "PixelData" not in dataset:
            raise VolumeError(f"truncated: its compressed pixels ({name}) do not end")
        _check_pictures(pydicom, dataset, (columns, rows))
        if not _can_decode(pydicom, syntax):
            raise VolumeError(f"its pixels are compressed ({name}), and no decoder for that is installed: {_DECODERS}")
        frames = None if hasattr(pydicom, "pixels") else np.asarray(dataset.pixel_array).reshape(frame_count, rows, columns)
        for n in numbers:  # pydicom 3 decodes one frame at a time, version 2 all of them
            options = {"index": n} if frame_count > 1 else {}
            frame = np.asarray(frames[n] if frames is not None else pydicom.pixels.pixel_array(dataset, raw=True, **options))
            if frame.shape != (rows, columns):
                raise VolumeError(f"its compressed pixels have the shape {frame.shape}, its header says {(rows, columns)} (J, I)")
            yield frame
    except VolumeError:
        raise
    except Exception as error:  # pydicom and each decoder have their own classes
        raise VolumeError(f"its compressed pixels ({name}) are damaged or cannot be decoded ({one_line(error)})") from None


def _can_decode(pydicom: Any, syntax: str) -> bool:
    if hasattr(pydicom, "pixels"):
        try:
            return bool(pydicom.pixels.get_decoder(pydicom.uid.UID(syntax)).is_available)
        except NotImplementedError:
            return False
    handlers = pydicom.config.pixel_data_handlers
    return any(handler.is_available() and handler.supports_transfer_syntax(pydicom.uid.UID(syntax)) for handler in handlers)


def _check_pictures(pydicom: Any, dataset: Any, size_ij: tuple[int, int]) -> None:
    """Refuse a JPEG or JPEG 2000 picture that is larger than its header says, before a decoder makes room for it."""
    new = hasattr(pydicom.encaps, "generate_fragments")
    data = dataset.PixelData
    fragments = pydicom.encaps.generate_fragments(data) if new else pydicom.encaps.decode_data_sequence(data)
    for fragment in fragments:
        size = picture_size(fragment)
        if size is not None and size != size_ij:
            raise VolumeError(f"its compressed picture is {size[0]} x {size[1]}, its header says {size_ij[0]} x {size_ij[1]}")


def picture_size(data: bytes) -> tuple[int, int] | None:
    """(columns, rows) of a picture by its markers; None where the data do not begin one. Source: ITU-T T.81 B.2.2, T.800 A.5.1."""
    if data[:4] == b"\xff\x4f\xff\x51" and len(data) >= 24:
        x, y, x0, y0 = (int.from_bytes(data[at : at + 4], "big") for at in (8, 12, 16, 20))
        return (x - x0, y - y0)
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return (int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big"))
        at += 2 + max(length, 2)
    return None
