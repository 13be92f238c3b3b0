"""Files that SimpleITK reads for us: NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) and the DICOM series of a folder.

SimpleITK keeps oblique, sheared and left-handed matrices of the first two. DICOM slices are read one by one, so that order,
gaps and sizes are checked before a volume is made of them, and memory holds the volume and one slice.

Errors are `VolumeError`s without the file's name: `Volume.read` puts it in front.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import VolumeError
from .geometry import Geometry, ras_from_lps, volume_shape

POSITION_TOLERANCE = 0.01  # of the slice spacing: how far a DICOM slice may lie from its regular place
_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_stderr_lock = threading.Lock()

Facts = dict[str, Any]


def read_itk(path: Path, suffix: str) -> tuple[np.ndarray, Geometry, Facts]:
    """One NRRD or MetaImage file -> (array float32 (K, J, I), geometry, other fields of `Volume`)."""
    with _quiet():
        return _read_image(path, _READERS[suffix])


def read_dicom(folder: Path) -> tuple[np.ndarray, Geometry, Facts]:
    """The one DICOM series of `folder`, in any file order -> as `read_itk`.

    The matrix comes from the positions of all slices, so a tilted gantry gives the sheared grid that it is. Raises
    `VolumeError` for no series, several series, and slices that are missing, repeated, or of another size or orientation.
    """
    with _quiet() as sitk:
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if not series:
            raise VolumeError("a folder without a DICOM series")
        files = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series}
        if len(series) > 1:
            shown = ", ".join(f"{uid} ({len(files[uid])} files)" for uid in series[:4])
            raise VolumeError(f"{len(series)} DICOM series in one folder, one is wanted: {shown}{', ...' if len(series) > 4 else ''}")
        slices = [_read_slice_header(Path(name)) for name in files[series[0]]]
        if len(slices) == 1:  # one file can hold a whole volume (enhanced DICOM); a flat one is refused there
            return _read_image(slices[0].path, "GDCMImageIO")
        slices, geometry = _stack(slices)
        array = np.empty(geometry.shape_kji, np.float32)
        for target, one in zip(array, slices, strict=True):
            target[...] = sitk.GetArrayViewFromImage(_execute(_reader(one.path, "GDCMImageIO"))).reshape(target.shape)
        return array, geometry, _dicom_type(slices)


@dataclass(frozen=True)
class _Slice:
    """What the header of one DICOM file says; `frame` is the 4x4 IJK -> LPS of its voxels."""

    path: Path
    size_ij: tuple[int, int]
    frame: np.ndarray
    dtype: np.dtype
    stored: str
    scaling: tuple[float, float]

    @property
    def position(self) -> np.ndarray:
        return self.frame[:3, 3]


@contextmanager
def _quiet() -> Iterator[Any]:
    """SimpleITK, with what its C++ code prints on stderr thrown away for a while; its exceptions become `VolumeError`s."""
    import SimpleITK as sitk

    with _stderr_lock:
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        kept = _divert_stderr()
        try:
            yield sitk
        except RuntimeError as error:
            raise VolumeError(f"cannot be read: {_last_line(error)}") from None
        finally:
            if kept is not None:
                os.dup2(kept, 2)
                os.close(kept)
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _divert_stderr() -> int | None:
    """File descriptor 2 to nowhere; returns the old one, or None for a process without a stderr."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(2)
    except OSError:
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return kept


def _last_line(error: RuntimeError) -> str:
    """The telling part of an ITK exception: no source file, no addresses, one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "No such file or directory" not in line]
    text = re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1] if lines else "").removeprefix("ITK ERROR: ")
    return text or "damaged or truncated"


def _reader(path: Path, image_io: str) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    return reader


def _execute(reader: Any) -> Any:
    """The image, refused before its voxels are read unless they are plain numbers."""
    import SimpleITK as sitk

    kind = reader.GetPixelID()
    if reader.GetNumberOfComponents() != 1 or kind >= sitk.sitkVectorUInt8:
        raise VolumeError(f"{reader.GetNumberOfComponents()} components per voxel: one number per voxel is wanted")
    if kind in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise VolumeError("complex voxels: one plain number per voxel is wanted")
    return reader.Execute()


def _read_image(path: Path, image_io: str) -> tuple[np.ndarray, Geometry, Facts]:
    import SimpleITK as sitk

    reader = _reader(path, image_io)
    reader.ReadImageInformation()
    if any(key.startswith("Segment0_") for key in reader.GetMetaDataKeys()):
        raise VolumeError("looks like a label map (it describes segments): a scan is wanted")
    shape = volume_shape(reader.GetSize())
    geometry = Geometry(shape, ras_from_lps(_frame(reader)))
    view = sitk.GetArrayViewFromImage(image := _execute(reader)).reshape(shape)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is refused with its count
        array = view.astype(np.float32)
    del image
    return array, geometry, {"dtype": view.dtype.name}


def _frame(reader: Any) -> np.ndarray:
    """4x4 IJK -> LPS of the first three axes."""
    n = reader.GetDimension()
    matrix = np.eye(4)
    matrix[:3, :3] = (np.reshape(reader.GetDirection(), (n, n)) * reader.GetSpacing())[:3, :3]
    matrix[:3, 3] = reader.GetOrigin()[:3]
    return matrix
