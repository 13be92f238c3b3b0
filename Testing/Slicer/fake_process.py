"""A made-up worker process: the test writes its lines and its end, and reads what it was asked."""

from __future__ import annotations

import json
from typing import Any, ClassVar

HELLO = {
    "event": "hello",
    "protocol": 1,
    "version": "0.1.0",
    "pid": 1,
    "python": "3.12.10",
    "executable": "PythonSlicer",
    "torch": "2.8.0",
    "devices": [
        {"device": "cuda:0", "name": "cuda:0", "usable": False, "reason": "NVIDIA Thing, 8 GiB; Conv3d in fp32 failed: error 1.0e+00"},
        {"device": "cpu", "name": "2 threads, no fast bf16", "usable": True, "reason": ""},
    ],
    "self_test": "passed",
    "missing": [],
}


class FakeProcess:
    """`FakeProcess.made` lists every one that was asked for."""

    made: ClassVar[list[FakeProcess]] = []

    def __init__(self, hello: dict | None = HELLO):
        self.inbox: list[str] = []
        self.requests: list[dict] = []
        self.code: int | None = None
        self.errors, self.was_killed, self.was_stopped = "", False, False
        if hello is not None:
            self.say(**hello)
        FakeProcess.made.append(self)

    def say(self, **answer: Any) -> None:
        self.inbox.append(json.dumps(answer))

    def asked(self, request: str = "super-resolve") -> dict:
        """The last job of this kind that it was given."""
        return next(one for one in reversed(self.requests) if one["request"] == request)

    def start(self) -> None: ...

    def write(self, line: str) -> None:
        self.requests.append(json.loads(line))

    def lines(self) -> list[str]:
        given, self.inbox = self.inbox, []
        return given

    def exit_code(self) -> int | None:
        return self.code

    def error_text(self) -> str:
        return self.errors

    def stop(self, patience_s: float) -> None:
        self.was_stopped = True
        self.code = 0

    def kill(self) -> None:
        self.was_killed = True
        self.code = self.code or -9
