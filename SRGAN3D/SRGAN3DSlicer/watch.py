"""Looks after one node of the scene: a region is dragged, voxels come, and what the panel says of it must follow."""

from collections.abc import Callable
from typing import Any

EVENTS = ("PointModifiedEvent", "ImageDataModifiedEvent", "TransformModifiedEvent")  # each a number of its class, if it has it


class Watch:
    """`call` is told of every change of the node that is followed; of none after `stop`."""

    def __init__(self, call: Callable[..., None]):
        self.call = call
        self.observed: list[tuple[Any, int]] = []

    def follow(self, node: Any) -> None:
        """A Markups or volume node, or None; whatever was followed before no longer is."""
        self.stop()
        if node is not None:
            events = ["ModifiedEvent", *(getattr(node, name) for name in EVENTS if hasattr(node, name))]
            self.observed = [(node, node.AddObserver(event, self.call)) for event in events]

    def stop(self) -> None:
        for node, tag in self.observed:
            node.RemoveObserver(tag)
        self.observed = []
