"""Observes one node of the scene: a region is dragged, voxels arrive, and the panel's texts must follow."""

from collections.abc import Callable
from typing import Any

EVENTS = ("PointModifiedEvent", "ImageDataModifiedEvent", "TransformModifiedEvent")  # each a number of its class, if it has it


class Watch:
    """`call` is called at every change of the node that is followed, and at none after `stop`."""

    def __init__(self, call: Callable[..., None]):
        self.call = call
        self.observed: list[tuple[Any, int]] = []

    def follow(self, node: Any) -> None:
        """A Markups or volume node, or None; the node that was followed before is no longer."""
        self.stop()
        if node is not None:
            events = ["ModifiedEvent", *(getattr(node, name) for name in EVENTS if hasattr(node, name))]
            self.observed = [(node, node.AddObserver(event, self.call)) for event in events]

    def stop(self) -> None:
        for node, tag in self.observed:
            node.RemoveObserver(tag)
        self.observed = []
