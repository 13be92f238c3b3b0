"""Lines of the log that a bug report needs, without anything about the patient."""

import platform
import re
import sys
from pathlib import Path
from typing import Any

import slicer


def start_line(node: Any, header: Any, sha256: str, options: dict[str, Any]) -> str:
    """Versions, the input's shape, spacing and type, the model and the options. No name, no date, no path."""
    spacing = " x ".join(f"{s:.3f}" for s in node.GetSpacing())
    shape = " x ".join(map(str, node.GetImageData().GetDimensions()))
    asked = ", ".join(f"{key} {value}" for key, value in options.items())
    return (
        f"start: SRGAN3D {version()}, Slicer {slicer_version()}, {platform.platform()}; input {shape} voxels of {spacing} mm, "
        f"{node.GetImageData().GetScalarTypeAsString()}; model {header.name} (SHA-256 {sha256[:12]}); {asked}"
    )


def version() -> str:
    """Of the library, whose package is loaded with its contract."""
    return str(getattr(sys.modules.get("SRGAN3DLib"), "__version__", "?"))


def slicer_version() -> str:
    found = getattr(getattr(slicer, "app", None), "applicationVersion", "?")
    return str(found() if callable(found) else found)


def anonymous(text: str, scene: Any) -> str:
    """The text with the names of volumes and regions, and the user's folder, replaced."""
    names = set()
    for kind, word in (("vtkMRMLVolumeNode", "<volume>"), ("vtkMRMLMarkupsNode", "<region>")):
        for number in range(scene.GetNumberOfNodesByClass(kind)):
            names.add((scene.GetNthNodeByClass(number, kind).GetName() or "", word))
    for name, word in sorted(names, key=lambda pair: -len(pair[0])):
        if name:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", word, text)
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
