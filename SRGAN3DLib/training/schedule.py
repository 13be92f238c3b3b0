"""The schedule of learning rates: a warm-up, then half a cosine."""

from __future__ import annotations

import math

WARM_UP = 300  # steps at most; a tenth of a short stage


def rate_share(step: int, total: int) -> float:
    """The share (0 to 1) of a stage's rate in its step number `step` of `total`; 0.01 at the end."""
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, total // 10)))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / max(1, total))))
