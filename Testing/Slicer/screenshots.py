"""Pictures of the panel in its states, made by one command from what is shipped: `python Testing/Slicer/screenshots.py FOLDER SCAN`.

SCAN is a fine head scan that no model was trained on. It is made coarse by 2, and the real worker super-resolves it. Run by Python, the
panel is drawn by the doubles (Testing/README.md), and `side-by-side.png` joins it with the slices that it compares. Run by
`Slicer --python-script`, the panel is Slicer's own, and that picture is its main window.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer

HERE = Path(__file__).resolve().parent
WIDTH = 460


def doubles() -> None:
    """Qt and the parts of Slicer's application that a Python without Slicer lacks."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("SRGAN3D_PYTHON", sys.executable)
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "SRGAN3D"), str(HERE.parents[1])]
    import slicer_double

    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    slicer_double.install(scene)


class Studio:
    """A panel, and a camera for it."""

    def __init__(self, folder: Path, scan: str):
        import bench as hands
        from SRGAN3DSlicer import sample_data

        self.folder, self.whole = folder, hasattr(slicer, "modules")
        truth = slicer.util.loadVolume(scan) if self.whole else read(scan)
        self.coarse = sample_data.degrade(truth)
        self.coarse.SetName("T1w")
        slicer.mrmlScene.RemoveNode(truth)
        if self.whole:
            self.panel = slicer.modules.srgan3d.createNewWidgetRepresentation()
            widget = self.panel.self()
        else:
            import SRGAN3D

            self.panel, widget = None, SRGAN3D.SRGAN3DWidget()
            widget.setup()
        self.bench = hands.Bench(widget, "t1-x2")
        self.bench.choose(self.bench.ui.taskCombo, "auto")
        self.window = widget.parent
        self.window.show()

    def settle(self) -> None:
        for _ in range(3):  # what is shown or hidden now changes the height
            slicer.app.processEvents()
            self.window.resize(WIDTH, self.height())
        slicer.app.processEvents()

    def height(self) -> int:
        """That the panel needs at this width."""
        layout = self.window._target.layout() if hasattr(self.window, "_target") else self.window.layout()
        return int(max(layout.totalHeightForWidth(WIDTH), layout.totalMinimumSize().height()))

    def shoot(self, name: str) -> None:
        self.settle()
        path = str(self.folder / f"{name}.png")
        self.window.grab().save(path)
        if not self.whole:
            small(Path(path), 32)
        print(f"{name}: {WIDTH} x {self.height()}", flush=True)

    def close(self) -> None:
        self.bench.widget.cleanup()
        if self.panel is not None:
            self.panel.delete()


def small(path: Path, colours: int) -> None:
    """Few colours are enough for a panel: the repository stays small."""
    from PIL import Image

    Image.open(path).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def read(scan: str) -> Any:
    """A volume node of a file, where Slicer's own readers are absent."""
    from SRGAN3DSlicer import mrml

    from SRGAN3DLib.volumes.volume import Volume

    volume = Volume.read(scan)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "truth")
    mrml.fill(node, volume.array, volume.geometry.ijk_to_ras)
    node.CreateDefaultDisplayNodes()
    return node


def states(studio: Studio) -> None:
    """One picture a state."""
    from SRGAN3DSlicer import logic
    from unhappy_scenarios import end

    bench, ui = studio.bench, studio.bench.ui
    studio.shoot("panel-idle")
    ui.advancedGroup.collapsed = False
    bench.choose(ui.blurCombo, "kspace")
    studio.shoot("panel-advanced")
    bench.choose(ui.blurCombo, "auto")
    ui.advancedGroup.collapsed = True
    bench.click()
    bench.process.say(event="progress", id=bench.process.asked()["id"], stage="network", done=45, total=120, eta_s=75.0)
    bench.logic.pump()
    studio.shoot("panel-running")
    end(bench, "ResourceError", "memory limit 512M: too little for this scan; it needs at least 900M")
    bench.logic.pump()
    studio.shoot("panel-failed")
    ui.logText.clear()
    bench.logic.client.stop()
    bench.logic.client.make = logic.new_process  # from here on the real worker
    bench.click()
    bench.until("done", "failed")
    studio.shoot("panel-done")
    bench.choose(ui.compareCombo, "side by side")
    studio.shoot("panel-comparing")
    if studio.whole:
        whole_window(studio)
    else:
        side_by_side(studio)
    bench.panel.result.close()
    ui.detailsButton.setChecked(True)
    studio.shoot("panel-details")
    ui.detailsButton.setChecked(False)
    ui.checkButton.click()
    bench.until("done", "failed")
    ui.checkDetailsButton.setChecked(True)
    studio.shoot("panel-checked")
    ui.checkDetailsButton.setChecked(False)
    synthesis(studio)
    several(studio)


def synthesis(studio: Studio) -> None:
    """The task for another contrast, before the click. No model for it is shipped: a header without numbers stands in for one."""
    from bench import model_files
    from SRGAN3DSlicer import mrml
    from synthesis_scenarios import HEADER

    bench, ui = studio.bench, studio.bench.ui
    array = mrml.array_of(studio.coarse)
    bench.panel.result.choose(None)
    second = bench.add_volume(name="T2w", matrix=mrml.ijk_to_ras(studio.coarse), array=array.max() - array)
    with model_files(("my-ct", [1, 1, 1]), **HEADER) as (path,):
        bench.panel.add_model(path)
        ui.statusLabel.setVisible(False)
        studio.shoot("panel-synthesis")
        bench.choose(ui.taskCombo, "auto")
    slicer.mrmlScene.RemoveNode(second)


def several(studio: Studio) -> None:
    """A list of scans under way."""
    from SRGAN3DSlicer import mrml

    bench, ui = studio.bench, studio.bench.ui
    for name in ("T1w follow-up", "FLAIR"):
        node = bench.add_volume(name=name, matrix=mrml.ijk_to_ras(studio.coarse), array=mrml.array_of(studio.coarse)[:40, :40, :40])
        node.SetName(name)
    ui.severalButton.setChecked(True)
    bench.panel.scans.tick(bench.panel.scans.ids)
    studio.shoot("panel-several")
    ui.severalButton.setChecked(False)


def side_by_side(studio: Studio) -> None:
    """The panel, and the middle slices of scan and result, each at the size in which Slicer would show it."""
    from PIL import Image
    from SRGAN3DSlicer import mrml

    panel = Image.open(studio.folder / "panel-comparing.png").convert("RGB")
    pictures = [panel]
    for node in (studio.bench.panel.result.source, studio.bench.panel.result.node):
        array, (low, high) = mrml.array_of(node).astype(np.float32), np.percentile(mrml.array_of(studio.coarse), (1, 99.8))
        axis = 2 - mrml.directions(node).index("S")
        cut = np.clip((np.take(array, array.shape[axis] // 2, axis) - low) / (high - low), 0, 1)
        picture = Image.fromarray((255 * cut[::-1]).astype(np.uint8))
        height = panel.height - 40
        pictures.append(picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.BILINEAR).convert("RGB"))
    whole = Image.new("RGB", (sum(one.width for one in pictures) + 20, panel.height), "black")
    at = 0
    for one in pictures:
        whole.paste(one, (at, 0 if one is panel else 20))
        at += one.width + 10
    whole.save(studio.folder / "side-by-side.png")
    small(studio.folder / "side-by-side.png", 24)


def whole_window(studio: Studio) -> None:
    """Slicer's main window, side by side."""
    window = slicer.util.mainWindow()
    if window is not None:
        window.resize(1280, 860)
        slicer.util.selectModule("SRGAN3D")
        for _ in range(20):
            slicer.app.processEvents()
            time.sleep(0.02)
        window.grab().save(str(studio.folder / "side-by-side.png"))


def main(folder: str, scan: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    if hasattr(slicer, "modules"):
        sys.path[:0] = [str(HERE), str(HERE.parent)]
    else:
        doubles()
    set_layers = slicer.util.setSliceViewerLayers
    if not hasattr(slicer, "modules"):
        slicer.util.setSliceViewerLayers = lambda **asked: None
    studio = Studio(Path(folder), scan)
    states(studio)
    studio.close()
    slicer.util.setSliceViewerLayers = set_layers


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
    if hasattr(slicer, "modules"):
        slicer.util.exit(0)
