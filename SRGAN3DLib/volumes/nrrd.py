"""NRRD files (.nrrd, .nhdr): the header checked and read here, the voxels raw, gzip, bzip2 or text.

Source: teem's NRRD format definition. Errors are `VolumeError`s without the file's name: `Volume.read` puts it in front.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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

_PACKINGS: dict[str, Packing] = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_PACKINGS |= dict.fromkeys(("text", "txt", "ascii"), "text")
_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "": 1.0, "cm": 10.0, "m": 1000.0, "meter": 1000.0, "metre": 1000.0}
_MM_PER_UNIT |= dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 0.001) | {"nm": 1e-6}
_TO_LPS = {"left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1), "left-anterior-superior": (1, -1, 1)}
_TO_LPS |= {"lps": (1, 1, 1), "ras": (-1, -1, 1), "las": (1, -1, 1)}
_OTHER_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
_ALIKE = {
    "centers": "centerings",
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "axismins": "axis mins",
    "axismaxs": "axis maxs",
}
_SPATIAL_KINDS = ("domain", "space", "???", "none")


def _type_names() -> dict[str, str]:
    """The format's words for a number type -> numpy's."""
    words = {"signed char": "int8", "uchar": "uint8", "unsigned char": "uint8", "float": "float32", "double": "float64"}
    for size, names in ((16, ("short",)), (32, ("int",)), (64, ("longlong", "long long"))):
        for name in names:
            longer = (name, f"{name} int") if name != "int" and name != "longlong" else (name,)
            words |= {word: f"int{size}" for one in longer for word in (one, f"signed {one}")}
            words |= {word: f"uint{size}" for one in longer for word in (f"u{one}", f"unsigned {one}")}
    for size in (8, 16, 32, 64):
        words |= {f"{sign}int{size}{end}": f"{sign}int{size}" for sign in ("", "u") for end in ("", "_t")}
    return words


_TYPES = _type_names()


@dataclass(frozen=True)
class _Header:
    """`fields` in lower case, `keys` (the file's own key/value pairs), the byte where it ends, the names behind `data file: LIST`."""

    fields: dict[str, str]
    keys: dict[str, str]
    end: int
    listed: tuple[str, ...]

    def field(self, name: str) -> str:
        if name not in self.fields:
            raise VolumeError(f"its header has no field {name!r}: damaged, truncated or not of its format")
        return self.fields[name]


def read_nrrd(path: Path) -> tuple[np.ndarray, Geometry, dict[str, Any]]:
    """(array float32 (K, J, I), geometry, other fields of `Volume`)."""
    header = _read_header(path)
    geometry, notes = _geometry(header)
    word = header.field("type").lower()
    if word not in _TYPES:
        raise VolumeError(f"its header's type is {shown(word)}: one plain number per voxel must be stored")
    stored = np.dtype(_TYPES[word])
    body = _body(path, header, geometry.shape_kji[0])
    order = header.fields.get("endian", "").lower()
    if stored.itemsize > 1 and body.packing != "text":
        if order not in ("little", "big"):
            raise VolumeError(f"its header's endian is {shown(order)}: little or big must stand there")
        stored = stored.newbyteorder("<" if order == "little" else ">")
    array, more = body.read(geometry.shape_kji, stored)
    return array, geometry, {"dtype": stored.newbyteorder("=").name, "notes": (*notes, *more)}


def read_nrrd_geometry(path: Path) -> Geometry:
    """What `read_nrrd` would find, from the header alone."""
    return _geometry(_read_header(path))[0]


def read_nrrd_provenance(path: Path) -> str | None:
    """The provenance text of the header; None where there is none."""
    return from_pieces(_read_header(path).keys.items())


def nrrd_header(geometry: Geometry, dtype: str, provenance: str | None = None) -> bytes:
    """The header before the gzip data of a .nrrd, in LPS."""
    lps = ras_from_lps(geometry.ijk_to_ras)
    axes = [f"({','.join(repr(x) for x in column)})" for column in lps[:3].T.tolist()]
    lines = [
        "NRRD0004",
        f"type: {({'float32': 'float', 'float64': 'double'}).get(dtype, dtype)}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in geometry.shape_kji[::-1])}",
        f"space directions: {' '.join(axes[:3])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {axes[3]}",
    ]
    for key, piece in pieces(provenance) if provenance else []:
        escaped = piece.replace("\\", "\\\\")
        lines.append(f"{key}:={escaped}")
    return ("\n".join(lines) + "\n\n").encode("ascii")


def _read_header(path: Path) -> _Header:
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    listed: list[str] = []
    with path.open("rb") as file:
        lines = Lines(file)
        magic = lines.next()
        if magic is None or not re.fullmatch(r"NRRD000[1-5]", magic.rstrip()):
            raise VolumeError("not an NRRD file: it must begin with NRRD0001 to NRRD0005; damaged, truncated or not of its format")
        while line := lines.next():
            if line.startswith("#"):
                continue
            match = re.match(r"([^:]+):(=|\s|$)(.*)", line)
            if not match:
                raise VolumeError(f"its header has a line {shown(line)}, which is no field")
            name, mark, value = match[1], match[2], match[3]
            if mark == "=":
                keys[name] = value.replace("\\n", "\n").replace("\\\\", "\\")
                continue
            name = _ALIKE.get(name.strip().lower(), name.strip().lower())
            if name in fields:
                raise VolumeError(f"its header has the field {shown(name)} twice")
            fields[name] = value.strip()
            if name == "data file" and value.split()[:1] == ["LIST"]:
                while one := lines.next():
                    listed.append(one)
                break
        return _Header(fields, keys, file.tell(), tuple(listed))


def _body(path: Path, header: _Header, slices: int) -> Body:
    encoding = header.field("encoding").lower()
    if encoding not in _PACKINGS:
        raise VolumeError(f"its encoding is {shown(encoding)}: raw, gzip, bzip2 or text can be read")
    packing = _PACKINGS[encoding]
    skips = {name: whole_numbers(header.fields.get(name, "0"), name, 1)[0] for name in ("line skip", "byte skip")}
    lines, count = skips["line skip"], skips["byte skip"]
    if lines < 0 or count < -1 or (count == -1 and packing != "raw"):
        raise VolumeError(f"its header's line skip {lines} and byte skip {count} are not possible with {encoding} data")
    name = header.fields.get("data file")
    files: tuple[Path, ...]
    if name is None:
        files, start = (path,), header.end
    else:
        files, start = _data_files(path, name, header.listed, slices), 0
    return Body(files, -1 if count == -1 else start, packing, lines, max(0, count))


def _data_files(path: Path, name: str, listed: tuple[str, ...], slices: int) -> tuple[Path, ...]:
    if name.split()[:1] == ["LIST"]:
        return tuple(find_slice_files(path, listed, slices))
    if "%" in name:
        return tuple(find_slice_files(path, names_of_pattern(name), slices))
    return (find_data_file(path, name),)


def _geometry(header: _Header) -> tuple[Geometry, tuple[str, ...]]:
    """The grid that the header describes, and notes on what it leaves open."""
    if any(re.match(r"Segment\d+_", key) for key in header.keys):
        raise VolumeError("looks like a label map (it describes segments): a scan must be given")
    count = check_dimensions(whole_numbers(header.field("dimension"), "dimension", 1)[0], "dimension")
    sizes = check_sizes(whole_numbers(header.field("sizes"), "sizes", count), "sizes")
    kinds = (header.fields.get("kinds", "").lower().split() + [""] * count)[:count]
    space, space_axes, notes = _space(header)
    words = re.findall(r"\([^()]*\)|none|\S+", header.fields.get("space directions", ""))
    if words and len(words) != count:
        raise VolumeError(f"its header's space directions are {shown(header.fields['space directions'])}: {count} vectors must stand there")
    if words:
        spatial = [axis for axis, word in enumerate(words) if word.lower() != "none"]
    else:
        spatial = [axis for axis, kind in enumerate(kinds) if not kind or kind in _SPATIAL_KINDS]
    for axis in range(count):
        if axis not in spatial and sizes[axis] != 1 and kinds[axis] not in ("list", "time"):
            raise VolumeError(f"{sizes[axis]} components per voxel: one number per voxel must be stored")
    if any(sizes[axis] != 1 for axis in range(count) if axis not in spatial):
        volume_shape([sizes[axis] for axis in spatial] + [n for axis, n in enumerate(sizes) if axis not in spatial])
    shape = volume_shape([sizes[axis] for axis in spatial])
    matrix = np.eye(4)
    scale, unit_notes = _units(header, "space units", space_axes)
    if words:
        columns = [_vector(words[axis], "space directions", space_axes) for axis in spatial[:3]]
        matrix[:3, :3] = np.array(columns).T * scale[:, None]
    else:
        spacing, corner, unit_notes = _old_grid(header, spatial, sizes)
        matrix[:3, :3] = np.diag(spacing)
        notes += ("its header states no orientation: I to the left, J to the back, K to the head are assumed",)
    if not words and corner is not None:
        matrix[:3, 3] = corner
    elif "space origin" in header.fields:
        matrix[:3, 3] = np.array(_vector(header.fields["space origin"], "space origin", space_axes)) * scale
    else:
        notes += ("its header states no origin: 0, 0, 0 is assumed",)
    to_lps = np.array([*space, 1.0])[:, None]
    return Geometry(shape, ras_from_lps(to_lps * matrix)), (*notes, *unit_notes)


def _space(header: _Header) -> tuple[tuple[int, int, int], int, tuple[str, ...]]:
    """(signs that turn the header's space into LPS, its dimensions, notes)."""
    name = header.fields.get("space", "").lower()
    if not name:
        dimensions = whole_numbers(header.fields.get("space dimension", "3"), "space dimension", 1)[0]
        named = "space dimension" in header.fields or "space directions" in header.fields
        note = ("its header does not name its space: left, posterior, superior is assumed",) if named else ()
        return (1, 1, 1), check_dimensions(dimensions, "space dimension"), note
    timed = name.endswith("-time") or name in ("lpst", "rast", "last")
    base = name.removesuffix("-time") if name.endswith("-time") else name[:3] if timed else name
    if base in _OTHER_SPACES:
        return (1, 1, 1), 4 if timed else 3, (f"its space is {base}, which names no body axes: left, posterior, superior is assumed",)
    if base not in _TO_LPS:
        raise VolumeError(f"its header's space is {shown(name)}: no space of that name is known")
    return _TO_LPS[base], 4 if timed else 3, ()


def _vector(text: str, name: str, count: int) -> list[float]:
    """The first three numbers of `(a,b,c)`."""
    inner = text.strip()
    if not (inner.startswith("(") and inner.endswith(")")) or count < 3:
        raise VolumeError(f"its header's {name} is {shown(text)}: a space vector of 3 numbers must stand there")
    return real_numbers([word.strip() for word in inner[1:-1].split(",")], f"{name} (space vector)", count)[:3]


def _units(header: _Header, name: str, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """(mm per unit along three axes, notes)."""
    words = re.findall(r'"([^"]*)"', header.fields.get(name, ""))
    if not words:
        return np.ones(3), ()
    if len(words) < min(3, count):
        raise VolumeError(f"its header's {name} are {shown(header.fields[name])}: one in quotes for each axis must stand there")
    notes, scale = [], []
    for word in words[:3]:
        unit = word.strip()
        mm = _MM_PER_UNIT.get(unit, _MM_PER_UNIT.get(unit.lower()))
        if mm is None:
            notes.append(f"its header counts in {shown(unit)}, an unknown unit: taken as mm")
        elif mm != 1:
            notes.append(f"its header counts in {unit}: turned into mm")
        scale.append(1.0 if mm is None else mm)
    return np.array(scale), tuple(dict.fromkeys(notes))


def _old_grid(header: _Header, spatial: list[int], sizes: list[int]) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """(spacing in mm, centre of the first voxel or None, notes) of a header without space directions, along the three axes."""

    def of_axes(name: str) -> np.ndarray | None:
        if name not in header.fields:
            return None
        numbers = real_numbers(header.fields[name].split(), name, len(sizes))
        return np.array([numbers[axis] for axis in spatial[:3]])

    spacing, low, high = of_axes("spacings"), of_axes("axis mins"), of_axes("axis maxs")
    words = header.fields.get("centerings", "").lower().split()
    centred = np.array([1.0 if len(words) != len(sizes) or words[axis] != "node" else 0.0 for axis in spatial[:3]])
    notes: tuple[str, ...] = ()
    if spacing is None and low is not None and high is not None:
        spacing = (high - low) / (np.array([sizes[axis] for axis in spatial[:3]]) - 1 + centred)
    if spacing is None:
        spacing, notes = np.ones(3), ("its header states no voxel spacing: 1 mm is assumed",)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise VolumeError(f"voxel spacing {spacing.tolist()} (spacings of I, J, K): it must be above 0")
    units = re.findall(r'"([^"]*)"', header.fields.get("units", ""))
    scale = np.ones(3)
    if len(units) == len(sizes):
        quoted = " ".join(f'"{units[axis]}"' for axis in spatial[:3])
        scale, more = _units(_Header({"units": quoted}, {}, 0, ()), "units", 3)
        notes += more
    return spacing * scale, None if low is None else (low + centred * spacing / 2) * scale, notes
