"""What only a whole Slicer can show: its own slice views, a real worker, the command line beside it. Each takes a Bench."""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from bench import Bench
from SRGAN3DSlicer import logic, mrml, worker_process

MODEL = "t1-x2"
TILT = np.array([[0.9, -0.43, 0, 5], [0.43, 0.9, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1]])


def tilted(bench: Bench, name: str) -> Any:
    """An oblique, anisotropic volume under a transform, chosen in the panel."""
    node = bench.add_volume(name=name)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "tilt")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(TILT))
    node.SetAndObserveTransformNodeID(transform.GetID())
    bench.ui.inputSelector.setCurrentNode(node)
    bench.choose_model(MODEL)
    return node


def run(bench: Bench) -> tuple[Any, float]:
    """(result, seconds from the click until the panel is free)."""
    begun = time.monotonic()
    bench.click()
    bench.until("done", "failed")
    assert bench.panel.machine.state.value == "done", bench.ui.statusLabel.text
    return bench.panel.result.node, time.monotonic() - begun


def by_command_line(node: Any) -> Any:
    worker = logic.new_process()
    with tempfile.TemporaryDirectory() as folder:
        source, result = str(Path(folder) / "in.nrrd"), str(Path(folder) / "out.nrrd")
        slicer.util.saveNode(node, source)
        command = [worker.python, "-m", "SRGAN3DLib", "super-resolve", source, result, "--model", MODEL, "--quiet"]
        environment = worker_process.worker_environment(worker.environment, worker.folder)
        done = subprocess.run(command, cwd=worker.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return slicer.util.loadVolume(result)


def click_script_and_command_line_agree(bench: Bench) -> None:
    node = tilted(bench, "tilted")
    clicked, first = run(bench)
    scripted = bench.logic.superResolve(node, model=MODEL)
    wanted, span = mrml.array_of(clicked), np.ptp(mrml.array_of(clicked))
    for name, other in (("script", scripted), ("command line", by_command_line(node))):
        difference = float(np.abs(mrml.array_of(other) - wanted).max() / span)
        apart = float(np.abs(mrml.ijk_to_ras(other) - mrml.ijk_to_ras(clicked)).max())
        print(f"  {name} against click: {difference:.1e} of the range, matrices {apart:.1e} apart", flush=True)
        assert difference <= 1e-5 and apart < 1e-6
    boxes = np.zeros((3, 6))
    for row, one in zip(boxes, (node, clicked, scripted), strict=True):
        one.GetRASBounds(row)
    assert np.abs(boxes - boxes[0]).max() < 1e-6
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    parents = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(one)) for one in (node, clicked, scripted)}
    assert len(parents) == 1 and clicked.GetTransformNodeID() == scripted.GetTransformNodeID() == node.GetTransformNodeID()

    bench.ui.inputSelector.setCurrentNode(node)
    again, second = run(bench)
    computed = json.loads(again.GetAttribute("SRGAN3D.Info"))["seconds"]
    print(f"  first click {first:.2f} s, second {second:.2f} s, of which computing {computed:.2f} s", flush=True)


def cancel_leaves_the_scene(bench: Bench) -> None:
    large = bench.add_volume(
        name="large", array=np.tile(np.random.default_rng(0).normal(100, 20, (40, 48, 44)).astype(np.float32), (4, 4, 4))
    )
    bench.ui.inputSelector.setCurrentNode(large)
    bench.choose_model(MODEL)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    bench.click()
    bench.until("running", "failed")
    begun = time.monotonic()
    bench.ui.applyButton.click()
    took = time.monotonic() - begun
    print(f"  free {took:.2f} s after the cancel", flush=True)
    assert took <= 1 and bench.ui.applyButton.text == "Super-resolve" and slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert bench.ui.statusLabel.text.startswith("Cancelled")


def side_by_side_in_real_views(bench: Bench) -> None:
    """The input in Red, the result in Yellow, at the place that the user had turned to; also where the views were linked before."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    node = tilted(bench, "seen")
    slicer.util.setSliceViewerLayers(background=node, foreground=None, fit=True)
    red, yellow = (manager.sliceWidget(name).sliceLogic() for name in ("Red", "Yellow"))
    red.SetSliceOffset(red.GetSliceOffset() + 9)
    for view in (red, yellow):
        view.GetSliceCompositeNode().SetLinkedControl(False)
    place, layout = red.GetSliceOffset(), manager.layout
    fields = [view.GetSliceNode().GetFieldOfView() for view in (red, yellow)]
    run(bench)
    for mode in ("fade", "side by side", "checkerboard", "side by side"):
        bench.choose(bench.ui.compareCombo, mode)
        for _ in range(5):
            slicer.app.processEvents()
        assert abs(red.GetSliceOffset() - place) < 1e-3, mode
    opacities = [view.GetSliceCompositeNode().GetForegroundOpacity() for view in (red, yellow)]
    assert opacities == [0, 1] and abs(yellow.GetSliceOffset() - place) < 1e-3
    bench.choose(bench.ui.compareCombo, "fade")
    assert manager.layout == layout
    bench.ui.compareButton.click()
    for _ in range(5):
        slicer.app.processEvents()
    assert [view.GetSliceNode().GetFieldOfView() for view in (red, yellow)] == fields
    shown = [view.GetSliceCompositeNode() for view in (red, yellow)]
    assert [(view.GetForegroundVolumeID(), view.GetLinkedControl()) for view in shown] == [(None, 0), (None, 0)]


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    one.__name__: one for one in (click_script_and_command_line_agree, cancel_leaves_the_scene, side_by_side_in_real_views)
}
