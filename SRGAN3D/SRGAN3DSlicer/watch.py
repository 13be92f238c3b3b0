"""Looks after one node of the scene: a region is dragged, and what the panel says of it must follow."""

from collections.abc import Callable
from typing import Any


class Watch:
    """`call` is told of every change of the node that is followed; of none after `stop`."""

    def __init__(self, call: Callable[..., None]):
        self.call = call
        self.observed: list[tuple[Any, int]] = []

    def follow(self, roi: Any) -> None:
        """A Markups node, or None; whatever was followed before no longer is."""
        self.stop()
        if roi is not None:
            events = ("ModifiedEvent", roi.PointModifiedEvent, roi.TransformModifiedEvent)
            self.observed = [(roi, roi.AddObserver(event, self.call)) for event in events]

    def stop(self) -> None:
        for node, tag in self.observed:
            node.RemoveObserver(tag)
        self.observed = []
