"""The header of a checkpoint, read with `struct` and `json` alone: no torch, nothing in the file can run.

A `.safetensors` file is an 8-byte little-endian length, that many bytes of JSON (names, types, shapes, byte ranges),
then the numbers. Ours has one metadata key, `SRGAN3D`, holding one JSON string: the `CheckpointHeader`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from .configs import DegradationConfig, GeneratorConfig
from .errors import CheckpointError, JobError
from .strict_json import from_json, to_json
from .synthesis import InputImage, OutputImage, Task

FORMAT_VERSION = 1
METADATA_KEY = "SRGAN3D"
MODELS_FOLDER = Path(__file__).parents[1] / "models"
_LONGEST_HEADER = 4 * 2**20


@dataclass(frozen=True)
class CheckpointHeader:
    """Everything a checkpoint says about itself.

    `architecture` names the network that the tensors belong to (`networks.checkpoint.ARCHITECTURES` builds it).
    `contrasts` and `spacing_range_mm` (LR, smallest and largest) tell what the model saw; `training_data` is one entry a
    scan with its licence; `back_projection`: its output is meant to be made to give the scan back (`consistency.py`);
    `metrics` carries its protocol beside the numbers; `created` is an ISO date.

    A model for synthesis has the `task` of that name, its `inputs` in the order of the network's channels, its `output`, and the
    spacing (K, J, I; 0: the scan's own) of the grid in anatomical axis order that it works on.
    """

    name: str
    generator: GeneratorConfig
    architecture: str = "residual-generator"
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    back_projection: bool = False
    normalisation: Literal["robust-p1-p99-foreground"] = "robust-p1-p99-foreground"
    contrasts: tuple[str, ...] = ()
    spacing_range_mm: tuple[float, float] = (0.0, 0.0)
    training_data: tuple[dict, ...] = ()
    training: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    licence: str = "Apache-2.0"
    citation: str = ""
    created: str = ""
    task: Task = "super-resolution"
    inputs: tuple[InputImage, ...] = ()
    output: OutputImage | None = None
    working_spacing_kji_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    format_version: int = FORMAT_VERSION

    def fitted_width(self, spacing_mm: float) -> float | None:
        """FWHM of a slice in slice spacings, of a model that `fit` made for slices `spacing_mm` apart; None for other models and scans."""
        fact = self.training.get("fit")
        try:
            apart, thickness = float(fact["spacing_kji_mm"][0]), float(fact["thickness_mm"])  # type: ignore[index]
            width = thickness / apart
        except (TypeError, ValueError, KeyError, IndexError, OverflowError, ZeroDivisionError):
            return None
        return width if abs(spacing_mm / apart - 1) < 0.02 and 0.1 <= width <= 4 else None

    def to_text(self) -> str:
        return json.dumps(to_json(self), ensure_ascii=False, sort_keys=True)


def parse_header(metadata: dict[str, str], path: str | Path) -> CheckpointHeader:
    """The header from a file's metadata. Raises `CheckpointError` that names `path` and what is wrong."""
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path}: a .safetensors file without a {METADATA_KEY} header: not one of our checkpoints")
    try:
        data = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its {METADATA_KEY} header is not JSON ({error})") from None
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {version!r}; this program reads version {FORMAT_VERSION}")
    try:
        return from_json(CheckpointHeader, data, "header")
    except JobError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_layout(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(tensor name -> {dtype, shape, data_offsets}, metadata) of any safetensors file, checked against the file's size.

    Only the file's start is read. Raises `CheckpointError`.
    """
    with reading(path), Path(path).open("rb") as file:
        return _layout(file, os.fstat(file.fileno()).st_size, path)


def layout_of(data: bytes, path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The same of the bytes of a file; `path` is for the messages."""
    return _layout(io.BytesIO(data), len(data), path)


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """What the system says about the file, as a `CheckpointError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None


def _layout(file: BinaryIO, size: int, path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
    if not 2 <= length <= _LONGEST_HEADER:
        if start[:2] == b"PK" or start[:1] == b"\x80":  # only here: a good length may begin with these bytes, too
            raise CheckpointError(f"{path}: a pickle (torch.save) file, not .safetensors; pickles can run code and are never loaded")
        raise CheckpointError(f"{path}: not a .safetensors file (header length {length})")
    raw = file.read(length)
    if len(raw) < length:
        raise CheckpointError(f"{path}: truncated in its header ({size} bytes)")
    try:
        tensors = json.loads(raw)
        metadata = tensors.pop("__metadata__", {})
        end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        well_formed = all(isinstance(entry["dtype"], str) and isinstance(entry["shape"], list) for entry in tensors.values())
        if not well_formed or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        raise CheckpointError(f"{path}: not a .safetensors file (its header is not the format's JSON)") from None
    if size != end:
        raise CheckpointError(f"{path}: {'truncated' if size < end else 'longer than it says'}: {size} bytes, it should have {end}")
    return tensors, metadata


def read_header(path: str | Path) -> CheckpointHeader:
    """The header of one of our checkpoints. Raises `CheckpointError`."""
    return parse_header(read_layout(path)[1], path)


def file_hash(path: str | Path) -> str:
    """SHA-256 of the file, under which every figure quotes a model. Raises `CheckpointError`."""
    with reading(path):
        return data_hash(Path(path).read_bytes())


def data_hash(data: bytes) -> str:
    """SHA-256 of the bytes of a file."""
    return hashlib.sha256(data).hexdigest()


def catalogue() -> dict[str, Path]:
    """Shipped models: name -> file."""
    return {path.stem: path for path in sorted(MODELS_FOLDER.glob("*.safetensors"))}


def find_model(name_or_path: str | Path) -> Path:
    """The file of a shipped name or of a path. Raises `CheckpointError` that lists the shipped names."""
    shipped = catalogue()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder, not a checkpoint file")
    raise CheckpointError(f"{name_or_path}: no such file, and no shipped model of that name ({', '.join(shipped) or 'none is shipped'})")
