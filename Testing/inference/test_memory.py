"""What the process holds and what is left: against psutil, and by taking some."""

from __future__ import annotations

import mmap
from pathlib import Path

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
        assert memory.resident_bytes() - before < 16 << 20  # not held yet: untouched pages take no memory
        for page in range(0, len(taken), mmap.PAGESIZE):
            taken[page] = 1
        assert memory.resident_bytes() - before > 56 << 20
        assert memory.peak_bytes() >= memory.resident_bytes() - (1 << 20)


@pytest.mark.parametrize(("count", "text"), [(1500 << 20, "1500M"), (1, "1M"), ((4 << 30) + 1, "4097M")])
def test_megabytes_round_up(count: int, text: str) -> None:
    assert memory.megabytes(count) == text


def group(folder: Path, **files: object) -> Path:
    """A made-up control group."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("_dot_", ".")).write_text(f"{value}\n", encoding="utf-8")
    return folder


def test_a_container_limits_and_its_file_cache_counts_as_free(tmp_path: Path) -> None:
    group(tmp_path, memory_dot_max=1000, memory_dot_current=900, memory_dot_stat="anon 200\ninactive_file 500\nactive_file 150\nshmem 50")
    assert memory.container_bytes(tmp_path, tmp_path / "none") == 1000 - 900 + 650


def test_every_group_above_limits_too(tmp_path: Path) -> None:
    group(tmp_path, memory_dot_max="max", memory_dot_current=1)
    group(tmp_path / "a", memory_dot_max=300, memory_dot_current=100)
    group(tmp_path / "a" / "b", memory_dot_max="max", memory_dot_high=900, memory_dot_current=50)
    (tmp_path / "own").write_text("0::/a/b\n")
    assert memory.container_bytes(tmp_path, tmp_path / "own") == 200
    (tmp_path / "own").write_text("0::/\n")
    assert memory.container_bytes(tmp_path, tmp_path / "own") == memory.NO_LIMIT


def test_version_1_of_control_groups(tmp_path: Path) -> None:
    group(tmp_path / "memory", memory_dot_limit_in_bytes=1000, memory_dot_usage_in_bytes=700, memory_dot_stat="total_inactive_file 100")
    assert memory.container_bytes(tmp_path, tmp_path / "none") == 400
    group(tmp_path / "memory", memory_dot_usage_in_bytes=5000)
    assert memory.container_bytes(tmp_path, tmp_path / "none") == 0


def test_what_ulimit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    held = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda which: (held + (100 << 20), resource.RLIM_INFINITY))
    assert memory.available_bytes() <= 100 << 20
