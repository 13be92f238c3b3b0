"""The worker: jobs in, events out, one JSON line each, on stdin and stdout of a process that stays ready between jobs.

docs/worker-protocol.md describes it in words, worker-schema.json as a schema. This thread works. A second one reads the requests, so
that a cancel reaches a running job within one tile. A third one writes the answers, so that a client that does not read blocks
nobody. A fourth one watches: the process ends on a stop request, at the end of stdin, on Ctrl-C or a polite kill, and when its
parent has died or nobody reads its answers any more. A job that is running then is cancelled; one that does not stop is cut off.
"""

from __future__ import annotations

import errno
import io
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.checkpoint_header import file_hash, find_model
from SRGAN3DLib.contract.errors import CANCELLED, Cancelled, JobError, ResourceError
from SRGAN3DLib.contract.events import Event, Failed, IsCancelled, Log, Progress, json_line, one_line, to_line
from SRGAN3DLib.contract.job_values import split_models
from SRGAN3DLib.contract.jobs import DEFAULT_MODEL, CheckJob, Precision, SuperResolveJob, SynthesizeJob
from SRGAN3DLib.contract.model_choice import AUTO
from SRGAN3DLib.contract.protocol import WORKER_PROTOCOL
from SRGAN3DLib.contract.strict_json import from_json
from SRGAN3DLib.inference import memory
from SRGAN3DLib.volumes.files import remove_parts

from . import terminal
from .dispatcher import check_job, do_job, load_resolver
from .interrupts import NAMES
from .synthesis import load_synthesizer
from .worker_lines import MOST_WAITING, Outbox, parse_request, read_lines

PACKAGES = ("torch", "safetensors", "psutil")  # what Slicer's Python lacks until Install
JOBS: dict[str, Any] = {"super-resolve": SuperResolveJob, "synthesize": SynthesizeJob, "check": CheckJob}
PROGRESS_EVERY_S = 0.1
LAST_CALL_S = 5.0  # from the reason to end to the end of the process, whatever a job does
PARENT_EVERY_S = 0.5


@dataclass(frozen=True)
class Load:
    """Make a model ready before its first job."""

    model: str = DEFAULT_MODEL
    device: str = "auto"
    precision: Precision = "auto"
    memory_limit: str | None = None


def main(protocol: int = 1) -> int:
    """Serve until told to stop; returns the exit code. Only answers reach stdout: what anything else prints goes to stderr."""
    answers = io.FileIO(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    worker = Worker(io.BufferedReader(io.FileIO(0, closefd=False)), answers, protocol)
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: worker.close(CANCELLED))
    return worker.serve()


class Worker:
    """One conversation. `requests` and `answers` are streams of bytes, `answers` without a buffer."""

    def __init__(self, requests: io.BufferedReader, answers: io.FileIO, protocol: int = 1):
        self.requests, self.protocol = requests, protocol
        self.outbox = Outbox(answers, self._broken)
        self.inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.waiting: set[str] = set()  # ids of jobs that have not ended
        self.unwanted: set[str] = set()  # of them, those that were cancelled
        self.closing, self.code = threading.Event(), 0
        self.resolver: tuple[tuple[Any, ...], Any] | None = None

    def serve(self) -> int:
        """Greet, do the jobs one after the other, and return the exit code."""
        threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.outbox.begin(json_line(hello() | greeting(self.protocol)))
            while (request := self.inbox.get()) is not None:
                self._do(request)
        finally:
            self.close()
        if not self.outbox.finish(LAST_CALL_S):
            self._cut_off()
        return self.code

    def close(self, code: int = 0) -> None:
        """End the conversation soon: a running job is cancelled, jobs that wait are answered as cancelled. Fit for a signal handler."""
        self.code = self.code or code
        self.closing.set()
        self.inbox.put(None)

    # ------------------------------------------------------------ the other threads
    def _read(self) -> None:
        """Cancels take effect at once, everything else waits its turn."""
        try:
            for raw in read_lines(self.requests):
                try:
                    if self.closing.is_set() or not self._take(parse_request(raw)):
                        break
                except Exception as error:  # whatever is wrong with one line, the next one can be right
                    self._answer_failed(error, None)
        finally:
            self.close()

    def _take(self, request: dict[str, Any]) -> bool:
        """False for a stop."""
        kind, job_id = request["request"], request["id"]
        if kind == "stop":
            return False
        with self.lock:
            if kind == "cancel":  # a job that has ended is left alone: its client may have asked a moment too late
                self.unwanted |= self.waiting if job_id is None else self.waiting & {job_id}
                return True
            if job_id in self.waiting:
                raise JobError(f"{kind}: id {job_id!r} belongs to a job that has not ended; choose another")
            if len(self.waiting) >= MOST_WAITING:
                raise ResourceError(f"{kind}: {MOST_WAITING} jobs are waiting already; send it again when some have ended")
            self.waiting.add(job_id)
        self.inbox.put(request)
        return True

    def _watch(self, parent: int) -> None:
        """See to the end. An orphan gets another parent, where the system tells (POSIX); on Windows the end of stdin tells."""
        while not self.closing.wait(PARENT_EVERY_S):
            if os.name == "posix" and os.getppid() != parent:
                self.close()
        time.sleep(LAST_CALL_S)
        self._cut_off()

    def _broken(self, error: OSError | ValueError) -> None:
        """Nobody reads the answers any more. That is no fault of ours unless the stream is a file on a full disk, say."""
        gone = not isinstance(error, OSError) or error.errno in (errno.EPIPE, errno.EINVAL, errno.ECONNRESET)
        if not gone:
            terminal.say(f"srgan3d: the answers cannot be written ({error})")
        self.close(0 if gone else ResourceError.exit_code)

    def _cut_off(self) -> None:
        remove_parts()
        os._exit(self.code)

    # ------------------------------------------------------------ jobs
    def _do(self, request: dict[str, Any]) -> None:
        job_id = request["id"]

        def cancelled() -> bool:
            return self.closing.is_set() or job_id in self.unwanted

        try:
            if cancelled():
                raise Cancelled("cancelled")
            line = json_line(self._load(request) if request["request"] == "load" else self._volume(request, cancelled))
        except BaseException as error:  # whatever happened to one job, the next one can be done
            self._end_job(job_id)
            self._answer_failed(error, job_id)
            del error  # with it go the arrays that it holds
            memory.release()
        else:
            self._end_job(job_id)
            self.outbox.put(line)

    def _end_job(self, job_id: str) -> None:
        """Before the last answer goes out: its client may use the id again as soon as it has read that."""
        with self.lock:
            self.waiting.discard(job_id)
            self.unwanted.discard(job_id)

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = from_json(Load, request["body"], "load")
        if wanted.model == AUTO:
            raise JobError(f"load: model {AUTO!r} depends on the scan; name a shipped model or a checkpoint file")
        begun = time.monotonic()
        resolver = self._ready(SuperResolveJob("-", "-", **asdict(wanted)))
        choice = resolver.choice
        about = {"device": str(choice.device), "precision": choice.precision, "reasons": list(choice.reasons)}
        seconds = round(time.monotonic() - begun, 3)
        return {"event": "loaded", "id": request["id"], "model": resolver.header.name, **about, "seconds": seconds}

    def _volume(self, request: dict[str, Any], cancelled: IsCancelled) -> dict[str, Any]:
        """Super-resolve, synthesize or check one volume."""
        kind = request["request"]
        job: SuperResolveJob | SynthesizeJob | CheckJob = from_json(JOBS[kind], request["body"], kind)
        check_job(job)
        info = do_job(job, self._reporter(request["id"]), cancelled, self._ready, load_synthesizer=self._synthesizer)
        if info.get("fallbacks"):
            self.resolver = None  # the next job asks the devices anew
        return {"event": "done", "id": request["id"], "info": info}

    def _reporter(self, job_id: str) -> Callable[[Event], None]:
        last = 0.0

        def report(event: Event) -> None:
            nonlocal last
            now = time.monotonic()
            if isinstance(event, Progress) and event.done < event.total and now - last < PROGRESS_EVERY_S:
                return
            last = now
            self.outbox.put(to_line(event, id=job_id), needed=not isinstance(event, Progress | Log))

        return report

    def _ready(self, job: SuperResolveJob) -> Any:
        """The resolver of the last job, if this one wants the same model files on the same terms."""
        paths = [str(find_model(name)) for name in split_models(job.model, job.alpha)] if job.model != AUTO else []
        key = (*paths, *map(file_hash, paths), job.alpha, job.device, job.precision, job.memory_limit)
        if self.resolver is None or self.resolver[0] != key:
            self.resolver = None  # two at once could be too much
            self.resolver = (key, load_resolver(replace(job, model=",".join(paths) or AUTO)))
        return self.resolver[1]

    def _synthesizer(self, job: SynthesizeJob) -> Any:
        """The synthesizer of the last job, if this one wants the same model file on the same terms."""
        path = str(find_model(job.model))
        key = ("synthesize", path, file_hash(path), job.device, job.precision, job.memory_limit)
        if self.resolver is None or self.resolver[0] != key:
            self.resolver = None  # two at once could be too much
            self.resolver = (key, load_synthesizer(replace(job, model=path)))
        return self.resolver[1]

    def _answer_failed(self, error: BaseException, job_id: str | None) -> None:
        self.outbox.put(to_line(Failed.of(error), id=job_id), needed=job_id is not None)


def greeting(protocol: int) -> dict[str, Any]:
    """What the hello of this version of the protocol says of itself."""
    return {"protocol": protocol} | ({"requests": ["load", *JOBS]} if protocol >= 2 else {})


def hello() -> dict[str, Any]:
    """Who answers, and with what: torch and its devices, each tried with a convolution."""
    answer: dict[str, Any] = {"event": "hello", "protocol": WORKER_PROTOCOL, "version": __version__, "pid": os.getpid()}
    answer |= {"python": sys.version.split()[0], "executable": sys.executable, "torch": None, "devices": [], "self_test": "", "missing": []}
    for package in PACKAGES:
        try:
            module = __import__(package)
            if package == "torch":
                answer["torch"] = module.__version__
        except Exception as error:  # a broken installation raises many kinds
            answer["missing"].append({"package": package, "reason": one_line(f"{type(error).__name__}: {error}")})
    if answer["torch"] is None:
        return answer
    try:
        from SRGAN3DLib.inference.devices import describe

        answer["devices"] = [_device(one) for one in describe()]
        usable = [one["device"] for one in answer["devices"] if one["usable"]]
        answer["self_test"] = "passed" if usable else "no device computes a small Conv3d correctly"
    except Exception as error:
        answer["self_test"] = one_line(f"{type(error).__name__}: {error}")
    return answer


def _device(report: Any) -> dict[str, Any]:
    what, why = (report.reason, "") if report.usable else (report.name, report.reason)
    return {"device": report.name, "name": what, "usable": report.usable, "reason": why}
