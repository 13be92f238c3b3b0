"""Volumes of the scene: what may be super-resolved, where its voxels lie, and the node that a result becomes.

Measured facts behind this are in the comments; matrices act on (i, j, k, 1), voxel centres, mm. Nothing here asks a question.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene

from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.result_info import noise_in_words

Roi = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
REFUSED = {  # label maps and vectors ARE scalar volumes to MRML (IsA says so): they are told apart by class
    "vtkMRMLLabelMapVolumeNode": "a label map; choose a scan",
    "vtkMRMLVectorVolumeNode": "a colour or vector volume; choose a scan of one value a voxel",
    "vtkMRMLMultiVolumeNode": "a multivolume; choose one volume",
}
MODALITY = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
CONTRASTS = {  # words of names -> how models name what they were trained on
    **dict.fromkeys(("T1", "T1W", "MPRAGE", "MP2RAGE"), "T1w"),
    **dict.fromkeys(("T2", "T2W"), "T2w"),
    **dict.fromkeys(("PD", "PDW"), "PDw"),
    **dict.fromkeys(("CT", "CTA", "CBCT"), "CT"),
    **{word: word for word in ("FLAIR", "SWI", "DWI", "ADC", "DTI", "BOLD", "PET", "MRA")},
}


def unfit(node: Any) -> str:
    """Why this node cannot be super-resolved, in one line; empty if it can."""
    if node is None:
        return "no volume is selected"
    name = node.GetName()
    for kind, reason in REFUSED.items():
        if node.IsA(kind):
            return f"{name}: {reason}"
    if not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLTensorVolumeNode"):
        return f"{name}: not a scalar volume"
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    # updateVolumeFromArray tells of the new size before the voxels are there: VTK would read beyond the old ones
    if scalars is None or image.GetNumberOfPoints() == 0 or scalars.GetNumberOfTuples() != image.GetNumberOfPoints():
        return f"{name}: has no voxels"
    if image.GetNumberOfScalarComponents() != 1:
        return f"{name}: {image.GetNumberOfScalarComponents()} values a voxel; one is wanted"
    if min(image.GetDimensions()) < 2:
        return f"{name}: a 2-D image ({' x '.join(map(str, image.GetDimensions()))}); a volume is wanted"
    matrix = ijk_to_ras(node)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        return f"{name}: its matrix is singular (spacing {' x '.join(f'{s:g}' for s in node.GetSpacing())} mm); positions would be guesses"
    low, high = image.GetScalarRange()
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"{name}: holds NaN or infinite values"
    return f"{name}: every voxel has the same value" if low == high else ""


def check_input(node: Any) -> None:
    """Raises `VolumeError` with the one line of `unfit`."""
    reason = unfit(node)
    if reason:
        raise VolumeError(reason)


def check_output(node: Any, source: Any) -> None:
    """Raises `JobError` for an output that is the input, or no plain volume."""
    if node is None:
        return
    if node.GetID() == source.GetID():
        raise JobError(f"{node.GetName()}: is the input itself; choose another output")
    if not node.IsA("vtkMRMLScalarVolumeNode") or any(node.IsA(kind) for kind in REFUSED):
        raise JobError(f"{node.GetName()}: a scalar volume is wanted for the output")


def ijk_to_ras(node: Any) -> np.ndarray:
    """The node's own 4x4 matrix, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def spacing_kji(node: Any) -> tuple[float, float, float]:
    return tuple(reversed(node.GetSpacing()))


def shape_kji(node: Any) -> tuple[int, int, int]:
    return tuple(reversed(node.GetImageData().GetDimensions()))


def voxel_count(node: Any, roi: Any) -> int:
    """Of the volume, or of its part within a Markups ROI."""
    found = region(node, roi)
    return math.prod(shape_kji(node) if found is None else [past - first for first, past in found])


def first_fit(scene: Any) -> Any:
    """The first volume of the scene that could be super-resolved, or None."""
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
        node = scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode")
        if not unfit(node):
            return node
    return None


def contrasts(node: Any) -> list[tuple[str, str]]:
    """(where it is written, contrast) for every contrast or modality that the volume's name, hierarchy or unit of values tells of.

    Evidence, not knowledge: what is written nowhere is not guessed.
    """
    words = re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+", node.GetName() or "")
    found = [("its name", CONTRASTS[word.upper()]) for word in words if word.upper() in CONTRASTS]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    modality = hierarchy.GetItemAttribute(item, MODALITY) if item else ""
    if modality and modality != "MR":
        found.append(("its DICOM modality", modality))
    unit = node.GetVoxelValueUnits()
    if unit is not None and unit.GetCodeValue() == "[hnsf'U]":
        found.append(("the unit of its values (Hounsfield)", "CT"))
    return list(dict.fromkeys(found))


def is_sheared(node: Any) -> bool:
    axes = ijk_to_ras(node)[:3, :3] / np.asarray(node.GetSpacing())
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > 1e-4)


def is_warped(node: Any) -> bool:
    """Under a parent transform that is not linear."""
    parent = node.GetParentTransformNode()
    return parent is not None and not parent.IsTransformToWorldLinear()


def region(node: Any, roi: Any) -> Roi | None:
    """The voxels whose centres lie within a Markups ROI, ((first, one past), ...) along I, J, K; None without a ROI.

    The smallest box of voxels that holds the ROI, which may be turned against it. Raises `JobError` where they do not meet.
    """
    if roi is None:
        return None
    to_world = slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix())
    half = np.array(roi.GetSize()) / 2
    corners = np.array(np.meshgrid(*([-h, h] for h in half), indexing="ij")).reshape(3, -1)
    world = to_world[:3, :3] @ corners + to_world[:3, 3:]
    local = np.array([_from_world(node, point) for point in world.T]).T
    ijk = np.linalg.inv(ijk_to_ras(node)) @ np.vstack([local, np.ones(local.shape[1])])
    first = np.maximum(np.ceil(ijk[:3].min(axis=1) - 1e-6), 0).astype(int)
    past = np.minimum(np.floor(ijk[:3].max(axis=1) + 1e-6) + 1, node.GetImageData().GetDimensions()).astype(int)
    if (past <= first).any():
        raise JobError(f"{roi.GetName()}: holds no voxel of {node.GetName()}")
    return tuple((int(a), int(b)) for a, b in zip(first, past, strict=True))


def place(roi: Any, node: Any) -> None:
    """A Markups ROI that the selector has just made lies nowhere: around the whole volume, to be made smaller by hand."""
    box = [0.0] * 6
    node.GetRASBounds(box)
    low, high = np.array(box[0::2]), np.array(box[1::2])
    roi.SetCenterWorld((low + high) / 2)
    roi.SetSizeWorld(high - low)
    roi.CreateDefaultDisplayNodes()


def _from_world(node: Any, point: Sequence[float]) -> list[float]:
    parent = node.GetParentTransformNode()
    if parent is None:
        return list(point)
    from_world = vtk.vtkGeneralTransform()
    parent.GetTransformFromWorld(from_world)
    return list(from_world.TransformPoint(point))


def array_of(node: Any) -> np.ndarray:
    """A copy, (K, J, I)."""
    return np.array(slicer.util.arrayFromVolume(node))


def fill(node: Any, array: np.ndarray, matrix: Sequence[Sequence[float]]) -> None:
    """Voxels and matrix of a volume node; the array is copied, its type kept."""
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))


def publish(source: Any, target: Any | None, name: str, array: np.ndarray, matrix: Sequence, attributes: dict[str, str]) -> Any:
    """The result in the scene of `source`: in `target`, or in a new node of that name beside `source` in the hierarchy.

    Under the same parent transform (linear or not), with the same window, colour and units, and with its provenance.
    """
    scene = source.GetScene()
    node = target or scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    try:
        fill(node, array, matrix)
    except Exception:  # memory ends, say
        if target is None:
            scene.RemoveNode(node)
        raise
    node.SetAndObserveTransformNodeID(source.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    like(source, node)
    for key, value in attributes.items():
        node.SetAttribute(f"SRGAN3D.{key}", value)
    node.SetDescription(f"Super-resolved from {source.GetName()} by SRGAN3D, model {attributes.get('Model', '?')}")
    if target is None:
        beside(source, node)
    return node


def like(source: Any, node: Any) -> None:
    """Shown as the source is: window, level, colour table; units of its values."""
    ours, theirs = node.GetDisplayNode(), source.GetDisplayNode()
    if ours is not None and theirs is not None:
        if theirs.GetColorNodeID():
            ours.SetAndObserveColorNodeID(theirs.GetColorNodeID())
        ours.SetInterpolate(theirs.GetInterpolate())
        ours.AutoWindowLevelOff()  # else input and output would be windowed each by its own range
        ours.SetWindowLevel(theirs.GetWindow(), theirs.GetLevel())
    for get, put in (("GetVoxelValueQuantity", "SetVoxelValueQuantity"), ("GetVoxelValueUnits", "SetVoxelValueUnits")):
        entry = getattr(source, get)()
        if entry is not None:
            copy = slicer.vtkCodedEntry()
            copy.Copy(entry)
            getattr(node, put)(copy)


def beside(source: Any, node: Any) -> None:
    """The same folder of the subject hierarchy; where the scene has none, nothing to do."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(source.GetScene())
    item = hierarchy.GetItemByDataNode(source) if hierarchy is not None else 0
    if item:
        own = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetItemParent(item), node)
        hierarchy.SetItemParent(own, hierarchy.GetItemParent(item))


def provenance(source: Any, info: dict) -> dict[str, str]:
    """What stands in the node's attributes (they survive .mrb and .mrml, not .nrrd)."""
    blur = info.get("blur", {})
    return {
        "Model": info["model"]["name"],
        "ModelSHA256": info["model"]["sha256"],
        "Input": f"{source.GetName()} ({source.GetID()})",
        "Device": f"{info['device']} {info['precision']}",
        "MirroredViews": str(info.get("flips", 1)),
        "Blur": f"{blur.get('source')} {blur.get('mtf_kji') or ''}".strip(),
        "Noise": noise_in_words(info["noise"]) if "noise" in info else "",
        "Consistency": agreement(info),
        "Version": info.get("version", ""),
        "Warnings": "\n".join(info.get("warnings", [])),
        "Info": json.dumps(info, default=str),
    }


def agreement(info: dict) -> str:
    """The consistency figure in words; plainly, where there is none."""
    found = info.get("consistency") or {}
    if found.get("rms_of_range") is None:
        return f"not available: {found.get('assumes', 'the worker gave none')}"
    return f"{100 * found['rms_of_range']:.2g} % of the scan's range (RMS), assuming {found['assumes']}"


def frames_of(node: Any) -> tuple[Any, Any] | None:
    """(browser, sequence) where the volume is what a sequence browser shows of a sequence; else None."""
    scene = node.GetScene()
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(number, "vtkMRMLSequenceBrowserNode")
        sequence = browser.GetSequenceNode(node)
        if sequence is not None and sequence.GetNumberOfDataNodes() > 1:
            return browser, sequence
    return None


def publish_frames(
    source: Any, browser: Any, sequence: Any, name: str, frames: list[tuple[np.ndarray, Sequence]], attributes: dict[str, str]
) -> Any:
    """A sequence of results, shown by the same browser; the frame that the user looks at stays. Returns its proxy volume."""
    scene = source.GetScene()
    made = scene.AddNewNodeByClass("vtkMRMLSequenceNode", scene.GenerateUniqueName(f"{name} sequence"))
    made.SetIndexName(sequence.GetIndexName())
    made.SetIndexUnit(sequence.GetIndexUnit())
    for number, (array, matrix) in enumerate(frames):  # nodes of the sequence's own inner scene, never of the user's
        frame = vtkMRMLScalarVolumeNode()
        frame.SetName(name)
        fill(frame, array, matrix)
        made.SetDataNodeAtValue(frame, sequence.GetNthIndexValue(number))
    at = max(0, browser.GetSelectedItemNumber())
    proxy = publish(source, None, name, *frames[min(at, len(frames) - 1)], attributes)
    browser.AddProxyNode(proxy, made, False)
    browser.SetSaveChanges(made, False)
    browser.SetSelectedItemNumber(at)
    return proxy


def checkerboard(source: Any, result: Any, squares: int = 8) -> Any:
    """A volume of the result's grid with squares by turns of the result and of the input, interpolated; never saved."""
    scene = result.GetScene()
    fine, coarse = array_of(result).astype(np.float32), array_of(source).astype(np.float32)
    step = np.linalg.inv(ijk_to_ras(source)) @ ijk_to_ras(result)  # a region's grid begins elsewhere, its axes are the same
    for axis in range(3):
        at = step[2 - axis, 3] + np.arange(fine.shape[axis]) * step[2 - axis, 2 - axis]
        low = np.clip(np.floor(at).astype(int), 0, coarse.shape[axis] - 1)
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        share = np.clip(at - low, 0, 1).reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
        coarse = np.take(coarse, low, axis) * (1 - share) + np.take(coarse, high, axis) * share
    size = max(1, max(fine.shape) // squares)
    parity = sum(np.ix_(*(np.arange(n) // size for n in fine.shape))) % 2
    name = checkerboard_name(source, result)
    node = scene.GetFirstNodeByName(name) or scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    fill(node, np.where(parity == 0, fine, coarse), ijk_to_ras(result))
    node.SetAndObserveTransformNodeID(result.GetTransformNodeID())
    node.SetSaveWithScene(False)
    node.CreateDefaultDisplayNodes()
    like(result, node)
    return node


def checkerboard_name(source: Any, result: Any) -> str:
    return f"{result.GetName()} | {source.GetName()}"


def node_gone(scene: vtkMRMLScene, node_id: str) -> bool:
    return scene.GetNodeByID(node_id) is None
