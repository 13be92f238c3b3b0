"""The conversation with a made-up process: what it may do wrong, and the one line that comes of it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fake_process import HELLO, FakeProcess
from SRGAN3DSlicer import worker_client
from SRGAN3DSlicer.worker_client import WorkerClient

from SRGAN3DLib.events import Done, Progress


@pytest.fixture
def heard() -> list:
    return []


def client(hello: dict | None = HELLO) -> WorkerClient:
    return WorkerClient(lambda: FakeProcess(hello))


def test_requests_wait_for_hello_and_answers_find_their_way(heard: list) -> None:
    one = client(None)
    first = one.submit({"request": "super-resolve"}, heard.append)
    assert one.process.told == []
    one.process.say(**HELLO)
    one.pump()
    assert one.process.told == [{"request": "super-resolve", "id": first}]
    one.process.inbox += ["garbage", "[1]", '{"event": "progress", "id": "99", "stage": "x", "done": 1, "total": 2}']
    one.process.say(event="progress", id=first, stage="network", done=1, total=2, eta_s=3.5)
    one.process.say(event="done", id=first, info={"a": 1})
    one.pump()
    assert heard == [Progress("network", 1, 2, 3.5), Done({"a": 1})] and not one.busy()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"protocol": 2}, "speaks protocol 2, 1 is wanted"),
        ({"torch": None, "missing": [{"package": "torch", "reason": "No module named 'torch'"}]}, "torch cannot be loaded by PythonSlicer"),
        ({"self_test": "no device computes"}, "no device is usable"),
    ],
)
def test_a_worker_that_cannot_work(heard: list, changed: dict, words: str) -> None:
    one = client(HELLO | changed)
    one.submit({"request": "super-resolve"}, heard.append)
    one.pump()
    assert words in str(heard[0]) and "\n" not in str(heard[0]) and one.process is None and FakeProcess.made[-1].was_killed


def test_a_worker_that_dies(heard: list) -> None:
    one = client()
    one.submit({"request": "super-resolve"}, heard.append)
    one.process.errors, one.process.code = "Traceback\nlibtorch.so: cannot open\n", 1
    one.pump()
    assert str(heard[0]) == "the worker ended unexpectedly (code 1): libtorch.so: cannot open"
    one.submit({"request": "super-resolve"}, heard.append)
    assert one.process is not None and one.busy()


def test_a_worker_that_never_answers(heard: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_client, "START_S", 0.0)
    one = client(None)
    one.submit({"request": "super-resolve"}, heard.append)
    time.sleep(0.01)
    one.pump()
    assert "has not answered" in str(heard[0])


def test_cancel_heeded_and_not(heard: list, monkeypatch: pytest.MonkeyPatch) -> None:
    one = client()
    job = one.submit({"request": "super-resolve"}, heard.append)
    one.pump()
    one.cancel(job)
    assert one.process.told[-1] == {"request": "cancel", "id": job}
    one.process.say(event="failed", id=job, error="Cancelled", message="cancelled", exit_code=130)
    one.pump()
    assert type(heard.pop()).__name__ == "Cancelled" and one.process is not None
    monkeypatch.setattr(worker_client, "CANCEL_S", 0.0)
    one.cancel(one.submit({"request": "super-resolve"}, heard.append))
    time.sleep(0.01)
    one.pump()
    assert "was ended" in str(heard.pop()) and one.process is None and FakeProcess.made[-1].was_killed
    waiting = client(None)
    waiting.cancel(waiting.submit({"request": "super-resolve"}, heard.append))
    assert type(heard.pop()).__name__ == "Cancelled"


def test_stop_tells_those_who_wait(heard: list) -> None:
    one = client()
    one.submit({"request": "super-resolve"}, heard.append)
    one.stop()
    assert "stopped" in str(heard[0]) and FakeProcess.made[-1].was_stopped


def test_an_answer_may_ask_again(heard: list) -> None:
    one = client()

    def again(outcome: Any) -> None:
        heard.append(outcome)
        if len(heard) == 1:
            one.submit({"request": "super-resolve"}, again)

    job = one.submit({"request": "super-resolve"}, again)
    one.pump()
    one.process.say(event="done", id=job, info={})
    one.pump()
    assert one.process.told[-1]["id"] == str(int(job) + 1)
