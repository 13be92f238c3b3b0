"""NIfTI files (.nii, .nii.gz): the header to a geometry and back, the voxels slab by slab.

NIfTI-1 and NIfTI-2 single files are read, NIfTI-1 single files are written. Errors are `VolumeError`s without the file's name:
`Volume.read` puts it in front.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .deflate import EXPANSION_LIMIT, Inflated, Source, finish
from .geometry import Geometry, volume_shape
from .nifti_header import CODES, Forms, nifti_header, qform_matrix, read_exactly, read_header
from .provenance import NAME, one_line
from .voxels import UNSCALED, Scaling, Shape, read_voxels

_ALIGNED = 2  # the code of a matrix that leads to some place, not surely the scanner's
_LABEL_INTENTS = {1002: "label", 1005: "a name of brain anatomy"}
_DISAGREEMENT_MM = 0.1
_SPACING_TOLERANCE = 1e-3  # of the spacing
_OFFSET_LIMIT = 2**26  # bytes before the voxels
_COMMENT = 6  # the extension code for plain text
_REFUSED = {1: "1-bit", 32: "complex", 128: "RGB", 1536: "128-bit", 1792: "complex", 2048: "complex", 2304: "RGBA"}
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}


def read_nifti(path: Path) -> tuple[np.ndarray, Geometry, dict[str, Any]]:
    """(array float32 (K, J, I), geometry, other fields of `Volume`). Holds the array and one slab, no more."""
    size = path.stat().st_size
    with _opened(path) as source:
        header = read_header(source)
        shape, stored, scaling = _voxel_layout(header)
        geometry, forms, notes = _geometry(header, shape)
        offset = _offset(header)
        packed = isinstance(source, Inflated)
        described = offset + stored.itemsize * int(np.prod(shape, dtype=object))
        if described > size * (EXPANSION_LIMIT if packed else 1):
            raise VolumeError(f"truncated: {size} bytes{' of gzip' if packed else ''}, its header describes {described}")
        read_exactly(source, offset - header.dtype.itemsize, "bytes before the voxels")
        array = read_voxels(source.read, shape, stored, scaling)
        if isinstance(source, Inflated):
            notes += finish(source)
    return array, geometry, {"dtype": stored.newbyteorder("=").name, "scaling": scaling, "forms": forms, "notes": notes}


def read_nifti_geometry(path: Path) -> Geometry:
    """What `read_nifti` would find, from the header alone."""
    with _opened(path) as source:
        header = read_header(source)
    return _geometry(header, _voxel_layout(header)[0])[0]


def read_nifti_provenance(path: Path) -> str | None:
    """The provenance text of a comment extension; None where there is none."""
    with _opened(path) as source:
        header = read_header(source)
        rest = read_exactly(source, _offset(header) - header.dtype.itemsize, "extensions")
    start, order = 4, ">" if header.dtype["sizeof_hdr"].byteorder == ">" else "<"
    while rest[:1] != b"\0" and start + 8 <= len(rest):
        length, code = struct.unpack_from(order + "ii", rest, start)
        text = rest[start + 8 : start + length].rstrip(b"\0")
        if code == _COMMENT and text.startswith(NAME.encode()):
            return text[len(NAME) + 1 :].decode("utf-8", "replace")
        if length < 8:
            break
        start += length
    return None


def nifti_start(geometry: Geometry, dtype: str, scaling: Scaling, forms: Forms, provenance: str | None = None) -> bytes:
    """The bytes before the voxels. `provenance` (JSON text) goes into a comment extension, and `descrip` points to it."""
    if not provenance:
        return nifti_header(geometry, dtype, scaling, forms)
    text = f"{NAME} {one_line(provenance)}".encode("ascii")
    length = -(-(len(text) + 8) // 16) * 16
    extension = struct.pack("<ii", length, _COMMENT) + text.ljust(length - 8, b"\0")
    return nifti_header(geometry, dtype, scaling, forms, "SRGAN3D; provenance in the header's comment extension", extension)


@contextmanager
def _opened(path: Path) -> Iterator[Source]:
    """The file's content, unpacked where it is gzip (its bytes decide, not its name)."""
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        yield Inflated(plain) if packed else plain


def _finite(header: Any, name: str) -> float:
    value = float(header[name])
    if not np.isfinite(value):
        raise VolumeError(f"its header's {name} is {value}")
    return value


def _offset(header: Any) -> int:
    """The byte where the voxels begin."""
    offset = max(int(_finite(header, "vox_offset")), header.dtype.itemsize + 4)
    if offset > _OFFSET_LIMIT:
        raise VolumeError(f"its header's vox_offset is {offset}: at most {_OFFSET_LIMIT} bytes can lie before the voxels")
    return offset


def _voxel_layout(header: Any) -> tuple[Shape, np.dtype, Scaling]:
    """(shape (K, J, I), type of the stored numbers, (slope, intercept)), or a `VolumeError` for what is no scalar volume."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise VolumeError(f"its header's dim[0] is {count}: 1 to 7 is possible")
    sizes = [int(n) for n in header["dim"][1 : count + 1]]
    if count >= 5 and sizes[4] != 1:
        raise VolumeError(f"{sizes[4]} components per voxel: one number per voxel must be stored")
    shape = volume_shape(sizes)
    code = int(header["datatype"])
    if code not in CODES:
        raise VolumeError(f"{_REFUSED.get(code, 'unknown')} voxels (datatype {code}): one plain number per voxel must be stored")
    intent = int(header["intent_code"])
    if intent in _LABEL_INTENTS:
        raise VolumeError(f"looks like a label map (its NIfTI intent {intent} is {_LABEL_INTENTS[intent]}): a scan must be given")
    slope = float(header["scl_slope"])
    scaling = (slope, _finite(header, "scl_inter")) if np.isfinite(slope) and slope != 0 else UNSCALED
    return shape, np.dtype(CODES[code]).newbyteorder(header.dtype["sizeof_hdr"].byteorder), scaling


@np.errstate(invalid="ignore")  # damaged NaNs make numpy warn where they are converted
def _geometry(header: Any, shape: Shape) -> tuple[Geometry, Forms, tuple[str, ...]]:
    """The sform where coded, else the qform, else pixdim about the grid's centre (nibabel's convention); both forms; notes.

    A coded matrix that is not usable is left out where the other one is: the file still says one place.
    """
    unit = int(header["xyzt_units"]) & 7
    to_mm = np.array([[_MM_PER_UNIT.get(unit, 1.0)]] * 3 + [[1.0]])
    notes: tuple[str, ...] = (f"its header counts in {_UNIT_NAMES[unit]}: turned into mm",) if unit in _MM_PER_UNIT else ()
    codes = {name: int(header[f"{name}_code"]) for name in ("sform", "qform")}
    found: dict[str, Geometry] = {}
    faults: dict[str, VolumeError] = {}
    for name, code in codes.items():
        if code > 0:
            try:
                found[name] = Geometry(shape, to_mm * (_sform_matrix(header) if name == "sform" else _checked_qform(header)))
            except VolumeError as error:
                faults[name] = error
    if not found and faults:
        raise faults[min(faults, key=lambda name: name != "sform")]
    notes += tuple(f"its {name} is left out, it is no matrix of a grid ({error})" for name, error in faults.items())
    if not found:
        pixdim = _spacing(header)
        matrix = np.diag([-pixdim[0], pixdim[1], pixdim[2], 1.0])
        matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
        note = "it has neither sform nor qform: its place and orientation are a guess (centred, I to the left)"
        return Geometry(shape, to_mm * matrix), Forms(_ALIGNED, _ALIGNED), (*notes, note)
    if "sform" not in found:
        return found["qform"], Forms(0, codes["qform"]), notes
    if "qform" not in found:
        return found["sform"], Forms(codes["sform"], 0), notes + _spacing_notes(header, found["sform"], float(to_mm[0, 0]))
    distance = found["qform"].box_distance_mm(found["sform"])
    if distance > _DISAGREEMENT_MM:
        notes += (f"its sform and qform lie {distance:.3g} mm apart: the sform is used, the result keeps both",)
    return found["sform"], Forms(codes["sform"], codes["qform"], found["qform"].ijk_to_ras), notes


def _sform_matrix(header: Any) -> np.ndarray:
    return np.append(np.asarray(header["srow"], np.float64), [0, 0, 0, 1]).reshape(4, 4)


def _spacing(header: Any) -> np.ndarray:
    """pixdim of I, J, K, checked."""
    pixdim = np.asarray(header["pixdim"][1:4], np.float64)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise VolumeError(f"voxel spacing {pixdim.tolist()} (pixdim of I, J, K): it must be above 0")
    return pixdim


def _checked_qform(header: Any) -> np.ndarray:
    _spacing(header)
    quaternion = np.array([float(header[f"quatern_{axis}"]) for axis in "bcd"])
    if not np.isfinite(quaternion).all() or np.linalg.norm(quaternion) > 1.01:
        raise VolumeError(f"its quaternion {quaternion.tolist()} is no rotation")
    return qform_matrix(header)


def _spacing_notes(header: Any, geometry: Geometry, unit_mm: float) -> tuple[str, ...]:
    """A note where pixdim is another spacing than that of the sform, which some programs take it for."""
    pixdim = np.asarray(header["pixdim"][1:4], np.float64) * unit_mm
    spacing = np.array(geometry.spacing_ijk_mm)
    if np.allclose(pixdim, spacing, rtol=_SPACING_TOLERANCE, atol=0):
        return ()
    said, used = (" x ".join(f"{mm:.4g}" for mm in values) for values in (pixdim, spacing))
    return (f"its pixdim states a spacing of {said} mm, its sform {used} mm: the sform is used",)
