"""The scene, with Slicer's own MRML: where results lie, under what, how they look, and what survives saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from grids import LEFT_HANDED, MATRICES, OBLIQUE, SHEARED
from SRGAN3DSlicer import helper_volumes, mrml, results

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
    out = results.publish(node, None, "out", array, refined(node, factors), results.provenance(node, INFO))
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
    out = results.publish(node, None, "out", mrml.array_of(node), mrml.ijk_to_ras(node), {})
    shown = out.GetDisplayNode()
    assert (shown.GetWindow(), shown.GetLevel(), shown.GetAutoWindowLevel()) == (321, 123, 0)
    assert shown.GetColorNodeID() == display.GetColorNodeID()
    assert out.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(out)) == folder
    again = results.publish(node, None, "out", mrml.array_of(node), mrml.ijk_to_ras(node), {})
    assert out.GetName() == "out" and again.GetName() == "out_1"


def test_result_into_a_given_node(scene: Any, add_volume: Any) -> None:
    node, target = add_volume(SHEARED), add_volume(OBLIQUE, np.zeros((4, 5, 6), np.int16), "old")
    before = scene.GetNumberOfNodes()
    out = results.publish(node, target, "new", np.ones((8, 9, 10), np.float32), mrml.ijk_to_ras(node), {})
    assert out is target and out.GetName() == "old" and scene.GetNumberOfNodes() == before
    assert mrml.shape_kji(out) == (8, 9, 10) and np.allclose(mrml.ijk_to_ras(out), SHEARED)


def test_provenance_survives_a_saved_scene(scene: Any, add_volume: Any, tmp_path: Path) -> None:
    node = add_volume(OBLIQUE)
    results.publish(node, None, "out", mrml.array_of(node), mrml.ijk_to_ras(node), results.provenance(node, INFO))
    scene.SetURL(str(tmp_path / "saved.mrml"))
    assert scene.Commit()
    other = slicer.vtkMRMLScene()
    other.SetURL(str(tmp_path / "saved.mrml"))
    other.Import()
    out = other.GetFirstNodeByName("out")
    assert out.GetAttribute("SRGAN3D.Model") == "tiny" and out.GetAttribute("SRGAN3D.Input") == "Kopf ü"
    assert results.account(out) == INFO and out.GetAttribute("SRGAN3D.Warnings") == "ä" and results.is_result(out)
    assert results.source_of(out).GetName() == "Kopf ü" and results.latest_of(results.source_of(out)) is out
    assert results.input_spacing(out) == pytest.approx(node.GetSpacing(), rel=1e-4)


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
    """An ROI exactly around voxels 3..8, 10..20, 5..30 (its axes along the volume's) finds these and no others."""
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
    mrml.place_roi(roi, node)
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


def test_a_frame_that_fails_leaves_no_node(scene: Any, add_volume: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at the first nor at a later frame, nor at the volume that shows them."""
    sequence, proxy = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames"), add_volume(OBLIQUE)
    for n in range(3):
        sequence.SetDataNodeAtValue(proxy, str(n))
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(proxy, sequence, False)
    before, real = scene.GetNumberOfNodes(), slicer.util.updateVolumeFromArray
    for last in range(4):
        calls: list[int] = []

        def fill(*arguments: Any, last: int = last, calls: list[int] = calls) -> None:
            calls.append(1)
            if len(calls) > last:
                raise MemoryError
            real(*arguments)

        monkeypatch.setattr(slicer.util, "updateVolumeFromArray", fill)
        frames = ((np.ones((4, 4, 4), np.float32), OBLIQUE) for _ in range(3))
        with pytest.raises(MemoryError):
            results.publish_frames(proxy, browser, sequence, "out", frames, {})
        assert scene.GetNumberOfNodes() == before


def test_memory_that_ends_leaves_no_node(scene: Any, add_volume: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = add_volume(OBLIQUE)
    before = scene.GetNumberOfNodes()
    monkeypatch.setattr(slicer.util, "updateVolumeFromArray", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        results.publish(node, None, "out", np.ones((2, 2, 2), np.float32), OBLIQUE, {})
    assert scene.GetNumberOfNodes() == before


def test_a_scene_holds_no_path_of_this_computer(scene: Any, add_volume: Any) -> None:
    node = add_volume(OBLIQUE)
    folder = "/Users/anna/my models"
    paths = {"input": f"{folder}/in0.npy", "outputs": {"sr": f"{folder}/out.npy"}, "asked": {"model": f"{folder}/my.safetensors"}}
    warnings = ["C:\\Users\\Anna\\x.json", "cannot read /Users/anna/x.json (T1/T2)"]
    info = INFO | paths | {"warnings": warnings, "choice": {"reason": "a stack of 0.9 / 4 mm"}}
    results.publish(node, None, "out", mrml.array_of(node), mrml.ijk_to_ras(node), results.provenance(node, info))
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    assert "my.safetensors" in text and "0.9 / 4 mm" in text and "cannot read x.json (T1/T2)" in text
    assert "anna" not in text.lower()


def test_an_account_that_cannot_be_read(add_volume: Any) -> None:
    node = add_volume(OBLIQUE)
    assert not results.is_result(node) and results.source_of(node) is None and results.input_spacing(node) == []
    node.SetAttribute("SRGAN3D.Info", "{half")
    node.SetAttribute("SRGAN3D.InputSpacing", "a b")
    assert results.account(node) == {} and results.input_spacing(node) == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (((2, 2, 2),), "T1w SR x2"),
        (((2, 2, 2), "t1-x2-sharp"), "T1w SR x2 sharp"),
        (((2, 2, 2), "t1-x2", True), "T1w SR x2 ROI"),
        (((1, 1, 4), "slice-x4"), "T1w SR x4 slices"),
        (((4, 1, 1), "slice-x4", True), "T1w SR x4 slices ROI"),
        (((3, 2, 1), "mine"), "T1w SR 3x2x1 mine"),
        (((1, 1, 3), "slice-x3", False, "isotropic"), "T1w SR isotropic"),
        (((2, 2, 2), "t1-x2", False, "1"), "T1w SR 1 mm"),
    ],
)
def test_names_tell_factor_and_model(arguments: tuple, wanted: str) -> None:
    assert results.output_name("T1w", *arguments) == wanted


@pytest.mark.parametrize("parent", [None, turn])
def test_directions(scene: Any, add_volume: Any, parent: Any) -> None:
    """Of sagittal slices stored with I from front to back, J from head to foot, K from left to right."""
    node = add_volume(np.array([[0, 0, 3, 0], [-1, 0.1, 0, 0], [0.1, -1, 0, 0], [0, 0, 0, 1.0]]))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent(scene).GetID())
    assert mrml.directions(node) == ("A", "S", "R")
    assert mrml.directions(add_volume(np.diag([-1.0, -1, 2, 1]))) == ("R", "A", "S")


def test_consistency_in_words() -> None:
    assert results.agreement({}) == "not available: the worker gave none"
    assert results.agreement({"consistency": {"rms_of_range": None, "assumes": "why"}}) == "not available: why"


def test_sequence_of_results(scene: Any, add_volume: Any, small_head: np.ndarray) -> None:
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames")
    for n in range(3):
        frame = slicer.vtkMRMLScalarVolumeNode()
        mrml.fill(frame, small_head + n, OBLIQUE)
        sequence.SetDataNodeAtValue(frame, str(10 * n))
    proxy = add_volume(OBLIQUE)
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(proxy, sequence, False)
    browser.SetSelectedItemNumber(1)
    assert mrml.frames_of(proxy) == (browser, sequence) and mrml.frames_of(add_volume(OBLIQUE)) is None
    made_up = [(np.full((4, 4, 4), n, np.float32), OBLIQUE) for n in range(3)]
    out = results.publish_frames(proxy, browser, sequence, "out", made_up, results.provenance(proxy, INFO))
    made = browser.GetSequenceNode(out)
    assert made.GetNumberOfDataNodes() == 3 and [made.GetNthIndexValue(n) for n in range(3)] == ["0", "10", "20"]
    assert browser.GetSelectedItemNumber() == 1 and mrml.array_of(out).max() == 1
    assert [mrml.array_of(made.GetNthDataNode(n)).max() for n in range(3)] == [0, 1, 2]
    browser.SetSelectedItemNumber(2)  # the browser copies a frame with its attributes
    logic.UpdateProxyNodesFromSequences(browser)
    assert mrml.array_of(out).max() == 2 and results.is_result(out) and results.source_of(out) is proxy


def ramp(matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A linear function of space, sampled on a grid."""
    k, j, i = np.indices(shape)
    points = np.stack([i, j, k, np.ones(shape)], axis=-1) @ matrix.T
    return (points[..., :3] @ [1.0, 2.0, -0.5]).astype(np.float32)


@pytest.mark.parametrize("make", [helper_volumes.checkerboard, helper_volumes.interpolation])
def test_helpers_of_a_linear_ramp_are_the_ramp(scene: Any, add_volume: Any, make: Any) -> None:
    """Input and result sample the same linear function, so squares by turns, and the interpolation, look as the result does."""
    node = add_volume(OBLIQUE, ramp(OBLIQUE, (10, 12, 14)))
    fine = refined(node, (2, 2, 2))
    out = results.publish(node, None, "out", ramp(fine, (20, 24, 28)), fine, {})
    made = make(node, out)
    inside = (slice(3, -3),) * 3
    assert np.abs(mrml.array_of(made)[inside] - mrml.array_of(out)[inside]).max() < 1e-3
    assert not made.GetSaveWithScene() and made.GetHideFromEditors() and make(node, out) is made
    assert made not in mrml.fit_volumes(scene)
    helper_volumes.remove_all(scene)
    assert helper_volumes.find(scene) == []


def test_interpolation_of_a_region_lies_where_the_region_lies(add_volume: Any) -> None:
    node = add_volume(OBLIQUE, ramp(OBLIQUE, (20, 22, 24)))
    fine = refined(node, (2, 2, 2)).copy()
    fine[:3, 3] = (fine @ [16, 12, 10, 1])[:3]
    out = results.publish(node, None, "out", ramp(fine, (16, 14, 12)), fine, {})
    assert np.abs(mrml.array_of(helper_volumes.interpolation(node, out)) - mrml.array_of(out)).max() < 1e-3


def test_a_volume_half_way_through_updateVolumeFromArray(scene: Any) -> None:
    """slicer.util.updateVolumeFromArray sets the size first, and observers of the image are called: this once ended Slicer."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "v")
    mrml.fill(node, np.arange(48**3, dtype=np.int16).reshape(48, 48, 48), np.eye(4))
    assert mrml.unfit(node) == ""
    said: list[str] = []
    node.AddObserver(node.ImageDataModifiedEvent, lambda *_: said.append(mrml.unfit(node)))
    node.GetImageData().SetDimensions(200, 200, 200)
    assert said and set(said) == {"v: has no voxels"}
