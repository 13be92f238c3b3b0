"""Methods that Qt calls."""

import functools
from collections.abc import Callable
from typing import Any

import qt


def slot(method):
    """Qt swallows what a slot raises: `self.fault` gets it instead."""

    @functools.wraps(method)
    def safe(self, *arguments):
        try:
            return method(self, *arguments)
        except Exception as error:
            self.fault(error)

    return safe


def connect(wiring: list[tuple[Any, str, Callable[..., None]]]) -> None:
    """(widget, signal, slot), ..."""
    for widget, signal, method in wiring:
        if not widget.connect(signal, method):
            raise RuntimeError(f"no signal {signal}")  # PythonQt only prints


def scroll_to(*widgets: Any) -> None:
    """Where the widgets lie in a scroll area, as in Slicer's module panel: bring them into view, the last one last.

    It is done once they have their size.
    """
    area = widgets[0].parent()
    while area is not None and not area.inherits("QScrollArea"):
        area = area.parent()
    if area is not None:
        qt.QTimer.singleShot(0, lambda: [area.ensureWidgetVisible(widget) for widget in widgets])
