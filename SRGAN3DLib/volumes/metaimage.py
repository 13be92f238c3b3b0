"""MetaImage files (.mha, .mhd): the header checked and read here, the voxels plain, zlib or text.

Source: ITK's MetaIO documentation. Errors are `VolumeError`s without the file's name: `Volume.read` puts it in front.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .bodies import Body, Packing
from .geometry import Geometry, ras_from_lps, volume_shape
from .provenance import from_pieces, pieces
from .text_header import (
    Lines,
    check_dimensions,
    check_sizes,
    find_data_file,
    find_slice_files,
    names_of_pattern,
    real_numbers,
    shown,
    whole_numbers,
)

_TYPES = {"int8": "CHAR", "uint8": "UCHAR", "int16": "SHORT", "uint16": "USHORT", "int32": "INT", "uint32": "UINT"}
_TYPES |= {"int64": "LONG_LONG", "uint64": "ULONG_LONG", "float32": "FLOAT", "float64": "DOUBLE"}
_READ = {f"MET_{word}": name for name, word in _TYPES.items()} | {"MET_LONG": "int32", "MET_ULONG": "uint32"}
_ALIKE = {"origin": "offset", "position": "offset", "rotation": "transformmatrix", "orientation": "transformmatrix"}
_ALIKE |= {"elementbyteordermsb": "binarydatabyteordermsb"}

Fields = dict[str, str]


def read_metaimage(path: Path) -> tuple[np.ndarray, Geometry, dict[str, Any]]:
    """(array float32 (K, J, I), geometry, other fields of `Volume`)."""
    fields, names, end = _read_header(path)
    geometry, notes = _geometry(fields)
    word = _field(fields, "elementtype").upper()
    if word not in _READ:
        raise VolumeError(f"its header's ElementType is {shown(word)}: one plain number per voxel must be stored")
    stored = np.dtype(_READ[word])
    body = _body(path, fields, names, end, geometry.shape_kji[0])
    if body.packing != "text":
        stored = stored.newbyteorder(">" if _is_true(fields, "binarydatabyteordermsb") else "<")
    array, more = body.read(geometry.shape_kji, stored)
    return array, geometry, {"dtype": stored.newbyteorder("=").name, "notes": (*notes, *more)}


def read_metaimage_geometry(path: Path) -> Geometry:
    """What `read_metaimage` would find, from the header alone."""
    return _geometry(_read_header(path)[0])[0]


def read_metaimage_provenance(path: Path) -> str | None:
    """The provenance text of the header; None where there is none."""
    fields = _read_header(path)[0]
    return from_pieces((re.sub("^srgan3d", "SRGAN3D", key), value) for key, value in fields.items())


def metaimage_header(geometry: Geometry, dtype: str, provenance: str | None = None) -> bytes:
    """The header before the plain voxels of a .mha, in LPS. TransformMatrix is written axis by axis."""

    def words(values: np.ndarray) -> str:
        return " ".join(repr(x) for x in values.ravel().tolist())

    lps, spacing = ras_from_lps(geometry.ijk_to_ras), np.array(geometry.spacing_ijk_mm)
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = False",
        f"TransformMatrix = {words((lps[:3, :3] / spacing).T)}",
        f"Offset = {words(lps[:3, 3])}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {words(spacing)}",
        f"DimSize = {' '.join(str(n) for n in geometry.shape_kji[::-1])}",
        f"ElementType = MET_{_TYPES[dtype]}",
    ]
    lines += [f"{key} = {piece}" for key, piece in (pieces(provenance) if provenance else [])]
    return ("\n".join([*lines, "ElementDataFile = LOCAL"]) + "\n").encode("ascii")


def _read_header(path: Path) -> tuple[Fields, tuple[str, ...], int]:
    """(fields with their names in lower case, the file names behind `ElementDataFile = LIST`, the byte where the header ends)."""
    fields: Fields = {}
    with path.open("rb") as file:
        lines = Lines(file)
        while (line := lines.next()) is not None:
            if not line.strip():
                continue
            match = re.match(r"\s*([A-Za-z]\w*)\s*[=:] ?(.*)", line)
            if not match:
                raise VolumeError(f"its header has a line {shown(line)}, which is no field: damaged, truncated or not of its format")
            name = _ALIKE.get(match[1].lower(), match[1].lower())
            value = match[2] if name.startswith("srgan3d") else match[2].strip()
            fields.setdefault(name, value)
            if name == "elementdatafile":
                names = []
                if value.split()[:1] == ["LIST"]:
                    while one := lines.next():
                        names.append(one.strip())
                return fields, tuple(names), file.tell()
    raise VolumeError("its header has no ElementDataFile: damaged, truncated or not of its format")


def _field(fields: Fields, name: str) -> str:
    if name not in fields:
        raise VolumeError(f"its header has no field {name}: damaged, truncated or not of its format")
    return fields[name]


def _is_true(fields: Fields, name: str, default: str = "False") -> bool:
    word = fields.get(name, default).lower()
    if word not in ("true", "false", "1", "0"):
        raise VolumeError(f"its header's {name} is {shown(word)}: True or False must stand there")
    return word in ("true", "1")


def _geometry(fields: Fields) -> tuple[Geometry, tuple[str, ...]]:
    """The grid that the header describes, and notes on what it leaves open."""
    if fields.get("objecttype", "Image").lower() != "image":
        raise VolumeError(f"its ObjectType is {shown(fields['objecttype'])}: an Image must be given")
    count = check_dimensions(whole_numbers(_field(fields, "ndims"), "NDims", 1)[0], "NDims")
    sizes = check_sizes(whole_numbers(_field(fields, "dimsize"), "DimSize", count), "DimSize")
    channels = whole_numbers(fields.get("elementnumberofchannels", "1"), "ElementNumberOfChannels", 1)[0]
    if channels != 1:
        raise VolumeError(f"{channels} components per voxel: one number per voxel must be stored")
    shape, notes = volume_shape(sizes), []
    spacing = np.ones(count)
    if text := fields.get("elementspacing", fields.get("elementsize")):
        spacing = np.array(real_numbers(text.split(), "ElementSpacing", count))
    else:
        notes.append("its header states no voxel spacing: 1 mm is assumed")
    if not (np.isfinite(spacing).all() and (spacing[:3] > 0).all()):
        raise VolumeError(f"voxel spacing {spacing[:3].tolist()} mm (I, J, K): it must be above 0")
    axes = np.eye(count)  # a row for each axis
    if text := fields.get("transformmatrix"):
        axes = np.array(real_numbers(text.split(), "TransformMatrix", count * count)).reshape(count, count)
    offset = np.zeros(count)
    if text := fields.get("offset"):
        offset = np.array(real_numbers(text.split(), "Offset", count))
    if "transformmatrix" not in fields and "offset" not in fields:
        notes.append("its header states neither place nor orientation: I to the left, J to the back, K to the head from 0 are assumed")
    matrix = np.eye(4)
    matrix[:3, :3] = axes[:3, :3].T * spacing[:3]
    matrix[:3, 3] = offset[:3]
    return Geometry(shape, ras_from_lps(matrix)), tuple(notes)


def _body(path: Path, fields: Fields, listed: tuple[str, ...], end: int, slices: int) -> Body:
    name = fields["elementdatafile"]
    skip = whole_numbers(fields.get("headersize", "0"), "HeaderSize", 1)[0]
    files: tuple[Path, ...]
    if name.lower() == "local":
        files, start = (path,), end
    elif name.split()[:1] == ["LIST"]:
        files, start = tuple(find_slice_files(path, listed, slices)), skip
    elif "%" in name:
        files, start = tuple(find_slice_files(path, names_of_pattern(name), slices)), skip
    else:
        files, start = (find_data_file(path, name),), skip
    packing: Packing = "raw"
    if not _is_true(fields, "binarydata", "True"):
        packing = "text"
    elif _is_true(fields, "compresseddata"):
        packing = "zlib"
    if start < -1 or (start == -1 and packing != "raw"):
        raise VolumeError(f"its header's HeaderSize is {start}: not possible with {packing} data")
    return Body(files, start, packing)
