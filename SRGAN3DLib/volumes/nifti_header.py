"""The header of a NIfTI file: its fields, and its two matrices as quaternion and rows.

Done here, because SimpleITK refuses a sheared sform without a qform and silently makes it orthogonal on writing, and Slicer's
Python has no nibabel. Source: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .deflate import Source
from .geometry import Geometry
from .voxels import Scaling

QFORM_TOLERANCE_MM = 1e-4
CODES = {2: "uint8", 4: "int16", 8: "int32", 16: "float32", 64: "float64"}
CODES |= {256: "int8", 512: "uint16", 768: "uint32", 1024: "int64", 1280: "uint64"}


def _layout(fields: str) -> np.dtype:
    return np.dtype([tuple(field.split()) for field in fields.split(",")])  # type: ignore[misc]


_ORIENTATION1 = "qform_code i2, sform_code i2, quatern_b f4, quatern_c f4, quatern_d f4, qoffset 3f4, srow 12f4"
_ORIENTATION2 = "qform_code i4, sform_code i4, quatern_b f8, quatern_c f8, quatern_d f8, qoffset 3f8, srow 12f8"
_NIFTI1 = _layout(
    "sizeof_hdr i4, unused_1 V35, dim_info u1, dim 8i2, intent_p 3f4, intent_code i2, datatype i2, bitpix i2, slice_start i2, "
    "pixdim 8f4, vox_offset f4, scl_slope f4, scl_inter f4, slice_end i2, slice_code u1, xyzt_units u1, unused_2 V24, descrip S80, "
    f"aux_file S24, {_ORIENTATION1}, intent_name V16, magic S4"
)
_NIFTI2 = _layout(
    "sizeof_hdr i4, magic S8, datatype i2, bitpix i2, dim 8i8, intent_p 3f8, pixdim 8f8, vox_offset i8, scl_slope f8, scl_inter f8, "
    f"unused_1 V48, descrip S80, aux_file S24, {_ORIENTATION2}, slice_code i4, xyzt_units i4, intent_code i4, intent_name V16, "
    "dim_info u1, unused_2 V15"
)


@dataclass(frozen=True, eq=False)
class Forms:
    """Which of NIfTI's two matrices a volume has, and where they lead: 0 no matrix, 1 the scanner, 2 another scan, 3 Talairach, 4 MNI.

    The volume's geometry is the sform where that is coded, else the qform. `qform` (4x4, IJK to RAS, mm) is given where it is
    another matrix than the geometry's.
    """

    sform_code: int = 1
    qform_code: int = 1
    qform: np.ndarray | None = None

    def moved(self, old: Geometry, new: Geometry) -> Forms:
        """The forms on another grid: the qform takes the same step in voxels from its old to its new matrix as the geometry does."""
        if self.qform is None or old == new:
            return self
        return replace(self, qform=self.qform @ np.linalg.inv(old.ijk_to_ras) @ new.ijk_to_ras)


BOTH_FORMS = Forms()


def read_header(source: Source) -> Any:
    """The header's fields, by nifti1.h's names. Raises `VolumeError` for what is no single-file NIfTI-1 or NIfTI-2."""
    raw = read_exactly(source, 348, "NIfTI header")
    for layout, magic in ((_NIFTI1, b"n+1"), (_NIFTI2, b"n+2")):
        for order in ("<", ">"):
            if int(np.frombuffer(raw, order + "i4", 1)[0]) != layout.itemsize:
                continue
            raw += read_exactly(source, layout.itemsize - 348, "NIfTI-2 header")
            header = np.frombuffer(raw, layout.newbyteorder(order))[0]
            if not header["magic"].startswith(magic):
                raise VolumeError(f"not a single NIfTI file: its magic word is {bytes(header['magic'])!r}, it must be {magic.decode()}")
            return header
    raise VolumeError("not a NIfTI file")


def read_exactly(source: Source | BinaryIO, count: int, what: str) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise VolumeError(f"truncated: {len(data)} bytes of {count} in its {what}")
    return data


def nifti_header(geometry: Geometry, dtype: str, scaling: Scaling, forms: Forms, descrip: str = "", extension: bytes = b"") -> bytes:
    """The bytes before the voxels of a NIfTI-1 file: the header and its extension.

    The sform is the geometry in float32, where it is coded. The qform holds neither shear nor, in float32, a rotation close to 180
    degrees precisely; where its box would be off by more than 1e-4 mm it is left out rather than written wrongly, and the
    geometry stands in the sform. Raises `VolumeError` for more voxels along an axis than NIfTI-1 counts.
    """
    if max(geometry.shape_kji) > 32767:
        raise VolumeError(f"shape {geometry.shape_kji} (K, J, I): NIfTI-1 holds at most 32767 voxels along an axis; choose .nrrd")
    header = np.zeros((), _NIFTI1)
    header["sizeof_hdr"], header["magic"], header["vox_offset"] = 348, b"n+1", 352 + len(extension)
    header["dim"] = [3, *geometry.shape_kji[::-1], 1, 1, 1, 1]
    header["datatype"] = next(code for code, name in CODES.items() if name == dtype)
    header["bitpix"] = np.dtype(dtype).itemsize * 8
    header["scl_slope"], header["scl_inter"] = scaling
    header["xyzt_units"], header["descrip"] = 2, descrip.encode("ascii", "replace")[:79]  # 2: mm
    header["pixdim"] = [1, *geometry.spacing_ijk_mm, 0, 0, 0, 0]
    sform_code, qform_code = forms.sform_code, 0
    if forms.qform_code > 0:
        qform = geometry if forms.qform is None else Geometry(geometry.shape_kji, forms.qform)
        if _set_qform(header, qform):
            qform_code = forms.qform_code
        else:
            _set_qform(header, geometry)
            header["pixdim"][1:4] = geometry.spacing_ijk_mm
            sform_code = sform_code or forms.qform_code
    header["qform_code"], header["sform_code"] = qform_code, sform_code
    if sform_code > 0:
        header["srow"] = geometry.ijk_to_ras[:3].ravel()
    flag = bytes([1, 0, 0, 0]) if extension else bytes(4)
    return header.astype(_NIFTI1.newbyteorder("<")).tobytes() + flag + extension


def qform_matrix(header: Any) -> np.ndarray:
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


def _set_qform(header: Any, geometry: Geometry) -> bool:
    """Quaternion of the nearest rotation, with qfac -1 where the grid is left-handed; True where it says the same as the geometry."""
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
    header["pixdim"][:4] = -1 if geometry.is_left_handed else 1, *geometry.spacing_ijk_mm
    return Geometry(geometry.shape_kji, qform_matrix(header)).box_distance_mm(geometry) <= QFORM_TOLERANCE_MM
