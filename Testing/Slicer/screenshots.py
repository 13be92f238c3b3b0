"""Pictures of the panel in its states, offscreen: `python Testing/Slicer/screenshots.py FOLDER` (fonts and style are not Slicer's)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1]), str(HERE.parents[1] / "SRGAN3D")]
WIDTH = 460


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    import importlib.util

    import slicer
    import slicer_double
    from grids import OBLIQUE, SHEARED

    spec = importlib.util.spec_from_file_location("shared_fixtures", HERE.parent / "conftest.py")
    shared = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(shared)  # type: ignore[union-attr]
    app = slicer_double.install(slicer.vtkMRMLScene())
    app.real.setStyle("Fusion")
    from SRGAN3DSlicer import logic, mrml
    from test_panel import make
    from unhappy_scenarios import end

    from SRGAN3DLib.checkpoint_header import catalogue
    from SRGAN3DLib.jobs import DEFAULT_MODEL

    os.environ["SRGAN3D_PYTHON"] = sys.executable
    model = min(catalogue(), key=lambda name: name != DEFAULT_MODEL)
    for name, matrix in (("T1w", OBLIQUE), ("tilted", SHEARED)):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        mrml.fill(node, shared._head(), matrix)
        node.CreateDefaultDisplayNodes()
    bench = make(model)
    window = bench.widget.parent._target
    window.show()

    def shoot(name: str) -> None:
        app.processEvents()
        window.resize(WIDTH, window.layout().totalHeightForWidth(WIDTH))
        app.processEvents()
        window.grab().save(str(folder / f"{name}.png"))

    shoot("panel-idle")
    bench.click()
    asked = bench.process.told[-1]["id"]
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
    bench.choose(bench.ui.compareCombo, "checkerboard")
    shoot("panel-comparing")
    bench.ui.inputSelector.setCurrentNode(slicer.mrmlScene.GetFirstNodeByName("tilted"))
    for group in (bench.ui.optionsGroup, bench.ui.logGroup):
        group._target.setProperty("collapsed", False)
        for child in group._target.children():
            if hasattr(child, "setVisible") and child is not group._target.head:
                child.setVisible(True)
    shoot("panel-options")
    bench.widget.cleanup()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
