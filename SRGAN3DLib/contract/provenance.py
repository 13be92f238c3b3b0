"""Provenance: how a result was made, as facts for its file and for the JSON beside it. The first words are those of BIDS derivatives.

The facts come from the info of a job alone. They hold no folder's name: paths are cut to the name of their file. They hold nothing that a
DICOM header says about the patient: a series is named by its UID.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from .errors import VolumeError

PROGRAM = "SRGAN3D"
DESCRIPTIONS = {
    "sr": "Super-resolved. Detail finer than the source image is inferred. For research only, not for diagnosis.",
    "detail": "The part of a super-resolved image that its source image did not determine. For research only, not for diagnosis.",
}
LARGEST_JSON = 10_000_000  # bytes
_DRIVE = re.compile(r"(?<![\w:])[A-Za-z]:[\\/][^\s;,'\"()]*")
_PATH = re.compile(r"(?<![\w./:])/[^\s;,:'\"()]+")


def provenance_facts(
    info: dict[str, Any], volume: str = "sr", scan: dict[str, Any] | None = None, created: str | None = None
) -> dict[str, Any]:
    """The facts about one volume (`sr`, `detail`) of a result, ready for JSON.

    `info` is that of a super-resolve job. `scan` holds facts about the scan under the words of BIDS: `Sources` (default: the name of the
    job's input). `created` is the time of the result as ISO 8601 (default: now).
    """
    about = {key: info[key] for key in ("model", "blur", "consistency", "device", "precision", "flips")}
    output = info.get("outputs", {}).get(volume, info.get("output", ""))
    facts = {
        **({"Sources": [_name(info["input"])]} | (scan or {})),
        "Description": DESCRIPTIONS.get(volume, volume),
        "GeneratedBy": [{"Name": PROGRAM, "Version": info["version"]}],
        "Output": _name(output),
        "Volume": volume,
        "Created": created or now(),
        "Model": about["model"],
        "FactorsIJK": list(reversed(info["factors_kji"])),
        "SpacingIJK": info["spacing_ijk_mm"],
        "ShapeIJK": list(reversed(info["shape_kji"])),
        "RegionIJK": info.get("roi_ijk"),
        "Blur": about["blur"],
        "Noise": info.get("noise"),
        "Consistency": about["consistency"],
        "Artefacts": info.get("artefacts"),
        "Flips": about["flips"],
        "Device": about["device"],
        "Precision": about["precision"],
        "Asked": info["asked"],
        "Seconds": info["seconds"],
        "Warnings": list(info["warnings"]),
        "Fallbacks": [str(one) for one in info.get("fallbacks", ())],
    }
    folders = sorted({str(Path(str(info[key])).parent) for key in ("input", "output") if key in info} - {".", "/"}, key=len, reverse=True)
    told: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return {key: _without_folders(value, folders) for key, value in told.items()}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def json_beside(file: str | Path) -> Path:
    """The name of the JSON beside a result: its stem and `.json`."""
    path = Path(file)
    name = path.name
    for ending in (".nii.gz", *([path.suffix] if path.suffix else [])):
        if name.lower().endswith(ending.lower()):
            return path.with_name(name[: -len(ending)] + ".json")
    return path.with_name(name + ".json")


def parse_provenance(text: str) -> dict[str, Any] | None:
    """The facts in a JSON text; None where it holds no facts of this program."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    makers = facts.get("GeneratedBy") if isinstance(facts, dict) else None
    if not isinstance(makers, list) or not any(isinstance(one, dict) and one.get("Name") == PROGRAM for one in makers):
        return None
    return facts if "Output" in facts and "Model" in facts else None


def facts_in_json(path: str | Path) -> dict[str, Any] | None:
    """The facts in a JSON file; None where it holds none. Raises `VolumeError` where it cannot be read."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            return None
        return parse_provenance(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from None


def _name(path: str) -> str:
    """The last part of a path of this or another system."""
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name


def _without_folders(value: Any, folders: Sequence[str]) -> Any:
    """The value with every path in its texts cut to its last part; `folders` are those that are known, and may hold blanks."""
    if isinstance(value, dict):
        return {key: _without_folders(one, folders) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one, folders) for one in value]
    if not isinstance(value, str):
        return value
    for folder in folders:
        value = value.replace(folder + "/", "").replace(folder + "\\", "")
    return _PATH.sub(lambda match: _name(match[0]), _DRIVE.sub(lambda match: PureWindowsPath(match[0]).name, value))
