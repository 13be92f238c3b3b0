"""Run by Slicer itself: `Slicer --testing --python-script run_in_slicer.py`: the panel's scenarios and the module's self-test.

Real PythonQt, real widgets, real nodes, real slice views; the worker process is made up in the panel's scenarios and real in
`whole_scenarios.py` and the self-test. Prints a line a test; ends Slicer with code 0 or 1.
"""

import sys
import traceback
from pathlib import Path

import qt
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))


def main() -> int:
    import bench
    import panel_scenarios
    import whole_scenarios
    from SRGAN3DSlicer import preferences

    set_layers, failed = slicer.util.setSliceViewerLayers, 0
    for scenarios, process in ((panel_scenarios.SCENARIOS, bench.FakeProcess), (whole_scenarios.SCENARIOS, None)):
        real = process is None
        slicer.util.setSliceViewerLayers = set_layers if real else lambda **asked: bench.layers.append(asked)
        for name, scenario in scenarios.items():
            slicer.mrmlScene.Clear(0)
            for key in preferences.KEYS:
                qt.QSettings().remove(key)
            bench.layers.clear()
            if not real:
                bench.Bench.add_volume("vtkMRMLLabelMapVolumeNode", "labels")
                bench.Bench.add_volume()
            panel = slicer.modules.srgan3d.createNewWidgetRepresentation()
            hands = bench.Bench(panel.self(), "t1-x2", process)
            failed += not passes(name, lambda hands=hands, scenario=scenario: scenario(hands))
            hands.widget.cleanup()
            panel.delete()  # a Slicer that ends with two of them breaks
    import SRGAN3D

    failed += not passes("self-test", lambda: SRGAN3D.SRGAN3DTest().runTest())
    print(f"{len(panel_scenarios.SCENARIOS) + len(whole_scenarios.SCENARIOS) + 1 - failed} passed, {failed} failed", flush=True)
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
