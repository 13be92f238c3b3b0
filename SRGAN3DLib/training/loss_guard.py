"""Tells the steps that would spoil a run: a loss or gradient that is not finite, or a loss that explodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

TIMES = 50.0  # a loss so many times its running median has exploded
SPAN = 101  # good steps that the median looks back on
LEAST = 20  # before so many of them it knows nothing
FLOORS = {"loss": 0.0, "d_loss": 0.25}  # what is watched; a discriminator that knows nothing has 0.25, and a good one far less
TOLERATED = 20  # bad steps in a row


class LossGuard:
    """`recent` losses of good steps by name (they go into the state, so that a resumed run decides alike), `bad` steps in a row."""

    def __init__(self) -> None:
        self.recent: dict[str, list[float]] = {}
        self.bad = 0

    def fault(self, figures: Mapping[str, float]) -> str:
        """Why the step with these figures must not count; empty for a good one, which is remembered."""
        reason = self._reason(figures)
        if reason:
            self.bad += 1
            return reason
        self.bad = 0
        for name in FLOORS.keys() & figures.keys():
            self.recent[name] = [*self.recent.get(name, ()), figures[name]][-SPAN:]
        return ""

    def _reason(self, figures: Mapping[str, float]) -> str:
        for name, value in figures.items():
            if not math.isfinite(value):
                return f"{name.replace('_', ' ')} is {value}"
        for name, floor in FLOORS.items():
            known = self.recent.get(name, [])
            if name in figures and len(known) >= LEAST:
                usual = max(floor, median(known))
                if figures[name] > TIMES * usual > 0:
                    return f"{name.replace('_', ' ')} {figures[name]:.3g} is more than {TIMES:.0f} times the usual {usual:.3g}"
        return ""
