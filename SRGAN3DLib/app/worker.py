"""The worker: jobs in, events out, one JSON line each, on stdin and stdout of a process that stays warm.

docs/worker-protocol.md tells it in words, worker-schema.json in a schema. Two threads: this one works; a reader takes the lines
from stdin, so that a cancel reaches a running job within one tile. It ends on a stop request, on the end of stdin, and when
its parent has died; a job that is running then is cancelled, and one that will not stop is cut off.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.checkpoint_header import find_model
from SRGAN3DLib.contract.configs import from_json
from SRGAN3DLib.contract.errors import Cancelled, JobError, ResourceError
from SRGAN3DLib.contract.events import Event, Failed, Progress, one_line, to_line
from SRGAN3DLib.contract.jobs import DEFAULT_MODEL, Precision, SuperResolveJob, job_from_json, split_models
from SRGAN3DLib.contract.model_choice import AUTO

from .run import load_resolver, run

PROTOCOL = 1
PROGRESS_EVERY_S = 0.1
LAST_CALL_S = 5.0  # from the end of stdin to the end of the process, whatever a job does
PARENT_EVERY_S = 0.5


@dataclass(frozen=True)
class Load:
    """Make a model ready before its first job."""

    model: str = DEFAULT_MODEL
    device: str = "auto"
    precision: Precision = "auto"
    memory_limit: str | None = None


def main() -> int:
    """Serve until told to stop. Only protocol lines reach stdout: what anything else prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    Worker(sys.stdin.buffer, answers).serve()
    return 0


class Worker:
    """One conversation. `requests` is a stream of bytes, `answers` of text."""

    def __init__(self, requests: BinaryIO, answers: TextIO):
        self.requests, self.answers = requests, answers
        self.inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.writing, self.lock = threading.Lock(), threading.Lock()
        self.waiting: set[str] = set()  # ids of jobs not yet ended
        self.unwanted: set[str] = set()
        self.closing = threading.Event()
        self.resolver: tuple[tuple[Any, ...], Any] | None = None

    def serve(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._watch_parent, args=(os.getppid(),), daemon=True).start()
        self._say(hello())
        while (request := self.inbox.get()) is not None:
            self._do(request)

    def _read(self) -> None:
        """Reader thread: cancels take effect at once, everything else waits its turn."""
        for raw in self.requests:
            try:
                request = _parse(raw)
            except JobError as error:
                self._fail(error, None)
                continue
            if request["request"] == "stop":
                break
            if request["request"] == "cancel":
                self._cancel(request)
                continue
            with self.lock:
                self.waiting.add(request["id"])
            self.inbox.put(request)
        self.closing.set()
        self.inbox.put(None)
        time.sleep(LAST_CALL_S)
        os._exit(0)

    def _watch_parent(self, parent: int) -> None:
        """Where the system tells (POSIX: an orphan gets another parent). On Windows the end of stdin does it."""
        while os.name == "posix":
            time.sleep(PARENT_EVERY_S)
            if os.getppid() != parent:
                os._exit(0)

    def _cancel(self, request: dict[str, Any]) -> None:
        """A job that has ended already is left alone: its client may have asked a moment too late."""
        with self.lock:
            self.unwanted |= self.waiting if request["id"] is None else self.waiting & {request["id"]}

    def _do(self, request: dict[str, Any]) -> None:
        job_id = request["id"]

        def cancelled() -> bool:
            return self.closing.is_set() or job_id in self.unwanted

        try:
            if cancelled():
                raise Cancelled("cancelled")
            if request["request"] == "load":
                self._load(request)
            else:
                self._super_resolve(request, cancelled)
        except BaseException as error:  # whatever happened to one job, the next one can be done
            self._fail(error, job_id)
        finally:
            with self.lock:
                self.waiting.discard(job_id)
                self.unwanted.discard(job_id)

    def _load(self, request: dict[str, Any]) -> None:
        wanted = from_json(Load, request["body"], "load")
        begun = time.monotonic()
        resolver = self._ready(SuperResolveJob("-", "-", **asdict(wanted)))
        self._say(
            {
                "event": "loaded",
                "id": request["id"],
                "model": resolver.header.name,
                "device": str(resolver.choice.device),
                "precision": resolver.choice.precision,
                "reasons": list(resolver.choice.reasons),
                "seconds": round(time.monotonic() - begun, 3),
            }
        )

    def _super_resolve(self, request: dict[str, Any], cancelled: Any) -> None:
        job = job_from_json({"job": "super-resolve", **request["body"]})
        assert isinstance(job, SuperResolveJob)
        last = [0.0]

        def report(event: Event) -> None:
            now = time.monotonic()
            if isinstance(event, Progress) and event.done < event.total and now - last[0] < PROGRESS_EVERY_S:
                return
            last[0] = now
            self._send(to_line(event, id=request["id"]))

        info = run(job, report, cancelled, self._ready)
        if info.get("fallbacks"):
            self.resolver = None  # the next job asks the devices anew
        self._say({"event": "done", "id": request["id"], "info": info})

    def _ready(self, job: SuperResolveJob) -> Any:
        """The resolver of the last job, if it is the same model file on the same terms."""
        paths = [Path(find_model(name)) for name in split_models(job.model, job.alpha)] if job.model != AUTO else []
        states = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
        key = (*states, job.alpha, job.device, job.precision, job.memory_limit)
        if self.resolver is None or self.resolver[0] != key:
            self.resolver = None  # two at once could be too much
            self.resolver = (key, load_resolver(replace(job, model=",".join(map(str, paths)) or AUTO)))
        return self.resolver[1]

    def _fail(self, error: BaseException, job_id: str | None) -> None:
        failure = Failed.of(error)
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            failure = Failed.of(ResourceError(f"memory ran out ({one_line(str(error)) or 'the system gave no more'})"))
        self._send(to_line(failure, id=job_id))
        del error
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _say(self, answer: dict[str, Any]) -> None:
        self._send(json.dumps(answer, ensure_ascii=False, default=str))

    def _send(self, line: str) -> None:
        with self.writing:
            try:
                self.answers.write(line + "\n")
                self.answers.flush()
            except (OSError, ValueError):  # nobody listens any more
                os._exit(0)


def hello() -> dict[str, Any]:
    """Who answers, and with what: torch and its devices as found by really running a convolution on each."""
    answer: dict[str, Any] = {"event": "hello", "protocol": PROTOCOL, "version": __version__, "pid": os.getpid()}
    answer |= {"python": sys.version.split()[0], "executable": sys.executable, "torch": None, "devices": [], "self_test": "", "missing": []}
    for package in ("torch", "safetensors"):
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
        answer["self_test"] = "passed" if usable else "no device computes a small Conv3d rightly"
    except Exception as error:
        answer["self_test"] = one_line(f"{type(error).__name__}: {error}")
    return answer


def _device(report: Any) -> dict[str, Any]:
    what, why = (report.reason, "") if report.usable else (report.name, report.reason)
    return {"device": report.name, "name": what, "usable": report.usable, "reason": why}


def _parse(raw: bytes) -> dict[str, Any]:
    """`{"request", "id", "body"}` of a line: the body is what belongs to the request's own fields. Raises `JobError`."""
    try:
        data = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise JobError(f"not a line of JSON: {raw[:80]!r} ({error})") from None
    kinds = ("load", "super-resolve", "cancel", "stop")
    if not isinstance(data, dict) or data.get("request") not in kinds:
        kind = data.get("request") if isinstance(data, dict) else data
        raise JobError(f"request {kind!r}: choose from {', '.join(kinds)}")
    kind, job_id = data.pop("request"), data.pop("id", None)
    if not isinstance(job_id, str) and not (job_id is None and kind in ("cancel", "stop")):
        raise JobError(f"{kind}: id {job_id!r}; a text is wanted")
    if kind in ("cancel", "stop") and data:
        raise JobError(f"{kind}: unknown key {next(iter(data))!r}")
    return {"request": kind, "id": job_id, "body": data}
