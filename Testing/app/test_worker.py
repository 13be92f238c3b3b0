"""The worker as a real child process: jobs, cancels, garbage, and every way it has to end."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest
from grids import OBLIQUE, SHEARED

from SRGAN3DLib.app import worker
from SRGAN3DLib.app.worker_lines import parse_request
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.jobs import CheckJob, SuperResolveJob
from SRGAN3DLib.volumes.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "SRGAN3DLib" / "app" / "worker-schema.json").read_text(encoding="utf-8"))
REQUEST, ANSWER = (jsonschema.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{name}"}) for name in ("request", "answer"))
PATIENCE = 60.0


class Client:
    """Speaks the protocol with a child, and holds every line of both sides to the schema."""

    def __init__(self, cwd: Path = ROOT, command: tuple[str, ...] = (sys.executable, "-m", "SRGAN3DLib", "worker"), **env: str):
        environment = {**os.environ, "PYTHONPATH": str(cwd if (cwd / "SRGAN3DLib").exists() else ROOT), "OMP_NUM_THREADS": "1", **env}
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=cwd)
        self.answers: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.answers.put(json.loads(line.decode("utf-8")))
        self.answers.put(None)

    def say(self, raw: bytes) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(raw + b"\n")
        self.child.stdin.flush()

    def ask(self, request: str, **keys: Any) -> None:
        message = {"request": request, **keys}
        REQUEST.validate(message)
        self.say(json.dumps(message, ensure_ascii=False).encode("utf-8"))

    def wait_for(self, *events: str) -> dict:
        """The next answer whose event is one of these."""
        while (answer := self.answers.get(timeout=PATIENCE)) is not None:
            ANSWER.validate(answer)
            if answer["event"] in events:
                return answer
        raise AssertionError(f"the worker ended with code {self.child.wait(10)} before {events}")

    def ended(self, seconds: float) -> bool:
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


@pytest.fixture
def client() -> Iterator[Client]:
    one = Client()
    assert one.wait_for("hello")["torch"]
    yield one
    one.child.kill()


def write_array(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "in.npy", array)
    return folder / "in.npy"


def as_lists(matrix: np.ndarray) -> list:
    return matrix.tolist()


def test_two_jobs_a_file_and_an_array(client: Client, tiny_model: Path, small_head: np.ndarray, tmp_path: Path) -> None:
    """The same result both ways; the second job finds the network ready."""
    folder = tmp_path / "sc ü "
    folder.mkdir()
    Volume.from_array(small_head, SHEARED).write(folder / "in.nrrd")
    common = {"model": str(tiny_model), "device": "cpu", "precision": "fp32"}
    client.ask("load", id="0", **common)
    assert client.wait_for("loaded", "failed")["model"] == "tiny"
    client.ask("super-resolve", id="ä", input=str(folder / "in.nrrd"), output=str(folder / "out.nrrd"), **common)
    assert client.wait_for("progress")["id"] == "ä"
    first = client.wait_for("done", "failed")
    assert first["event"] == "done", first
    by_array = {"input": str(write_array(folder, small_head)), "output": str(folder / "out.npy"), "ijk_to_ras": as_lists(SHEARED)}
    begun = time.monotonic()
    client.ask("super-resolve", id="2", **by_array, **common)
    second = client.wait_for("done", "failed")
    beyond = time.monotonic() - begun - second["info"]["seconds"]
    assert beyond < 0.5
    out = Volume.read(folder / "out.nrrd")
    assert np.array_equal(np.load(folder / "out.npy"), out.array)
    assert np.abs(np.array(second["info"]["ijk_to_ras"]) - out.geometry.ijk_to_ras).max() < 1e-9
    assert {path.name for path in folder.iterdir()} == {"in.nrrd", "out.nrrd", "out.json", "in.npy", "out.npy"}


def test_region_has_the_values_of_the_whole(client: Client, slow_model: Path, small_head: np.ndarray, tmp_path: Path) -> None:
    array = {
        "input": str(write_array(tmp_path, small_head)),
        "ijk_to_ras": as_lists(OBLIQUE),
        "model": str(slow_model),
        "precision": "fp32",
    }
    client.ask("super-resolve", id="1", output=str(tmp_path / "whole.npy"), **array)
    whole = client.wait_for("done", "failed")["info"]
    client.ask("super-resolve", id="2", output=str(tmp_path / "part.npy"), roi_ijk=[[4, 20], [30, 48], [0, 7]], **array)
    part = client.wait_for("done", "failed")["info"]
    values = np.load(tmp_path / "whole.npy")
    wanted = values[0:14, 60:96, 8:40]
    assert np.abs(np.load(tmp_path / "part.npy") - wanted).max() <= 1e-5 * np.ptp(values)
    corner = np.array(whole["ijk_to_ras"]) @ [8, 60, 0, 1]
    assert np.abs(np.array(part["ijk_to_ras"]) @ [0, 0, 0, 1] - corner).max() < 1e-9
    client.ask("super-resolve", id="3", output=str(tmp_path / "no.npy"), roi_ijk=[[4, 20], [30, 49], [0, 7]], **array)
    assert "4:20, 30:49, 0:7" in client.wait_for("done", "failed")["message"]


def test_cancel_in_mid_job(client: Client, slow_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Within a second the job is gone, nothing of it is left, and the next job is done."""
    array = np.random.default_rng(0).normal(100, 20, (90, 90, 90)).astype(np.float32)
    job = {
        "input": str(write_array(tmp_path, array)),
        "output": str(tmp_path / "out.npy"),
        "ijk_to_ras": as_lists(OBLIQUE),
        "device": "cpu",
    }
    client.ask("super-resolve", id="long", model=str(slow_model), **job)
    client.ask("super-resolve", id="next", model=str(tiny_model), **job)
    while client.wait_for("progress")["stage"] != "network":
        pass
    begun = time.monotonic()
    client.ask("cancel", id="long")
    answer = client.wait_for("failed", "done")
    assert (answer["id"], answer["error"], answer["exit_code"]) == ("long", "Cancelled", 130)
    assert time.monotonic() - begun < 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]
    assert client.wait_for("failed", "done")["id"] == "next"


def test_garbage_gets_an_answer_each(client: Client, tiny_model: Path, small_head: np.ndarray, tmp_path: Path) -> None:
    for raw in (b"", b"\xff\xfe", b"{", b"7", b'{"request": "dance"}', b'{"request": "load", "id": 3}', b'{"request": "stop", "now": 1}'):
        client.say(raw)
        answer = client.wait_for("failed")
        assert answer["id"] is None and answer["error"] == "JobError" and "\n" not in answer["message"], raw
    client.say(b'{"request": "super-resolve", "id": "k", "input": "a", "output": "b", "colour": "red"}')
    assert "unknown key 'colour'" in client.wait_for("failed")["message"]
    for keys, word in (
        ({"input": str(tmp_path / "none.npy")}, "no such file"),
        ({"input": str(tiny_model)}, "not a readable .npy"),
        ({"input": str(write_array(tmp_path, small_head)), "model": str(tmp_path / "gone.safetensors")}, "gone.safetensors"),
        ({"input": str(write_array(tmp_path, small_head)), "memory_limit": "60M"}, "60M"),
        ({"input": str(write_array(tmp_path, small_head)), "output": str(tmp_path / "no" / "out.npy")}, "out.npy"),
        ({"input": str(write_array(tmp_path, small_head)), "device": "cuda:9"}, "cuda:9"),
    ):
        job = {"output": str(tmp_path / "out.npy"), "ijk_to_ras": as_lists(OBLIQUE), "model": str(tiny_model), **keys}
        client.ask("super-resolve", id="x", **job)
        answer = client.wait_for("failed", "done")
        assert answer["event"] == "failed" and word in answer["message"] and answer["exit_code"] in (2, 3, 4, 5), answer
    client.ask(
        "super-resolve",
        id="y",
        input=str(tmp_path / "in.npy"),
        output=str(tmp_path / "out.npy"),
        ijk_to_ras=as_lists(OBLIQUE),
        model=str(tiny_model),
    )
    assert client.wait_for("failed", "done")["event"] == "done"


def test_ends_when_told_and_when_stdin_ends(client: Client, slow_model: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(100, 20, (90, 90, 90)).astype(np.float32)
    client.ask(
        "super-resolve",
        id="long",
        model=str(slow_model),
        input=str(write_array(tmp_path, array)),
        output=str(tmp_path / "o.npy"),
        ijk_to_ras=as_lists(OBLIQUE),
    )
    client.wait_for("progress")
    assert client.child.stdin is not None
    client.child.stdin.close()
    assert client.ended(worker.LAST_CALL_S + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]
    other = Client()
    other.wait_for("hello")
    other.ask("stop")
    assert other.ended(5) and other.child.returncode == 0


def test_dies_with_its_parent() -> None:
    """A launcher between us and Python is killed; stdin stays open, held by us, and yet Python goes."""
    launcher = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-m', 'SRGAN3DLib', 'worker']))"
    one = Client(command=(sys.executable, "-c", launcher))
    python = psutil.Process(one.wait_for("hello")["pid"])
    assert python.pid != one.child.pid
    one.child.kill()
    gone, alive = psutil.wait_procs([python], timeout=10)
    assert gone and not alive


def test_survives_running_out_of_memory(tiny_model: Path, small_head: np.ndarray, tmp_path: Path) -> None:
    """The system refuses memory to the first job; the second is done by the same process."""
    limited = "import resource, SRGAN3DLib.app.cli, SRGAN3DLib.volumes.npy as a, sys; read = a.read_array; calls = []\n"
    limited += "def scarce(*given):\n    calls.append(1)\n    if len(calls) == 1: bytearray(1 << 60)\n    return read(*given)\n"
    limited += "a.read_array = scarce; sys.exit(SRGAN3DLib.app.cli.main(['worker']))"
    one = Client(command=(sys.executable, "-c", limited))
    one.wait_for("hello")
    job = {
        "input": str(write_array(tmp_path, small_head)),
        "output": str(tmp_path / "o.npy"),
        "ijk_to_ras": as_lists(OBLIQUE),
        "model": str(tiny_model),
    }
    one.ask("super-resolve", id="1", **job)
    answer = one.wait_for("failed", "done")
    assert (answer["error"], answer["exit_code"]) == ("ResourceError", 5)
    one.ask("super-resolve", id="2", **job)
    assert one.wait_for("failed", "done")["event"] == "done"
    one.ask("stop")
    assert one.ended(5)


def test_stray_prints_stay_out_of_the_answers(tmp_path: Path) -> None:
    noisy = "import sys, os, SRGAN3DLib.app.cli, SRGAN3DLib.app.worker as w; h = w.hello\n"
    noisy += "def loud():\n    print('hi'); os.write(1, b'there'); return h()\nw.hello = loud\n"
    noisy += "sys.exit(SRGAN3DLib.app.cli.main(['worker']))"
    one = Client(command=(sys.executable, "-c", noisy))
    assert one.wait_for("hello")["protocol"] == 1
    one.ask("stop")
    assert one.ended(5)


def test_without_torch_it_says_so(tmp_path: Path) -> None:
    """An interpreter whose torch cannot be imported, and a library in a folder with a blank, an umlaut and a blank at its end."""
    folder = tmp_path / "sc ü "
    shutil.copytree(ROOT / "SRGAN3DLib", folder / "SRGAN3DLib", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "torch.py").write_text("raise ImportError('made to fail')", encoding="utf-8")
    one = Client(folder)
    hello = one.wait_for("hello")
    assert hello["torch"] is None and hello["missing"] == [{"package": "torch", "reason": "ImportError: made to fail"}]
    one.ask("stop")
    assert one.ended(5)


def test_schema_has_the_keys_of_the_jobs() -> None:
    for cls, name in ((SuperResolveJob, "super-resolve"), (CheckJob, "check"), (worker.Load, "load")):
        assert {field.name for field in fields(cls)} == set(SCHEMA["$defs"][name]["properties"]) - {"request", "id"}
    with pytest.raises(JobError, match="choose from load, super-resolve, synthesize, check, cancel, stop"):
        parse_request(b'{"request": "go"}')
