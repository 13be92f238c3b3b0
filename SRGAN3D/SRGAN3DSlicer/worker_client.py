"""The conversation with the worker: requests out, answers to whoever asked, and one clear error when the process is gone.

Everything happens in `pump`, which the owner of the main thread calls now and then.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from SRGAN3DLib.errors import Cancelled, JobError, ResourceError, SRGAN3DError
from SRGAN3DLib.events import Done, Failed, Log, Progress, from_line

from .worker_process import Process

PROTOCOL = 1
START_S = 180.0  # the first import of torch after an installation can take minutes
CANCEL_S = 1.0  # a cancel that is not heeded by then ends the process

Answer = Callable[[Any], None]


class RemoteError(SRGAN3DError):
    """An error of the worker, as it told it."""

    def __init__(self, failure: Failed):
        super().__init__(failure.message)
        self.kind, self.exit_code = failure.error, failure.exit_code


class WorkerClient:
    """`make` gives a new process whenever one is needed; it stays warm between jobs."""

    def __init__(self, make: Callable[[], Process]):
        self.make = make
        self.process: Process | None = None
        self.hello: dict | None = None
        self.started = 0.0
        self.pending: dict[str, tuple[dict, Answer]] = {}
        self.unsent: list[str] = []
        self.cancelled: dict[str, float] = {}
        self.listeners: list[Callable[[dict], None]] = []
        self.count = 0
        self.pumping = False

    def start(self) -> None:
        """Start the process if none runs. Raises `ResourceError`."""
        if self.process is not None and self.process.exit_code() is None:
            return
        self.hello = None
        process = self.make()
        process.start()
        self.process, self.started = process, time.monotonic()

    def submit(self, request: dict, answer: Answer) -> str:
        """Ask; `answer` gets `Progress` and `Log` events, then one `Done` or an exception. Returns the request's id."""
        self.start()
        self.count += 1
        job_id = str(self.count)
        self.pending[job_id] = ({**request, "id": job_id}, answer)
        self.unsent.append(job_id)
        self._send_waiting()
        return job_id

    def cancel(self, job_id: str) -> None:
        if job_id not in self.pending or job_id in self.cancelled:
            return
        if job_id in self.unsent:
            self._end(job_id, Cancelled("cancelled"))
            return
        self.cancelled[job_id] = time.monotonic()
        self.process.write(json.dumps({"request": "cancel", "id": job_id}))

    def busy(self) -> bool:
        return bool(self.pending) or (self.process is not None and self.hello is None)

    def stop(self) -> None:
        """End the process; whatever waits is told that it was cancelled."""
        process, self.process, self.hello = self.process, None, None
        if process is not None:
            process.stop(0.5)
        for job_id in list(self.pending):
            self._end(job_id, Cancelled("the worker was stopped"))

    def pump(self) -> None:
        """Hand out what has arrived. Answers may call `submit` and `cancel`; a call within a call does nothing."""
        if self.pumping or self.process is None:
            return
        self.pumping = True
        try:
            self._pump()
        finally:
            self.pumping = False

    def _pump(self) -> None:
        code = self.process.exit_code()  # before the lines: what it said last comes first
        for line in self.process.lines():
            self._hear(line)
            if self.process is None:  # an answer has stopped the worker
                return
        if code is not None:
            self._gone(code)
        elif self.hello is None and time.monotonic() - self.started > START_S:
            self._break_off(ResourceError(f"the worker has not answered within {START_S:g} s"))
        late = [job_id for job_id, asked in self.cancelled.items() if time.monotonic() - asked > CANCEL_S]
        if late and self.process is not None:
            self._break_off(Cancelled("cancelled; the worker did not stop in time and was ended"))

    def _hear(self, line: str) -> None:
        try:
            data = json.loads(line)
            event = data["event"]
        except (ValueError, KeyError, TypeError):
            return
        if event == "hello":
            self._greet(data)
            return
        _, answer = self.pending.get(str(data.get("id")), (None, None))
        if answer is None:
            return
        if event == "loaded":
            self._end(data["id"], Done(data))
            return
        try:
            parsed = from_line(line)
        except JobError:
            return
        if isinstance(parsed, (Progress, Log)):
            answer(parsed)
        elif isinstance(parsed, Failed):
            self._end(data["id"], Cancelled("cancelled") if parsed.error == "Cancelled" else RemoteError(parsed))
        else:
            self._end(data["id"], parsed)

    def _greet(self, hello: dict) -> None:
        self.hello = hello
        for listen in list(self.listeners):
            listen(hello)
        problem = complaint(hello)
        if problem:
            self._break_off(ResourceError(problem))
        else:
            self._send_waiting()

    def _send_waiting(self) -> None:
        while self.hello is not None and self.unsent:
            request, _ = self.pending[self.unsent.pop(0)]
            self.process.write(json.dumps(request, ensure_ascii=False))

    def _end(self, job_id: str, outcome: Any) -> None:
        _, answer = self.pending.pop(job_id)
        self.cancelled.pop(job_id, None)
        if job_id in self.unsent:
            self.unsent.remove(job_id)
        answer(outcome)

    def _gone(self, code: int) -> None:
        last = [line for line in self.process.error_text().splitlines() if line.strip()][-1:]
        said = f": {last[0].strip()}" if last else "; the system may have ended it for want of memory"
        self.process.kill()  # a launcher's child may be left
        self.process, self.hello = None, None
        for job_id in list(self.pending):
            asked = job_id in self.cancelled
            self._end(job_id, Cancelled("cancelled") if asked else ResourceError(f"the worker ended unexpectedly (code {code}){said}"))

    def _break_off(self, error: SRGAN3DError) -> None:
        """End the process; the jobs that a cancel concerns are cancelled, the others get the error."""
        process, self.process, self.hello = self.process, None, None
        process.kill()
        for job_id in list(self.pending):
            self._end(job_id, error)


def complaint(hello: dict) -> str:
    """Why this worker cannot work, in one line; empty if it can."""
    if hello.get("protocol") != PROTOCOL:
        return f"{hello.get('executable')}: speaks protocol {hello.get('protocol')}, {PROTOCOL} is wanted: another SRGAN3D is in its way"
    if hello.get("missing"):
        names = " and ".join(one["package"] for one in hello["missing"])
        return f"{names} cannot be loaded by {hello.get('executable')} ({hello['missing'][0]['reason']}): use Install"
    return "" if hello.get("self_test") == "passed" else f"no device is usable: {hello.get('self_test')}"
