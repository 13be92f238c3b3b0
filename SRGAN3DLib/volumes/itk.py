"""Files that SimpleITK reads for us: NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), with oblique, sheared and left-handed matrices.

Errors are `VolumeError`s without the file's name: `Volume.read` puts it in front.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .geometry import Geometry, ras_from_lps, volume_shape

_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_stderr_lock = threading.Lock()

Facts = dict[str, Any]


def read_itk(path: Path, suffix: str) -> tuple[np.ndarray, Geometry, Facts]:
    """One NRRD or MetaImage file -> (array float32 (K, J, I), geometry, other fields of `Volume`)."""
    with _quiet("its data file is absent, or it is " if suffix in (".nhdr", ".mhd") else ""):
        return _read_image(path, _READERS[suffix])


def read_itk_geometry(path: Path, suffix: str) -> Geometry:
    """What `read_itk` would find, from the header alone."""
    with _quiet():
        return _read_geometry(_reader(path, _READERS[suffix]))


def _sitk() -> Any:
    """SimpleITK, loaded on first use: `import SRGAN3DLib.volume` is cheap without it."""
    import SimpleITK

    return SimpleITK


@contextmanager
def _quiet(hint: str = "") -> Iterator[Any]:
    """SimpleITK, with what its C++ code prints on stderr thrown away for a while; its exceptions become `VolumeError`s.

    `hint` goes in front of what these can mean.
    """
    sitk = _sitk()
    with _stderr_lock:
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        kept = _divert_stderr()
        try:
            yield sitk
        except RuntimeError as error:
            raise VolumeError(f"{hint}damaged, truncated or not of its format{_detail(error)}") from None
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


def _detail(error: RuntimeError) -> str:
    """The telling part of an ITK exception, in brackets and one line: no source file, no address, no misleading errno."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    text = re.sub(r"^ITK ERROR: (\w+\(0x[0-9a-f]+\): )?", "", lines[-1] if lines else "")
    if "File cannot be read" in text:  # all that MetaImage ever says
        return ""
    return f" ({text[:160]}{'...' if len(text) > 160 else ''})"


def _reader(path: Path, image_io: str) -> Any:
    reader = _sitk().ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    return reader


def _execute(reader: Any) -> Any:
    """The image, refused before its voxels are read unless they are plain numbers."""
    sitk = _sitk()
    if reader.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise VolumeError("complex voxels: one plain number per voxel is wanted")
    if reader.GetNumberOfComponents() != 1:
        raise VolumeError(f"{reader.GetNumberOfComponents()} components per voxel: one number per voxel is wanted")
    return reader.Execute()


def _read_image(path: Path, image_io: str) -> tuple[np.ndarray, Geometry, Facts]:
    sitk = _sitk()
    reader = _reader(path, image_io)
    geometry = _read_geometry(reader)
    image = _execute(reader)
    view = sitk.GetArrayViewFromImage(image).reshape(geometry.shape_kji)  # lives no longer than the image
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is refused with its count
        array = view.astype(np.float32)
    return array, geometry, {"dtype": view.dtype.name}


def _read_geometry(reader: Any) -> Geometry:
    """The grid that the header tells of, refused where it is no scan's."""
    reader.ReadImageInformation()
    if any(key.startswith("Segment0_") for key in reader.GetMetaDataKeys()):
        raise VolumeError("looks like a label map (it describes segments): a scan is wanted")
    shape = volume_shape(reader.GetSize())
    spacing = reader.GetSpacing()[:3]
    if not min(spacing) > 0:  # ITK goes on with these, by a guess of its own
        raise VolumeError(f"voxel spacing {list(spacing)} mm (I, J, K): above 0 is wanted")
    return Geometry(shape, ras_from_lps(_frame(reader)))


def _frame(reader: Any) -> np.ndarray:
    """4x4 IJK -> LPS of the first three axes."""
    n = reader.GetDimension()
    matrix = np.eye(4)
    matrix[:3, :3] = (np.reshape(reader.GetDirection(), (n, n)) * reader.GetSpacing())[:3, :3]
    matrix[:3, 3] = reader.GetOrigin()[:3]
    return matrix
