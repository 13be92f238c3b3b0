"""Lists and sequences of scans, the measured speed, the log, and scenes of another computer; as in panel_scenarios.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import qt
import slicer
import unhappy_scenarios
from bench import INFO, Bench, model_files
from SRGAN3DSlicer import preferences


def several_scans_one_after_the_other(bench: Bench) -> None:
    """Each result appears when it is ready, one that fails stops none, and the list says how far each is."""
    ui = bench.ui
    bench.add_volume(name="second")
    bench.add_volume(name="third")
    ui.severalButton.setChecked(True)
    assert [ui.volumesList.item(row).text() for row in range(ui.volumesList.count)] == ["Kopf ü", "second", "third"]
    assert ui.applyButton.text == "Super-resolve" and not ui.inputSelector.enabled and not ui.outputSelector.enabled
    bench.panel.scans.tick([])
    assert not ui.applyButton.enabled and ui.applyButton.toolTip == "Tick at least one scan in the list."
    bench.panel.scans.tick(bench.panel.scans.ids)
    assert ui.applyButton.text == "Super-resolve 3 scans" and "3 results, 8 MB together" in ui.forecastLabel.text
    bench.click()
    assert ui.volumesList.item(0).text() == "Kopf ü: computing" and ui.volumesList.item(2).text() == "third: waiting"
    bench.process.say(event="progress", id=bench.process.asked()["id"], stage="network", done=1, total=2, eta_s=None)
    bench.logic.pump()
    assert ui.statusLabel.text == "Scan 1 of 3: computing, 50 %" and ui.progressBar.value == 17
    bench.finish()
    assert slicer.mrmlScene.GetFirstNodeByName(bench.result_name()) is not None and ui.volumesList.item(0).text() == "Kopf ü: done"
    unhappy_scenarios.end(bench, "VolumeError", "all background")
    bench.logic.pump()
    bench.finish()
    assert ui.volumesList.item(1).text() == "second: failed (all background)" and ui.volumesList.item(2).text() == "third: done"
    bench.says("2 of 3 scans done. Failed: all background")
    assert ui.applyButton.enabled


def cancel_of_several_keeps_what_is_done(bench: Bench) -> None:
    bench.add_volume(name="second")
    bench.add_volume(name="third")
    bench.ui.severalButton.setChecked(True)
    bench.panel.scans.tick(bench.panel.scans.ids)
    bench.click()
    bench.finish()
    bench.click()
    assert bench.ui.statusLabel.text == "1 of 3 scans done." and bench.panel.machine.state.value == "cancelled"
    assert slicer.mrmlScene.GetFirstNodeByName(bench.result_name()) is not None
    assert bench.ui.volumesList.item(2).text() == "third: cancelled" and bench.logic.runs == []


def the_log_is_fit_for_a_bug_report(bench: Bench) -> None:
    """Versions, shape, spacing, type, model, options; no name of a patient."""
    bench.ui.inputSelector.setCurrentNode(bench.add_volume(name="Doe John 1970"))
    bench.click()
    unhappy_scenarios.end(bench, "VolumeError", "Doe John 1970: is odd")
    bench.logic.pump()
    log = bench.ui.logText.plainText
    assert "input 44 x 48 x 40 voxels of 0.899 x 1.100 x 2.298 mm, float; model" in log and "SHA-256" in log and "device auto" in log
    assert "<volume>: is odd" in log and "Doe" not in log and "1970" not in log
    bench.ui.copyLogButton.click()
    assert slicer.app.clipboard().text() == log


def speed_is_measured_when_the_worker_says_hello(bench: Bench) -> None:
    """Two small blocks go through it; a click comes first; what was measured is kept."""
    for key in preferences.KEYS[2:]:
        qt.QSettings().setValue(key, "")
    bench.panel.warm_up()
    bench.logic.pump()
    first = bench.process.asked()
    assert np.load(first["input"]).shape == (24, 24, 24) and bench.panel.machine.state.value == "idle"
    bench.process.say(event="done", id=first["id"], info=INFO | {"seconds": 0.1, "precision": "bf16"})
    bench.logic.pump()
    second = bench.process.asked()
    size = np.load(second["input"]).shape[0]
    assert size == 54  # 1.2 seconds, by the first
    bench.process.say(event="done", id=second["id"], info=INFO | {"seconds": 2.0, "precision": "bf16"})
    bench.logic.pump()
    assert not Path(second["input"]).exists() and not bench.logic.client.busy()
    found = bench.panel.measured(bench.panel.node)
    assert found.voxels_per_s == size**3 / 2 and found.precision == "bf16"
    assert "Takes about 1 s" in bench.ui.forecastLabel.text and "not measured" not in bench.ui.forecastLabel.text
    bench.panel.refresh()
    assert bench.process.asked()["id"] == second["id"]  # once is enough


def a_click_does_not_wait_for_the_measurement(bench: Bench) -> None:
    bench.panel.warm_up()
    bench.logic.pump()
    block = bench.process.asked()
    bench.click()
    assert bench.process.requests[-1] == {"request": "cancel", "id": block["id"]} and not Path(block["input"]).exists()
    bench.process.say(event="failed", id=block["id"], error="Cancelled", message="cancelled", exit_code=130)
    bench.logic.pump()
    assert bench.process.asked()["id"] != block["id"]
    assert bench.finish() is not None


def all_frames_of_a_sequence(bench: Bench) -> None:
    """Time and size are those of all frames; progress says which one is computed; the frames come as a sequence."""
    scene, ui = slicer.mrmlScene, bench.ui
    if scene.GetNodeByID("vtkMRMLSequenceBrowserNode1") is None and not scene.CreateNodeByClass("vtkMRMLSequenceBrowserNode"):
        return
    volume = ui.inputSelector.currentNode()
    before = ui.forecastLabel.text
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames")
    for number in range(3):
        sequence.SetDataNodeAtValue(volume, str(number))
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(volume, sequence, False)
    bench.panel.refresh()
    assert ui.allFramesCheck.isVisibleTo(bench.widget.parent) and "frames" not in before
    ui.allFramesCheck.setChecked(True)
    assert "8 MB. 3 frames." in ui.forecastLabel.text
    bench.click()
    for number in range(3):
        asked = bench.process.asked()
        assert Path(asked["input"]).name == f"in{number}.npy"
        bench.process.say(event="progress", id=asked["id"], stage="network", done=1, total=2, eta_s=None)
        bench.logic.pump()
        assert ui.statusLabel.text.startswith(f"Frame {number + 1} of 3: computing, {round(100 * (number + 0.5) / 3)} %")
        out = bench.finish()
    assert browser.GetSequenceNode(out).GetNumberOfDataNodes() == 3 and ui.resultSelector.currentNode().GetID() == out.GetID()
    ui.allFramesCheck.setChecked(False)


def the_next_panel_says_why_the_run_ended(bench: Bench) -> None:
    """The module is reloaded, or Slicer closed, while a run is under way."""
    bench.click()
    bench.panel.detach()
    assert preferences.take_note() == "The last run was cancelled, because the module was reloaded or Slicer was closed."
    assert preferences.take_note() == ""  # once is enough


def a_checkpoint_of_another_computer(bench: Bench) -> None:
    """The scene names it by file name and hash, never by a path."""
    with model_files(("mine", [2, 2, 2])) as (path,):
        bench.panel.add_model(path)
        key = bench.widget.parameters.model
        assert key.startswith("mine.safetensors sha256:") and str(Path(path).parent) not in key
        preferences.remove_model(key)
    bench.panel.updating = True
    bench.panel.models.fill()
    bench.panel.updating = False
    bench.widget.exit()
    bench.widget.enter()
    said = bench.ui.statusLabel.text
    assert said.startswith(f"The checkpoint mine.safetensors (SHA-256 {key[-64:][:12]}...), chosen in this scene, is not on this computer")


SCENARIOS = [
    several_scans_one_after_the_other,
    cancel_of_several_keeps_what_is_done,
    the_log_is_fit_for_a_bug_report,
    speed_is_measured_when_the_worker_says_hello,
    a_click_does_not_wait_for_the_measurement,
    all_frames_of_a_sequence,
    the_next_panel_says_why_the_run_ended,
    a_checkpoint_of_another_computer,
]
