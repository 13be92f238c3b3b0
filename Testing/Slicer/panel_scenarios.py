"""What is done with the panel and what must come of it: once with doubles (test_panel.py), once in a real Slicer (run_in_slicer.py).

Each of `SCENARIOS` takes a `Bench`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import slicer
import unhappy_scenarios
from bench import OBLIQUE, Bench, model_files
from fake_process import HELLO, FakeProcess
from SRGAN3DSlicer import choices, mrml, preferences


def first_look(bench: Bench) -> None:
    """The first fit volume is chosen, label maps are not offered, size and cost stand there, nothing has been started."""
    ui, made = bench.ui, len(FakeProcess.made)
    assert ui.inputSelector.currentNode().GetName() == "Kopf ü" and ui.inputSelector.nodeCount() == 1
    assert ui.applyButton.enabled and ui.applyButton.text == "Super-resolve"
    assert (
        "88 x 96 x 80 voxels of 0.45 x 0.55 x 1.15 mm, 3 MB" in ui.forecastLabel.text
        and "not measured on this machine" in ui.forecastLabel.text
    )
    assert "T1w" in ui.cardLabel.text and "Apache-2.0" in ui.cardLabel.text
    assert not ui.resultGroup.isVisibleTo(bench.widget.parent) and len(FakeProcess.made) == made
    assert "torch" not in vars(sys.modules["SRGAN3DSlicer.panel"])


def a_run_from_click_to_comparison(bench: Bench) -> None:
    ui = bench.ui
    bench.click()
    asked = bench.process.told[-1]
    assert asked["request"] == "super-resolve" and np.allclose(asked["ijk_to_ras"], OBLIQUE) and asked["blur"] == "auto"
    assert ui.applyButton.text == "Cancel" and not ui.volumesGroup.enabled and bench.panel.machine.state.value == "starting"
    bench.process.say(event="log", id=asked["id"], level="warning", message="spacing odd")
    bench.process.say(event="progress", id=asked["id"], stage="network", done=30, total=120, eta_s=61.0)
    bench.logic.pump()
    assert ui.progressBar.value == 25 and ui.statusLabel.text == "Computing, 1 min 01 s left"
    out = bench.finish()
    assert out is not None and bench.panel.machine.state.value == "done" and ui.statusLabel.text.startswith("Done in")
    assert ui.applyButton.text == "Super-resolve" and ui.volumesGroup.enabled and ui.resultGroup.isVisibleTo(bench.widget.parent)
    said = ui.measuredLabel.text
    assert "every voxel of the result" in said and "estimated, MTF at Nyquist 0.40" in said
    assert "the input's voxels, 44 x 48 x 40 of 0.90 x 1.10 x 2.30 mm" in said and "differs from the scan by 1.2 % of its range" in said
    assert out.GetAttribute("SRGAN3D.Consistency").startswith("1.2 % of the scan's range (RMS), assuming gaussian")
    assert bench.layers[-1]["foreground"] is out and bench.layers[-1]["foregroundOpacity"] == 0.5
    ui.fadeSlider.setValue(80)
    assert bench.layers[-1] == {"foregroundOpacity": 0.8}
    bench.choose(ui.compareCombo, "checkerboard")
    assert bench.layers[-1]["background"].GetName() == "Kopf ü SR x2 | Kopf ü"
    ui.copyCitationButton.click()
    assert "0123456789ab" in slicer.app.clipboard().text()
    assert "Warning: spacing odd" in ui.logText.plainText
    assert "about" in ui.forecastLabel.text and "not measured" not in ui.forecastLabel.text


def cancel_and_again(bench: Bench) -> None:
    """The button is free at once; the worker lets go and stays warm, and the next job is its own."""
    nodes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    bench.click()
    process, asked = bench.process, bench.process.asked()
    bench.click()
    assert process.told[-1] == {"request": "cancel", "id": asked["id"]}
    bench.says("Cancelled: nothing was changed")
    assert bench.ui.applyButton.enabled and slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == nodes
    bench.click()
    assert process.told[-1]["request"] == "cancel"  # the next one waits until it has let go
    process.say(event="progress", id=asked["id"], stage="network", done=1, total=2, eta_s=1.0)
    process.say(event="failed", id=asked["id"], error="Cancelled", message="cancelled", exit_code=130)
    bench.logic.pump()
    assert process.told[-1]["request"] == "super-resolve" and not process.was_killed and not Path(asked["input"]).exists()
    assert bench.finish() is not None and bench.process is process


def cancel_not_heeded(bench: Bench) -> None:
    """A worker that does not let go in time is ended, and what waits gets another."""
    bench.click()
    process = bench.process
    bench.click()
    bench.click()
    bench.logic.client.patience_s = 0.0
    time.sleep(0.01)
    bench.logic.pump()
    assert process.was_killed and bench.process is not process
    bench.logic.pump()
    assert bench.finish() is not None


def cancel_before_the_worker_is_there(bench: Bench) -> None:
    bench.logic.client.make = lambda: FakeProcess(None)
    bench.click()
    bench.click()
    bench.says("Cancelled: nothing was changed")
    bench.process.say(**HELLO)
    bench.logic.pump()
    assert bench.process.told == [] and not bench.process.was_killed


def output_is_chosen_where_the_model_is_gone(bench: Bench) -> None:
    """Whatever the panel writes into the scene's choices, connectGui must not set the user's choice back."""
    target = bench.add_volume(name="old")
    bench.widget.parameters.model = "gone"
    bench.ui.outputSelector.setCurrentNode(target)
    assert bench.ui.outputSelector.currentNode().GetID() == target.GetID()
    assert bench.widget.parameters.outputVolume.GetID() == target.GetID()


def devices_by_name_and_why_not(bench: Bench) -> None:
    bench.click()
    combo = bench.ui.deviceCombo
    texts = [combo.itemText(n) for n in range(combo.count)]
    assert texts == ["Automatic", "cuda:0: not usable", "cpu: 2 threads, no fast bf16"]
    bench.finish()
    combo.setCurrentIndex(1)
    assert combo.itemData(combo.currentIndex) == "auto" and "Conv3d in fp32 failed" in bench.ui.statusLabel.text
    bench.choose(combo, "cpu")
    bench.click()
    assert bench.process.told[-1]["device"] == "cpu"


def the_coarse_axis_decides_on_the_model(bench: Bench) -> None:
    """Slices along K: the model for slices is taken. Along I: it is laid there, and the panel says so; the worker is told the same."""
    nothing_shipped = mock.patch.object(choices.model_card, "catalogue", dict)
    with nothing_shipped, model_files(("slice-x3", [3, 1, 1]), ("slice-x5", [5, 1, 1])) as (x3, x5):
        for path in (x3, x5):
            preferences.add_model(path)
        bench.panel._fill_models()
        bench.widget.parameters.model = ""
        bench.ui.inputSelector.setCurrentNode(bench.add_volume(name="slices", matrix=np.diag([1, 1, 3.2, 1])))
        assert bench.panel.header.name == "slice-x3" and bench.widget.parameters.model == ""
        assert "44 x 48 x 120 voxels of 1.00 x 1.00 x 1.07 mm" in bench.ui.forecastLabel.text and "Note" not in bench.ui.warningLabel.text
        bench.choose(bench.ui.modelCombo, x5)
        assert "model slice-x3: 1x1x3" in bench.ui.warningLabel.text and bench.widget.parameters.model == x5
        bench.ui.inputSelector.setCurrentNode(bench.add_volume(name="sagittal", matrix=np.diag([4.8, 1, 1, 1])))
        assert bench.panel.header.name == "slice-x5"  # once chosen, it stays chosen
        assert "sagittal SR 5x1x1, 220 x 48 x 40 voxels of 0.96 x 1.00 x 1.00 mm" in bench.ui.forecastLabel.text
        assert "The slices lie along I of the array: the model is laid there" in bench.ui.warningLabel.text
        bench.click()
        assert bench.process.asked()["factors_ijk"] == [5, 1, 1]
        bench.click()
        bench.ui.inputSelector.setCurrentNode(bench.add_volume(name="nearly cubic", matrix=np.diag([1.2, 1, 1.1, 1])))
        assert "refines axis K of the array only (1.10 mm), but the coarsest axis is I (1.20 mm)" in bench.ui.warningLabel.text


def contrast_by_evidence_only(bench: Bench) -> None:
    ui, trained = bench.ui, "the model was trained on " + ", ".join(bench.panel.header.contrasts)
    assert trained not in ui.warningLabel.text
    ui.inputSelector.setCurrentNode(bench.add_volume(name="AX T2 tse"))
    assert f"Its name says T2w: {trained}" in ui.warningLabel.text and ui.applyButton.enabled
    ui.inputSelector.setCurrentNode(bench.add_volume(name="T1 in T2 space"))
    assert "Its name" not in ui.warningLabel.text
    node = bench.add_volume(name="head")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "CT")
    ui.inputSelector.setCurrentNode(node)
    assert f"Its DICOM modality says CT: {trained}" in ui.warningLabel.text


def voxels_come_after_the_node(bench: Bench) -> None:
    """An empty selector takes a node the moment it is made; what is said of it follows its voxels, its grid and its name."""
    ui, model = bench.ui, choices.data(bench.ui.modelCombo)
    bench.click()
    bench.finish()
    node = ui.inputSelector.currentNode()
    node.SetName("Kopf")
    assert ui.statusLabel.text.startswith("Done in") and ui.resultGroup.isVisibleTo(bench.widget.parent)
    slicer.mrmlScene.Clear(0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "new")
    assert ui.inputSelector.currentNode().GetID() == node.GetID()
    bench.forbids("new: has no voxels")
    bench.choose(ui.modelCombo, model)
    bench.widget.parameters.model = model  # it may have stood there already, by suggestion
    mrml.fill(node, np.random.default_rng(0).normal(100, 20, (40, 48, 44)).astype(np.float32), OBLIQUE)
    assert ui.applyButton.enabled and "new SR x2, 88 x 96 x 80 voxels of 0.45 x 0.55 x 1.15 mm" in ui.forecastLabel.text
    node.SetSpacing(1, 1, 1)
    assert "voxels of 0.50 x 0.50 x 0.50 mm" in ui.forecastLabel.text
    bench.widget.exit()
    node.SetSpacing(2, 2, 2)
    bench.widget.enter()
    assert "voxels of 1.00 x 1.00 x 1.00 mm" in ui.forecastLabel.text


def output_goes_before_the_click(bench: Bench) -> None:
    """The selector would turn to its neighbour, and that be overwritten."""
    target, roi = bench.add_volume(name="old"), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    bench.add_volume(name="precious")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "S")
    bench.ui.outputSelector.setCurrentNode(target)
    bench.ui.roiSelector.setCurrentNode(roi)
    for node in (target, roi):
        slicer.mrmlScene.RemoveNode(node)
    assert bench.ui.outputSelector.currentNode() is None and bench.widget.parameters.outputVolume is None
    assert bench.ui.roiSelector.currentNode() is None and bench.widget.parameters.roiID == ""
    bench.click()
    assert bench.finish() is not None


def an_import_changes_no_choice(bench: Bench) -> None:
    """The selectors are emptied by it and turn to their first node; what the user chose, and the result, stay."""
    scene, ui = slicer.mrmlScene, bench.ui
    node, target = bench.add_volume(name="chosen"), bench.add_volume(name="old")
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    for selector, one in ((ui.inputSelector, node), (ui.outputSelector, target), (ui.roiSelector, roi)):
        selector.setCurrentNode(one)
    bench.click()
    bench.finish()
    for left in (False, True):
        if left:
            bench.widget.exit()
        scene.StartState(scene.ImportState)
        bench.add_volume(name="imported")
        scene.EndState(scene.ImportState)
        if left:
            bench.widget.enter()
        for selector, one in ((ui.inputSelector, node), (ui.outputSelector, target), (ui.roiSelector, roi)):
            assert selector.currentNode() is not None and selector.currentNode().GetID() == one.GetID()
        assert bench.widget.parameters.inputVolume.GetID() == node.GetID() and bench.widget.parameters.roiID == roi.GetID()
        assert ui.statusLabel.text.startswith("Done in") and ui.resultGroup.isVisibleTo(bench.widget.parent)


def module_goes_while_running(bench: Bench) -> None:
    bench.click()
    process, folder = bench.process, Path(bench.process.asked()["input"]).parent
    bench.widget.cleanup()
    assert process.was_stopped and bench.logic.runs == [] and not folder.exists()
    said = bench.ui.forecastLabel.text
    slicer.mrmlScene.Clear(0)  # Reload hides the widgets, and the scene still tells them everything
    assert bench.ui.forecastLabel.text == said


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    one.__name__: one
    for one in (
        first_look,
        a_run_from_click_to_comparison,
        cancel_and_again,
        cancel_not_heeded,
        cancel_before_the_worker_is_there,
        output_is_chosen_where_the_model_is_gone,
        devices_by_name_and_why_not,
        the_coarse_axis_decides_on_the_model,
        contrast_by_evidence_only,
        voxels_come_after_the_node,
        output_goes_before_the_click,
        an_import_changes_no_choice,
        module_goes_while_running,
        *unhappy_scenarios.SCENARIOS,
    )
}
SCENARIOS |= {f"unhappy, {what}": lambda bench, what=what: unhappy_scenarios.unhappy(bench, what) for what in unhappy_scenarios.UNHAPPY}  # type: ignore[misc]
