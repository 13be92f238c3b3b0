"""What the process holds and what is left: against psutil, and by taking some."""

from __future__ import annotations

import mmap

import psutil
import pytest

from SRGAN3DLib.inference import memory


def test_agrees_with_psutil() -> None:
    assert memory.resident_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    assert memory.available_bytes() <= psutil.virtual_memory().total
    assert memory.peak_bytes() >= memory.resident_bytes() * 0.99


def test_counts_what_is_touched() -> None:
    before = memory.resident_bytes()
    with mmap.mmap(-1, 64 << 20) as taken:  # pages of its own: an array may come from a hole in the heap, held long ago
        assert memory.resident_bytes() - before < 16 << 20  # not held yet: untouched pages are nobody's
        for page in range(0, len(taken), mmap.PAGESIZE):
            taken[page] = 1
        assert memory.resident_bytes() - before > 56 << 20
        assert memory.peak_bytes() >= memory.resident_bytes() - (1 << 20)


@pytest.mark.parametrize(("count", "text"), [(1500 << 20, "1500M"), (1, "1M"), ((4 << 30) + 1, "4097M")])
def test_megabytes_round_up(count: int, text: str) -> None:
    assert memory.megabytes(count) == text
