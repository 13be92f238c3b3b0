"""The conversation with the worker: requests out, answers to whoever asked, and one clear error when the process is gone.

Everything happens in `pump`, which the owner of the main thread calls by a timer.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from SRGAN3DLib.contract.errors import Cancelled, JobError, ResourceError, SRGAN3DError
from SRGAN3DLib.contract.events import Done, Failed, Log, Progress, from_line
from SRGAN3DLib.contract.protocol import WORKER_PROTOCOLS

from .worker_process import Process

START_S = 180.0  # the first import of torch after an installation can take minutes
CANCEL_S = 1.0  # a worker that still computes a cancelled job then is ended

VERSION_1 = ("load", "super-resolve")  # the requests of a worker that lists none

Answer = Callable[[Any], None]


class RemoteError(SRGAN3DError):
    """An error of the worker, in its own words."""

    def __init__(self, failure: Failed):
        super().__init__(failure.message)
        self.kind, self.exit_code = failure.error, failure.exit_code


class WorkerClient:
    """`make` gives a new process whenever one is needed; it stays warm between jobs, and has one of them at a time."""

    def __init__(self, make: Callable[[], Process]):
        self.make, self.patience_s = make, CANCEL_S
        self.process: Process | None = None
        self.hello: dict | None = None
        self.requests = VERSION_1  # that the last worker offered
        self.started = 0.0
        self.pending: dict[str, tuple[dict, Answer]] = {}
        self.queue: list[str] = []  # of them, those not sent yet
        self.current: str | None = None  # what the worker has; no longer pending once it was cancelled
        self.cancelled_at: float | None = None
        self.listeners: list[Callable[[dict], None]] = []
        self.count = 0
        self.pumping = False

    def start(self) -> None:
        """Start the process if none runs. Raises `ResourceError`."""
        if self.process is not None and self.process.exit_code() is None:
            return
        self.hello, self.current, self.cancelled_at = None, None, None
        process = self.make()
        process.start()
        self.process, self.started = process, time.monotonic()

    def submit(self, request: dict, answer: Answer) -> str:
        """Ask; `answer` gets `Progress` and `Log` events, then one `Done` or an exception. Returns the request's id."""
        if self.current not in self.pending:  # else `pump` reports a process that has just died
            self.start()
        self.count += 1
        job_id = str(self.count)
        self.pending[job_id] = ({**request, "id": job_id}, answer)
        self.queue.append(job_id)
        self._send_next()
        return job_id

    def cancel(self, job_id: str, reason: str = "cancelled") -> None:
        """The job ends at once for its owner. The worker gets a second to stop computing, and stays warm; else it is ended."""
        if job_id not in self.pending:
            return
        if job_id == self.current:
            self.cancelled_at = time.monotonic()
            self.process.write(json.dumps({"request": "cancel", "id": job_id}))
        self._end(job_id, Cancelled(reason))

    def offers(self, request: str) -> bool:
        """Whether the last worker's hello listed this kind of request. A worker that lists none offers what version 1 had."""
        return request in self.requests

    def busy(self) -> bool:
        return bool(self.pending) or self.is_stopping_a_job() or (self.process is not None and self.hello is None)

    def is_stopping_a_job(self) -> bool:
        """The worker still computes a job that was cancelled, and has its files open."""
        return self.cancelled_at is not None

    def stop(self) -> None:
        """End the process. Jobs that wait end as cancelled."""
        process = self._drop_process()
        if process is not None:
            process.stop(0.5)
        self._end_all(Cancelled("the worker was stopped"))

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
        process = self.process
        code = process.exit_code()  # before the lines, so that its last lines are still read
        for line in process.lines():
            self._receive(line)
            if self.process is not process:  # an answer has stopped the worker
                return
        if code is not None:
            self._on_exit(code)
        elif self.hello is None and time.monotonic() - self.started > START_S:
            self._give_up(ResourceError(f"the worker has not answered within {START_S:g} s"))
        elif self.cancelled_at is not None and time.monotonic() - self.cancelled_at > self.patience_s:
            self._drop_process().kill()
            self._start_next()

    def _receive(self, line: str) -> None:
        try:
            data = json.loads(line)
            event = data["event"]
        except (ValueError, KeyError, TypeError):
            return  # printed by a launcher or a library
        if event == "hello":
            self._on_hello(data)
            return
        job_id = self.current
        if job_id is None or data.get("id") not in (job_id, None):
            return
        try:
            parsed = Done(data) if event == "loaded" else from_line(line)
        except JobError:
            parsed = ResourceError(f"the worker's answer cannot be understood: {line[:80]}")
        if isinstance(parsed, (Progress, Log)):
            if job_id in self.pending:
                self.pending[job_id][1](parsed)
            return
        if isinstance(parsed, Failed):
            parsed = Cancelled("cancelled") if parsed.error == "Cancelled" else RemoteError(parsed)
        self.current, self.cancelled_at = None, None
        self._end(job_id, parsed)
        self._send_next()

    def _on_hello(self, hello: dict) -> None:
        self.hello = hello
        self.requests = tuple(hello.get("requests", VERSION_1))
        for listen in list(self.listeners):
            listen(hello)
        problem = complaint(hello)
        if problem:
            self._give_up(ResourceError(problem))
        else:
            self._send_next()

    def _send_next(self) -> None:
        if self.hello is not None and self.current is None and self.queue:
            self.current = self.queue.pop(0)
            self.process.write(json.dumps(self.pending[self.current][0]))

    def _end(self, job_id: str, outcome: Any) -> None:
        if job_id in self.queue:
            self.queue.remove(job_id)
        if job_id in self.pending:
            self.pending.pop(job_id)[1](outcome)

    def _end_all(self, outcome: Any) -> None:
        for job_id in list(self.pending):
            self._end(job_id, outcome)

    def _on_exit(self, code: int) -> None:
        """The process has ended by itself, and with it the job that it had. Jobs that wait get another process, if one can start."""
        last = [line for line in self.process.error_text().splitlines() if line.strip()][-1:]
        said = f": {last[0].strip()}" if last else "; the system may have ended it because memory ran out"
        error = ResourceError(f"the worker ended unexpectedly (code {code}){said}")
        began, job_id = self.hello is not None, self.current
        self._drop_process().kill()  # a launcher's child may be left
        if not began:
            self._end_all(error)
            return
        if job_id is not None:
            self._end(job_id, error)
        self._start_next()

    def _start_next(self) -> None:
        """Another process for what still waits."""
        if self.queue:
            try:
                self.start()
            except SRGAN3DError as error:
                self._end_all(error)

    def _give_up(self, error: SRGAN3DError) -> None:
        """This worker cannot work."""
        self._drop_process().kill()
        self._end_all(error)

    def _drop_process(self) -> Any:
        process, self.process, self.hello = self.process, None, None
        self.current, self.cancelled_at = None, None
        return process


def complaint(hello: dict) -> str:
    """Why this worker cannot work, in one line; empty if it can."""
    if hello.get("protocol") not in WORKER_PROTOCOLS:
        spoken, known = hello.get("protocol"), " or ".join(map(str, WORKER_PROTOCOLS))
        return f"{hello.get('executable')}: speaks protocol {spoken}, but it must be {known}; it finds another version of SRGAN3D"
    if hello.get("missing"):
        names = " and ".join(one["package"] for one in hello["missing"])
        return f"{names} cannot be loaded by {hello.get('executable')} ({hello['missing'][0]['reason']}): use Install"
    return "" if hello.get("self_test") == "passed" else f"no device is usable: {hello.get('self_test')}"
