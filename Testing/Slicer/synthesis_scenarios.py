"""The task "Synthesize another contrast...": its inputs, what it asks, and how its result is shown and warned of."""

from __future__ import annotations

import numpy as np
import slicer
from bench import INFO, OBLIQUE, Bench, model_files
from SRGAN3DSlicer import results

from SRGAN3DLib.contract.configs import to_json
from SRGAN3DLib.contract.synthesis import SYNTHETIC_WARNING, InputImage, ct_output

HEADER = {
    "task": "synthesis",
    "inputs": [to_json(InputImage(name, name)) for name in ("T1w", "T2w")],
    "output": to_json(ct_output()),
}
ACCOUNT = {"task": "synthesis", "output_image": {"contrast": "CT", "unit": "HU", "fill": -1024.0}, "factors_kji": [1, 1, 1]}


def finish(bench: Bench) -> dict:
    """The made-up worker writes a CT; returns what it was asked."""
    asked = bench.process.asked("synthesize")
    np.save(asked["output"], np.full((40, 48, 44), 300.4, np.float32))
    without = {key: value for key, value in INFO.items() if key not in ("blur", "consistency")}
    bench.process.say(event="done", id=asked["id"], info=without | ACCOUNT | {"ijk_to_ras": OBLIQUE.tolist()})
    bench.logic.pump()
    return asked


def another_contrast_from_two_scans(bench: Bench) -> None:
    ui, window = bench.ui, bench.widget.parent
    assert ui.taskCombo.findData("synthesis") < 0 and not ui.alsoSelector1.isVisibleTo(window)
    with model_files(("ct", [1, 1, 1]), **HEADER) as (path,):
        bench.panel.add_model(path)
        assert ui.taskCombo.findData("synthesis") > 0 and bench.panel.models.is_synthesis
        assert ui.alsoSelector1.isVisibleTo(window) and ui.alsoLabel1.text == "T2w:" and not ui.alsoSelector2.isVisibleTo(window)
        bench.forbids("Choose the T2w of the same head.")
        assert "calcifications may be missing or invented" in ui.noticeLabel.text and not ui.severalButton.enabled
        ui.alsoSelector1.setCurrentNode(ui.inputSelector.currentNode())
        bench.forbids("Kopf ü is chosen twice; T2w must be another scan.")
        second = bench.add_volume(name="T2w tse")
        ui.alsoSelector1.setCurrentNode(second)
        assert ui.applyButton.enabled and ui.applyButton.text == "Synthesize"
        assert ui.reasonLabel.text == "Model ct: makes CT from T1w and T2w." and "44 x 48 x 40 voxels" in ui.forecastLabel.text
        ui.outputSelector.setCurrentNode(second)
        bench.forbids("The output is one of the inputs; choose another output.")
        ui.outputSelector.setCurrentNode(None)
        bench.click()
        asked = finish(bench)
        assert list(asked["also"]) == list(asked["also_ijk_to_ras"]) == ["T2w"] and asked["model"].endswith("ct.safetensors")
        out = slicer.mrmlScene.GetFirstNodeByName("Kopf ü CT")
        assert out is not None and results.is_result(out), ui.statusLabel.text
        assert ui.summaryLabel.text.split("\n")[1] == SYNTHETIC_WARNING[:1].upper() + SYNTHETIC_WARNING[1:] + "."
        assert "womENCourage 2017" in bench.panel.result.details() and "arXiv 1812.11440" in bench.panel.result.details()
        assert out.GetAttribute("SRGAN3D.Contrast") == "CT" and SYNTHETIC_WARNING in out.GetAttribute("SRGAN3D.Warnings")
        display = out.GetDisplayNode()
        assert ui.windowCombo.isVisibleTo(window) and (display.GetWindow(), display.GetLevel()) == (400.0, 40.0)
        bench.choose(ui.windowCombo, "bone")
        assert (display.GetWindow(), display.GetLevel()) == (2000.0, 500.0)
        bench.choose(ui.taskCombo, "auto")
        assert ui.applyButton.text == "Super-resolve" and "not for diagnosis" in ui.noticeLabel.text
        assert not ui.alsoSelector1.isVisibleTo(window) and ui.severalButton.enabled


def a_synthesis_model_is_offered_for_its_task_only(bench: Bench) -> None:
    """And the T2w of the scene is found by its name."""
    ui = bench.ui
    second = bench.add_volume(name="T2w")
    with model_files(("ct", [1, 1, 1]), **HEADER) as (path,):
        bench.panel.add_model(path)
        assert ui.modelCombo.count == 1 and ui.alsoSelector1.currentNode() is second
        bench.choose(ui.taskCombo, "other")
        assert ui.modelCombo.count > 1 and all("ct.safetensors" not in ui.modelCombo.itemData(n) for n in range(ui.modelCombo.count))


SCENARIOS = [another_contrast_from_two_scans, a_synthesis_model_is_offered_for_its_task_only]
