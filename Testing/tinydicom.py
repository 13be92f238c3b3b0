"""A DICOM writer of a few lines, so that a test can say exactly what stands in a file: classic series and enhanced (multi-frame) files.

Explicit VR, little or big endian; or implicit VR little endian. Nothing is checked: broken files are what some tests need.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

STORAGE = "1.2.840.10008.5.1.4.1.1."
MR, ENHANCED_MR, RTSTRUCT, CT, PET = (STORAGE + end for end in ("4", "4.1", "481.3", "2", "128"))
SECONDARY_CAPTURE, SEGMENTATION, PRESENTATION, REPORT = (STORAGE + end for end in ("7", "66.4", "11.1", "88.22"))
DIRECTORY = "1.2.840.10008.1.3.10"
IMPLICIT, LITTLE, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_LONG = {"OB", "OW", "OF", "OD", "SQ", "UN", "UT"}
Items = dict[int, tuple[str, Any]]


def element(tag: int, vr: str, value: Any, order: str = "<", implicit: bool = False) -> bytes:
    """One element. A sequence is a list of items, each a dict of tag -> (VR, value)."""
    if vr == "SQ":
        bodies = [dataset(item, order, implicit) for item in value]
        data = b"".join(struct.pack(order + "HHI", 0xFFFE, 0xE000, len(body)) + body for body in bodies)
    elif vr in ("US", "UL"):
        values = value if isinstance(value, tuple) else (value,)
        data = struct.pack(f"{order}{len(values)}{'H' if vr == 'US' else 'I'}", *values)
    else:
        data = value if isinstance(value, bytes) else str(value).encode()
    if len(data) % 2:
        data += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack(order + "I", len(data)) + data
    return head + vr.encode() + (struct.pack(order + "HI", 0, len(data)) if vr in _LONG else struct.pack(order + "H", len(data))) + data


def dataset(items: Items, order: str = "<", implicit: bool = False) -> bytes:
    return b"".join(element(tag, vr, value, order, implicit) for tag, (vr, value) in sorted(items.items()))


def file_bytes(items: Items, syntax: str = LITTLE, preamble: bool = True) -> bytes:
    meta: Items = {0x00020001: ("OB", b"\0\1"), 0x00020002: ("UI", items[0x00080016][1]), 0x00020003: ("UI", items[0x00080018][1])}
    meta |= {0x00020010: ("UI", syntax), 0x00020012: ("UI", "1.2.3.4")}
    body = dataset(meta)
    start = bytes(128) + b"DICM" + element(0x00020000, "UL", len(body)) + body if preamble else b""
    return start + dataset(items, ">" if syntax == BIG else "<", syntax == IMPLICIT)


def save(path: Path, items: Items, syntax: str = LITTLE, preamble: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_bytes(items, syntax, preamble))


def numbers(values: Sequence[float]) -> str:
    return "\\".join(f"{value:.10g}" for value in values)


def common(sop: str, uid: str, series: str, rows: int, columns: int) -> Items:
    return {
        0x00080008: ("CS", "ORIGINAL\\PRIMARY\\M"), 0x00080016: ("UI", sop), 0x00080018: ("UI", uid), 0x00080060: ("CS", "MR"),
        0x00100010: ("PN", "Nobody"), 0x00100020: ("LO", "0"), 0x0020000D: ("UI", "1.2.3"), 0x0020000E: ("UI", series),
        0x00200052: ("UI", "1.2.3.5"), 0x00280002: ("US", 1), 0x00280004: ("CS", "MONOCHROME2"), 0x00280010: ("US", rows),
        0x00280011: ("US", columns), 0x00280100: ("US", 16), 0x00280101: ("US", 16), 0x00280102: ("US", 15), 0x00280103: ("US", 0),
    }  # fmt: skip


def other_object(path: Path, sop: str, series: str = "1.2.3.9", more: Items | None = None) -> None:
    """An object that is no image: contours, a presentation state, a directory, a report."""
    items: Items = {0x00080016: ("UI", sop), 0x00080018: ("UI", f"{series}.9"), 0x0020000D: ("UI", "1.2.3"), 0x0020000E: ("UI", series)}
    save(path, items | (more or {}))


def enhanced(
    path: Path, frames: np.ndarray, positions: Sequence[Sequence[float]], axes: Any = ((1, 0, 0), (0, 1, 0)),
    spacing: Sequence[float] = (1.0, 1.0), thickness: float = 1.0, between: float | None = None, slopes: Sequence[float] | None = None,
    index: Sequence[tuple[int, ...]] | None = None, series: str = "1.2.3.1", more: Items | None = None, group: Items | None = None,
) -> None:  # fmt: skip
    """An Enhanced MR: frames (N, rows, columns) uint16 at `positions` (LPS, mm); `group` is put into every frame's groups."""
    measures: Items = {0x00180050: ("DS", numbers([thickness])), 0x00280030: ("DS", numbers(spacing))}
    if between is not None:
        measures[0x00180088] = ("DS", numbers([between]))
    shared = {0x00209116: ("SQ", [{0x00200037: ("DS", numbers([*axes[0], *axes[1]]))}]), 0x00289110: ("SQ", [measures])}
    per_frame = []
    for n, position in enumerate(positions):
        content = {0x00209157: ("UL", index[n] if index else (1, n + 1))}
        own: Items = {0x00209111: ("SQ", [content]), 0x00209113: ("SQ", [{0x00200032: ("DS", numbers(position))}])}
        if slopes is not None:
            own[0x00289145] = ("SQ", [{0x00281052: ("DS", "0"), 0x00281053: ("DS", numbers([slopes[n]])), 0x00281054: ("LO", "US")}])
        per_frame.append(own | (group or {}))
    items = common(ENHANCED_MR, series + ".1", series, frames.shape[1], frames.shape[2])
    items |= {0x00280008: ("IS", len(frames)), 0x52009229: ("SQ", [shared]), 0x52009230: ("SQ", per_frame)}
    items[0x7FE00010] = ("OW", frames.astype("<u2").tobytes())
    save(path, items | (more or {}))


def slice_items(
    frame: np.ndarray, position: Sequence[float], n: int = 0, axes: Any = ((1, 0, 0), (0, 1, 0)), spacing: Sequence[float] = (1.0, 1.0),
    series: str = "1.2.3.1", syntax: str = LITTLE,
) -> Items:  # fmt: skip
    """The elements of a classic MR slice of uint16."""
    items = common(MR, f"{series}.{n + 1}", series, *frame.shape)
    items |= {0x00200013: ("IS", n + 1), 0x00200032: ("DS", numbers(position)), 0x00200037: ("DS", numbers([*axes[0], *axes[1]]))}
    pixels = frame.astype(">u2" if syntax == BIG else "<u2").tobytes()
    return items | {0x00280030: ("DS", numbers(spacing)), 0x7FE00010: ("OW", pixels)}


def classic(
    folder: Path, frames: np.ndarray, positions: Sequence[Sequence[float]], axes: Any = ((1, 0, 0), (0, 1, 0)),
    spacing: Sequence[float] = (1.0, 1.0), series: str = "1.2.3.1", syntax: str = LITTLE, preamble: bool = True,
    more: Items | None = None, without: Sequence[int] = (), first: int = 0,
) -> None:  # fmt: skip
    """One MR file a slice, with `more` elements and `without` some; file names count from `first`."""
    for n, (frame, position) in enumerate(zip(frames, positions, strict=True), first):
        items = slice_items(frame, position, n, axes, spacing, series, syntax) | (more or {})
        save(Path(folder) / f"IM{n + 1:04d}", {tag: value for tag, value in items.items() if tag not in without}, syntax, preamble)


def pack_jpeg(folder: Path, target: Path) -> None:
    """The files of a classic series as lossless JPEG (1.2.840.10008.1.2.4.70), packed by SimpleITK."""
    import SimpleITK as sitk

    target.mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        image = reader.Execute()
        for key in reader.GetMetaDataKeys():
            image.SetMetaData(key, reader.GetMetaData(key))
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.SetFileName(str(target / f"{path.name}.dcm"))
        writer.Execute(image)
