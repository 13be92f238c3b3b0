"""The conversation with a made-up process: what it may do wrong, and the one line that comes of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_process import HELLO, FakeProcess
from SRGAN3DSlicer import worker_client, worker_process
from SRGAN3DSlicer.worker_client import WorkerClient

from SRGAN3DLib.contract.errors import ResourceError
from SRGAN3DLib.contract.events import Done, Progress


@pytest.fixture
def received() -> list:
    return []


def client(hello: dict | None = HELLO) -> WorkerClient:
    one = WorkerClient(lambda: FakeProcess(hello))
    one.patience_s = 600.0  # however busy the machine
    return one


def test_requests_wait_for_hello_and_answers_find_their_way(received: list) -> None:
    one = client(None)
    first = one.submit({"request": "super-resolve"}, received.append)
    assert one.process.requests == []
    one.process.say(**HELLO)
    one.pump()
    assert one.process.requests == [{"request": "super-resolve", "id": first}]
    one.process.inbox += ["garbage", "[1]", '{"event": "progress", "id": "99", "stage": "x", "done": 1, "total": 2}']
    one.process.say(event="progress", id=first, stage="network", done=1, total=2, eta_s=3.5)
    one.process.say(event="done", id=first, info={"a": 1})
    one.pump()
    assert received == [Progress("network", 1, 2, 3.5), Done({"a": 1})] and not one.busy()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"protocol": 3}, "speaks protocol 3, but it must be 1 or 2"),
        ({"torch": None, "missing": [{"package": "torch", "reason": "No module named 'torch'"}]}, "torch cannot be loaded by PythonSlicer"),
        ({"self_test": "no device computes"}, "no device is usable"),
    ],
)
def test_a_worker_that_cannot_work(received: list, changed: dict, words: str) -> None:
    one = client(HELLO | changed)
    one.submit({"request": "super-resolve"}, received.append)
    one.pump()
    assert words in str(received[0]) and "\n" not in str(received[0]) and one.process is None and FakeProcess.made[-1].was_killed


def test_a_worker_that_dies(received: list) -> None:
    one = client()
    one.submit({"request": "super-resolve"}, received.append)
    one.process.errors, one.process.code = "Traceback\nlibtorch.so: cannot open\n", 1
    one.pump()
    assert str(received[0]) == "the worker ended unexpectedly (code 1): libtorch.so: cannot open"
    one.submit({"request": "super-resolve"}, received.append)
    assert one.process is not None and one.busy()


def test_a_worker_that_never_answers(received: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_client, "START_S", 0.0)
    one = client(None)
    one.submit({"request": "super-resolve"}, received.append)
    time.sleep(0.01)
    one.pump()
    assert "has not answered" in str(received[0])


def test_cancel_heeded(received: list) -> None:
    """Its owner knows at once, the worker stays; what waited comes when the worker has let go, and not before."""
    one = client()
    first = one.submit({"request": "super-resolve"}, received.append)
    one.pump()
    second = one.submit({"request": "super-resolve"}, received.append)
    process = one.process
    one.cancel(first)
    assert type(received.pop()).__name__ == "Cancelled" and one.is_stopping_a_job() and one.busy()
    assert process.requests[-1] == {"request": "cancel", "id": first}
    one.cancel(first)
    process.say(event="progress", id=first, stage="network", done=1, total=2)
    one.pump()
    assert received == [] and process.requests[-1]["request"] == "cancel"
    process.say(event="failed", id=first, error="Cancelled", message="cancelled", exit_code=130)
    one.pump()
    assert not one.is_stopping_a_job() and process.requests[-1]["id"] == second and one.process is process and not process.was_killed
    process.say(event="done", id=second, info={})
    one.pump()
    assert received == [Done({})] and not one.busy()


def test_cancel_not_heeded(received: list) -> None:
    """The process is ended; the other job gets a new one, and its owner notices nothing."""
    one = client()
    first = one.submit({"request": "super-resolve"}, lambda _: None)
    one.pump()
    second = one.submit({"request": "super-resolve"}, received.append)
    process = one.process
    one.cancel(first)
    one.pump()
    assert one.process is process
    one.patience_s = 0.0
    time.sleep(0.01)
    one.pump()
    assert process.was_killed and one.process is not process
    one.pump()
    assert received == [] and one.process.requests[-1]["id"] == second


def test_cancel_of_what_waits(received: list) -> None:
    """Nothing is asked of the worker for a job that it does not have."""
    one = client()
    one.submit({"request": "super-resolve"}, received.append)
    one.pump()
    one.cancel(one.submit({"request": "super-resolve"}, received.append))
    assert type(received.pop()).__name__ == "Cancelled" and one.process.requests[-1]["request"] == "super-resolve"
    waiting = client(None)
    waiting.cancel(waiting.submit({"request": "super-resolve"}, received.append))
    assert type(received.pop()).__name__ == "Cancelled" and waiting.queue == []


def test_death_in_a_job_leaves_the_others(received: list) -> None:
    """The job under way fails; what waited is done by a new process, unless none can be started."""
    one, others = client(), []
    one.submit({"request": "super-resolve"}, received.append)
    one.pump()
    one.submit({"request": "super-resolve"}, others.append)
    one.process.code = -9
    one.pump()
    assert "because memory ran out" in str(received[0]) and others == []
    one.pump()
    assert one.process.requests[-1]["request"] == "super-resolve"
    one.submit({"request": "super-resolve"}, others.append)
    one.make = lambda: (_ for _ in ()).throw(ResourceError("nothing starts"))
    one.process.code = -9
    one.pump()
    assert [str(error)[:17] for error in others] == ["the worker ended ", "nothing starts"] and not one.busy()


@pytest.mark.parametrize("answer", [{"event": "done"}, {"event": "dance"}, {"event": "failed", "error": "JobError", "message": "?"}])
def test_answers_that_make_no_sense_end_the_job(received: list, answer: dict) -> None:
    one = client()
    job = one.submit({"request": "super-resolve"}, received.append)
    one.pump()
    one.process.say(id=job, **answer)
    one.pump()
    assert "cannot be understood" in str(received[0]) and not one.busy()


def test_a_line_that_the_worker_did_not_understand(received: list) -> None:
    one = client()
    one.submit({"request": "super-resolve"}, received.append)
    one.pump()
    one.process.say(event="failed", id=None, error="JobError", message="not a line of JSON", exit_code=2)
    one.pump()
    assert str(received[0]) == "not a line of JSON" and not one.busy()


def test_stop_cancels_what_waits(received: list) -> None:
    one = client()
    one.submit({"request": "super-resolve"}, received.append)
    one.stop()
    assert "stopped" in str(received[0]) and FakeProcess.made[-1].was_stopped


def test_an_answer_may_ask_again(received: list) -> None:
    one = client()

    def again(outcome: Any) -> None:
        received.append(outcome)
        if len(received) == 1:
            one.submit({"request": "super-resolve"}, again)

    job = one.submit({"request": "super-resolve"}, again)
    one.pump()
    one.process.say(event="done", id=job, info={})
    one.pump()
    assert one.process.requests[-1]["id"] == str(int(job) + 1)


@pytest.mark.parametrize("executable", ["", None, "/opt/Slicer/bin/SlicerApp-real"])
def test_where_there_is_no_python_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, executable: str | None) -> None:
    """Within Slicer `sys.executable` is empty, or Slicer itself: never what a worker is started with."""
    monkeypatch.delenv("SRGAN3D_PYTHON")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(ResourceError, match="PythonSlicer: no such program"):
        worker_process.find_python()
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert worker_process.find_python() == "/usr/bin/python3"
