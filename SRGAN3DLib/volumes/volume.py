"""Volume: a scan in memory, read from and written to the formats of `formats.FORMATS`; read from the DICOM series of a folder.

What each format can hold stands in docs/coordinates.md. Writing needs a header and slabs of voxels only, so no second copy is
held, no matrix is changed, and a file appears under its name only when whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from SRGAN3DLib.contract.errors import JobError, ResourceError, VolumeError

from .acquisition import AcquisitionFacts
from .deflate import Deflated, engine_name
from .files import is_full, replacing
from .formats import READABLE, WRITABLE, Format, check_output, format_to_read
from .geometry import Geometry, slabs
from .label_map import count_labels
from .nifti_header import BOTH_FORMS, Forms
from .voxels import UNSCALED, choose_type, encode, outside, value_range

__all__ = ["READABLE", "WRITABLE", "Volume", "Written", "check_output", "check_voxels", "read_geometry", "read_provenance"]


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan. `array` is float32 (K, J, I), C order, real values (the file's scaling applied).

    `dtype` and `scaling` (slope, intercept) say how the file stored it. `forms` says which of NIfTI's two matrices it has.
    `notes` are sentences about the file that its user should know (two matrices that disagree, say). `path` is where it
    was read from. `acquisition` is what a DICOM series says about how it was acquired; None for other formats.

    >>> volume = Volume.from_array(np.arange(24).reshape(2, 3, 4), np.diag([1.0, 1.0, 3.0, 1.0]))
    >>> volume.geometry.spacing_kji_mm
    (3.0, 1.0, 1.0)
    """

    array: np.ndarray
    geometry: Geometry
    dtype: str = "float32"
    scaling: tuple[float, float] = UNSCALED
    forms: Forms = BOTH_FORMS
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
            raise VolumeError(f"array of shape {np.shape(array)}: it must be (K, J, I)")
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
            form = format_to_read(path)
            array, geometry, facts = form.read(path, series) if form.has_series else form.read(path)
            check_voxels(array, facts.get("dtype", "float32"))
            return Volume(array, geometry, path=path, **facts)

    @property
    def is_non_negative(self) -> bool:
        """True where no voxel is below 0, as in every magnitude scan."""
        return all(bool(self.array[slab].min() >= 0) for slab in slabs(self.array.shape))

    def with_array(self, array: np.ndarray, geometry: Geometry) -> Volume:
        """Another array on another grid, with what is known of this file's type and space."""
        return replace(self, array=array, geometry=geometry, forms=self.forms.moved(self.geometry, geometry))

    def permute(self, order_kji: tuple[int, int, int]) -> Volume:
        """The same scan with its axes in another order: new axis n is the old axis `order_kji[n]`; no voxel moves in space."""
        return self.with_array(self.array.transpose(order_kji), self.geometry.permute(order_kji))

    def write(self, path: str | Path, dtype: str = "auto", provenance: str | None = None) -> Written:
        """Write to .nii.gz, .nii, .nrrd (gzip inside) or .mha (not compressed).

        `dtype`: `auto` keeps the integer type of the input, or the next wider one that holds all values, else it is float32;
        `input` keeps the input's type; or the name of a type. A file that scaled its integers (scl_slope, DICOM's rescale slope)
        keeps that scaling in NIfTI, the only format that can store it. Integers are rounded; what a named type cannot hold is
        clipped, and `Written.notes` says so. `provenance` (JSON text) goes into the header; `read_provenance` gives it back.

        The file appears under its name only when whole; one slab is the only copy. Raises `VolumeError` (path, format, values
        that are not finite), `JobError` (an unknown type, provenance that is no JSON) or `ResourceError` (disk full, memory).
        """
        path = Path(path)
        form = check_output(path)
        try:
            span = value_range(self.array)
            chosen, scaling = choose_type(dtype, span, self.dtype, self.scaling, form.scales)
            assert form.write is not None
            header = form.write(self.geometry, chosen, scaling, self.forms, provenance)
            with replacing(path) as part, part.open("wb") as file:
                _write_body(file, header, form, (encode(self.array[slab], chosen, scaling).data for slab in slabs(self.array.shape)))
        except VolumeError as error:
            raise VolumeError(f"{path}: {error}") from None
        except JobError as error:
            raise JobError(f"{path}: {error}") from None
        except MemoryError:
            raise ResourceError(f"{path}: not enough memory to write it") from None
        except OSError as error:
            if is_full(error):
                size = self.array.size * np.dtype(chosen).itemsize / 2**20
                raise ResourceError(f"{path}: no room on the disk ({error.strerror}); up to {size:.0f} MiB are needed") from None
            raise VolumeError(f"{path}: cannot be written ({error.strerror or error})") from None
        return Written(chosen, scaling, engine_name() if form.packs else "", _losses(span, chosen, scaling))

    def check_write(self, path: str | Path, dtype: str = "auto", geometry: Geometry | None = None) -> None:
        """Raise now what `write` would refuse after the work: the path, or a number type or grid that the format cannot store.

        `geometry` is the grid of the result, where it is not this one's. Raises `VolumeError`, `JobError`.
        """
        form = check_output(path)
        with _naming(Path(path)):
            chosen, scaling = choose_type(dtype, (0.0, 0.0), self.dtype, self.scaling, form.scales)
            assert form.write is not None
            grid = geometry or self.geometry
            form.write(grid, chosen, scaling, self.forms.moved(self.geometry, grid), None)


@dataclass(frozen=True)
class Written:
    """What `Volume.write` did: the number type and its (slope, intercept), what packed the file, and what its user should know."""

    dtype: str
    scaling: tuple[float, float]
    packed_by: str
    notes: tuple[str, ...] = ()


def read_labels(path: str | Path) -> Volume:
    """A mask or label map, which `Volume.read` refuses as a scan. Raises `VolumeError` in the same words."""
    path = Path(path)
    with _naming(path):
        form = format_to_read(path)
        if form.has_series:
            raise VolumeError("a DICOM series; a mask must be a NIfTI, NRRD or MetaImage file")
        array, geometry, facts = form.read(path)
        return Volume(array, geometry, path=path, **facts)


def read_geometry(path: str | Path, series: str | None = None) -> Geometry:
    """The grid of what `Volume.read` would read, from the header alone. Raises `VolumeError` in the same words."""
    path = Path(path)
    with _naming(path):
        form = format_to_read(path)
        return form.read_geometry(path, series) if form.has_series else form.read_geometry(path)


def read_provenance(path: str | Path) -> str | None:
    """The provenance (JSON text) that `Volume.write` put into a file; None where there is none. Raises `VolumeError`."""
    path = Path(path)
    with _naming(path):
        return format_to_read(path).read_provenance(path)


def check_voxels(array: np.ndarray, dtype: str = "float32") -> None:
    """Refuse values that are not finite, a constant, and label maps; walked slab by slab. `dtype` is what the file stored."""
    bad, low, high = 0, math.inf, -math.inf
    for slab in slabs(array.shape):
        part = array[slab]
        bad += part.size - int(np.count_nonzero(np.isfinite(part)))
        if not bad:
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    if bad:
        raise VolumeError(f"{bad} of {array.size} voxels are NaN or infinite")
    if low == high:
        raise VolumeError(f"constant image: every voxel is {low:g}")
    if labels := count_labels(array, dtype):
        raise VolumeError(
            f"looks like a label map: {labels} values from {low:g} to {high:g} in connected pieces of one value; a scan must be given"
        )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the path in front of what goes wrong."""
    try:
        yield
    except VolumeError as error:
        raise VolumeError(f"{path}: {error}") from None
    except ResourceError as error:
        raise ResourceError(f"{path}: {error}") from None
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise ResourceError(f"{path}: not enough memory to hold it") from None


def _write_body(file: BinaryIO, header: bytes, form: Format, voxels: Iterator[Any]) -> None:
    """The header and the voxels, with gzip around what the format packs."""
    packer = Deflated(file) if form.packs else None
    write_voxels: Callable[[Any], Any] = packer.write if packer else file.write
    (write_voxels if form.packs == "file" else file.write)(header)
    for slab in voxels:
        write_voxels(slab)
    if packer:
        packer.close()


def _losses(span: tuple[float, float], dtype: str, scaling: tuple[float, float]) -> tuple[str, ...]:
    """What a number type cost: values beyond its range, and steps that are coarse for the values."""
    beyond = outside(span, dtype, scaling)
    if not beyond:
        return ()
    return (f"values from {span[0]:g} to {span[1]:g} were clipped to what {dtype} can hold, by up to {beyond:g}: choose a wider type",)
