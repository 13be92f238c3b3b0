"""What is done with the panel and what must come of it: once with doubles (test_panel.py), once in a real Slicer (run_in_slicer.py).

Each of `SCENARIOS` takes a `Bench`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import check_scenarios
import many_scenarios
import numpy as np
import slicer
import synthesis_scenarios
import unhappy_scenarios
from bench import OBLIQUE, Bench, model_files
from fake_process import HELLO, FakeProcess
from SRGAN3DSlicer import helper_volumes, mrml, preferences
from SRGAN3DSlicer import model_card as choices_of_models


def first_look(bench: Bench) -> None:
    """The first fit volume is chosen, label maps are not offered, size and cost stand there, nothing has been started."""
    ui, made = bench.ui, len(FakeProcess.made)
    assert ui.inputSelector.currentNode().GetName() == "Kopf ü" and ui.inputSelector.nodeCount() == 1
    assert ui.applyButton.enabled and ui.applyButton.text == "Super-resolve"
    assert "88 x 96 x 80 voxels of 0.45 x 0.55 x 1.15 mm, 3 MB" in ui.forecastLabel.text and "not measured yet" in ui.forecastLabel.text
    assert ui.scanLabel.text == "contrast not stated, 0.9 x 1.1 x 2.3 mm, thick slices along S (foot-head), much noise"
    for hidden in (ui.resultGroup, ui.cardLabel, ui.progressBar, ui.advancedLabel, ui.volumesList, ui.allFramesCheck):
        assert not hidden.isVisibleTo(bench.widget.parent), hidden.name
    assert "not for diagnosis" in ui.noticeLabel.text and ui.noticeLabel.isVisibleTo(bench.widget.parent)
    ui.aboutButton.setChecked(True)
    assert "T1w" in ui.cardLabel.text and "Apache-2.0" in ui.cardLabel.text and ui.cardLabel.isVisibleTo(bench.widget.parent)
    assert len(FakeProcess.made) == made and "torch" not in vars(sys.modules["SRGAN3DSlicer.panel"])


def a_run_from_click_to_comparison(bench: Bench) -> None:
    ui = bench.ui
    bench.click()
    asked = bench.process.requests[-1]
    assert asked["request"] == "super-resolve" and np.allclose(asked["ijk_to_ras"], OBLIQUE) and asked["blur"] == "auto"
    assert ui.applyButton.text == "Cancel" and not ui.inputSelector.enabled and bench.panel.machine.state.value == "starting"
    bench.process.say(event="log", id=asked["id"], level="warning", message="spacing odd")
    bench.process.say(event="progress", id=asked["id"], stage="network", done=30, total=120, eta_s=61.0)
    bench.logic.pump()
    assert ui.progressBar.value == 25 and ui.statusLabel.text == "Computing, 25 %, 1 min 01 s left"
    out = bench.finish()
    assert out is not None and bench.panel.machine.state.value == "done" and ui.statusLabel.text.startswith("Done in")
    assert ui.applyButton.text == "Super-resolve" and ui.inputSelector.enabled and ui.resultGroup.isVisibleTo(bench.widget.parent)
    said = ui.summaryLabel.text.split("\n")
    assert said[0].startswith("88 x 96 x 80 voxels of ") and said[0].endswith(f", made by {bench.panel.header.name}.")
    assert said[1] == "Agrees with your scan to 1.2 % of its range. Detail finer than 0.9 to 2.3 mm is inferred."
    assert said[2:] == ["The scan is soft."]
    assert not ui.detailsLabel.isVisibleTo(bench.widget.parent)
    ui.detailsButton.setChecked(True)
    assert "MTF at Nyquist R 0.40, A 0.40, S 0.40" in ui.detailsLabel.text
    ui.copyDetailsButton.click()
    assert "0123456789abcdef" in slicer.app.clipboard().text() and "arXiv 1812.11440" in slicer.app.clipboard().text()
    assert out.GetAttribute("SRGAN3D.Consistency").startswith("1.2 % of the scan's range (RMS), assuming gaussian")
    assert "Warning: spacing odd" in ui.logText.plainText
    assert "about" in ui.forecastLabel.text and "not measured" not in ui.forecastLabel.text


def the_first_look_is_the_result(bench: Bench) -> None:
    """The slider stands at the result; a button held down shows the scan."""
    ui = bench.ui
    bench.click()
    out = bench.finish()
    assert bench.layers[-1]["foreground"] is out and bench.layers[-1]["foregroundOpacity"] == 1.0
    assert ui.fadeSlider.value == 100 and ui.compareButton.checked
    bench.panel.result.on_hold()
    assert bench.layers[-1] == {"foregroundOpacity": 0.0}
    bench.panel.result.on_release()
    assert bench.layers[-1] == {"foregroundOpacity": 1.0}
    ui.fadeSlider.setValue(80)
    assert bench.layers[-1] == {"foregroundOpacity": 0.8}
    bench.choose(ui.againstCombo, "interpolation")
    helper = bench.layers[-1]["background"]
    assert helper.GetName() == "Kopf ü interpolated" and helper.GetHideFromEditors() and "interpolation" in ui.holdButton.text
    bench.choose(ui.compareCombo, "checkerboard")
    assert bench.layers[-1]["background"].GetName() == f"{out.GetName()} | Kopf ü" and not ui.againstCombo.enabled
    assert not ui.fadeSlider.isVisibleTo(bench.widget.parent)
    assert ui.inputSelector.nodeCount() == 2  # the scan and the result; no helper is offered
    ui.compareButton.click()
    assert not ui.compareButton.checked and helper_volumes.find(slicer.mrmlScene) == []


def what_is_in_the_way_stands_on_the_button(bench: Bench) -> None:
    ui = bench.ui
    ui.outputSelector.setCurrentNode(ui.inputSelector.currentNode())
    assert not ui.applyButton.enabled and ui.applyButton.toolTip == "Kopf ü: the output is the scan itself; choose another output."
    assert ui.forecastLabel.text == ui.applyButton.toolTip
    ui.outputSelector.setCurrentNode(None)
    assert ui.applyButton.enabled and "separate process" in ui.applyButton.toolTip


def options_that_are_not_as_usual_stand_at_the_button(bench: Bench) -> None:
    ui = bench.ui
    assert ui.advancedLabel.text == ""
    ui.memorySpin.setValue(3.5)
    bench.choose(ui.blurCombo, "kspace")
    bench.choose(ui.flipsCombo, "4")
    assert ui.advancedLabel.text == "Advanced: blur kspace, mirrored views 4, memory limit 3.5 GB"
    assert ui.advancedLabel.isVisibleTo(bench.widget.parent)


def the_noise_is_given_and_said(bench: Bench) -> None:
    bench.choose(bench.ui.noiseCombo, "0")
    bench.click()
    assert bench.process.asked()["noise"] == "0" and bench.ui.advancedLabel.text.endswith("noise 0")
    bench.finish(noise={"source": "given", "percent": 0.0, "percent_estimated": 6.2})
    assert bench.ui.summaryLabel.text.split("\n")[2] == "Much noise; the scan is soft."
    assert "Noise: given 0 % of bright tissue" in bench.panel.result.details()


def a_stale_complaint_goes(bench: Bench) -> None:
    """When something succeeds."""
    bench.panel.add_model(str(Path("nowhere") / "x.safetensors"))
    bench.says("Not added: ")
    bench.choose(bench.ui.blurCombo, "box")
    assert bench.ui.statusLabel.text == ""
    bench.panel.add_model(str(Path("nowhere") / "x.safetensors"))
    with model_files(("m", [2, 2, 2])) as (path,):
        bench.panel.add_model(path)
        bench.says("Added: m.safetensors")
        bench.ui.removeModelButton.click()
        bench.says("Taken out of the list: m.safetensors")
        assert bench.ui.modelCombo.findText("m: x2 in all directions (m.safetensors)") < 0


def results_are_found_by_their_attributes(bench: Bench) -> None:
    """Those of this scan, of another one, and those that a scene brings along; in the data tree, too."""
    ui = bench.ui
    bench.click()
    first = bench.finish()
    bench.click()
    bench.finish()
    assert ui.resultSelector.currentNode().GetName() == f"{first.GetName()}_1" and ui.resultSelector.nodeCount() == 2
    bench.panel.choose_result(first)
    assert ui.resultSelector.currentNode().GetID() == first.GetID() and ui.resultSelector.isVisibleTo(bench.widget.parent)
    other = bench.add_volume(name="other")
    bench.panel.choose_result(other)  # no result: nothing happens
    assert ui.resultSelector.currentNode().GetID() == first.GetID()
    ui.inputSelector.setCurrentNode(other)
    assert ui.resultSelector.currentNode() is None and not ui.resultGroup.isVisibleTo(bench.widget.parent)
    ui.inputSelector.setCurrentNode(slicer.mrmlScene.GetFirstNodeByName("Kopf ü"))
    bench.panel.choose_result(first)
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetFirstNodeByName("Kopf ü"))
    bench.panel.choose_result(first)
    assert "Agrees with your scan to 1.2 %" in ui.summaryLabel.text
    assert not ui.compareButton.enabled and ui.compareButton.toolTip == "The scan of this result is not in the scene."


def cancel_and_again(bench: Bench) -> None:
    """The button is free at once; the worker lets go and stays warm, and the next job is its own."""
    nodes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    bench.click()
    process, asked = bench.process, bench.process.asked()
    bench.click()
    assert process.requests[-1] == {"request": "cancel", "id": asked["id"]}
    bench.says("Cancelled: nothing was changed")
    assert bench.ui.applyButton.enabled and slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == nodes
    bench.click()
    assert process.requests[-1]["request"] == "cancel"  # the next one waits until it has let go
    process.say(event="progress", id=asked["id"], stage="network", done=1, total=2, eta_s=1.0)
    process.say(event="failed", id=asked["id"], error="Cancelled", message="cancelled", exit_code=130)
    bench.logic.pump()
    assert process.requests[-1]["request"] == "super-resolve" and not process.was_killed and not Path(asked["input"]).exists()
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
    assert bench.process.requests == [] and not bench.process.was_killed


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
    assert bench.process.requests[-1]["device"] == "cpu"


def the_coarse_axis_decides_on_the_model(bench: Bench) -> None:
    """Slices along K: the model for slices is taken. Along I: it lies along I, and the worker gets the same factors."""
    ui = bench.ui
    nothing_shipped = mock.patch.object(choices_of_models, "catalogue", dict)
    with nothing_shipped, model_files(("slice-x3", [3, 1, 1]), ("slice-x5", [5, 1, 1]), ("t1-x2", [2, 2, 2])) as paths:
        keys = [preferences.add_model(path) for path in paths]
        bench.panel._fill_choices()
        bench.choose(ui.taskCombo, "auto")
        ui.inputSelector.setCurrentNode(bench.add_volume(name="slices", matrix=np.diag([1, 1, 3.2, 1])))
        assert bench.panel.header.name == "slice-x3" and bench.widget.parameters.model == ""
        assert "44 x 48 x 120 voxels of 1.00 x 1.00 x 1.07 mm" in ui.forecastLabel.text and ui.warningLabel.text == ""
        assert ui.reasonLabel.text == "Model slice-x3: slices along S (foot-head), 3.2 mm apart, become 1.07 mm."
        bench.choose_model(keys[1])
        assert bench.widget.parameters.model == keys[1] and "would be thinner than the voxels are wide" in ui.warningLabel.text
        ui.inputSelector.setCurrentNode(bench.add_volume(name="sagittal", matrix=np.diag([4.8, 1, 1, 1])))
        assert bench.panel.header.name == "slice-x5"  # once chosen, it stays chosen
        assert "220 x 48 x 40 voxels of 0.96 x 1.00 x 1.00 mm" in ui.forecastLabel.text and ui.warningLabel.text == ""
        assert "slices along R (left-right), 4.8 mm apart" in ui.reasonLabel.text
        bench.click()
        assert bench.process.asked()["factors_ijk"] == [5, 1, 1]
        bench.click()
        ui.inputSelector.setCurrentNode(bench.add_volume(name="nearly cubic", matrix=np.diag([1.2, 1, 1.1, 1])))
        said = "This model refines S (foot-head) only (1.10 mm), but the voxels are longest along R (left-right) (1.20 mm)."
        assert said in ui.warningLabel.text
        bench.choose(ui.taskCombo, "isotropic")
        ui.inputSelector.setCurrentNode(bench.add_volume(name="cubes", matrix=np.diag([1, 1, 3, 1])))
        assert "44 x 48 x 120 voxels of 1.00 x 1.00 x 1.00 mm" in ui.forecastLabel.text and bench.widget.parameters.task == "isotropic"


def contrast_by_evidence_only(bench: Bench) -> None:
    ui, trained = bench.ui, "but the model was trained on " + ", ".join(bench.panel.header.contrasts)
    assert trained not in ui.warningLabel.text
    ui.inputSelector.setCurrentNode(bench.add_volume(name="AX T2 tse"))
    assert f"Its name says T2w, {trained}" in ui.warningLabel.text and ui.applyButton.enabled
    ui.inputSelector.setCurrentNode(bench.add_volume(name="T1 in T2 space"))
    assert "Its name" not in ui.warningLabel.text
    node = bench.add_volume(name="head")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "CT")
    ui.inputSelector.setCurrentNode(node)
    assert f"Its DICOM modality says CT, {trained}" in ui.warningLabel.text


def voxels_come_after_the_node(bench: Bench) -> None:
    """An empty selector takes a node the moment it is made; what is said of it follows its voxels, its grid and its name."""
    ui, model = bench.ui, bench.widget.parameters.model
    bench.click()
    bench.finish()
    node = ui.inputSelector.currentNode()
    node.SetName("Kopf")
    assert ui.statusLabel.text.startswith("Done in") and ui.resultGroup.isVisibleTo(bench.widget.parent)
    slicer.mrmlScene.Clear(0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "new")
    assert ui.inputSelector.currentNode().GetID() == node.GetID()
    bench.forbids("new: has no voxels")
    bench.choose_model(model)
    mrml.fill(node, np.random.default_rng(0).normal(100, 20, (40, 48, 44)).astype(np.float32), OBLIQUE)
    assert ui.applyButton.enabled and "88 x 96 x 80 voxels of 0.45 x 0.55 x 1.15 mm" in ui.forecastLabel.text
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
    slicer.mrmlScene.Clear(0)  # Reload hides the widgets, and they still follow the scene
    assert bench.ui.forecastLabel.text == said


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    one.__name__: one
    for one in (
        first_look,
        a_run_from_click_to_comparison,
        the_first_look_is_the_result,
        what_is_in_the_way_stands_on_the_button,
        options_that_are_not_as_usual_stand_at_the_button,
        the_noise_is_given_and_said,
        a_stale_complaint_goes,
        results_are_found_by_their_attributes,
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
        *check_scenarios.SCENARIOS,
        *many_scenarios.SCENARIOS,
        *synthesis_scenarios.SCENARIOS,
        *unhappy_scenarios.SCENARIOS,
    )
}
SCENARIOS |= {f"unhappy, {what}": lambda bench, what=what: unhappy_scenarios.unhappy(bench, what) for what in unhappy_scenarios.UNHAPPY}  # type: ignore[misc]
