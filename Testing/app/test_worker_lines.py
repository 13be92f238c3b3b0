"""Hostile lines, clients that do not read, signals: the worker answers each, stays alive, and ends when it has to."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fuzz_worker as fuzz
import jsonschema
import numpy as np
import pytest
from grids import OBLIQUE

from SRGAN3DLib.app import worker
from SRGAN3DLib.app.worker_lines import Outbox, parse_request, read_lines
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.protocol import LONGEST_LINE, WORKER_PROTOCOL, WORKER_PROTOCOLS

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "SRGAN3DLib" / "app" / "worker-schema.json").read_text(encoding="utf-8"))
ANSWER = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/answer"})


def start(*options: str, **more: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "SRGAN3DLib", "worker", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)  # type: ignore[call-overload]


def heed() -> None:
    """A shell's background jobs ignore SIGINT, and so would the children of a suite that is one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def say(child: subprocess.Popen, **request: object) -> None:
    assert child.stdin is not None
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.flush()


def wait_for(child: subprocess.Popen, *events: str) -> dict:
    assert child.stdout is not None
    for row in child.stdout:
        answer = json.loads(row)
        ANSWER.validate(answer)
        if answer["event"] in events:
            return answer
    raise AssertionError(f"ended with code {child.wait(10)}")


def test_every_kept_line_is_answered_and_none_ends_the_worker() -> None:
    answers, code = fuzz.converse(list(fuzz.KEPT), 300)
    ended = [answer for answer in answers if answer["event"] not in ("log", "progress")]
    for answer in answers:
        ANSWER.validate(answer)
    assert len(ended) == len(fuzz.KEPT) and code == 0
    assert all(answer["event"] == "failed" and answer["exit_code"] in fuzz.CODES for answer in ended), ended
    assert all(len(answer["message"]) < 2100 and "\n" not in answer["message"] for answer in ended)


def test_changed_lines_are_parsed_or_refused() -> None:
    rng = fuzz.random.Random(7)
    for _ in range(3000):
        raw = fuzz.changed(rng)
        try:
            request = parse_request(raw)
        except JobError as error:
            assert len(str(error)) < 2100
        else:
            assert request["request"] in SCHEMA["$defs"] and (request["id"] is None or request["id"].encode())


def test_a_request_cannot_ask_for_another_kind_of_job() -> None:
    assert parse_request(fuzz.line(job="train"))["body"]["job"] == "train"
    one = worker.Worker(io.BufferedReader(io.BytesIO()), io.FileIO(os.dup(1), "wb"))  # type: ignore[arg-type]
    with pytest.raises(JobError, match="unknown key 'job'"):
        one._volume(parse_request(fuzz.line(job="train")), lambda: False)


def test_lines_are_limited() -> None:
    text = b"a" * 10 + b"\n" + b"b" * 25 + b"\n" + b"c" * 9 + b"\n\n" + b"d" * 31
    assert list(read_lines(io.BytesIO(text), 11)) == [b"a" * 10 + b"\n", None, b"c" * 9 + b"\n", b"\n", None]
    with pytest.raises(JobError, match=f"more than {LONGEST_LINE} bytes"):
        parse_request(None)


@pytest.mark.parametrize(("options", "spoken"), [((), 1), (("--protocol", "1"), 1), (("--protocol", "2"), 2)])
def test_the_version_that_the_client_speaks(options: tuple[str, ...], spoken: int) -> None:
    """hello comes first, whatever was sent before; requests of both versions are understood."""
    child = start(*options)
    try:
        say(child, request="dance")
        say(child, request="load", id="1", model="none.safetensors")
        assert child.stdout is not None
        first = json.loads(child.stdout.readline())
        assert (first["event"], first["protocol"]) == ("hello", spoken)
        assert first.get("requests") == (["load", "super-resolve", "synthesize", "check"] if spoken == 2 else None)
        assert (wait_for(child, "failed")["id"], wait_for(child, "failed")["id"]) == (None, "1")
        say(child, request="stop")
        assert child.wait(60) == 0
    finally:
        child.kill()
    assert spoken in WORKER_PROTOCOLS and max(WORKER_PROTOCOLS) == WORKER_PROTOCOL


def test_an_id_in_use_is_refused(slow_model: Path, tmp_path: Path) -> None:
    child = start()
    try:
        wait_for(child, "hello")
        array = np.random.default_rng(0).normal(100, 20, (90, 90, 90)).astype(np.float32)
        np.save(tmp_path / "in.npy", array)
        job = {"input": str(tmp_path / "in.npy"), "output": str(tmp_path / "out.npy"), "ijk_to_ras": OBLIQUE.tolist()}
        say(child, request="super-resolve", id="1", model=str(slow_model), **job)
        wait_for(child, "progress")
        say(child, request="load", id="1")
        refused = wait_for(child, "failed")
        assert refused["id"] is None and "'1' belongs to a job that has not ended" in refused["message"]
        say(child, request="cancel", id="1")
        assert wait_for(child, "failed", "done")["id"] == "1"
        say(child, request="load", id="1", model="none")  # it has ended: the id is free
        assert wait_for(child, "failed")["id"] == "1"
    finally:
        child.kill()


def test_a_client_that_does_not_read_is_no_deadlock() -> None:
    """Far more answers than a pipe holds; then the end of stdin."""
    child = start()
    try:
        wait_for(child, "hello")
        assert child.stdin is not None
        for _ in range(20_000):
            child.stdin.write(b"garbage that gets an answer\n")
        child.stdin.close()
        assert child.wait(worker.LAST_CALL_S + 30) == 0
    finally:
        child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", [False, True])
def test_signals_end_it_like_a_stop(number: int, busy: bool, slow_model: Path, tmp_path: Path) -> None:
    child = start(stderr=subprocess.PIPE, preexec_fn=heed)
    try:
        wait_for(child, "hello")
        if busy:
            np.save(tmp_path / "in.npy", np.random.default_rng(0).normal(100, 20, (90, 90, 90)).astype(np.float32))
            job = {"input": str(tmp_path / "in.npy"), "output": str(tmp_path / "out.npy"), "ijk_to_ras": OBLIQUE.tolist()}
            say(child, request="super-resolve", id="1", model=str(slow_model), **job)
            wait_for(child, "progress")
        child.send_signal(number)
        assert child.wait(60) == 130 and child.stderr is not None and b"Traceback" not in child.stderr.read()
        assert {path.name for path in tmp_path.iterdir()} == ({"in.npy"} if busy else set())
    finally:
        child.kill()


def test_a_reader_that_has_left_ends_it() -> None:
    child = start()
    try:
        wait_for(child, "hello")
        assert child.stdout is not None
        child.stdout.close()
        time.sleep(0.1)
        say(child, request="dance")
        assert child.wait(60) == 0
    finally:
        child.kill()


def test_answers_wait_for_the_first_and_are_dropped_if_not_needed(tmp_path: Path) -> None:
    errors: list[Exception] = []
    with io.FileIO(str(tmp_path / "answers"), "wb") as stream:
        box = Outbox(stream, errors.append)
        for n in range(1500):
            box.put(f"progress {n}", needed=False)
        box.put("done")
        box.begin("hello")
        assert box.finish(60)
    lines = (tmp_path / "answers").read_text().splitlines()
    assert lines[0] == "hello" and lines[-1] == "done" and len(lines) == 1002 and not errors
