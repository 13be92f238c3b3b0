"""DicomPart: what one DICOM file contributes to a series: its slices (frames), where each lies and how its numbers are scaled.

A classic file holds one frame, an enhanced (multi-frame) file many, each with its own functional groups. Both become `Frame`s, so
that all checks of the grid are the same for both. Source: DICOM PS3.3, C.7.6.2 (image plane), C.7.6.16 (functional groups).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .dicom_file import (
    DEFLATED,
    NATIVE,
    UNDEFINED_LENGTH,
    DicomFile,
    PixelElement,
    first_item,
    items,
    number,
    numbers,
    one_line,
    open_dicom,
    text,
    untyped_errors_named,
    whole,
)

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SCANS = {_STORAGE + end for end in ("4", "4.1", "4.4", "2", "2.1", "2.2", "128", "128.1", "130")}  # MR, CT, PET
SEGMENTATIONS = {_STORAGE + end for end in ("66.4", "66.7")}
_PICTURES = {_STORAGE + end for end in ("7", "7.1", "7.2", "7.3", "7.4", "20")}  # secondary captures; nuclear medicine
IMAGES = SCANS | _PICTURES
_SERIES_NUMBER = 0x00200011  # behind it stands nothing that names a series
_UNIT_TOLERANCE = 0.01  # of the direction cosines: their length, and the cosine between the two
_FURTHEST_MM = 1e6


@dataclass(frozen=True)
class PixelFormat:
    """How the numbers are stored: `kind` u, i or f; bits allocated and stored; the byte order; whether overlays use the free bits."""

    kind: str
    allocated: int
    stored: int
    order: str
    overlays: bool = False

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"{self.order}{self.kind}{self.allocated // 8}")


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice. `position` (LPS, mm) is the centre of its first voxel; `axes` (3, 2) the unit directions of I and J; None: not stated.

    `spacing_ij` in mm, None: not stated. `scaling` (slope, intercept). `marks`: what may tell several volumes at one place apart.
    """

    part: DicomPart
    number: int
    position: np.ndarray | None
    axes: np.ndarray | None
    spacing_ij: tuple[float, float] | None
    scaling: tuple[float, float]
    marks: dict[str, str]

    @property
    def name(self) -> str:
        frame = f", frame {self.number + 1}" if self.part.frame_count > 1 else ""
        return f"{self.part.path.name}{frame}"


@dataclass(frozen=True, eq=False)
class DicomPart:
    """One file of a series. A file with a `problem` has no frames; who chooses its series is told of it."""

    path: Path
    sop_class: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    series_number: int | None = None
    instance_number: float = 0.0
    description: str = ""
    modality: str = ""
    image_type: str = ""
    size_ij: tuple[int, int] = (0, 0)
    frame_count: int = 1
    syntax: str = ""
    pixels: PixelElement | None = None
    format: PixelFormat | None = None
    slice_location: float | None = None
    thickness_mm: float | None = None
    slice_spacing_mm: float | None = None  # SpacingBetweenSlices, without its sign
    mosaic: bool = False
    inverted: bool = False
    problem: str = ""
    frames: list[Frame] = field(default_factory=list)

    @property
    def is_image(self) -> bool:
        return self.sop_class in IMAGES


def read_part(path: Path) -> DicomPart:
    """The file's part. What is wrong with it stands in its `problem`. Raises `OSError`, and `VolumeError` where pydicom is missing."""
    known = DicomPart(path)
    try:
        with untyped_errors_named("damaged DICOM header"):
            file = open_dicom(path)
            known = _identity(file)
            return _image(file, known) if known.is_image else known
    except VolumeError as error:
        if "pydicom, which is not installed" in str(error):
            raise
        return _with(known, problem=str(error))


def peek_part(path: Path) -> DicomPart:
    """Which object and series the file belongs to, as `read_part` finds it, from the first attributes alone and without frames."""
    try:
        with untyped_errors_named("damaged DICOM header"):
            return _identity(open_dicom(path, _SERIES_NUMBER))
    except VolumeError as error:
        if "pydicom, which is not installed" in str(error):
            raise
        return DicomPart(path, problem=str(error))


def _with(part: DicomPart, **changes: Any) -> DicomPart:
    return DicomPart(**{**part.__dict__, **changes})


def _identity(file: DicomFile) -> DicomPart:
    """Which object this is, and of which series."""
    dataset = file.dataset
    series_number = number(dataset, "SeriesNumber") if _is_number(dataset, "SeriesNumber") else None
    part = DicomPart(
        file.path,
        sop_class=text(dataset, "SOPClassUID") or text(getattr(dataset, "file_meta", None), "MediaStorageSOPClassUID"),
        sop_uid=text(dataset, "SOPInstanceUID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        series_number=None if series_number is None else int(series_number),
        instance_number=(number(dataset, "InstanceNumber") or 0.0) if _is_number(dataset, "InstanceNumber") else 0.0,
        description=text(dataset, "SeriesDescription") or text(dataset, "ProtocolName"),
        modality=text(dataset, "Modality"),
        image_type=text(dataset, "ImageType"),
        syntax=file.syntax,
        pixels=file.pixels,
    )
    if not part.sop_class:
        raise VolumeError("truncated or damaged: it does not say what it is (no SOP Class UID)")
    return part


def _is_number(dataset: Any, keyword: str) -> bool:
    """False for text in a field that only names the series or sorts it: no reason to refuse a scan."""
    try:
        found = number(dataset, keyword)
    except VolumeError:
        return False
    return found is not None and math.isfinite(found)


def _image(file: DicomFile, part: DicomPart) -> DicomPart:
    """The part with its frames."""
    dataset = file.dataset
    rows, columns = whole(dataset, "Rows", 0), whole(dataset, "Columns", 0)
    if rows < 1 or columns < 1:
        raise VolumeError(f"truncated or damaged: {rows} rows and {columns} columns")
    samples, meaning = whole(dataset, "SamplesPerPixel", 1), text(dataset, "PhotometricInterpretation")
    if samples != 1 or not meaning.startswith(("MONOCHROME", "")) or meaning.startswith(("RGB", "YBR", "PALETTE")):
        raise VolumeError(f"{samples} components per voxel ({meaning}): colour; one number per voxel must be there")
    frames = max(whole(dataset, "NumberOfFrames", 1), 1)
    shared, groups = first_item(dataset, "SharedFunctionalGroupsSequence"), items(dataset, "PerFrameFunctionalGroupsSequence")
    measures = first_item(shared, "PixelMeasuresSequence") or first_item(groups[0] if groups else None, "PixelMeasuresSequence") or dataset
    part = _with(
        part,
        size_ij=(columns, rows),
        frame_count=frames,
        format=_pixel_format(dataset, part),
        slice_location=number(dataset, "SliceLocation") if _is_number(dataset, "SliceLocation") else None,
        thickness_mm=_length(measures, "SliceThickness"),
        slice_spacing_mm=_length(measures, "SpacingBetweenSlices"),
        mosaic="MOSAIC" in part.image_type.split("\\") or (0x0019, 0x100A) in dataset,
        inverted=meaning == "MONOCHROME1",
    )
    _check_size(part)
    if groups and len(groups) != frames:
        raise VolumeError(f"{frames} frames, but {len(groups)} descriptions of frames")
    if not groups and shared is None:
        part.frames.extend(_plain_frame(part, dataset, n) for n in range(frames))
    else:
        part.frames.extend(_enhanced_frame(part, dataset, shared, groups[n] if groups else None, n) for n in range(frames))
    return part


def _length(item: Any, keyword: str) -> float | None:
    """A length in mm that nothing but advice depends on: None where it is absent, zero or no number. Some scanners write it negative."""
    if not _is_number(item, keyword):
        return None
    return abs(number(item, keyword) or 0.0) or None


def _pixel_format(dataset: Any, part: DicomPart) -> PixelFormat:
    kind, order = (part.pixels.kind, part.pixels.order) if part.pixels else ("u", "<")
    if part.syntax == DEFLATED:
        kind = "f" if "FloatPixelData" in dataset else "d" if "DoubleFloatPixelData" in dataset else "u"
    if kind in "fd":
        bits = 32 if kind == "f" else 64
        return PixelFormat("f", bits, bits, order)
    allocated = whole(dataset, "BitsAllocated", 16)
    stored = whole(dataset, "BitsStored", allocated)
    high = whole(dataset, "HighBit", stored - 1)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1:
        raise VolumeError(f"{allocated} bits allocated, {stored} stored, highest {high}: whole numbers of 8, 16 or 32 bits can be read")
    signed = whole(dataset, "PixelRepresentation", 0)
    if signed not in (0, 1):
        raise VolumeError(f"PixelRepresentation is {signed}: 0 (unsigned) or 1 (signed) must be there")
    overlays = any((group, 0x0102) in dataset and (group, 0x3000) not in dataset for group in range(0x6000, 0x6020, 2))
    return PixelFormat("i" if signed else "u", allocated, stored, order, overlays)


def _check_size(part: DicomPart) -> None:
    """The pixel data must be as long as rows x columns x bytes x frames; nothing of that size is made before this is known."""
    assert part.format is not None
    if part.syntax == DEFLATED:
        return
    if part.pixels is None:
        raise VolumeError("truncated or damaged: it has no pixels")
    if part.syntax not in NATIVE and part.pixels.length == UNDEFINED_LENGTH:
        if part.frame_count > part.path.stat().st_size // 16:
            raise VolumeError(f"{part.frame_count} frames in {part.path.stat().st_size} bytes")
        return
    if part.syntax not in NATIVE:
        raise VolumeError(f"damaged: pixels of the compressed syntax {one_line(part.syntax)} that are not encapsulated")
    columns, rows = part.size_ij
    need = rows * columns * part.frame_count * (part.format.allocated // 8)
    if part.pixels.length not in (need, need + need % 2):
        raise VolumeError(
            f"its pixels take {part.pixels.length} bytes, but {part.frame_count} x {rows} rows x {columns} columns of "
            f"{part.format.allocated} bits take {need}"
        )


# ---------------------------------------------------------------- frames
_PLAIN_MARKS = {
    "echo time": "EchoTime", "echo": "EchoNumbers", "b value": "DiffusionBValue", "direction": "DiffusionGradientOrientation",
    "time point": "TemporalPositionIdentifier", "inversion time": "InversionTime", "flip angle": "FlipAngle", "trigger time": "TriggerTime",
    "image type": "ImageType", "component": "ComplexImageComponent", "acquisition": "AcquisitionNumber", "stack": "StackID",
    "acquisition time": "AcquisitionTime",
}  # fmt: skip


def _plain_frame(part: DicomPart, dataset: Any, n: int) -> Frame:
    """The frame of a classic file, or one of several that share what the file says."""
    position = numbers(dataset, "ImagePositionPatient", 3) if part.frame_count == 1 else None
    marks = {name: found for name, keyword in _PLAIN_MARKS.items() if (found := text(dataset, keyword))}
    return _frame(part, n, position, numbers(dataset, "ImageOrientationPatient", 6), _spacing(dataset), _scaling(dataset), marks)


def _enhanced_frame(part: DicomPart, dataset: Any, shared: Any, own: Any, n: int) -> Frame:
    """A frame by its own functional groups, else by the shared ones, else by the file's attributes."""

    def macro(keyword: str) -> Any:
        found = first_item(own, keyword)
        return found if found is not None else first_item(shared, keyword)

    position = numbers(macro("PlanePositionSequence"), "ImagePositionPatient", 3)
    orientation = numbers(macro("PlaneOrientationSequence") or dataset, "ImageOrientationPatient", 6)
    spacing = _spacing(macro("PixelMeasuresSequence") or dataset)
    scaling = _scaling(macro("PixelValueTransformationSequence") or dataset)
    return _frame(part, n, position, orientation, spacing, scaling, _enhanced_marks(macro))


def _enhanced_marks(macro: Callable[[str], Any]) -> dict[str, str]:
    content, frame_type = macro("FrameContentSequence"), macro("MRImageFrameTypeSequence")
    diffusion = macro("MRDiffusionSequence")
    found = {
        "echo time": text(macro("MREchoSequence"), "EffectiveEchoTime"),
        "b value": text(diffusion, "DiffusionBValue"),
        "direction": text(first_item(diffusion, "DiffusionGradientDirectionSequence"), "DiffusionGradientOrientation"),
        "time point": text(content, "TemporalPositionIndex"),
        "inversion time": text(macro("MRModifierSequence"), "InversionTimes"),
        "trigger time": text(macro("CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime"),
        "image type": text(frame_type, "FrameType"),
        "component": text(frame_type, "ComplexImageComponent"),
        "acquisition": text(content, "FrameAcquisitionNumber"),
        "stack": text(content, "StackID"),
    }
    index = numbers(content, "DimensionIndexValues") or ()
    found |= {f"dimension {n + 1}": f"{value:g}" for n, value in enumerate(index)}
    return {name: value for name, value in found.items() if value}


def _frame(
    part: DicomPart,
    n: int,
    position: tuple[float, ...] | None,
    orientation: tuple[float, ...] | None,
    spacing_ij: tuple[float, float] | None,
    scaling: tuple[float, float],
    marks: dict[str, str],
) -> Frame:
    where = partial(np.array, dtype=np.float64)
    if position is not None and not all(abs(x) <= _FURTHEST_MM for x in position):
        raise VolumeError(f"ImagePositionPatient is {list(position)}: three finite numbers (mm) must be there")
    axes = None if orientation is None else _axes(orientation)
    return Frame(part, n, None if position is None else where(position), axes, spacing_ij, scaling, marks)


def _axes(orientation: tuple[float, ...]) -> np.ndarray:
    """(3, 2): the directions of I and J as unit vectors."""
    axes = np.array(orientation, np.float64).reshape(2, 3).T
    lengths = np.linalg.norm(axes, axis=0)
    if not np.isfinite(axes).all() or np.abs(lengths - 1).max() > _UNIT_TOLERANCE or abs(axes[:, 0] @ axes[:, 1]) > _UNIT_TOLERANCE:
        raise VolumeError(f"ImageOrientationPatient is {list(orientation)}: two perpendicular unit vectors must be there")
    return axes / lengths


def _spacing(item: Any) -> tuple[float, float] | None:
    """(I, J) in mm: DICOM writes the distance of rows (J) first."""
    found = numbers(item, "PixelSpacing", 2)
    if found is None:
        return None
    if not all(0 < mm <= _FURTHEST_MM for mm in found):
        raise VolumeError(f"PixelSpacing is {list(found)} mm: numbers above 0 must be there")
    return (found[1], found[0])


def _scaling(item: Any) -> tuple[float, float]:
    """(slope, intercept): 1 and 0 where absent; an empty one is an error, because the numbers would be wrong."""
    values = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        found = number(item, keyword)
        if found is None and keyword in item:
            raise VolumeError(f"{keyword} is empty: a number must be there")
        values.append(default if found is None else found)
    if not all(math.isfinite(value) for value in values) or values[0] == 0:
        raise VolumeError(
            f"RescaleSlope {values[0]:g} and RescaleIntercept {values[1]:g}: finite numbers, a slope other than 0, must be there"
        )
    return (values[0], values[1])
