"""What this machine remembers (QSettings): the device, models added by the user, the speed of each model on each device."""

import json
import os

import qt

DEVICE, ADDED, SPEEDS, PYTHON = "SRGAN3D/device", "SRGAN3D/models", "SRGAN3D/speeds", "SRGAN3D/python"


def device() -> str:
    return str(qt.QSettings().value(DEVICE) or "auto")


def set_device(name: str) -> None:
    qt.QSettings().setValue(DEVICE, name)


def device_kind(hello: dict | None) -> str:
    """cpu, cuda or mps: the preferred device, or the one that Automatic would take, as far as a worker has told of any."""
    found = device()
    if found == "auto":
        found = next((one["device"] for one in (hello or {}).get("devices", []) if one["usable"]), "cpu")
    return found.split(":")[0]


def added_models() -> list[str]:
    return list(_read(ADDED, []))


def add_model(path: str) -> None:
    qt.QSettings().setValue(ADDED, json.dumps([*(one for one in added_models() if one != path), path]))


def speed(model: str, on: str) -> float | None:
    """Input voxels a second of the last run, or None."""
    return _read(SPEEDS, {}).get(f"{model} {on}")


def set_speed(model: str, on: str, voxels_per_s: float) -> None:
    qt.QSettings().setValue(SPEEDS, json.dumps(_read(SPEEDS, {}) | {f"{model} {on}": voxels_per_s}))


def foreign_python() -> str:
    """The interpreter that the setting or SRGAN3D_PYTHON names, if any: then the state of Slicer's own does not matter."""
    return str(qt.QSettings().value(PYTHON) or os.environ.get("SRGAN3D_PYTHON", ""))


def _read(key: str, default):
    """Lists and numbers come back from an ini file as text, each kind in its own way: JSON is one text."""
    try:
        found = json.loads(qt.QSettings().value(key) or "null")
    except (TypeError, ValueError):
        return default
    return found if isinstance(found, type(default)) else default
