"""The states of the panel and the ways between them. What the panel enables and says depends on them."""

from enum import Enum


class State(Enum):
    IDLE = "idle"  # nothing has run; the button may be off, because there is no input, for example
    STARTING = "starting"  # asked; the worker has not begun to compute
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


BUSY = {State.STARTING, State.RUNNING}
_ENDS = {State.DONE, State.FAILED, State.CANCELLED}
WAYS = {
    State.IDLE: {State.STARTING, State.FAILED},
    State.STARTING: {State.RUNNING, *_ENDS},
    State.RUNNING: _ENDS,
    **{end: {State.STARTING, State.FAILED, State.IDLE} for end in _ENDS},
}


class Machine:
    """`go` raises for a way that does not exist, which would be a fault of the program."""

    def __init__(self) -> None:
        self.state = State.IDLE

    def go(self, state: State) -> None:
        assert state in WAYS[self.state], f"{self.state} -> {state}"
        self.state = state

    @property
    def busy(self) -> bool:
        return self.state in BUSY
