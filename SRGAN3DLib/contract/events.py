"""What long work says while it runs: one event, one JSON line. CLI, worker and panel read the same four.

`{"event": "progress", "stage": "network", "done": 3, "total": 12, "eta_s": 41.5}` and so on; see each class.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import JobError, SRGAN3DError


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of `stage`; `eta_s` seconds are left for the whole job, None while unknown."""

    stage: str
    done: float
    total: float
    eta_s: float | None = None
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Log:
    """One line for a person; `level` warning marks what the user should know before trusting the result."""

    message: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True)
class Done:
    """The job has ended well; `info` says what was asked and what was done."""

    info: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The job has ended in an error: its class name, its one line, the exit code of the command line."""

    error: str
    message: str
    exit_code: int

    @staticmethod
    def of(error: BaseException) -> Failed:
        """An error of ours as it is; anything else as exit code 1 with its class named in the line."""
        if isinstance(error, SRGAN3DError):
            return Failed(type(error).__name__, one_line(str(error)), error.exit_code)
        return Failed(type(error).__name__, one_line(f"{type(error).__name__}: {error}"), 1)


Event = Progress | Log | Done | Failed
Report = Callable[[Event], None]
"""Where events go. A `Report` is called from the thread that works and must not block for long."""

_KINDS: dict[str, type] = {"progress": Progress, "log": Log, "done": Done, "failed": Failed}
_NAMES = {cls: name for name, cls in _KINDS.items()}


def one_line(text: str) -> str:
    return " ".join(text.split())


def to_line(event: Event, **extra: Any) -> str:
    """One line of JSON without its line end; `extra` keys (a job's id, say) stand beside the event's own."""
    return json.dumps({"event": _NAMES[type(event)], **extra, **dataclasses.asdict(event)}, ensure_ascii=False, default=str)


def from_line(line: str) -> Event:
    """The event of a line made by `to_line`; keys the event does not know are ignored. Raises `JobError`."""
    try:
        data = json.loads(line)
        cls = _KINDS[data["event"]]
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in names})  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError) as error:
        raise JobError(f"not an event: {line[:200]!r} ({error})") from None
