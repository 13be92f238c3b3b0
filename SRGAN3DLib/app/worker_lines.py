"""The worker's lines: requests read one by one whatever the client sends, and answers written without ever blocking the worker."""

from __future__ import annotations

import io
import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.events import shortened
from SRGAN3DLib.contract.protocol import LONGEST_ID, LONGEST_LINE

REQUESTS = ("load", "super-resolve", "synthesize", "check", "cancel", "stop")
WITHOUT_BODY = ("cancel", "stop")
MOST_WAITING = 1000  # answers: a client that has not read so many does not miss a progress line


def read_lines(stream: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[bytes | None]:
    """The lines of `stream`; None in place of one of more than `longest` bytes, which is read and dropped piece by piece."""
    while line := stream.readline(longest + 1):
        if len(line) <= longest:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(longest)
        yield None


def parse_request(raw: bytes | None) -> dict[str, Any]:
    """`{"request", "id", "body"}` of a line; the body holds the request's own fields. Raises `JobError`."""
    if raw is None:
        raise JobError(f"a line of more than {LONGEST_LINE} bytes: it was not read")
    try:
        data = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise JobError(f"not a line of JSON that can be read: {raw[:80]!r} is nested too deeply") from None
    except ValueError as error:
        raise JobError(f"not a line of JSON: {raw[:80]!r} ({error})") from None
    kind = data.get("request") if isinstance(data, dict) else data
    if not isinstance(kind, str) or kind not in REQUESTS:
        raise JobError(f"request {_shown(kind)}: choose from {', '.join(REQUESTS)}")
    del data["request"]
    job_id = _checked_id(kind, data.pop("id", None))
    if kind in WITHOUT_BODY and data:
        raise JobError(f"{kind}: unknown key {_shown(next(iter(data)))}")
    return {"request": kind, "id": job_id, "body": data}


def _checked_id(kind: str, job_id: Any) -> str | None:
    if job_id is None and kind in WITHOUT_BODY:
        return None
    if not isinstance(job_id, str) or not 0 < len(job_id) <= LONGEST_ID:
        raise JobError(f"{kind}: id {_shown(job_id)}; it must be a text of 1 to {LONGEST_ID} characters")
    try:
        job_id.encode("utf-8")
    except UnicodeEncodeError:
        raise JobError(f"{kind}: id {job_id!r} holds half a character") from None
    return job_id


def _shown(value: Any) -> str:
    try:
        return shortened(repr(value), 200)
    except RecursionError:
        return "(nested deeply)"


class Outbox:
    """Answers on their way to the client. A thread writes them, so that nobody waits for a client that does not read.

    Nothing is written before `begin`. `on_broken` is called with the error when the stream cannot be written to any more.
    """

    def __init__(self, stream: io.FileIO, on_broken: Callable[[OSError | ValueError], None]):
        self.stream, self.on_broken = stream, on_broken
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._write_all, daemon=True)
        self.first = ""

    def begin(self, first: str) -> None:
        """Write `first`, then whatever was put before and after."""
        self.first = first
        self.thread.start()

    def put(self, line: str, needed: bool = True) -> None:
        """One answer; one that is not `needed` is dropped while many wait."""
        if needed or self.lines.qsize() < MOST_WAITING:
            self.lines.put(line)

    def finish(self, seconds: float) -> bool:
        """Whether all lines have been written within so many seconds."""
        self.lines.put(None)
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def _write_all(self) -> None:
        line: str | None = self.first
        try:
            while line is not None:
                rest = memoryview((line + "\n").encode("ascii"))
                while rest:
                    rest = rest[self.stream.write(rest) :]
                line = self.lines.get()
        except (OSError, ValueError) as error:
            self.on_broken(error)
