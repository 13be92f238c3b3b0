"""The file formats, in one table: which endings a format has, and the functions that read and write it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .dicom import is_dicom, read_dicom, read_dicom_geometry
from .dicom_writer import read_dicom_provenance
from .geometry import Geometry
from .metaimage import metaimage_header, read_metaimage, read_metaimage_geometry, read_metaimage_provenance
from .nifti import nifti_start, read_nifti, read_nifti_geometry, read_nifti_provenance
from .nifti_header import Forms
from .nrrd import nrrd_header, read_nrrd, read_nrrd_geometry, read_nrrd_provenance
from .sources import check_source
from .voxels import Scaling

Read = Callable[..., tuple[np.ndarray, Geometry, dict[str, Any]]]
Header = Callable[[Geometry, str, Scaling, Forms, str | None], bytes]


@dataclass(frozen=True)
class Format:
    """One way to store a volume; its files end with one of `endings` (a DICOM folder has none).

    `read` gives (array float32 (K, J, I), geometry, other fields of `Volume`), `read_geometry` the grid from the header alone,
    `read_provenance` what `write` put into the header. `write` gives the bytes before the voxels, from (geometry, number type,
    (slope, intercept), forms, provenance); None where the format is only read. `packs` says what gzip goes around: nothing, the
    voxels, or the whole file. `scales`: it can store slope and intercept. `has_series`: it is read by (path, series).
    """

    name: str
    endings: tuple[str, ...]
    read: Read
    read_geometry: Callable[..., Geometry]
    read_provenance: Callable[[Path], str | None]
    write: Header | None = None
    packs: str = ""
    scales: bool = False
    has_series: bool = False


def _nifti(geometry: Geometry, dtype: str, scaling: Scaling, forms: Forms, provenance: str | None) -> bytes:
    return nifti_start(geometry, dtype, scaling, forms, provenance)


def _nrrd(geometry: Geometry, dtype: str, scaling: Scaling, forms: Forms, provenance: str | None) -> bytes:
    return nrrd_header(geometry, dtype, provenance)


def _metaimage(geometry: Geometry, dtype: str, scaling: Scaling, forms: Forms, provenance: str | None) -> bytes:
    return metaimage_header(geometry, dtype, provenance)


_NIFTI = (read_nifti, read_nifti_geometry, read_nifti_provenance)
_NRRD = (read_nrrd, read_nrrd_geometry, read_nrrd_provenance)
_METAIMAGE = (read_metaimage, read_metaimage_geometry, read_metaimage_provenance)

FORMATS = (
    Format("NIfTI, packed", (".nii.gz",), *_NIFTI, _nifti, packs="file", scales=True),
    Format("NIfTI", (".nii",), *_NIFTI, _nifti, scales=True),
    Format("NRRD", (".nrrd",), *_NRRD, _nrrd, packs="voxels"),
    Format("MetaImage", (".mha",), *_METAIMAGE, _metaimage),
    Format("NRRD in two files", (".nhdr",), *_NRRD),
    Format("MetaImage in two files", (".mhd",), *_METAIMAGE),
)
DICOM = Format("DICOM", (), read_dicom, read_dicom_geometry, read_dicom_provenance, has_series=True)
READABLE = tuple(ending for one in FORMATS for ending in one.endings)
WRITABLE = tuple(ending for one in FORMATS if one.write for ending in one.endings)


def format_of(path: Path) -> Format | None:
    """The format whose ending the file's name has, in capital or small letters; None where it is unknown."""
    return next((one for one in FORMATS if path.name.lower().endswith(one.endings)), None)


def format_to_read(path: Path) -> Format:
    """The format of what lies at `path`. Raises `VolumeError`, without the path, for what is no volume's file or folder."""
    if path.is_dir():
        return DICOM
    check_source(path)
    found = format_of(path)
    if found is None and is_dicom(path):
        return DICOM
    if found is None:
        raise VolumeError(f"unknown extension; {', '.join(READABLE)} or a folder of DICOM files can be read")
    return found


def check_output(path: str | Path) -> Format:
    """The format that `path` would be written in. Raises a `VolumeError` now rather than after the work."""
    path = Path(path)
    found = format_of(path)
    if found is None:
        raise VolumeError(f"{path}: unknown extension; one of {', '.join(WRITABLE)} can be written")
    if found.write is None:
        raise VolumeError(f"{path}: {found.endings[0]} is a pair of files, which cannot appear as one; choose .nrrd or .mha")
    try:
        if "\0" in str(path):
            raise VolumeError(f"{str(path)!r}: a file name cannot hold a NUL character")
        target = Path(os.path.realpath(path)) if path.is_symlink() else path  # a link is written through
        if target.is_dir():
            raise VolumeError(f"{path}: is a folder; a file must be named")
        if os.path.lexists(target) and not target.is_file():
            raise VolumeError(f"{path}: is no regular file (a pipe, a socket or a device), and is not replaced by one")
        if not target.parent.is_dir():
            raise VolumeError(f"{path}: its folder {target.parent} does not exist")
        if not os.access(target.parent, os.W_OK):
            raise VolumeError(f"{path}: its folder {target.parent} cannot be written to")
        os.stat(target.parent)
        if os.path.exists(target):
            os.stat(target)
        else:
            _check_name(target)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be written ({error.strerror or error})") from None
    return found


def _check_name(path: Path) -> None:
    """A name that the file system cannot hold (longer than 255 bytes, say) is told by asking for it."""
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)


__all__ = ["DICOM", "FORMATS", "READABLE", "WRITABLE", "Format", "check_output", "format_of", "format_to_read"]
