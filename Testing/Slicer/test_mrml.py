"""The scene, with Slicer's own MRML: where results lie, under what, how they look, and what survives saving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from grids import LEFT_HANDED, MATRICES, OBLIQUE, SHEARED
from SRGAN3DSlicer import mrml

from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.volumes.geometry import Geometry

INFO = {
    "model": {"name": "tiny", "sha256": "abc"},
    "device": "cpu",
    "precision": "fp32",
    "blur": {"source": "estimated", "mtf_kji": [0.4, 0.5, 0.6]},
    "version": "0.1.0",
    "warnings": ["ä"],
}


def bounds(node: Any) -> np.ndarray:
    box = [0.0] * 6
    node.GetRASBounds(box)
    return np.array(box)


def refined(node: Any, factors: tuple[int, int, int]) -> np.ndarray:
    return Geometry(mrml.shape_kji(node), mrml.ijk_to_ras(node)).refine(factors).ijk_to_ras


def turn(scene: Any) -> Any:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turn")
    matrix = vtk.vtkTransform()
    matrix.RotateX(20)
    matrix.Translate(5, -7, 11)
    transform.SetMatrixTransformToParent(matrix.GetMatrix())
    return transform


def warp(scene: Any) -> Any:
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    spline = vtk.vtkThinPlateSplineTransform()
    points = [vtk.vtkPoints(), vtk.vtkPoints()]
    for n, corner in enumerate(np.array(np.meshgrid(*[(-80.0, 80.0)] * 3)).reshape(3, -1).T):
        points[0].InsertNextPoint(*corner)
        points[1].InsertNextPoint(*np.add(corner, [3 * (n % 2), n % 3, -n % 4]))
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    spline.SetBasisToR()
    transform.SetAndObserveTransformToParent(spline)
    return transform


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("parent", [None, turn, warp])
def test_result_fills_the_same_box_under_the_same_parent(scene: Any, add_volume: Any, matrix: np.ndarray, parent: Any) -> None:
    node = add_volume(matrix)
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent(scene).GetID())
    factors = (3, 1, 2)
    array = np.zeros([n * f for n, f in zip(mrml.shape_kji(node), factors, strict=True)], np.float32)
    out = mrml.publish(node, None, "out", array, refined(node, factors), mrml.provenance(node, INFO))
    assert out.GetTransformNodeID() == node.GetTransformNodeID()
    assert np.abs(bounds(out) - bounds(node)).max() < (1e-4 if parent is not warp else 1.0)  # a warp is sampled at other points
    assert np.abs(mrml.ijk_to_ras(out) - refined(node, factors)).max() < 1e-9


def test_shown_as_the_input_and_beside_it(scene: Any, add_volume: Any) -> None:
    node = add_volume(OBLIQUE)
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(0)
    display.SetWindowLevel(321, 123)
    display.SetAndObserveColorNodeID(scene.AddNewNodeByClass("vtkMRMLColorTableNode", "hot").GetID())
    unit = slicer.vtkCodedEntry()
    unit.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(unit)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(folder, node)
    out = mrml.publish(node, None, "out", mrml.array_of(node), mrml.ijk_to_ras(node), {})
    shown = out.GetDisplayNode()
    assert (shown.GetWindow(), shown.GetLevel(), shown.GetAutoWindowLevel()) == (321, 123, 0)
    assert shown.GetColorNodeID() == display.GetColorNodeID()
    assert out.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(out)) == folder
    again = mrml.publish(node, None, "out", mrml.array_of(node), mrml.ijk_to_ras(node), {})
    assert out.GetName() == "out" and again.GetName() == "out_1"


def test_result_into_a_given_node(scene: Any, add_volume: Any) -> None:
    node, target = add_volume(SHEARED), add_volume(OBLIQUE, np.zeros((4, 5, 6), np.int16), "old")
    before = scene.GetNumberOfNodes()
    out = mrml.publish(node, target, "new", np.ones((8, 9, 10), np.float32), mrml.ijk_to_ras(node), {})
    assert out is target and out.GetName() == "old" and scene.GetNumberOfNodes() == before
    assert mrml.shape_kji(out) == (8, 9, 10) and np.allclose(mrml.ijk_to_ras(out), SHEARED)


def test_provenance_survives_a_saved_scene(scene: Any, add_volume: Any, tmp_path: Path) -> None:
    node = add_volume(OBLIQUE)
    mrml.publish(node, None, "out", mrml.array_of(node), mrml.ijk_to_ras(node), mrml.provenance(node, INFO))
    scene.SetURL(str(tmp_path / "saved.mrml"))
    assert scene.Commit()
    other = slicer.vtkMRMLScene()
    other.SetURL(str(tmp_path / "saved.mrml"))
    other.Import()
    out = other.GetFirstNodeByName("out")
    assert out.GetAttribute("SRGAN3D.Model") == "tiny" and "Kopf ü" in out.GetAttribute("SRGAN3D.Input")
    assert json.loads(out.GetAttribute("SRGAN3D.Info")) == INFO and out.GetAttribute("SRGAN3D.Warnings") == "ä"


@pytest.mark.parametrize("kind", ["vtkMRMLLabelMapVolumeNode", "vtkMRMLVectorVolumeNode"])
def test_refuses_what_is_a_scalar_volume_to_mrml_only(add_volume: Any, kind: str) -> None:
    node = add_volume(OBLIQUE, kind=kind)
    assert node.IsA("vtkMRMLScalarVolumeNode")
    with pytest.raises(VolumeError, match=r"Kopf ü: a (label map|colour)"):
        mrml.check_input(node)
    with pytest.raises(JobError):
        mrml.check_output(node, add_volume(OBLIQUE))


def test_refuses_the_unfit(scene: Any, add_volume: Any, small_head: np.ndarray) -> None:
    assert mrml.unfit(add_volume(OBLIQUE)) == ""
    assert "no volume" in mrml.unfit(None)
    assert "no voxels" in mrml.unfit(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    assert "2-D" in mrml.unfit(add_volume(OBLIQUE, small_head[:1]))
    assert "singular (spacing 1 x 0 x 1 mm)" in mrml.unfit(add_volume(np.diag([1.0, 0, 1, 1])))
    assert "infinite" in mrml.unfit(add_volume(OBLIQUE, np.where(small_head > 500, np.inf, small_head)))
    assert "same value" in mrml.unfit(add_volume(OBLIQUE, np.full((5, 5, 5), 7.0, np.float32)))
    node = add_volume(OBLIQUE)
    with pytest.raises(JobError, match="is the input itself"):
        mrml.check_output(node, node)


@pytest.mark.parametrize("matrix", [OBLIQUE, LEFT_HANDED])
@pytest.mark.parametrize("parent", [None, turn])
def test_region_of_an_roi(scene: Any, add_volume: Any, matrix: np.ndarray, parent: Any) -> None:
    """An ROI laid exactly around voxels 3..8, 10..20, 5..30 (its axes along the volume's) finds these and no others."""
    node = add_volume(matrix)
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent(scene).GetID())
    wanted = ((3, 9), (10, 21), (5, 31))
    first, past = np.array(wanted).T
    world = np.eye(4)
    if parent is not None:
        to_world = vtk.vtkMatrix4x4()
        node.GetParentTransformNode().GetMatrixTransformToWorld(to_world)
        world = slicer.util.arrayFromVTKMatrix(to_world)
    centre = (world @ matrix @ [*((first + past - 1) / 2), 1])[:3]
    axes = world[:3, :3] @ matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    placed = np.eye(4)
    placed[:3, :3], placed[:3, 3] = axes, centre
    roi.SetSize((past - first - 0.5) * node.GetSpacing())
    roi.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(placed))
    assert mrml.region(node, roi) == wanted
    placed[:3, 3] += 1000
    roi.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(placed))
    with pytest.raises(JobError, match="holds no voxel"):
        mrml.region(node, roi)
    assert mrml.region(node, None) is None


@pytest.mark.parametrize("parent", [None, turn])
def test_new_region_lies_around_the_volume(scene: Any, add_volume: Any, parent: Any) -> None:
    node = add_volume(OBLIQUE)
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent(scene).GetID())
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    mrml.place(roi, node)
    assert mrml.region(node, roi) == tuple((0, n) for n in reversed(mrml.shape_kji(node)))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("MRHead", []),
        ("sub-01_T1w", ["T1w"]),
        ("3: AX T2 FLAIR", ["T2w", "FLAIR"]),
        ("MRBrainT2", ["T2w"]),
        ("t2_tse_sag", ["T2w"]),
        ("CTChest", ["CT"]),
        ("CTA-cardio", ["CT"]),
        ("ACTor T10 pdf", []),
        ("Kopf ü", []),
    ],
)
def test_contrasts_in_names(add_volume: Any, name: str, wanted: list[str]) -> None:
    assert mrml.contrasts(add_volume(OBLIQUE, name=name)) == [("its name", one) for one in wanted]


def test_contrasts_in_hierarchy_and_units(scene: Any, add_volume: Any) -> None:
    node = add_volume(OBLIQUE, name="head")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, mrml.MODALITY, "MR")
    assert mrml.contrasts(node) == []
    hierarchy.SetItemAttribute(item, mrml.MODALITY, "CT")
    unit = slicer.vtkCodedEntry()
    unit.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(unit)
    assert [contrast for _, contrast in mrml.contrasts(node)] == ["CT", "CT"]


def test_memory_that_ends_leaves_no_node(scene: Any, add_volume: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = add_volume(OBLIQUE)
    before = scene.GetNumberOfNodes()
    monkeypatch.setattr(slicer.util, "updateVolumeFromArray", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        mrml.publish(node, None, "out", np.ones((2, 2, 2), np.float32), OBLIQUE, {})
    assert scene.GetNumberOfNodes() == before


def test_consistency_in_words() -> None:
    assert mrml.agreement({}) == "not available: the worker gave none"
    assert mrml.agreement({"consistency": {"rms_of_range": None, "assumes": "why"}}) == "not available: why"


def test_sequence_of_results(scene: Any, add_volume: Any, small_head: np.ndarray) -> None:
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames")
    for n in range(3):
        frame = slicer.vtkMRMLScalarVolumeNode()
        mrml.fill(frame, small_head + n, OBLIQUE)
        sequence.SetDataNodeAtValue(frame, str(10 * n))
    proxy = add_volume(OBLIQUE)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(proxy, sequence, False)
    browser.SetSelectedItemNumber(1)
    assert mrml.frames_of(proxy) == (browser, sequence) and mrml.frames_of(add_volume(OBLIQUE)) is None
    results = [(np.full((4, 4, 4), n, np.float32), OBLIQUE) for n in range(3)]
    out = mrml.publish_frames(proxy, browser, sequence, "out", results, {})
    made = browser.GetSequenceNode(out)
    assert made.GetNumberOfDataNodes() == 3 and [made.GetNthIndexValue(n) for n in range(3)] == ["0", "10", "20"]
    assert browser.GetSelectedItemNumber() == 1 and mrml.array_of(out).max() == 1
    assert [mrml.array_of(made.GetNthDataNode(n)).max() for n in range(3)] == [0, 1, 2]


def test_checkerboard_of_a_linear_ramp_is_the_ramp(add_volume: Any) -> None:
    """Input and result sample the same linear function, so squares by turns cannot be seen, but where the input ends."""

    def ramp(matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        k, j, i = np.indices(shape)
        points = np.stack([i, j, k, np.ones(shape)], axis=-1) @ matrix.T
        return (points[..., :3] @ [1.0, 2.0, -0.5]).astype(np.float32)

    node = add_volume(OBLIQUE, ramp(OBLIQUE, (10, 12, 14)))
    fine = refined(node, (2, 2, 2))
    out = mrml.publish(node, None, "out", ramp(fine, (20, 24, 28)), fine, {})
    board = mrml.checkerboard(node, out, squares=4)
    inside = (slice(1, -1),) * 3
    assert np.abs(mrml.array_of(board)[inside] - mrml.array_of(out)[inside]).max() < 1e-3
    assert not board.GetSaveWithScene() and mrml.checkerboard(node, out) is board


def test_a_volume_half_way_through_updateVolumeFromArray(scene: Any) -> None:
    """slicer.util.updateVolumeFromArray sets the size first, and who observes the image hears of it: seen to end Slicer."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "v")
    mrml.fill(node, np.arange(48**3, dtype=np.int16).reshape(48, 48, 48), np.eye(4))
    assert mrml.unfit(node) == ""
    said: list[str] = []
    node.AddObserver(node.ImageDataModifiedEvent, lambda *_: said.append(mrml.unfit(node)))
    node.GetImageData().SetDimensions(200, 200, 200)
    assert said and set(said) == {"v: has no voxels"}
