"""Finds the steps that would spoil a run: a loss or gradient that is not finite, or a loss that explodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

TIMES = 50.0  # a loss that is so many times its running median has exploded
SPAN = 101  # the median is that of so many good steps
LEAST = 20  # with fewer good steps there is no median yet
FLOORS = {
    "loss": 0.0,
    "d_loss": 0.25,
}  # what is watched, and the least that counts as usual: an untrained D has 0.25, a good one less
TOLERATED = 20  # bad steps in a row


class LossGuard:
    """`recent`: the losses of good steps by name, kept in the state so that a resumed run decides alike. `bad`: bad steps in a row."""

    def __init__(self) -> None:
        self.recent: dict[str, list[float]] = {}
        self.bad = 0

    def fault(self, figures: Mapping[str, float]) -> str:
        """Why the step with these figures must not count. Empty for a good step, whose losses are remembered."""
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
