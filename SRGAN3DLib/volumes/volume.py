"""Volume: a scan in memory, read from and written to NIfTI, NRRD, MetaImage; read from the DICOM series of a folder.

What each format can hold stands in docs/coordinates.md. Writing never goes through SimpleITK: a header and slabs of voxels
are all it takes, so no second copy is held, no matrix is changed, and a file appears under its name only when whole.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from SRGAN3DLib.contract.errors import ResourceError, VolumeError

from .acquisition import AcquisitionFacts
from .dicom import is_dicom, read_dicom, read_dicom_geometry
from .files import is_full, replacing
from .geometry import Geometry, ras_from_lps, slabs
from .itk import read_itk, read_itk_geometry
from .nifti import nifti_header, read_nifti, read_nifti_geometry

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
READABLE = (*WRITABLE, ".nhdr", ".mhd")
GZIP_LEVEL = 1  # noise hardly compresses: level 6 takes up to four times as long for one percent
LABEL_VALUES = 20  # a volume of whole numbers with no more distinct ones than this is taken for a label map
_UNSCALED = (1.0, 0.0)
_INTEGERS = {"int8": "CHAR", "uint8": "UCHAR", "int16": "SHORT", "uint16": "USHORT", "int32": "INT", "uint32": "UINT"}
_META_TYPES = {**_INTEGERS, "int64": "LONG_LONG", "uint64": "ULONG_LONG", "float32": "FLOAT", "float64": "DOUBLE"}
_NRRD_TYPES = {"float32": "float", "float64": "double"}  # its integers are called as numpy's


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan. `array` is float32 (K, J, I), C order, real values (the file's scaling applied).

    `dtype` and `scaling` (slope, intercept) tell how the file stored it, for `write(like_input_dtype=True)`.
    `space_code` is NIfTI's word for what the matrix leads to: 1 the scanner, 2 another scan, 3 Talairach, 4 MNI.
    `notes` are sentences about the file that its user should know (two matrices that disagree, say). `path` is where it
    was read from. `acquisition` is what a DICOM series says about how it was acquired; None for other formats.
    """

    array: np.ndarray
    geometry: Geometry
    dtype: str = "float32"
    scaling: tuple[float, float] = _UNSCALED
    space_code: int = 1
    notes: tuple[str, ...] = ()
    path: Path | None = None
    acquisition: AcquisitionFacts | None = None

    def __post_init__(self) -> None:
        array = np.ascontiguousarray(self.array, np.float32)
        if array.shape != self.geometry.shape_kji:
            raise VolumeError(f"array of shape {array.shape} on a grid of {self.geometry.shape_kji} (K, J, I)")
        object.__setattr__(self, "array", array)

    @staticmethod
    def from_array(array: np.ndarray, ijk_to_ras: np.ndarray) -> Volume:
        """A (K, J, I) array on the grid of a 4x4 matrix of voxel centres (mm). Raises `VolumeError`."""
        if np.ndim(array) != 3:
            raise VolumeError(f"array of shape {np.shape(array)}: (K, J, I) is wanted")
        return Volume(array, Geometry(cast(Any, np.shape(array)), ijk_to_ras))

    @staticmethod
    def read(path: str | Path, series: str | None = None) -> Volume:
        """The volume of a file (by its extension, or a multi-frame DICOM file) or of a folder with one DICOM series at any depth.

        `series` chooses among several DICOM series: a number, a UID or a part of the description; other formats ignore it.

        Raises `VolumeError`, one line that begins with the path, for whatever is not one whole scalar 3-D scan, and
        `ResourceError` where it does not fit into memory.
        """
        path = Path(path)
        with _naming(path):
            suffix = _suffix_to_read(path)
            array, geometry, facts = read_dicom(path, series) if not suffix else _read_file(path, suffix)
            check_voxels(array)
            return Volume(array, geometry, path=path, **facts)

    def with_array(self, array: np.ndarray, geometry: Geometry) -> Volume:
        """Another array on another grid, with what is known of this file's type and space."""
        return replace(self, array=array, geometry=geometry)

    def permute(self, order_kji: tuple[int, int, int]) -> Volume:
        """The same scan with its axes in another order: new axis n is the old axis `order_kji[n]`; no voxel moves in space."""
        return self.with_array(self.array.transpose(order_kji), self.geometry.permute(order_kji))

    def write(self, path: str | Path, like_input_dtype: bool = False) -> None:
        """Write to .nii.gz, .nii, .nrrd (gzip inside) or .mha (not compressed), as float32 or in the type the input file had.

        An integer type is rounded and clipped to; a file that scaled its integers (scl_slope, DICOM's rescale slope) gets
        the same scaling, which only NIfTI can say. The file appears under its name only when whole; one slab is the only
        copy. Raises `VolumeError` (path, format, values that are not finite) or `ResourceError` (disk full); nothing is
        left behind.
        """
        path = Path(path)
        suffix = check_output(path)
        dtype, scaling = self._stored_as(like_input_dtype)
        packed = suffix in (".nii.gz", ".nrrd")
        try:
            header = _header(suffix, self.geometry, dtype, scaling, self.space_code)
            with replacing(path) as part, part.open("wb") as file:
                if suffix == ".nrrd":
                    file.write(header)
                with _gzipped(file) if packed else nullcontext(file) as body:
                    if suffix != ".nrrd":
                        body.write(header)
                    for slab in slabs(self.array.shape):
                        body.write(_encode(self.array[slab], dtype, scaling).data)
        except VolumeError as error:
            raise VolumeError(f"{path}: {error}") from None
        except OSError as error:
            if is_full(error):
                size = self.array.size * np.dtype(dtype).itemsize / 2**20
                raise ResourceError(f"{path}: no room on the disk ({error.strerror}); up to {size:.0f} MiB are wanted") from None
            raise VolumeError(f"{path}: cannot be written ({error.strerror or error})") from None

    def check_write(self, path: str | Path, like_input_dtype: bool = False, geometry: Geometry | None = None) -> None:
        """Raise now what `write` would refuse after the work: the path, or a number type or grid that the format cannot say.

        `geometry` is the grid of the result, where it is not this one's. Raises `VolumeError`.
        """
        suffix = check_output(path)
        try:
            _header(suffix, geometry or self.geometry, *self._stored_as(like_input_dtype), self.space_code)
        except VolumeError as error:
            raise VolumeError(f"{path}: {error}") from None

    def _stored_as(self, like_input_dtype: bool) -> tuple[str, tuple[float, float]]:
        return (self.dtype, self.scaling) if like_input_dtype else ("float32", _UNSCALED)


def read_geometry(path: str | Path, series: str | None = None) -> Geometry:
    """The grid of what `Volume.read` would read, from the header alone. Raises `VolumeError` in the same words."""
    path = Path(path)
    with _naming(path):
        suffix = _suffix_to_read(path)
        if not suffix:
            return read_dicom_geometry(path, series)
        return read_nifti_geometry(path) if suffix.startswith(".nii") else read_itk_geometry(path, suffix)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the path in front of what goes wrong."""
    try:
        yield
    except VolumeError as error:
        raise VolumeError(f"{path}: {error}") from None
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise ResourceError(f"{path}: not enough memory to hold it") from None


def check_output(path: str | Path) -> str:
    """The format (its extension) `path` would be written in; a `VolumeError` now rather than after the work."""
    path = Path(path)
    suffix = _suffix(path)
    if suffix in (".nhdr", ".mhd"):
        raise VolumeError(f"{path}: {suffix} is a pair of files, which cannot appear as one; choose .nrrd or .mha")
    if suffix is None:
        raise VolumeError(f"{path}: unknown extension; one of {', '.join(WRITABLE)} can be written")
    if path.is_dir():
        raise VolumeError(f"{path}: is a folder; a file is wanted")
    if not path.parent.is_dir():
        raise VolumeError(f"{path}: its folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise VolumeError(f"{path}: its folder {path.parent} cannot be written to")
    return suffix


def _suffix(path: Path) -> str | None:
    """The known extension that the file's name ends with, in lower case."""
    return next((suffix for suffix in READABLE if path.name.lower().endswith(suffix)), None)


def _suffix_to_read(path: Path) -> str:
    """The file's known extension; "" for a folder and for a DICOM file."""
    if path.is_dir():
        return ""
    if not path.exists():
        raise VolumeError("no such file or folder")
    if not path.is_file():
        raise VolumeError("not a regular file")
    suffix = _suffix(path)
    if suffix is None and is_dicom(path):
        return ""
    if suffix is None:
        raise VolumeError(f"unknown extension; {', '.join(READABLE)} or a folder of DICOM files can be read")
    if path.stat().st_size == 0:
        raise VolumeError("empty file (0 bytes)")
    return suffix


def _read_file(path: Path, suffix: str) -> tuple[np.ndarray, Geometry, dict[str, Any]]:
    return read_nifti(path) if suffix.startswith(".nii") else read_itk(path, suffix)


def check_voxels(array: np.ndarray) -> None:
    """Refuse values that are not finite, a constant, and what looks like labels; walked slab by slab."""
    bad, low, high = 0, np.inf, -np.inf
    for slab in slabs(array.shape):
        part = array[slab]
        bad += part.size - int(np.count_nonzero(np.isfinite(part)))
        if not bad:
            low, high = min(low, part.min()), max(high, part.max())
    if bad:
        raise VolumeError(f"{bad} of {array.size} voxels are NaN or infinite")
    if low == high:
        raise VolumeError(f"constant image: every voxel is {low:g}")
    values = _few_values(array)
    if values is not None and values.size * 10 <= array.size and (values == np.rint(values)).all():
        raise VolumeError(f"looks like a label map: {values.size} distinct whole numbers from {low:g} to {high:g}; a scan is wanted")


def _few_values(array: np.ndarray) -> np.ndarray | None:
    """The distinct values, or None as soon as there are more than `LABEL_VALUES`; from the middle slice outwards."""
    found = np.empty(0, np.float32)
    for k in sorted(range(len(array)), key=lambda k: abs(k - len(array) // 2)):
        found = np.union1d(found, array[k])
        if found.size > LABEL_VALUES:
            return None
    return found


def _gzipped(file: BinaryIO) -> BinaryIO:
    """No name and no time inside: the same volume gives the same bytes."""
    return cast(BinaryIO, gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=GZIP_LEVEL, mtime=0))


def _encode(part: np.ndarray, dtype: str, scaling: tuple[float, float]) -> np.ndarray:
    """The numbers as stored, little-endian: unscaled, and for integers rounded and clipped."""
    if not np.isfinite(part).all():
        raise VolumeError("the volume to write holds NaN or infinite values")
    slope, intercept = scaling
    numbers = part if scaling == _UNSCALED else (part - np.float64(intercept)) / slope
    if np.issubdtype(np.dtype(dtype), np.integer):
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        top = float(most) if int(float(most)) <= most else np.nextafter(float(most), 0)  # 2^63 - 1 has no float64
        numbers = np.clip(np.rint(numbers.astype(np.float64)), least, top)
    return np.ascontiguousarray(numbers, np.dtype(dtype).newbyteorder("<"))


def _header(suffix: str, geometry: Geometry, dtype: str, scaling: tuple[float, float], space_code: int) -> bytes:
    if suffix.startswith(".nii"):
        return nifti_header(geometry, dtype, scaling, space_code)
    if scaling != _UNSCALED:
        raise VolumeError(f"the input holds {dtype} numbers scaled by {scaling[0]:g}, which only NIfTI can say: choose .nii.gz or float32")
    lps = ras_from_lps(geometry.ijk_to_ras)
    sizes = " ".join(str(n) for n in geometry.shape_kji[::-1])
    lines = _nrrd_lines(lps, sizes, dtype) if suffix == ".nrrd" else _meta_lines(geometry, lps, sizes, dtype)
    return ("\n".join(lines) + "\n").encode("ascii")


def _nrrd_lines(lps: np.ndarray, sizes: str, dtype: str) -> list[str]:
    """Source: teem's NRRD format definition."""
    axes = [f"({','.join(repr(x) for x in column)})" for column in lps[:3].T.tolist()]
    return [
        "NRRD0004",
        f"type: {_NRRD_TYPES.get(dtype, dtype)}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {sizes}",
        f"space directions: {' '.join(axes[:3])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {axes[3]}",
        "",
    ]


def _meta_lines(geometry: Geometry, lps: np.ndarray, sizes: str, dtype: str) -> list[str]:
    """Source: ITK's MetaIO documentation. TransformMatrix is written axis by axis."""

    def words(values: np.ndarray) -> str:
        return " ".join(repr(x) for x in values.ravel().tolist())

    spacing = np.array(geometry.spacing_ijk_mm)
    return [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = False",
        f"TransformMatrix = {words((lps[:3, :3] / spacing).T)}",
        f"Offset = {words(lps[:3, 3])}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {words(spacing)}",
        f"DimSize = {sizes}",
        f"ElementType = MET_{_META_TYPES[dtype]}",
        "ElementDataFile = LOCAL",
    ]
