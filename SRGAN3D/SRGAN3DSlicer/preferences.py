"""What this computer remembers (QSettings): the device, checkpoints added by hand, how fast each model is on each device."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import qt

from SRGAN3DLib.contract.checkpoint_header import file_hash
from SRGAN3DLib.contract.errors import SRGAN3DError
from SRGAN3DLib.contract.limits import PYTHON_SETTING

DEVICE, ADDED, MEASURED, NOTE = (f"SRGAN3D/{name}" for name in ("device", "models", "measured", "note"))
KEYS = (DEVICE, ADDED, MEASURED, NOTE)


@dataclass(frozen=True)
class AddedModel:
    """A checkpoint that the user added. A scene holds its `key`, which has no path: file name and SHA-256."""

    file: str
    sha256: str
    path: str

    @property
    def key(self) -> str:
        return f"{self.file} sha256:{self.sha256}"


@dataclass(frozen=True)
class Measured:
    """Of a model on a device: input voxels a second, the precision used, and the memory that the worker holds before any scan."""

    voxels_per_s: float
    precision: str = "fp32"
    base_bytes: int = 0


def device() -> str:
    return str(qt.QSettings().value(DEVICE) or "auto")


def set_device(name: str) -> None:
    qt.QSettings().setValue(DEVICE, name)


def device_kind(hello: dict | None) -> str:
    """cpu, cuda or mps: the chosen device, or the one that Automatic would take, as far as a worker has named any."""
    found = device()
    if found == "auto":
        found = next((one["device"] for one in (hello or {}).get("devices", []) if one["usable"]), "cpu")
    return found.split(":")[0]


def added_models() -> dict[str, AddedModel]:
    """Key -> model, as far as the file is still there and is still the same."""
    found = {}
    for entry in _read(ADDED, []):
        try:
            model = AddedModel(**entry) if isinstance(entry, dict) else _identified(str(entry))  # older settings held paths
            if file_hash(model.path) == model.sha256:
                found[model.key] = model
        except (OSError, TypeError, SRGAN3DError):
            continue
    return found


def add_model(path: str) -> str:
    """Returns the key of the checkpoint."""
    model = _identified(path)
    kept = {key: one for key, one in added_models().items() if one.path != path}
    _write_added({**kept, model.key: model})
    return model.key


def remove_model(key: str) -> None:
    _write_added({other: model for other, model in added_models().items() if other != key})


def _write_added(models: dict[str, AddedModel]) -> None:
    qt.QSettings().setValue(ADDED, json.dumps([asdict(model) for model in models.values()]))


def _identified(path: str) -> AddedModel:
    return AddedModel(Path(path).name, file_hash(path), str(path))


def file_of_key(key: str) -> tuple[str, str]:
    """(file name, SHA-256) of the key of an added model; ("", "") of a shipped name."""
    file, mark, sha256 = key.rpartition(" sha256:")
    return (file, sha256) if mark else ("", "")


def measured(model: str, on: str) -> Measured | None:
    """What was measured of a model (its SHA-256 or name) on a device kind, or None."""
    found = _read(MEASURED, {}).get(f"{model} {on}")
    try:
        return Measured(**found) if found else None
    except TypeError:
        return None


def set_measured(model: str, on: str, what: Measured) -> None:
    qt.QSettings().setValue(MEASURED, json.dumps(_read(MEASURED, {}) | {f"{model} {on}": asdict(what)}))


def leave_note(text: str) -> None:
    """For the next panel: why the run of this one ended."""
    qt.QSettings().setValue(NOTE, text)


def take_note() -> str:
    text = str(qt.QSettings().value(NOTE) or "")
    if text:
        qt.QSettings().setValue(NOTE, "")
    return text


def foreign_python() -> str:
    """The interpreter that the setting or SRGAN3D_PYTHON names, if any: then the state of Slicer's own does not matter."""
    return str(qt.QSettings().value(PYTHON_SETTING) or os.environ.get("SRGAN3D_PYTHON", ""))


def _read(key: str, default: Any) -> Any:
    """An ini file gives numbers and lists back as text in several ways: one JSON text is safe."""
    try:
        found = json.loads(qt.QSettings().value(key) or "null")
    except (TypeError, ValueError):
        return default
    return found if isinstance(found, type(default)) else default
