"""Run by Slicer itself: `Slicer --testing --python-script run_in_slicer.py`: the panel's scenarios and the module's self-test.

Real PythonQt, real widgets, real nodes; the worker process is made up, but in the self-test. Prints a line a test; ends Slicer
with code 0 or 1.
"""

import sys
import traceback
from pathlib import Path

import qt
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))


def main() -> int:
    import bench
    from panel_scenarios import SCENARIOS
    from SRGAN3DSlicer import preferences

    slicer.util.setSliceViewerLayers = lambda **asked: bench.layers.append(asked)
    failed = 0
    for name, scenario in SCENARIOS.items():
        slicer.mrmlScene.Clear(0)
        for key in (preferences.DEVICE, preferences.ADDED, preferences.SPEEDS):
            qt.QSettings().remove(key)
        bench.layers.clear()
        bench.Bench.add_volume("vtkMRMLLabelMapVolumeNode", "labels")
        bench.Bench.add_volume()
        panel = slicer.modules.srgan3d.createNewWidgetRepresentation()
        widget = panel.self()
        failed += not passes(name, lambda widget=widget, scenario=scenario: scenario(bench.Bench(widget, "t1-x2")))
        widget.cleanup()
        panel.delete()  # a Slicer that ends with two of them breaks
    import SRGAN3D

    failed += not passes("self-test", lambda: SRGAN3D.SRGAN3DTest().runTest())
    print(f"{len(SCENARIOS) + 1 - failed} passed, {failed} failed", flush=True)
    return int(failed > 0)


def passes(name: str, test) -> bool:
    try:
        test()
    except BaseException:
        print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        return False
    print(f"passed {name}", flush=True)
    return True


if __name__ == "__main__":
    slicer.util.exit(main())
