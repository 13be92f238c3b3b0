"""Results in the scene: the nodes they become, the account that each carries in its attributes, and how to find both again.

The attributes survive a saved scene (.mrml, .mrb). They hold no path of this machine.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import slicer
from slicer import vtkMRMLScalarVolumeNode

from SRGAN3DLib.contract.jobs import DEFAULT_MODEL
from SRGAN3DLib.contract.result_info import noise_in_words
from SRGAN3DLib.contract.synthesis import SYNTHETIC_WARNING

from . import ct_window, mrml

PREFIX = "SRGAN3D."
MODEL, INFO = f"{PREFIX}Model", f"{PREFIX}Info"
SOURCE_ROLE = "SRGAN3D.Input"  # node reference: scenes renew IDs when they are joined, and references follow
PATH = re.compile(r"""(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\\/:*?"'<>|\s]+[\\/])+([^\\/:*?"'<>|\s]+)""")  # within a text
MAIN = "sr"  # the first of the named volumes of a result
Matrix = Sequence[Sequence[float]]


def output_name(
    name: str, factors_ijk: tuple[int, int, int], model: str = DEFAULT_MODEL, roi: bool = False, spacing: str | None = None
) -> str:
    """`T1w SR x2`, with what sets the result apart: `sharp`, `slices`, `isotropic`, the name of an added model, `ROI`."""
    refined = [factor for factor in factors_ijk if factor > 1]
    words = [f"{name} SR x{max(factors_ijk)}"]
    if spacing is not None:
        words = [f"{name} SR {spacing}" + ("" if spacing == "isotropic" else " mm")]
    elif len(refined) == 1:
        words.append("slices")
    elif len(set(factors_ijk)) > 1:
        words = [f"{name} SR {'x'.join(map(str, factors_ijk))}"]
    shipped = re.fullmatch(r"(?:t1|slice)-x\d+(?:-(.+))?", model)
    words.append(shipped.group(1) or "" if shipped else model)
    return " ".join(word for word in [*words, "ROI" if roi else ""] if word)


def is_result(node: Any) -> bool:
    """Whether the node carries our account."""
    return node is not None and node.IsA("vtkMRMLScalarVolumeNode") and bool(node.GetAttribute(MODEL))


def all_results(scene: Any) -> list[Any]:
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    nodes = [scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode") for number in range(count)]
    return [node for node in nodes if is_result(node)]


def source_of(node: Any) -> Any:
    """The input of a result, or None where it is not in the scene."""
    return node.GetNodeReference(SOURCE_ROLE) if node is not None else None


def latest_of(source: Any) -> Any:
    """The newest result of an input, or None."""
    if source is None or source.GetScene() is None:
        return None
    found = [node for node in all_results(source.GetScene()) if source_of(node) is source or _same(source_of(node), source)]
    return found[-1] if found else None


def _same(node: Any, other: Any) -> bool:
    return node is not None and node.GetID() == other.GetID()


def input_spacing(node: Any) -> list[float]:
    """Of the scan along I, J, K, in mm, from the account; [] where it has none."""
    try:
        return [float(word) for word in (node.GetAttribute(f"{PREFIX}InputSpacing") or "").split()]
    except ValueError:
        return []


def account(node: Any) -> dict[str, Any]:
    """What the worker said of the result, from its attributes; {} where that cannot be read."""
    try:
        found = json.loads(node.GetAttribute(INFO) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def publish(source: Any, target: Any | None, name: str, array: np.ndarray, matrix: Matrix, attributes: dict[str, str]) -> Any:
    """The result in the scene of `source`: in `target`, or in a new node of that name beside `source` in the hierarchy.

    It gets the same parent transform (linear or not), window, colours and units as the source, and its account.
    """
    scene = source.GetScene()
    if attributes.get("Unit") == "HU":  # whole numbers that the worker has clipped; a .npy result is float32
        array = np.rint(array).astype(np.int16)
    node = target or scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    try:
        mrml.fill(node, array, matrix)
    except Exception:  # the memory may not suffice
        if target is None:
            scene.RemoveNode(node)
        raise
    node.SetAndObserveTransformNodeID(source.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    display_like(source, node)
    if attributes.get("Unit") == "HU":
        ct_window.show_hounsfield(node)
    _describe(source, node, attributes)
    if target is None:
        put_beside(source, node)
    return node


def _describe(source: Any, node: Any, attributes: dict[str, str]) -> None:
    """The account, which makes the node a result."""
    node.SetNodeReferenceID(SOURCE_ROLE, source.GetID())
    node.SetDescription(f"Made from {source.GetName()} by SRGAN3D. Research software, not for diagnosis.")
    for key, value in sorted(attributes.items(), key=lambda item: item[0] == "Model"):  # Model last: an observer finds the rest
        node.SetAttribute(f"{PREFIX}{key}", value)


def display_like(source: Any, node: Any) -> None:
    """Window, level, colour table and units of the source."""
    ours, theirs = node.GetDisplayNode(), source.GetDisplayNode()
    if ours is not None and theirs is not None:
        if theirs.GetColorNodeID():
            ours.SetAndObserveColorNodeID(theirs.GetColorNodeID())
        ours.SetInterpolate(theirs.GetInterpolate())
        ours.AutoWindowLevelOff()  # else each would be windowed by its own range
        ours.SetWindowLevel(theirs.GetWindow(), theirs.GetLevel())
    for get, put in (("GetVoxelValueQuantity", "SetVoxelValueQuantity"), ("GetVoxelValueUnits", "SetVoxelValueUnits")):
        entry = getattr(source, get)()
        if entry is not None:
            copy = slicer.vtkCodedEntry()
            copy.Copy(entry)
            getattr(node, put)(copy)


def put_beside(source: Any, node: Any) -> None:
    """The same folder of the subject hierarchy, where the scene has one."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(source.GetScene())
    item = hierarchy.GetItemByDataNode(source) if hierarchy is not None else 0
    if item:
        own = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetItemParent(item), node)
        hierarchy.SetItemParent(own, hierarchy.GetItemParent(item))


def publish_frames(
    source: Any,
    browser: Any,
    sequence: Any,
    name: str,
    frames: Iterable[tuple[np.ndarray, Matrix]],
    attributes: dict[str, str],
) -> Any:
    """A sequence of results in the same browser, whose chosen frame stays. Returns the volume that shows it.

    `frames` may yield one array after the other. Whatever fails, the scene is afterwards as it was.
    """
    scene = source.GetScene()
    made = scene.AddNewNodeByClass("vtkMRMLSequenceNode", scene.GenerateUniqueName(f"{name} sequence"))
    proxy = None
    try:
        made.SetIndexName(sequence.GetIndexName())
        made.SetIndexUnit(sequence.GetIndexUnit())
        for number, (array, matrix) in enumerate(frames):  # nodes of the sequence's own scene, never of the user's
            frame = vtkMRMLScalarVolumeNode()
            frame.SetName(name)
            mrml.fill(frame, array, matrix)
            _describe(source, frame, attributes)  # the browser copies it to the volume that shows the frame
            made.SetDataNodeAtValue(frame, sequence.GetNthIndexValue(number))
        at = max(0, browser.GetSelectedItemNumber())
        shown = made.GetNthDataNode(min(at, made.GetNumberOfDataNodes() - 1))
        proxy = publish(source, None, name, mrml.array_of(shown), mrml.ijk_to_ras(shown), attributes)
    except Exception:
        scene.RemoveNode(made)
        raise
    browser.AddProxyNode(proxy, made, False)
    browser.SetSaveChanges(made, False)
    browser.SetSelectedItemNumber(at)
    return proxy


def provenance(source: Any, info: dict[str, Any]) -> dict[str, str]:
    """What stands in the result's attributes, under `SRGAN3D.`."""
    blur = info.get("blur", {})
    made = info.get("output_image") if is_synthetic(info) else None
    own = (
        {"Task": "synthesis", "Contrast": str(made.get("contrast")), "Unit": str(made.get("unit") or "")} if isinstance(made, dict) else {}
    )
    return own | {
        "Model": info["model"]["name"],
        "ModelSHA256": info["model"]["sha256"],
        "Input": source.GetName(),
        "InputSpacing": " ".join(f"{s:.6g}" for s in source.GetSpacing()),
        "Device": f"{info['device']} {info['precision']}",
        "MirroredViews": str(info.get("flips", 1)),
        "Blur": f"{blur.get('source')} {blur.get('mtf_kji') or ''}".strip() if blur else "",
        "Noise": noise_in_words(info["noise"]) if "noise" in info else "",
        "Consistency": agreement(info),
        "Version": info.get("version", ""),
        "Warnings": "\n".join(map(str, without_paths([*_synthetic(info), *info.get("warnings", [])]))),
        "Info": json.dumps(without_paths({key: value for key, value in info.items() if key not in ("input", "output", "outputs")})),
    }


def is_synthetic(info: dict[str, Any]) -> bool:
    """Whether the result is an image of another contrast, and not the scan on a finer grid."""
    return info.get("task") == "synthesis"


def _synthetic(info: dict[str, Any]) -> list[str]:
    return [SYNTHETIC_WARNING] if is_synthetic(info) and SYNTHETIC_WARNING not in info.get("warnings", []) else []


def without_paths(value: Any) -> Any:
    """The same account with the file name in place of every absolute path: a scene goes to other people."""
    if isinstance(value, dict):
        return {key: without_paths(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(one) for one in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):  # a value that is a path may hold blanks
            if kind(value).is_absolute() and "\n" not in value:
                return kind(value).name
        return PATH.sub(r"\1", value)
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)


def agreement(info: dict[str, Any]) -> str:
    """The consistency figure in words, or why there is none."""
    found = info.get("consistency") or {}
    if found.get("rms_of_range") is None:
        return f"not available: {found.get('assumes', 'the worker gave none')}"
    return f"{100 * found['rms_of_range']:.2g} % of the scan's range (RMS), assuming {found['assumes']}"
