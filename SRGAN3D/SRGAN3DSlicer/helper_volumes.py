"""Volumes that serve a comparison only: squares of both by turns, and the input interpolated to the result's grid.

They are hidden, never saved, never offered as an input, and removed when the comparison closes.
"""

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from . import mrml, results

ATTRIBUTE = "SRGAN3D.Helper"
CHECKERBOARD, INTERPOLATION = "checkerboard", "interpolation"
SQUARES = 8  # along the longest axis


def checkerboard(source: Any, result: Any, squares: int = SQUARES) -> Any:
    """On the result's grid: squares of the result and of the interpolated input by turns."""
    fine, coarse = mrml.array_of(result).astype(np.float32), _interpolated(source, result)
    size = max(1, max(fine.shape) // squares)
    parity = sum(np.ix_(*(np.arange(n) // size for n in fine.shape))) % 2
    return _helper(CHECKERBOARD, result, np.where(parity == 0, fine, coarse), f"{result.GetName()} | {source.GetName()}")


def interpolation(source: Any, result: Any) -> Any:
    """The input on the result's grid by cubic interpolation: what can be had without a model."""
    return _helper(INTERPOLATION, result, _interpolated(source, result), f"{source.GetName()} interpolated")


def remove_all(scene: Any) -> None:
    for node in find(scene):
        scene.RemoveNode(node)


def find(scene: Any) -> list[Any]:
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    nodes = [scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode") for number in range(count)]
    return [node for node in nodes if node.GetAttribute(ATTRIBUTE)]


def _interpolated(source: Any, result: Any) -> np.ndarray:
    """float32 (K, J, I) of the result's shape. A region's grid begins elsewhere, but has the same axes as the input."""
    step = np.linalg.inv(mrml.ijk_to_ras(source)) @ mrml.ijk_to_ras(result)
    cast = vtk.vtkImageCast()
    cast.SetInputData(source.GetImageData())
    cast.SetOutputScalarTypeToFloat()
    reslice = vtk.vtkImageReslice()
    reslice.SetInputConnection(cast.GetOutputPort())
    reslice.SetInterpolationModeToCubic()
    reslice.SetOutputSpacing(*np.diag(step)[:3])
    reslice.SetOutputOrigin(*step[:3, 3])
    reslice.SetOutputExtent(*(end for n in result.GetImageData().GetDimensions() for end in (0, n - 1)))
    reslice.Update()
    shape = mrml.shape_kji(result)
    return vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars()).reshape(shape).astype(np.float32)


def _helper(kind: str, result: Any, array: np.ndarray, name: str) -> Any:
    scene = result.GetScene()
    node = next((one for one in find(scene) if one.GetAttribute(ATTRIBUTE) == kind), None)
    if node is None:
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.SetAttribute(ATTRIBUTE, kind)  # before it is added: no selector may see it as a scan for a moment
        scene.AddNode(node)
    node.SetName(name)
    mrml.fill(node, array, mrml.ijk_to_ras(result))
    node.SetAndObserveTransformNodeID(result.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetSaveWithScene(False)
    results.display_like(result, node)
    return node
