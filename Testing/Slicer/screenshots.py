"""Pictures, made by Slicer itself: `Slicer --python-script screenshots.py FOLDER [SCAN]`.

The panel in its states; and, where SCAN is given and there is a main window, that window with SCAN, made coarse, and its result.
"""

import sys
import time
from pathlib import Path

import numpy as np
import slicer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
WIDTH = 460
OBLIQUE = [[1.97, -0.35, 0, -40], [0.35, 1.97, 0, -50], [0, 0, 2, 20], [0, 0, 0, 1]]
TILTED = [[0.9, 0, 0, -20], [0, 1.1, 0.4, 30], [0, 0, 2.3, -10], [0, 0, 0, 1]]


def head() -> np.ndarray:
    """(K, J, I): a skull with something in it."""
    k, j, i = np.meshgrid(*[np.linspace(-1.2, 1.2, n, dtype=np.float32) for n in (40, 48, 44)], indexing="ij")
    shells = [(260, 0.95), (60, 0.86), (420, 0.8), (640, 0.55)]
    radius = np.sqrt(k**2 + (0.85 * j) ** 2 + i**2) * (1 + 0.04 * np.sin(9 * i) * np.cos(7 * j))
    values = np.select([radius < r for _, r in shells[::-1]], [v for v, _ in shells[::-1]], 0) + np.random.default_rng(0).normal(
        0, 5, radius.shape
    )
    return np.asarray(values, np.float32)


def main(folder: Path) -> None:
    import bench as hands
    from SRGAN3DSlicer import logic
    from unhappy_scenarios import end

    set_layers = slicer.util.setSliceViewerLayers
    slicer.util.setSliceViewerLayers = lambda **asked: hands.layers.append(asked)
    for name, matrix in (("T1w", OBLIQUE), ("tilted", TILTED)):
        hands.Bench.add_volume(name=name, matrix=np.array(matrix), array=head())
    panel = slicer.modules.srgan3d.createNewWidgetRepresentation()
    bench = hands.Bench(panel.self(), "t1-x2")
    window, ui = bench.widget.parent, bench.ui
    window.show()

    def shoot(name: str) -> None:
        for _ in range(2):  # what is shown or hidden now changes the height
            slicer.app.processEvents()
            window.resize(WIDTH, window.layout().totalHeightForWidth(WIDTH))
        slicer.app.processEvents()
        window.grab().save(str(folder / f"{name}.png"))

    shoot("panel-idle")
    bench.click()
    asked = bench.process.asked()["id"]
    bench.process.say(event="progress", id=asked, stage="network", done=45, total=120, eta_s=75.0)
    bench.logic.pump()
    shoot("panel-running")
    end(bench, "ResourceError", "memory limit 512M: too little for 44 x 48 x 40 voxels; the least limit that would do is 900M")
    bench.logic.pump()
    shoot("panel-failed")
    bench.logic.client.stop()
    bench.logic.client.make = logic.new_process  # from here on the real worker
    bench.click()
    bench.until("done", "failed")
    shoot("panel-done")
    bench.choose(ui.compareCombo, "checkerboard")
    shoot("panel-comparing")
    ui.inputSelector.setCurrentNode(slicer.mrmlScene.GetFirstNodeByName("tilted"))
    ui.optionsGroup.collapsed = ui.logGroup.collapsed = False
    shoot("panel-options")
    bench.widget.cleanup()
    panel.delete()
    slicer.util.setSliceViewerLayers = set_layers


def whole_window(folder: Path, scan: str) -> None:
    import bench as hands
    from SRGAN3DSlicer import sample_data

    slicer.mrmlScene.Clear(0)
    window = slicer.util.mainWindow()
    window.resize(1280, 860)
    truth = slicer.util.loadVolume(scan)
    coarse = sample_data.degrade(truth)
    slicer.mrmlScene.RemoveNode(truth)
    coarse.SetName("T1w")
    slicer.util.setSliceViewerLayers(background=coarse, fit=True)
    slicer.util.selectModule("SRGAN3D")
    bench = hands.Bench(slicer.modules.SRGAN3DWidget, "t1-x2", None)
    bench.ui.inputSelector.setCurrentNode(coarse)
    bench.click()
    bench.until("done", "failed")
    for mode in ("fade", "side by side"):
        bench.choose(bench.ui.compareCombo, mode)
        for _ in range(20):
            slicer.app.processEvents()
            time.sleep(0.02)
        window.grab().save(str(folder / f"slicer-{mode.replace(' ', '-')}.png"))


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    main(Path(sys.argv[1]))
    if len(sys.argv) > 2 and slicer.util.mainWindow() is not None:
        whole_window(Path(sys.argv[1]), sys.argv[2])
    slicer.util.exit(0)
