"""The button "Check on this scan": when it is there, what it asks, and what it shows."""

from __future__ import annotations

import slicer
from bench import Bench
from fake_process import HELLO, FakeProcess
from SRGAN3DSlicer import mrml, preferences

OFFERED = {"protocol": 2, "requests": ["load", "super-resolve", "synthesize", "check"]}
ROW = {
    "scan": "in.npy",
    "verdict": "tiny helps on this scan: about +2.1 dB over the best interpolation",
    "gain_db": 2.1,
    "fitness": [
        {"fact": "spacing", "shows": "0.90 x 1.10 x 2.30 mm", "as_in_training": True, "expect": ""},
        {"fact": "noise", "shows": "9 % of bright tissue", "as_in_training": False, "expect": "less detail"},
    ],
}


def offered(bench: Bench) -> None:
    """A worker that can check says hello; the speed of the models is known, so that it is not asked for first."""
    for key in bench.panel.models.headers:
        preferences.set_measured(key, "cpu", preferences.Measured(1e5))
    bench.logic.client.make = lambda: FakeProcess(HELLO | OFFERED)
    bench.logic.client.start()
    bench.logic.pump()


def answer(bench: Bench) -> dict:
    """The made-up worker answers a check; returns what it was asked."""
    asked = bench.process.asked("check")
    bench.process.say(event="done", id=asked["id"], info={"scans": [ROW], "failed": []})
    bench.logic.pump()
    return asked


def a_check_before_the_click(bench: Bench) -> None:
    ui, window = bench.ui, bench.widget.parent
    assert not ui.checkButton.isVisibleTo(window)  # no worker yet, and it may be one of version 1
    offered(bench)
    assert ui.checkButton.isVisibleTo(window) and ui.checkButton.enabled
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    ui.checkButton.click()
    bench.logic.pump()
    assert ui.applyButton.text == "Cancel" and not ui.checkButton.enabled and ui.statusLabel.text == "Checking on this scan"
    asked = answer(bench)
    assert asked["ijk_to_ras"] == mrml.ijk_to_ras(ui.inputSelector.currentNode()).tolist() and asked["noise"] == "auto"
    assert ui.statusLabel.text.startswith("Checked in") and ui.applyButton.text == "Super-resolve"
    assert ui.checkLabel.isVisibleTo(window) and not ui.checkDetailsLabel.isVisibleTo(window)
    assert ui.checkLabel.text == "tiny helps on this scan: about +2.1 dB over the best interpolation."
    ui.checkDetailsButton.setChecked(True)
    assert ui.checkDetailsLabel.isVisibleTo(window) and ui.checkDetailsLabel.text.split("\n") == [
        "noise: 9 % of bright tissue (outside: less detail)",
        "spacing: 0.90 x 1.10 x 2.30 mm (as in training)",
    ]
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes and not ui.resultGroup.isVisibleTo(window)


def a_verdict_holds_for_its_scan_and_model_only(bench: Bench) -> None:
    ui, window = bench.ui, bench.widget.parent
    offered(bench)
    ui.checkButton.click()
    answer(bench)
    bench.choose(ui.blurCombo, "box")
    assert not ui.checkLabel.isVisibleTo(window)
    bench.choose(ui.blurCombo, "auto")
    assert ui.checkLabel.isVisibleTo(window)
    bench.choose(ui.taskCombo, "x4")
    assert not ui.checkLabel.isVisibleTo(window)


def a_check_is_cancelled_or_fails(bench: Bench) -> None:
    """In one line, and the panel is free."""
    ui = bench.ui
    offered(bench)
    ui.checkButton.click()
    bench.logic.pump()
    ui.applyButton.click()
    assert ui.statusLabel.text == "Cancelled: nothing was changed" and bench.process.requests[-1]["request"] == "cancel"
    bench.process.say(event="failed", id=bench.process.asked("check")["id"], error="Cancelled", message="cancelled", exit_code=130)
    bench.logic.pump()
    ui.checkButton.click()
    bench.logic.pump()
    asked = bench.process.asked("check")
    bench.process.say(event="failed", id=asked["id"], error="VolumeError", message=f"{asked['input']}: too small", exit_code=3)
    bench.logic.pump()
    bench.says("Failed: Kopf ü: too small")
    assert ui.checkButton.enabled and not ui.checkLabel.isVisibleTo(bench.widget.parent)
    ui.checkButton.click()
    bench.logic.pump()
    bench.process.say(event="done", id=bench.process.asked("check")["id"], info={"scans": []})
    bench.logic.pump()
    bench.says("Failed: the worker's answer cannot be understood")


SCENARIOS = [a_check_before_the_click, a_verdict_holds_for_its_scan_and_model_only, a_check_is_cancelled_or_fails]
