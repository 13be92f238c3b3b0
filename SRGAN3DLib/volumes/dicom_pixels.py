"""The voxels of DICOM frames: native ones straight from the file, one frame at a time; compressed ones from a `Decoder`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .dicom_decoder import Decoder
from .dicom_file import DEFLATED, NATIVE, open_dicom, untyped_errors_named
from .dicom_part import DicomPart, Frame


def read_frames(frames: Sequence[Frame], array: np.ndarray) -> None:
    """Fill `array` (K, J, I) with the frames' values, their scaling applied. Raises `VolumeError`, naming the file, and `OSError`."""
    targets = {id(frame): array[k] for k, frame in enumerate(frames)}
    with Decoder() as decoder:
        _read_parts(frames, targets, decoder)


def _read_parts(frames: Sequence[Frame], targets: dict[int, np.ndarray], decoder: Decoder) -> None:
    by_part = sorted(frames, key=lambda frame: (str(frame.part.path), frame.number))
    for _, group in groupby(by_part, key=lambda frame: id(frame.part)):
        of_part = list(group)
        part = of_part[0].part
        try:
            with untyped_errors_named("its pixels cannot be read"):
                for frame, stored in zip(of_part, _stored(part, [frame.number for frame in of_part], decoder), strict=True):
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


def _stored(part: DicomPart, numbers: Sequence[int], decoder: Decoder) -> Iterator[np.ndarray]:
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
        yield from decoder.frames(part.path, part.syntax, part.size_ij, part.frame_count, numbers)


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
