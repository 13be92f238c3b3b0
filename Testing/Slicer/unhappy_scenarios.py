"""What goes wrong, and the one line that must come of it: no box, no traceback, the panel usable again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import slicer
from bench import INFO, OBLIQUE, Bench, model_files
from fake_process import HELLO, FakeProcess
from SRGAN3DSlicer import install, logic, model_chooser, worker_client


def end(bench: Bench, error: str, message: str) -> None:
    bench.process.say(event="failed", id=bench.process.asked()["id"], error=error, message=message, exit_code=3)


def dies(bench: Bench) -> None:
    bench.process.errors, bench.process.code = "Killed\n", -9


def says_done(bench: Bench, info: Any = INFO) -> None:
    bench.process.say(event="done", id=bench.process.asked()["id"], info=info)


def writes(bench: Bench, raw: bytes) -> None:
    Path(bench.process.asked()["output"]).write_bytes(raw)
    says_done(bench)


def account_is_missing(bench: Bench) -> None:
    np.save(bench.process.asked()["output"], np.ones((80, 96, 88), np.float32))
    says_done(bench, {"ijk_to_ras": OBLIQUE.tolist()})


def half_an_answer(bench: Bench) -> None:
    bench.process.inbox += ["Segmentation fault?", "[]", json.dumps({"event": "done", "id": bench.process.asked()["id"]})]


def names_our_file(bench: Bench) -> None:
    end(bench, "VolumeError", f"{bench.process.asked()['input']}: looks like a label map")


def input_goes(bench: Bench) -> None:
    slicer.mrmlScene.RemoveNode(bench.ui.inputSelector.currentNode())


UNHAPPY = {
    "memory": (lambda bench: end(bench, "ResourceError", "needs at least 900M"), "Failed: needs at least 900M"),
    "volume": (names_our_file, "Failed: the input: looks like a label map"),
    "checkpoint": (lambda bench: end(bench, "CheckpointError", "tensor 'a' has NaN"), "Failed: tensor 'a' has NaN"),
    "disk full": (lambda bench: end(bench, "ResourceError", "the disk is full"), "Failed: the disk is full"),
    "device": (lambda bench: end(bench, "DeviceError", "cuda:0 computes wrongly"), "Failed: cuda:0 computes wrongly"),
    "fault of the worker": (lambda bench: end(bench, "KeyError", "KeyError: 'x'"), "Failed: KeyError: 'x'"),
    "killed": (dies, "Failed: the worker ended unexpectedly (code -9): Killed"),
    "no result": (says_done, "Failed: the worker's result cannot be read"),
    "garbage for a result": (lambda bench: writes(bench, b"no array"), "Failed: the worker's result cannot be read"),
    "empty result": (lambda bench: writes(bench, b""), "Failed: the worker's result cannot be read"),
    "half an answer": (half_an_answer, "Failed: the worker's answer cannot be understood"),
    "no account": (account_is_missing, "Failed: the worker's answer cannot be understood (KeyError: 'model')"),
    "input removed": (input_goes, "Cancelled: the input was removed from the scene"),
}


def worker_dies_between_jobs(bench: Bench) -> None:
    bench.click()
    bench.finish()
    dies(bench)
    bench.logic.pump()
    bench.click()
    bench.logic.pump()
    asked = bench.process.asked()
    np.save(asked["output"], np.ones((80, 96, 88), np.float32))
    says_done(bench)
    bench.logic.pump()
    assert slicer.mrmlScene.GetFirstNodeByName(f"{bench.result_name()}_1") is not None


def output_is_the_input(bench: Bench) -> None:
    bench.ui.outputSelector.setCurrentNode(bench.ui.inputSelector.currentNode())
    bench.forbids("Kopf ü: the output is the scan itself; choose another output.")


def output_goes_while_running(bench: Bench) -> None:
    """Nothing is lost, and it is said."""
    target = bench.add_volume(name="old")
    bench.ui.outputSelector.setCurrentNode(target)
    bench.click()
    slicer.mrmlScene.RemoveNode(target)
    assert bench.finish() is not None
    assert "the chosen output was removed meanwhile" in bench.ui.statusLabel.text and bench.ui.applyButton.enabled


def scene_closes_in_mid_run(bench: Bench) -> None:
    bench.click()
    slicer.mrmlScene.Clear(0)
    bench.says("Cancelled: the scene was closed")
    assert not bench.ui.applyButton.enabled and bench.ui.forecastLabel.text == "No volume is selected."


def unfit_volumes(bench: Bench) -> None:
    """Each forbids the click with its reason."""
    noise = np.random.default_rng(0).normal(100, 20, (40, 48, 44)).astype(np.float32)
    zero = OBLIQUE.copy()
    zero[:3, 2] = 0
    for name, array, matrix, words in (
        ("flat", noise[:1], OBLIQUE, "flat: a 2-D image"),
        ("constant", np.zeros_like(noise), OBLIQUE, "constant: every voxel has the same value"),
        ("infinite", np.where(noise > 180, np.inf, noise), OBLIQUE, "infinite: holds NaN or infinite values"),
        ("pressed", noise, zero, "pressed: its matrix is singular"),
    ):
        bench.ui.inputSelector.setCurrentNode(bench.add_volume(name=name, array=array, matrix=matrix))
        bench.forbids(words)
    bench.ui.inputSelector.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    bench.forbids("empty: has no voxels")
    noise[3, 4, 5] = np.nan
    bench.ui.inputSelector.setCurrentNode(bench.add_volume(name="holed", array=noise))
    bench.click()
    bench.says("Failed: holed: holds NaN or infinite values")


def not_scans(bench: Bench) -> None:
    """Not offered; and refused where a script gives them."""
    for kind, words in (("vtkMRMLLabelMapVolumeNode", "a label map"), ("vtkMRMLVectorVolumeNode", "a colour or vector volume")):
        node = bench.add_volume(kind, "other")
        try:
            bench.logic.superResolve(node)
        except Exception as error:
            assert type(error).__name__ == "VolumeError" and str(error).startswith(f"other: {words}"), error
        else:
            raise AssertionError(kind)
    assert bench.ui.inputSelector.nodeCount() == 1


def region_beside_the_volume(bench: Bench) -> None:
    """A new region lies around the volume; what is said of it follows it when it is dragged."""
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    bench.ui.roiSelector.setCurrentNode(roi)
    assert "88 x 96 x 80 voxels" in bench.ui.forecastLabel.text and bench.ui.applyButton.enabled
    roi.SetSizeWorld(20, 20, 20)
    assert "88 x 96 x 80 voxels" not in bench.ui.forecastLabel.text and bench.ui.applyButton.enabled
    roi.SetCenterWorld(9000, 0, 0)
    bench.forbids("holds no voxel")
    bench.ui.roiSelector.setCurrentNode(None)
    assert bench.ui.applyButton.enabled


def models_that_will_not_do(bench: Bench) -> None:
    """Damaged, of a newer format, a pickle, none at all; and one whose file goes after it was chosen."""
    with model_files(("new", [2, 2, 2]), format_version=2) as (path,):
        bench.panel.add_model(path)
        bench.says(f"Not added: {path}: format version 2; this program reads version 1")
    with model_files(("m", [2, 2, 2])) as (path,):
        Path(path).write_bytes(Path(path).read_bytes()[:-9])
        bench.panel.add_model(path)
        bench.says(f"Not added: {path}: truncated")
        Path(path).write_bytes(b"PK\x03\x04 and so on")
        bench.panel.add_model(path)
        bench.says(f"Not added: {path}: a pickle")
        Path(path).unlink()
        bench.panel.add_model(path)
        bench.says(f"Not added: {path}: no such checkpoint")
    with model_files(("m", [2, 2, 2])) as (path,):
        bench.panel.add_model(path)
        assert bench.panel.header.name == "m"
        Path(path).unlink()
        bench.click()
        bench.says("Failed: m.safetensors: this checkpoint is not on this computer any more, or it has changed; add it again")
    with mock.patch.object(model_chooser.model_card, "models", dict):
        bench.panel._fill_choices()
    bench.panel.refresh()
    bench.forbids("No model is installed: add a checkpoint file under Advanced.")


def no_torch(bench: Bench) -> None:
    absent = install.State(False, "PyTorch is not installed.", False)
    with mock.patch.dict(os.environ, {"SRGAN3D_PYTHON": ""}), mock.patch.object(install, "state", lambda: absent):
        bench.panel.refresh_torch()
        bench.forbids("PyTorch is not installed: use Install.")
        assert bench.ui.torchLabel.text.startswith(
            "PyTorch is not installed. Install downloads PyTorch ("
        ) and bench.ui.installButton.isVisibleTo(bench.widget.parent)
    bench.panel.refresh_torch()


def no_such_python(bench: Bench) -> None:
    bench.logic.client.make = logic.new_process
    with mock.patch.dict(os.environ, {"SRGAN3D_PYTHON": str(Path("nowhere") / "python")}):
        bench.click()
    bench.says("Failed: SRGAN3D_PYTHON names")


def workers_that_cannot_work(bench: Bench) -> None:
    missing = [{"package": "torch", "reason": "No module named 'torch'"}]
    for hello, words in (
        ({"torch": None, "missing": missing}, "Failed: torch cannot be loaded by PythonSlicer (No module named 'torch'): use Install"),
        ({"protocol": 3}, "Failed: PythonSlicer: speaks protocol 3"),
        ({"self_test": "no device computes rightly"}, "Failed: no device is usable: no device computes rightly"),
    ):
        bench.logic.client.make = lambda hello=hello: FakeProcess(HELLO | hello)
        bench.click()
        bench.says(words)
        assert bench.ui.applyButton.enabled and bench.process.was_killed
    bench.logic.client.make = lambda: FakeProcess(None)
    bench.click()
    bench.process.errors, bench.process.code = "Traceback\nNo module named SRGAN3DLib\n", 1
    bench.logic.pump()
    bench.says("Failed: the worker ended unexpectedly (code 1): No module named SRGAN3DLib")
    bench.click()
    bench.process.inbox += ["Python 2.7", "what?"]
    with mock.patch.object(worker_client, "START_S", 0.0):
        time.sleep(0.01)
        bench.logic.pump()
    bench.says("Failed: the worker has not answered within")


def full_disk_before_the_job(bench: Bench) -> None:
    with mock.patch.object(np, "save", side_effect=OSError(28, "No space left on device")):
        bench.click()
    bench.says("Failed: ")
    assert "cannot be written (No space left on device)" in bench.ui.statusLabel.text and bench.logic.client.pending == {}


def a_fault_of_ours_is_one_line(bench: Bench) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("deep inside")

    bench.logic.superResolveAsync = broken
    bench.click()
    assert (
        bench.ui.statusLabel.text == "Failed: ZeroDivisionError: deep inside (see the log under Advanced)"
        and "Traceback" in bench.ui.logText.plainText
    )
    assert bench.ui.applyButton.enabled


def unhappy(bench: Bench, what: str) -> None:
    """One clear line, no box, the scene without a result, and the panel usable again."""
    happens, words = UNHAPPY[what]
    bench.click()
    happens(bench)
    bench.logic.pump()
    bench.says(words)
    assert slicer.mrmlScene.GetFirstNodeByName(bench.result_name()) is None
    if bench.process.requests[-1]["request"] == "cancel":
        end(bench, "Cancelled", "cancelled")
    if bench.ui.inputSelector.currentNode() is None:
        bench.ui.inputSelector.setCurrentNode(bench.add_volume())
    assert bench.ui.applyButton.enabled
    bench.click()
    bench.logic.pump()
    assert bench.finish() is not None


SCENARIOS = [
    worker_dies_between_jobs,
    output_is_the_input,
    output_goes_while_running,
    scene_closes_in_mid_run,
    unfit_volumes,
    not_scans,
    region_beside_the_volume,
    models_that_will_not_do,
    no_torch,
    no_such_python,
    workers_that_cannot_work,
    full_disk_before_the_job,
    a_fault_of_ours_is_one_line,
]
