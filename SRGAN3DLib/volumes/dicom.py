"""DICOM: the one volume of a folder (at any depth) or of a multi-frame file, read with pydicom, its grid checked.

Errors are `VolumeError`s without the folder's name: `Volume.read` puts it in front. They name the file within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .acquisition import AcquisitionFacts, acquisition_facts
from .dicom_file import is_dicom_file, open_dicom
from .dicom_grid import grid
from .dicom_part import SCANS, SEGMENTATIONS, Frame, read_part
from .dicom_pixels import read_frames
from .dicom_series import DicomFolder, DicomSeries, choose, dicom_files, find_series
from .geometry import Geometry

_OTHER_MODALITIES = {"CT": "CT", "PT": "PET", "NM": "nuclear medicine", "US": "ultrasound"}


def read_dicom(path: Path, series: str | None = None) -> tuple[np.ndarray, Geometry, dict[str, Any]]:
    """(array float32 (K, J, I), geometry, other fields of `Volume`) of the one series at `path`, or of the one that `series` names.

    `path` is a folder, searched at any depth, or one multi-frame file. Raises `VolumeError` for no series, several volumes (with their
    list), and slices that are missing, repeated, damaged, or of another size or orientation.
    """
    frames, geometry, notes = _grid(path, series)
    array = np.empty(geometry.shape_kji, np.float32)
    read_frames(frames, array)
    facts = {**_stored_type(frames), "notes": tuple(notes), "acquisition": _acquisition(frames, geometry)}
    return array, geometry, facts


def read_dicom_geometry(path: Path, series: str | None = None) -> Geometry:
    """The grid that `read_dicom` would find, from the headers alone."""
    return _grid(path, series)[1]


def is_dicom(path: Path) -> bool:
    """True for a DICOM file, and for a folder that holds one at any depth. The one answer that all of the library uses."""
    return next(dicom_files(path), None) is not None if path.is_dir() else is_dicom_file(path)


def _grid(path: Path, series: str | None) -> tuple[list[Frame], Geometry, list[str]]:
    folder = find_series(path, series) if path.is_dir() else _single_file(path)
    volume = choose(folder, series)
    frames, geometry, notes = grid(volume.frames)
    return frames, geometry, [*folder.notes, *notes, *_doubts(frames)]


def _single_file(path: Path) -> DicomFolder:
    part = read_part(path)
    if part.problem:
        raise VolumeError(part.problem)
    if part.sop_class in SEGMENTATIONS:
        raise VolumeError("a DICOM segmentation (label map): a scan must be there")
    if not part.is_image:
        raise VolumeError("a DICOM file that holds no scan")
    if part.frame_count == 1:
        raise VolumeError("a single DICOM file; give the folder that holds its whole series")
    return DicomFolder([DicomSeries([part])], ())


def _doubts(frames: Sequence[Frame]) -> list[str]:
    """What a user may have chosen by mistake."""
    part, notes = frames[0].part, []
    if part.modality in _OTHER_MODALITIES:
        notes.append(f"its DICOM modality is {part.modality} ({_OTHER_MODALITIES[part.modality]}): the models are made for MRI")
    if part.mosaic:
        notes.append("it is a mosaic (slices side by side in one picture): convert it with dcm2niix first")
    if "LOCALIZER" in part.image_type.upper():
        notes.append("it is a localizer (a scout scan of few slices), perhaps not the series that was meant")
    if part.sop_class not in SCANS:
        notes.append("it is a secondary capture or another derived picture, not a scanner's own image")
    if part.inverted:
        notes.append("its numbers are inverted for display (MONOCHROME1); they are read as stored")
    return notes


def _acquisition(frames: Sequence[Frame], geometry: Geometry) -> AcquisitionFacts:
    files = tuple(dict.fromkeys(frame.part.path for frame in frames))
    return acquisition_facts(open_dicom(frames[0].part.path).dataset, geometry, files)


def _stored_type(frames: Sequence[Frame]) -> dict[str, Any]:
    """The type for `dtype` input: the stored one; a wider integer where whole numbers are rescaled; else the type with its scaling."""
    scalings, formats = {frame.scaling for frame in frames}, {frame.part.format for frame in frames}
    types = {np.dtype(f"{one.kind}{one.allocated // 8}") for one in formats if one is not None}
    stored = np.result_type(*types)
    if stored.kind == "f" or len(scalings) > 1:
        return {"dtype": stored.name if stored.kind == "f" and scalings == {(1.0, 0.0)} else "float32"}
    slope, intercept = scaling = scalings.pop()
    if slope != int(slope) or intercept != int(intercept):
        return {"dtype": stored.name, "scaling": scaling}
    bits = max(one.stored for one in formats if one is not None)
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if stored.kind == "i" else (0, 2**bits - 1)
    ends = sorted((slope * least + intercept, slope * most + intercept))
    for dtype in (stored, np.dtype("int16"), np.dtype("uint16"), np.dtype("int32"), np.dtype("int64")):
        if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
            return {"dtype": dtype.name}
    return {"dtype": "float32"}
