"""Several volumes, one run after the other: each result appears when it is ready, and a failure stops none of the others."""

from collections.abc import Callable
from typing import Any

from SRGAN3DLib.contract.errors import Cancelled, SRGAN3DError

WAITING, COMPUTING, DONE, FAILED, CANCELLED = "waiting", "computing", "done", "failed", "cancelled"


class Batch:
    """`states` maps the ID of each volume to one of the words above, `errors` to the line of a failure, `results` to the node made."""

    def __init__(
        self,
        logic: Any,
        volumes: list[Any],
        options_of: Callable[[Any], dict[str, Any]],
        on_change: Callable[[], None],
        on_progress: Callable[[Any], None],
        on_end: Callable[["Batch"], None],
    ):
        """`options_of(volume)` gives the options of `Logic.superResolveAsync` for it."""
        self.logic, self.options_of = logic, options_of
        self.on_change, self.on_progress, self.on_end = on_change, on_progress, on_end
        self.scene = volumes[0].GetScene()
        self.ids = [volume.GetID() for volume in volumes]
        self.states = dict.fromkeys(self.ids, WAITING)
        self.errors: dict[str, str] = {}
        self.results: dict[str, Any] = {}
        self.run: Any = None

    def start(self) -> None:
        self._next()

    @property
    def number(self) -> int:
        """Of the volume that is computed, from 1."""
        return min(len(self.ids), sum(state != WAITING for state in self.states.values()))

    def cancel(self, reason: str = "cancelled") -> None:
        """The volume under way and all that wait; results that are there stay."""
        for one in self.ids:
            if self.states[one] == WAITING:
                self.states[one] = CANCELLED
        if self.run is not None:
            self.run.cancel(reason)

    def silence(self) -> None:
        self.on_change = self.on_progress = self.on_end = lambda *_: None
        if self.run is not None:
            self.run.silence()

    def _next(self) -> None:
        waiting = [one for one in self.ids if self.states[one] == WAITING]
        if not waiting:
            self.run = None
            self.on_end(self)
            return
        own = waiting[0]
        self.states[own] = COMPUTING
        self.on_change()
        node = self.scene.GetNodeByID(own)
        try:
            if node is None:
                raise Cancelled("the input was removed from the scene")
            self.run = self.logic.superResolveAsync(
                node,
                onProgress=lambda event: self.on_progress(event),
                onDone=lambda run: self._done(own, run),
                onError=lambda error: self._failed(own, error),
                **self.options_of(node),
            )
        except SRGAN3DError as error:
            self._failed(own, error)

    def _done(self, own: str, run: Any) -> None:
        self.states[own], self.results[own] = DONE, run.nodes[0]
        self.on_change()
        self._next()

    def _failed(self, own: str, error: Exception) -> None:
        self.states[own] = CANCELLED if isinstance(error, Cancelled) else FAILED
        self.errors[own] = str(error)
        self.on_change()
        self._next()
