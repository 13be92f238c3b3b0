"""Volumes of the scene: which can be super-resolved, where their voxels lie, and what their names say.

Matrices act on (i, j, k, 1), voxel centres, mm. Nothing here asks the user a question.
"""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from slicer import vtkMRMLScene

from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.limits import SHEAR_TOLERANCE

Roi = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
REFUSED = {  # for MRML label maps and vector volumes are scalar volumes too (IsA): their own class decides
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
    # updateVolumeFromArray sets the new size before the voxels are there: VTK would read beyond the old ones
    if scalars is None or image.GetNumberOfPoints() == 0 or scalars.GetNumberOfTuples() != image.GetNumberOfPoints():
        return f"{name}: has no voxels"
    if image.GetNumberOfScalarComponents() != 1:
        return f"{name}: {image.GetNumberOfScalarComponents()} values in each voxel; it must be one"
    if min(image.GetDimensions()) < 2:
        return f"{name}: a 2-D image ({' x '.join(map(str, image.GetDimensions()))}); choose a 3-D volume"
    matrix = ijk_to_ras(node)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        shown = " x ".join(f"{s:g}" for s in node.GetSpacing())
        return f"{name}: its matrix is singular (spacing {shown} mm); the positions of its voxels are not known"
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
        raise JobError(f"{node.GetName()}: the output must be a scalar volume")


def ijk_to_ras(node: Any) -> np.ndarray:
    """The node's own 4x4 matrix, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def shape_kji(node: Any) -> tuple[int, int, int]:
    return tuple(reversed(node.GetImageData().GetDimensions()))


def voxel_count(node: Any, roi: Any) -> int:
    """Of the volume, or of its part within a Markups ROI."""
    found = region(node, roi)
    return math.prod(shape_kji(node) if found is None else [past - first for first, past in found])


def fit_volumes(scene: Any) -> list[Any]:
    """The volumes of the scene that can be super-resolved, hidden ones apart."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    nodes = [scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode") for number in range(count)]
    return [node for node in nodes if not node.GetHideFromEditors() and not unfit(node)]


def directions(node: Any) -> tuple[str, str, str]:
    """The anatomical direction (R, A or S, each once) that lies nearest to the axes I, J, K of the array.

    A linear parent transform counts; one that is not linear is ignored.
    """
    axes = ijk_to_ras(node)[:3, :3]
    parent = node.GetParentTransformNode()
    if parent is not None and parent.IsTransformToWorldLinear():
        to_world = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(to_world)
        axes = slicer.util.arrayFromVTKMatrix(to_world)[:3, :3] @ axes
    cosines = np.abs(axes) / np.maximum(np.linalg.norm(axes, axis=0), 1e-12)
    best = max(itertools.permutations(range(3)), key=lambda rows: sum(cosines[row, axis] for axis, row in enumerate(rows)))
    return tuple("RAS"[row] for row in best)


def contrasts(node: Any) -> list[tuple[str, str]]:
    """(where it is written, contrast) for every contrast or modality in the volume's name, hierarchy or unit of values.

    The voxels are not looked at, and nothing is guessed.
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
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE)


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


def place_roi(roi: Any, node: Any) -> None:
    """Put a new Markups ROI, which has no position yet, around the whole volume. The user then makes it smaller."""
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


def view_of(node: Any) -> np.ndarray:
    """The node's own voxels, (K, J, I), not a copy: use it at once."""
    return slicer.util.arrayFromVolume(node)


def array_of(node: Any) -> np.ndarray:
    """A copy, (K, J, I)."""
    return np.array(view_of(node))


def fill(node: Any, array: np.ndarray, matrix: Sequence[Sequence[float]]) -> None:
    """Voxels and matrix of a volume node; the array is copied, its type kept."""
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))


def frames_of(node: Any) -> tuple[Any, Any] | None:
    """(browser, sequence) where the volume shows a frame of a sequence; else None."""
    scene = node.GetScene()
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(number, "vtkMRMLSequenceBrowserNode")
        sequence = browser.GetSequenceNode(node)
        if sequence is not None and sequence.GetNumberOfDataNodes() > 1:
            return browser, sequence
    return None


def node_gone(scene: vtkMRMLScene, node_id: str) -> bool:
    return scene.GetNodeByID(node_id) is None
