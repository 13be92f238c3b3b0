"""The voxels of DICOM frames: native ones straight from the file, one frame at a time; compressed ones by pydicom's decoders."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .dicom_file import DEFLATED, NATIVE, load_pydicom, one_line, open_dicom, uid_name, untyped_errors_named
from .dicom_part import DicomPart, Frame

_DECODERS = "pip install pylibjpeg pylibjpeg-openjpeg python-gdcm"
_stderr_lock = threading.Lock()
_LARGEST_COMPRESSION = 2000  # of noise-free lossless pictures; beyond it a header claims more than its data can hold


def read_frames(frames: Sequence[Frame], array: np.ndarray) -> None:
    """Fill `array` (K, J, I) with the frames' values, their scaling applied. Raises `VolumeError`, naming the file, and `OSError`."""
    targets = {id(frame): array[k] for k, frame in enumerate(frames)}
    by_part = sorted(frames, key=lambda frame: (str(frame.part.path), frame.number))
    for _, group in groupby(by_part, key=lambda frame: id(frame.part)):
        of_part = list(group)
        part = of_part[0].part
        try:
            with untyped_errors_named("its pixels cannot be read"):
                for frame, stored in zip(of_part, _stored(part, [frame.number for frame in of_part]), strict=True):
                    _scale(_plain_numbers(stored, part), frame.scaling, targets[id(frame)])
        except VolumeError as error:
            raise VolumeError(f"{part.path.name}: {error}") from None


def _scale(stored: np.ndarray, scaling: tuple[float, float], target: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become infinite, which is refused with their count
        target[...] = stored if scaling == (1.0, 0.0) else stored * np.float64(scaling[0]) + scaling[1]


def _plain_numbers(stored: np.ndarray, part: DicomPart) -> np.ndarray:
    """Without overlays in the free bits; the sign is that of the highest stored bit."""
    pixels = part.format
    assert pixels is not None
    free = pixels.allocated - pixels.stored
    if pixels.kind == "f" or free == 0:
        return stored
    if pixels.kind == "i":
        return (stored << free) >> free
    return stored & ((1 << pixels.stored) - 1) if pixels.overlays else stored


def _stored(part: DicomPart, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    """The stored numbers (J, I) of the frames asked for, which ascend."""
    assert part.format is not None
    columns, rows = part.size_ij
    if part.syntax == DEFLATED:
        yield from _of_bytes(part, _inflated_pixels(part), numbers)
    elif part.syntax in NATIVE:
        assert part.pixels is not None
        size = rows * columns * (part.format.allocated // 8)
        with part.path.open("rb") as file:
            for n in numbers:
                file.seek(part.pixels.offset + n * size)
                data = file.read(size)
                if len(data) != size:
                    raise VolumeError("truncated: the file has become shorter")
                yield np.frombuffer(data, part.format.dtype).reshape(rows, columns)
    else:
        yield from _decoded(part, numbers)


def _of_bytes(part: DicomPart, data: bytes, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    assert part.format is not None
    columns, rows = part.size_ij
    need = rows * columns * part.frame_count * (part.format.allocated // 8)
    if len(data) not in (need, need + need % 2):
        raise VolumeError(f"its pixels take {len(data)} bytes, but {part.frame_count} x {rows} rows x {columns} columns take {need}")
    whole = np.frombuffer(data[:need], part.format.dtype).reshape(part.frame_count, rows, columns)
    for n in numbers:
        yield whole[n]


def _inflated_pixels(part: DicomPart) -> bytes:
    dataset = open_dicom(part.path).dataset
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in dataset:
            return bytes(dataset.get_item(keyword).value)
    raise VolumeError("truncated or damaged: it has no pixels")


# ---------------------------------------------------------------- compressed
def _decoded(part: DicomPart, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames of a compressed syntax: as many as the installed decoders of pydicom can read."""
    columns, rows = part.size_ij
    claimed, held = rows * columns * part.frame_count, part.path.stat().st_size
    if claimed > held * _LARGEST_COMPRESSION:
        raise VolumeError(f"its header tells of {claimed} voxels, which {held} bytes of compressed data cannot hold")
    pydicom = load_pydicom()
    name = uid_name(part.syntax)
    dataset = pydicom.dcmread(part.path)
    if "PixelData" not in dataset:
        raise VolumeError(f"truncated: its compressed pixels ({name}) do not end")
    _check_codestream(dataset, part)
    if not _can_decode(pydicom, part.syntax):
        raise VolumeError(f"its pixels are compressed ({name}), and no decoder for that is installed: {_DECODERS}")
    each = numbers if hasattr(pydicom, "pixels") else [None]  # pydicom 3 decodes one frame at a time, version 2 all of them
    for n in each:
        try:
            with _complaints() as complaints:
                decoded = dataset.pixel_array if n is None else _one_frame(pydicom, dataset, n, part)
        except Exception as error:  # each decoder has its own classes
            raise VolumeError(f"its compressed pixels ({name}) are damaged or cannot be decoded ({one_line(error)})") from None
        if any("corrupt" in line.lower() for line in complaints):  # a decoder that goes on with made-up values
            raise VolumeError(f"its compressed pixels ({name}) are damaged ({one_line(complaints[0])})")
        if n is not None:
            yield _as_stored(decoded, part)
        else:
            whole = np.asarray(decoded).reshape(part.frame_count, rows, columns)
            yield from (_as_stored(whole[number], part) for number in numbers)


def _one_frame(pydicom: Any, dataset: Any, n: int, part: DicomPart) -> Any:
    return pydicom.pixels.pixel_array(dataset, raw=True, **({"index": n} if part.frame_count > 1 else {}))


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What decoders in C print on stderr goes into the list, instead of the terminal; where there is no stderr, nowhere."""
    lines: list[str] = []
    with _stderr_lock, tempfile.TemporaryFile() as printed:
        try:
            kept = os.dup(2)
        except OSError:  # a process without a stderr
            yield lines
            return
        os.dup2(printed.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            printed.seek(0)
            lines += printed.read(100_000).decode("utf-8", "replace").splitlines()


def _can_decode(pydicom: Any, syntax: str) -> bool:
    if hasattr(pydicom, "pixels"):
        try:
            return bool(pydicom.pixels.get_decoder(pydicom.uid.UID(syntax)).is_available)
        except NotImplementedError:
            return False
    handlers = pydicom.config.pixel_data_handlers
    return any(handler.is_available() and handler.supports_transfer_syntax(pydicom.uid.UID(syntax)) for handler in handlers)


def _as_stored(decoded: Any, part: DicomPart) -> np.ndarray:
    array = np.asarray(decoded)
    columns, rows = part.size_ij
    if array.shape != (rows, columns):
        raise VolumeError(f"its compressed pixels have the shape {array.shape}, its header says {(rows, columns)} (J, I)")
    return array


def _check_codestream(dataset: Any, part: DicomPart) -> None:
    """Refuse a JPEG or JPEG 2000 picture that is larger than its header says, before a decoder makes room for it."""
    encapsulated = load_pydicom().encaps
    frames = getattr(encapsulated, "generate_fragments", None) or encapsulated.generate_pixel_data_fragment
    data = dataset.PixelData
    source: Any = data if hasattr(encapsulated, "generate_fragments") else load_pydicom().filebase.DicomBytesIO(data)
    for fragment in frames(source):
        size = _picture_size(fragment)
        if size is not None and size != part.size_ij:
            raise VolumeError(f"its compressed picture is {size[0]} x {size[1]}, its header says {part.size_ij[0]} x {part.size_ij[1]}")


def _picture_size(data: bytes) -> tuple[int, int] | None:
    """(columns, rows) of a picture by its markers; None where the data do not begin a picture. Source: ITU-T T.81 B.2.2, T.800 A.5.1."""
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
