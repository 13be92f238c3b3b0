"""NIfTI files (.nii, .nii.gz): the header to a matrix and back, the voxels slab by slab.

Done here with numpy and gzip alone, because SimpleITK refuses a sheared sform without a qform on reading and silently makes
it orthogonal on writing, and Slicer's Python has no nibabel. NIfTI-1 and NIfTI-2 are read, NIfTI-1 single files written.
Source: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.

Errors are `VolumeError`s without the file's name: `Volume.read` puts it in front.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .geometry import Geometry, slabs, volume_shape

_ALIGNED = 2  # NIfTI's code for a matrix that leads to some place, not surely the scanner's
_LABEL_INTENT = 1002
_QFORM_TOLERANCE_MM = 1e-4
_DISAGREEMENT_MM = 0.1
_DEFLATE_LIMIT = 1100  # no deflate stream expands by more than 1032
_TYPES = {2: "uint8", 4: "int16", 8: "int32", 16: "float32", 64: "float64"}
_TYPES |= {256: "int8", 512: "uint16", 768: "uint32", 1024: "int64", 1280: "uint64"}
_REFUSED = {1: "1-bit", 32: "complex", 128: "RGB", 1536: "128-bit", 1792: "complex", 2048: "complex", 2304: "RGBA"}
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}


def _layout(fields: str) -> np.dtype:
    return np.dtype([tuple(field.split()) for field in fields.split(",")])  # type: ignore[misc]


_ORIENTATION1 = "qform_code i2, sform_code i2, quatern_b f4, quatern_c f4, quatern_d f4, qoffset 3f4, srow 12f4"
_ORIENTATION2 = "qform_code i4, sform_code i4, quatern_b f8, quatern_c f8, quatern_d f8, qoffset 3f8, srow 12f8"
_NIFTI1 = _layout(
    "sizeof_hdr i4, unused_1 V35, dim_info u1, dim 8i2, intent_p 3f4, intent_code i2, datatype i2, bitpix i2, slice_start i2, "
    "pixdim 8f4, vox_offset f4, scl_slope f4, scl_inter f4, slice_end i2, slice_code u1, xyzt_units u1, unused_2 V24, text V104, "
    f"{_ORIENTATION1}, intent_name V16, magic S4"
)
_NIFTI2 = _layout(
    "sizeof_hdr i4, magic S8, datatype i2, bitpix i2, dim 8i8, intent_p 3f8, pixdim 8f8, vox_offset i8, scl_slope f8, scl_inter f8, "
    f"unused_1 V48, text V104, {_ORIENTATION2}, slice_code i4, xyzt_units i4, intent_code i4, intent_name V16, dim_info u1, unused_2 V15"
)


def read_nifti(path: Path) -> tuple[np.ndarray, Geometry, dict[str, Any]]:
    """(array float32 (K, J, I), geometry, other fields of `Volume`). Holds the array and one slab, no more."""
    size = path.stat().st_size
    with path.open("rb") as plain:
        file, packed = _unpacked(plain)
        try:
            header = _read_header(file)
            shape, stored, scaling = _voxel_layout(header)
            geometry, notes = _geometry(header, shape)
            offset = max(int(_finite(header, "vox_offset")), header.dtype.itemsize + 4)
            wanted = offset + stored.itemsize * int(np.prod(shape, dtype=object))
            if wanted > size * (_DEFLATE_LIMIT if packed else 1):
                raise VolumeError(f"truncated: {size} bytes{' of gzip' if packed else ''}, its header tells of {wanted}")
            file.seek(offset)
            array = _read_voxels(file, shape, stored, scaling)
            while packed and file.read(2**20):  # on to the end, where gzip keeps its checksum
                pass
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise VolumeError(f"truncated or damaged gzip data ({error})") from None
    code = int(header["sform_code"]) if header["sform_code"] > 0 else int(header["qform_code"])
    facts = {"dtype": stored.newbyteorder("=").name, "scaling": scaling, "space_code": code if code > 0 else _ALIGNED}
    return array, geometry, {**facts, "notes": notes}


def read_nifti_geometry(path: Path) -> Geometry:
    """What `read_nifti` would find, from the header alone."""
    with path.open("rb") as plain:
        try:
            header = _read_header(_unpacked(plain)[0])
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise VolumeError(f"truncated or damaged gzip data ({error})") from None
    return _geometry(header, _voxel_layout(header)[0])[0]


def _unpacked(plain: BinaryIO) -> tuple[BinaryIO, bool]:
    """The file's content, and whether gzip lies around it (its bytes tell, not its name)."""
    packed = plain.read(2) == b"\x1f\x8b"
    plain.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=plain) if packed else plain), packed


def nifti_header(geometry: Geometry, dtype: str, scaling: tuple[float, float], space_code: int) -> bytes:
    """The 352 bytes before the voxels of a .nii: sform = the matrix in float32; qform too where it can say the same.

    A quaternion holds neither shear nor, in float32, a rotation close to 180 degrees precisely; where its box is off by
    more than 1e-4 mm the qform is left out rather than contradict the sform.
    """
    if max(geometry.shape_kji) > 32767:
        raise VolumeError(f"shape {geometry.shape_kji} (K, J, I): NIfTI-1 holds at most 32767 voxels along an axis; choose .nrrd")
    header = np.zeros((), _NIFTI1)
    header["sizeof_hdr"], header["magic"], header["vox_offset"] = 348, b"n+1", 352
    header["dim"] = [3, *geometry.shape_kji[::-1], 1, 1, 1, 1]
    header["datatype"] = next(code for code, name in _TYPES.items() if name == dtype)
    header["bitpix"] = np.dtype(dtype).itemsize * 8
    header["scl_slope"], header["scl_inter"] = scaling
    header["xyzt_units"] = 2  # mm
    header["pixdim"] = [1, *geometry.spacing_ijk_mm, 0, 0, 0, 0]
    header["sform_code"], header["srow"] = space_code, geometry.ijk_to_ras[:3].ravel()
    _set_quaternion(header, geometry)
    same = Geometry(geometry.shape_kji, _qform(header)).box_distance_mm(geometry) <= _QFORM_TOLERANCE_MM
    header["qform_code"] = space_code if same else 0
    return header.astype(_NIFTI1.newbyteorder("<")).tobytes() + bytes(4)


def _read_exactly(file: BinaryIO, count: int, what: str) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise VolumeError(f"truncated: {len(data)} bytes of {count} in its {what}")
    return data


def _read_header(file: BinaryIO) -> Any:
    raw = _read_exactly(file, 348, "NIfTI header")
    for layout, magic in ((_NIFTI1, b"n+1"), (_NIFTI2, b"n+2")):
        for order in ("<", ">"):
            if int(np.frombuffer(raw, order + "i4", 1)[0]) != layout.itemsize:
                continue
            raw += _read_exactly(file, layout.itemsize - 348, "NIfTI-2 header")
            header = np.frombuffer(raw, layout.newbyteorder(order))[0]
            if not header["magic"].startswith(magic):
                raise VolumeError(f"not a single NIfTI file: its magic word is {bytes(header['magic'])!r} ({magic.decode()} is wanted)")
            return header
    raise VolumeError("not a NIfTI file")


def _finite(header: Any, name: str) -> float:
    value = float(header[name])
    if not np.isfinite(value):
        raise VolumeError(f"its header's {name} is {value}")
    return value


def _voxel_layout(header: Any) -> tuple[tuple[int, int, int], np.dtype, tuple[float, float]]:
    """(shape (K, J, I), type of the stored numbers, (slope, intercept)), or a `VolumeError` for what is no scalar volume."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise VolumeError(f"its header's dim[0] is {count}: 1 to 7 is possible")
    sizes = [int(n) for n in header["dim"][1 : count + 1]]
    if count >= 5 and sizes[4] != 1:
        raise VolumeError(f"{sizes[4]} components per voxel: one number per voxel is wanted")
    shape = volume_shape(sizes)
    code = int(header["datatype"])
    if code not in _TYPES:
        raise VolumeError(f"{_REFUSED.get(code, 'unknown')} voxels (datatype {code}): one plain number per voxel is wanted")
    if int(header["intent_code"]) == _LABEL_INTENT:
        raise VolumeError("looks like a label map (its NIfTI intent is label): a scan is wanted")
    slope = float(header["scl_slope"])
    scaling = (slope, _finite(header, "scl_inter")) if np.isfinite(slope) and slope != 0 else (1.0, 0.0)
    return shape, np.dtype(_TYPES[code]).newbyteorder(header.dtype["sizeof_hdr"].byteorder), scaling


def _read_voxels(file: BinaryIO, shape: tuple[int, int, int], stored: np.dtype, scaling: tuple[float, float]) -> np.ndarray:
    array = np.empty(shape, np.float32)
    done = 0
    for slab in slabs(shape):
        target = array[slab]
        data = file.read(target.size * stored.itemsize)
        done += len(data)
        if len(data) < target.size * stored.itemsize:
            raise VolumeError(f"truncated: {done} bytes of voxels, its header tells of {array.size * stored.itemsize}")
        numbers = np.frombuffer(data, stored).reshape(target.shape)
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is refused with its count
            target[...] = numbers if scaling == (1.0, 0.0) else numbers * scaling[0] + scaling[1]
    return array


def _geometry(header: Any, shape: tuple[int, int, int]) -> tuple[Geometry, tuple[str, ...]]:
    """sform where coded, else qform, else pixdim about the grid's centre (nibabel's convention); and what is worth telling."""
    pixdim = np.asarray(header["pixdim"][1:4], np.float64)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise VolumeError(f"voxel spacing {pixdim.tolist()} (pixdim of I, J, K): above 0 is wanted")
    notes = []
    unit = int(header["xyzt_units"]) & 7
    to_mm = np.array([[_MM_PER_UNIT.get(unit, 1.0)]] * 3 + [[1.0]])
    if unit in _MM_PER_UNIT:
        notes.append(f"its header counts in {_UNIT_NAMES[unit]}: turned into mm")
    by_qform = Geometry(shape, to_mm * _qform(header)) if header["qform_code"] > 0 else None
    if header["sform_code"] > 0:
        rows = np.append(np.asarray(header["srow"], np.float64), [0, 0, 0, 1]).reshape(4, 4)
        geometry = Geometry(shape, to_mm * rows)
        distance = by_qform.box_distance_mm(geometry) if by_qform else 0.0
        if distance > _DISAGREEMENT_MM:
            notes.append(f"its sform and qform lie {distance:.3g} mm apart: the sform is used")
    elif by_qform:
        geometry = by_qform
    else:
        matrix = np.diag([-pixdim[0], pixdim[1], pixdim[2], 1.0])
        matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
        geometry = Geometry(shape, to_mm * matrix)
        notes.append("it has neither sform nor qform: its place and orientation are a guess (centred, I to the left)")
    return geometry, tuple(notes)


def _qform(header: Any) -> np.ndarray:
    """(4, 4) from quaternion, offsets, pixdim and qfac. Method 2 of nifti1.h."""
    b, c, d = (float(header[f"quatern_{axis}"]) for axis in "bcd")
    square = 1 - b * b - c * c - d * d
    a = np.sqrt(square) if square > 1e-7 else 0.0
    if not a:  # half a turn: the three are a unit vector up to rounding
        b, c, d = np.array([b, c, d]) / np.sqrt(1 - square)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    left_handed = header["pixdim"][0] < 0
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.asarray(header["pixdim"][1:4], np.float64) * [1, 1, -1 if left_handed else 1]
    matrix[:3, 3] = header["qoffset"]
    return matrix


def _set_quaternion(header: Any, geometry: Geometry) -> None:
    """Quaternion of the nearest rotation, with qfac -1 where the grid is left-handed."""
    axes = geometry.directions * [1, 1, -1 if geometry.is_left_handed else 1]
    u, _, v = np.linalg.svd(axes)
    r = u @ v
    # The unit quaternion is the eigenvector of the largest eigenvalue of this matrix (Bar-Itzhack 2000).
    m = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [0, r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [0, 0, r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
            [0, 0, 0, r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    quaternion = np.linalg.eigh(m, UPLO="U")[1][:, -1]
    quaternion *= 1 if quaternion[0] >= 0 else -1
    for axis, value in zip("bcd", quaternion[1:], strict=True):
        header[f"quatern_{axis}"] = value
    header["qoffset"] = geometry.ijk_to_ras[:3, 3]
    header["pixdim"][0] = -1 if geometry.is_left_handed else 1
