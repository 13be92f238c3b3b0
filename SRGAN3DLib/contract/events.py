"""The events that a job reports while it runs. Command line, worker and panel share the same four; each is one JSON line.

For example `{"event": "progress", "stage": "network", "done": 3, "total": 12, "eta_s": 41.5}`. See each class for its keys.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import JobError, SRGAN3DError, typed_error

LONGEST_MESSAGE = 2000  # characters: an error may quote a value, but not a megabyte of it


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of `stage`. `eta_s` is the number of seconds left for the whole job, None while it is unknown."""

    stage: str
    done: float
    total: float
    eta_s: float | None = None
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Log:
    """One line for a person. The level `warning` marks what the user should know before trusting the result."""

    message: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True)
class Done:
    """The job has succeeded. `info` says what was asked and what was done."""

    info: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The job has failed: the class of the error, its message in one line, and the exit code of the command line."""

    error: str
    message: str
    exit_code: int

    @staticmethod
    def of(error: BaseException) -> Failed:
        """Of any exception. What `typed_error` cannot name is a fault of the program: exit code 1, with the exception's class."""
        error = typed_error(error)
        if isinstance(error, SRGAN3DError):
            return Failed(type(error).__name__, shortened(one_line(str(error))), error.exit_code)
        return Failed(type(error).__name__, shortened(one_line(f"{type(error).__name__}: {error}")), 1)


Event = Progress | Log | Done | Failed
Report = Callable[[Event], None]
"""Takes events. It is called from the thread that works, and must not block for long."""
IsCancelled = Callable[[], bool]
"""Long work asks it every few tenths of a second whether to stop, and then raises `Cancelled`."""

_KINDS: dict[str, type] = {"progress": Progress, "log": Log, "done": Done, "failed": Failed}
_NAMES = {cls: name for name, cls in _KINDS.items()}


def one_line(text: str) -> str:
    """The text with every run of blanks and line ends as one blank."""
    return " ".join(text.split())


def shortened(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """The text with its middle left out, where it is longer than `longest` characters."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def to_line(event: Event, **extra: Any) -> str:
    """One line of JSON without its line end. `extra` keys, such as a job's id, stand beside the event's own. See `json_line`."""
    return json_line({"event": _NAMES[type(event)], **extra, **dataclasses.asdict(event)})


def json_line(data: dict[str, Any]) -> str:
    """One line of JSON in ASCII alone: it passes every pipe and code page, even with a file name that is not UTF-8."""
    return json.dumps(data, default=str)


def from_line(line: str) -> Event:
    """The event of a line made by `to_line`. Keys that the event does not know are ignored. Raises `JobError`."""
    try:
        data = json.loads(line)
        cls = _KINDS[data["event"]]
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in names})  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JobError(f"not an event: {line[:200]!r} ({error})") from None
