"""The logic with real worker processes on a real scene: the same result by every way, and the scene untouched by what fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import slicer
from grids import LEFT_HANDED, OBLIQUE, SHEARED
from SRGAN3DSlicer import logic as logic_module
from SRGAN3DSlicer import mrml, results, worker_client, worker_process
from SRGAN3DSlicer.logic import Logic

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.contract.errors import Cancelled, CheckpointError, JobError, ResourceError, SRGAN3DError, VolumeError
from SRGAN3DLib.contract.events import Progress
from SRGAN3DLib.contract.synthesis import SYNTHETIC_WARNING
from SRGAN3DLib.volumes.volume import Volume


@pytest.fixture(scope="module")
def logic() -> Iterator[Logic]:
    """One warm worker for the whole file."""
    one = Logic()
    yield one
    one.cleanup()
    assert not one.runs


def saved(scene: Any) -> str:
    """The scene as text, every node and attribute."""
    scene.SetSaveToXMLString(1)
    scene.Commit()
    return scene.GetSceneXMLString()


def wait(logic: Logic, run: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while run.state == "running":
        assert time.monotonic() < end
        logic.pump()
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def until_computing(logic: Logic, seen: list) -> None:
    end = time.monotonic() + 60
    while not any(isinstance(event, Progress) and event.stage == "network" for event in seen):
        assert time.monotonic() < end
        logic.pump()
        time.sleep(0.01)


@pytest.mark.parametrize("matrix", [OBLIQUE, LEFT_HANDED, SHEARED], ids=["oblique", "left-handed", "sheared"])
def test_script_and_command_line_agree(
    logic: Logic, scene: Any, add_volume: Any, small_head: np.ndarray, tiny_model: Path, tmp_path: Path, matrix: np.ndarray
) -> None:
    node = add_volume(matrix)
    out = logic.superResolve(node, model=str(tiny_model), device="cpu", precision="fp32")
    Volume.from_array(small_head, matrix).write(tmp_path / "in.nrrd")
    options = ["--model", str(tiny_model), "--device", "cpu", "--precision", "fp32", "--quiet"]
    assert main(["super-resolve", str(tmp_path / "in.nrrd"), str(tmp_path / "out.nrrd"), *options]) == 0
    by_cli = Volume.read(tmp_path / "out.nrrd")
    assert out.GetName() == "Kopf ü SR x2 tiny"
    assert np.abs(mrml.array_of(out) - by_cli.array).max() <= 1e-5 * np.ptp(by_cli.array)
    assert np.abs(mrml.ijk_to_ras(out) - by_cli.geometry.ijk_to_ras).max() < 1e-9
    assert out.GetAttribute("SRGAN3D.Model") == "tiny"
    assert "% of the scan's range (RMS), assuming" in out.GetAttribute("SRGAN3D.Consistency")


def test_second_job_has_no_start(logic: Logic, scene: Any, add_volume: Any, tiny_model: Path) -> None:
    options = {"model": str(tiny_model), "device": "cpu"}
    node = add_volume(OBLIQUE)
    logic.superResolve(node, **options)
    run = logic.superResolve(node, wait=False, **options)
    begun = time.monotonic()
    wait(logic, run)
    assert time.monotonic() - begun - run.infos[0]["seconds"] < 0.5


def test_roi_list_given_output_and_integers(logic: Logic, scene: Any, add_volume: Any, small_head: np.ndarray, tiny_model: Path) -> None:
    options = {"model": str(tiny_model), "device": "cpu", "precision": "fp32", "blur": "gaussian"}
    node = add_volume(OBLIQUE, small_head.astype(np.int16))
    whole = logic.superResolve(node, **options)
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    roi.SetCenter((OBLIQUE @ [20, 20, 20, 1])[:3])
    roi.SetSize(8, 8, 8)
    (i, i_end), (j, j_end), (k, k_end) = mrml.region(node, roi)
    target = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    part = logic.superResolve(node, target, roi=roi, **options)
    wanted = mrml.array_of(whole)[2 * k : 2 * k_end, 2 * j : 2 * j_end, 2 * i : 2 * i_end]
    assert part is target and np.abs(mrml.array_of(part) - wanted).max() <= 1e-5 * np.ptp(small_head)
    both = logic.superResolve([node, add_volume(SHEARED, name="zwei")], factors=2, **options)
    assert [one.GetName() for one in both] == ["Kopf ü SR x2 tiny_1", "zwei SR x2 tiny"]


def test_every_frame_of_a_sequence(logic: Logic, scene: Any, add_volume: Any, small_head: np.ndarray, tiny_model: Path) -> None:
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames")
    for n in range(2):
        frame = slicer.vtkMRMLScalarVolumeNode()
        mrml.fill(frame, small_head * (n + 1), OBLIQUE)
        sequence.SetDataNodeAtValue(frame, str(n))
    proxy = add_volume(OBLIQUE)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(proxy, sequence, False)
    out = logic.superResolve(proxy, model=str(tiny_model), allFrames=True, device="cpu")
    made = browser.GetSequenceNode(out)
    ends = [mrml.array_of(made.GetNthDataNode(n)).max() for n in range(2)]
    assert ends[1] == pytest.approx(2 * ends[0], rel=0.02)
    with pytest.raises(JobError, match="shows no frame of a sequence"):
        logic.superResolve(add_volume(OBLIQUE), model=str(tiny_model), allFrames=True)


def test_cancel_leaves_the_scene_and_the_worker(scene: Any, add_volume: Any, slow_model: Path, tiny_model: Path) -> None:
    """The owner is free at once, the worker within a tile (test_worker.py has its second); the next job is the same process's."""
    logic = Logic(logic_module.new_process)
    logic.client.patience_s = 60.0  # however busy the machine
    node = add_volume(OBLIQUE, np.random.default_rng(0).normal(100, 20, (60, 60, 60)).astype(np.float32))
    before, seen, errors = saved(scene), [], []
    run = logic.superResolveAsync(node, model=str(slow_model), device="cpu", onProgress=seen.append, onError=errors.append)
    until_computing(logic, seen)
    pid = logic.client.hello["pid"]
    begun = time.monotonic()
    run.cancel()
    assert time.monotonic() - begun < 1.0 and run.state == "cancelled" and isinstance(errors[0], Cancelled)
    assert saved(scene) == before
    run = logic.superResolveAsync(node, model=str(tiny_model), device="cpu")
    wait(logic, run)
    assert run.state == "done" and logic.client.hello["pid"] == pid
    assert logic.folders == [] and not run.folder.exists()
    logic.cleanup()
    assert gone(pid)


def test_cancel_not_heeded_ends_the_process(scene: Any, add_volume: Any, slow_model: Path, tiny_model: Path) -> None:
    """As a worker in a tile that takes long: nothing of it is left, its folder included, and the next job gets another."""
    logic = Logic(logic_module.new_process)
    node = add_volume(OBLIQUE, np.random.default_rng(0).normal(100, 20, (60, 60, 60)).astype(np.float32))
    seen: list = []
    run = logic.superResolveAsync(node, model=str(slow_model), device="cpu", onProgress=seen.append)
    until_computing(logic, seen)
    pid = logic.client.hello["pid"]
    os.kill(pid, signal.SIGSTOP)  # it reads nothing
    run.cancel()
    begun = time.monotonic()
    assert run.state == "cancelled" and run.folder.exists()
    while logic.client.busy():
        assert time.monotonic() - begun < worker_client.CANCEL_S + 10
        logic.pump()
        time.sleep(0.01)
    assert gone(pid) and not run.folder.exists()
    assert logic.superResolve(node, model=str(tiny_model), device="cpu") is not None and logic.client.hello["pid"] != pid
    logic.cleanup()


def test_all_logics_share_one_worker(logic: Logic, scene: Any, add_volume: Any, tiny_model: Path) -> None:
    """`SRGAN3DLogic().superResolve(...)` in a script, again and again, starts no second process; the end of one is not that of all."""
    node, options = add_volume(OBLIQUE), {"model": str(tiny_model), "device": "cpu"}
    logic.superResolve(node, **options)
    pid, other = logic.client.hello["pid"], Logic()
    run = logic.superResolve(node, wait=False, **options)
    other.cleanup()
    wait(logic, run)
    assert run.state == "done" and other.client.hello["pid"] == pid
    other.superResolve(node, **options)
    other.cleanup()
    assert gone(pid)


@pytest.mark.parametrize("way", ["removed", "closed"])
def test_input_gone_while_running(logic: Logic, scene: Any, add_volume: Any, slow_model: Path, way: str) -> None:
    node = add_volume(OBLIQUE, np.random.default_rng(0).normal(100, 20, (90, 90, 90)).astype(np.float32))
    seen: list = []
    run = logic.superResolveAsync(node, model=str(slow_model), device="cpu", onProgress=seen.append)
    until_computing(logic, seen)
    scene.RemoveNode(node) if way == "removed" else scene.Clear(0)
    logic.pump()
    assert run.state == "cancelled" and way in str(run.error)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_killed_worker_is_reported_and_replaced(scene: Any, add_volume: Any, slow_model: Path, tiny_model: Path) -> None:
    logic = Logic(logic_module.new_process)
    node = add_volume(OBLIQUE, np.random.default_rng(0).normal(100, 20, (90, 90, 90)).astype(np.float32))
    before, seen = saved(scene), []
    run = logic.superResolveAsync(node, model=str(slow_model), device="cpu", onProgress=seen.append)
    until_computing(logic, seen)
    os.kill(logic.client.hello["pid"], signal.SIGKILL)
    wait(logic, run)
    assert run.state == "failed" and "ended unexpectedly" in str(run.error) and saved(scene) == before
    assert logic.superResolve(node, model=str(tiny_model), device="cpu") is not None
    pid = logic.client.hello["pid"]
    logic.cleanup()
    assert gone(pid)


def test_the_end_of_the_program_leaves_nothing(slow_model: Path, tmp_path: Path) -> None:
    """A script's job is under way when its program ends: no worker, no folder with voxels."""
    script = (
        "import sys, tempfile, time, numpy as np, slicer\n"
        "from SRGAN3DSlicer import logic, mrml\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "scene = slicer.vtkMRMLScene()\n"
        "node = scene.AddNewNodeByClass('vtkMRMLScalarVolumeNode', 'v')\n"
        "mrml.fill(node, np.random.default_rng(0).normal(100, 20, (60, 60, 60)).astype('f4'), np.eye(4))\n"
        "one = logic.Logic()\n"
        "one.superResolve(node, model=sys.argv[2], wait=False)\n"
        "while not one.client.hello:\n"
        "    one.pump(); time.sleep(0.01)\n"
        "print(one.client.hello['pid'])\n"
    )
    root = logic_module.LIBRARY.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "SRGAN3D"), str(root)])}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(slow_model)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert gone(int(done.stdout)) and list(tmp_path.iterdir()) == []


def test_launcher_and_its_child_both_go(tmp_path: Path) -> None:
    """PythonSlicer's manners: a launcher that starts Python; a kill of our process alone would leave Python."""
    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
    launcher.chmod(0o755)
    process = worker_process.WorkerProcess(str(launcher), Path(logic_module.LIBRARY.parent), dict(os.environ))
    client = worker_client.WorkerClient(lambda: process)
    client.start()
    while client.hello is None:
        client.pump()
        time.sleep(0.01)
    python = psutil.Process(client.hello["pid"])
    assert python.pid != process.child.pid
    process.kill()
    assert psutil.wait_procs([python], 5)[1] == []


def test_what_can_be_seen_at_once_is_said_at_once(
    logic: Logic, scene: Any, add_volume: Any, small_head: np.ndarray, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node, labels = add_volume(OBLIQUE), add_volume(OBLIQUE, kind="vtkMRMLLabelMapVolumeNode")
    holes = add_volume(OBLIQUE, np.where(small_head > 500, np.nan, small_head), "holes")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(tiny_model.read_bytes()[:-10])
    before = saved(scene)
    for kind, words, arguments in (
        (VolumeError, "label map", {"inputVolume": labels}),
        (VolumeError, "no volume", {"inputVolume": None}),
        (JobError, "is the input itself", {"inputVolume": node, "outputVolume": node}),
        (JobError, "must be a scalar volume", {"inputVolume": node, "outputVolume": labels}),
        (CheckpointError, "no such file", {"inputVolume": node, "model": "none"}),
        (CheckpointError, "truncated", {"inputVolume": node, "model": str(damaged)}),
        (JobError, r"factors \(2, 2, 1\): must be those of model tiny, \(2, 2, 2\)", {"inputVolume": node, "factors": (2, 2, 1)}),
        (JobError, r"factors \(3, 3, 3\): must be those of model tiny, \(2, 2, 2\)", {"inputVolume": node, "factors": 3}),
        (VolumeError, "holes: holds NaN", {"inputVolume": holes}),
        (JobError, "0 volumes", {"inputVolume": []}),
    ):
        with pytest.raises(kind, match=words):
            logic.superResolve(**({"model": str(tiny_model)} | arguments))
    for options, words in (({"device": "cuda:7"}, "cuda:7"), ({"blur": "fog"}, "fog"), ({"memoryLimit": "70M"}, "70M")):
        with pytest.raises(SRGAN3DError, match=words):  # what only the worker can know
            logic.superResolve(node, model=str(tiny_model), **options)
    assert saved(scene) == before
    monkeypatch.setenv("SRGAN3D_PYTHON", str(tmp_path / "nothing"))
    with pytest.raises(ResourceError, match="SRGAN3D_PYTHON names"):
        Logic(logic_module.new_process).superResolve(node, model=str(tiny_model))


def test_full_disk_is_one_line(logic: Logic, scene: Any, add_volume: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ResourceError, match="No space left"):
        logic.superResolve(add_volume(OBLIQUE), model=str(tiny_model))
    assert logic.runs == []


def test_every_named_volume_of_a_result_is_published(scene: Any, add_volume: Any, tiny_model: Path) -> None:
    """Maps that come with a result lie beside it, and are no results themselves. What fails leaves nothing behind."""
    from bench import INFO
    from fake_process import FakeProcess
    from SRGAN3DSlicer import results

    one = Logic(FakeProcess)

    def finish(**files: Any) -> Any:
        run = one.superResolve(node, model=str(tiny_model), wait=False)
        one.pump()
        process = FakeProcess.made[-1]
        asked = process.asked()
        folder = Path(asked["output"]).parent
        outputs = {name: str(folder / f"{name}.npy") for name in files}
        for name, array in files.items():
            np.save(outputs[name], array)
        process.say(event="done", id=asked["id"], info=INFO | {"outputs": outputs})
        one.pump()
        return run

    node, fine = add_volume(OBLIQUE), np.ones((80, 96, 88), np.float32)
    run = finish(sr=fine, error=2 * fine)
    assert [one.GetName() for one in run.nodes] == ["Kopf ü SR x2 tiny"] and results.all_results(scene) == run.nodes
    beside = scene.GetFirstNodeByName("Kopf ü SR x2 tiny error")
    assert mrml.array_of(beside).max() == 2 and not results.is_result(beside) and results.source_of(beside) is node
    before = scene.GetNumberOfNodes()
    run = finish(sr=fine, error=np.ones((2, 2), np.float32))
    assert run.state == "failed" and "cannot be read" in str(run.error) and scene.GetNumberOfNodes() == before
    one.cleanup()


def test_automatic_is_as_by_command_line(logic: Logic, scene: Any, add_volume: Any, small_head: np.ndarray, tmp_path: Path) -> None:
    """Without a model: click, script and `--model auto` agree; so they do on cubic voxels."""
    matrix = np.diag([1.0, 1.0, 2.6, 1.0])
    node = add_volume(matrix, small_head[:20, :24, :22])
    Volume.from_array(small_head[:20, :24, :22], matrix).write(tmp_path / "in.nrrd")
    for number, more in enumerate(([], ["--spacing", "isotropic"])):
        out = logic.superResolve(node, device="cpu", precision="fp32", spacing=more[1] if more else None)
        target = tmp_path / f"out{number}.nrrd"
        assert (
            main(["super-resolve", str(tmp_path / "in.nrrd"), str(target), "--device", "cpu", "--precision", "fp32", "--quiet", *more]) == 0
        )
        by_cli = Volume.read(target)
        assert out.GetAttribute("SRGAN3D.Model") == "slice-x3"
        assert np.abs(mrml.array_of(out) - by_cli.array).max() <= 1e-5 * np.ptp(by_cli.array)
        assert np.abs(mrml.ijk_to_ras(out) - by_cli.geometry.ijk_to_ras).max() < 1e-6


def test_a_check_says_whether_the_model_helps(logic: Logic, scene: Any, add_volume: Any, small_head: np.ndarray) -> None:
    """The scene is as before; a check can be cancelled; where the model is automatic, the worker chooses."""
    node = add_volume(OBLIQUE, np.kron(small_head[:24, :24, :24], np.ones((2, 2, 2), np.float32)))  # the fewest voxels that will do
    before = saved(scene)
    row = logic.check(node, model="t1-x2", device="cpu", precision="fp32")
    assert logic.client.offers("check") and saved(scene) == before
    assert "on this scan" in row["verdict"] and row["scan"] == "Kopf ü" and {"spacing", "noise"} <= {one["fact"] for one in row["fitness"]}
    run = logic.checkAsync(node, device="cpu")
    run.cancel()
    assert run.state == "cancelled" and isinstance(run.error, Cancelled) and saved(scene) == before
    with pytest.raises(CheckpointError, match="no such file"):
        logic.check(node, model="none")
    wait(logic, logic.checkAsync(node, device="cpu"))
    assert not logic.runs


def test_synthesis_by_script(logic: Logic, scene: Any, add_volume: Any, small_head: np.ndarray, tiny_synthesis: Path) -> None:
    """Two inputs on two grids become a CT on the first one's; the result carries the stronger warning, and is windowed as a CT."""
    first, second = add_volume(OBLIQUE, name="t1"), add_volume(SHEARED, 700 - small_head, name="t2")
    out = logic.synthesize({"T2w": second, "T1w": first}, model=str(tiny_synthesis), device="cpu")
    assert out.GetName() == "t1 CT" and mrml.array_of(out).dtype == np.int16 and results.source_of(out) is first
    assert np.abs(mrml.ijk_to_ras(out) - OBLIQUE).max() < 1e-9 and mrml.array_of(out).shape == small_head.shape
    assert (out.GetDisplayNode().GetWindow(), out.GetDisplayNode().GetLevel()) == (400.0, 40.0)
    assert SYNTHETIC_WARNING in out.GetAttribute("SRGAN3D.Warnings") and out.GetAttribute("SRGAN3D.Unit") == "HU"
    assert out.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]" and out.GetAttribute("SRGAN3D.Model") == "tiny-ct"
    before = saved(scene)
    for inputs, words in (
        ({"T1w": first}, "takes T1w, T2w: T2w is missing"),
        ({"T1w": first, "T2w": second, "PD": first}, "PD is none of them"),
        ({"T1w": first, "T2w": first}, "one volume is given for two"),
    ):
        with pytest.raises(JobError, match=words):
            logic.synthesize(inputs, model=str(tiny_synthesis))
    with pytest.raises(CheckpointError, match="not for synthesis"):
        logic.synthesize({"T1w": first}, model="t1-x2")
    assert saved(scene) == before
