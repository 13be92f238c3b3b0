"""How much memory the process holds, and how much it may still take; bytes. `psutil` asks the system, a container's limit is read here."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import sys
from pathlib import Path

NO_LIMIT = 1 << 62
CGROUPS = Path("/sys/fs/cgroup")
# (folder of the hierarchy, limit, use, keys of memory.stat that count files kept in memory, which the system gives back on demand)
_VERSIONS = (
    ("", ("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file")),
    ("memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


def resident_bytes() -> int:
    """What the process holds now (its resident set)."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The most that the process has held since it started."""
    if sys.platform == "linux":  # psutil does not tell there, and `getrusage` counts what the parent held before it started us
        return _peak_of(Path("/proc/self/status").read_text(encoding="utf-8"))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available_bytes() -> int:
    """What the process may still take without driving others out: the least of what the machine, the container and `ulimit -v` leave."""
    import psutil

    return max(0, min(int(psutil.virtual_memory().available), container_bytes(), _address_space()))


def megabytes(count: float) -> str:
    """As `--memory-limit` takes it, rounded up: `1500M`."""
    return f"{math.ceil(count / 2**20)}M"


def release() -> None:
    """Give back what a failed job still held, on the GPU too, and to the system what the C library keeps of it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc has it; other C libraries give memory back by themselves
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def container_bytes(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """What the control groups (version 2 or 1) of this process still allow; `NO_LIMIT` without one.

    Files that the system keeps in memory count as free. Every group above the process's own limits it, too.
    """
    least = NO_LIMIT
    for folder, limits, used, cached in _VERSIONS:
        for group in _groups(root / folder, own, folder):
            limit = min((n for name in limits if (n := _number(group / name)) is not None), default=None)
            use = _number(group / used)
            if limit is not None and use is not None:
                least = min(least, limit - use + _kept_files(group / "memory.stat", cached))
    return max(0, least)


def _groups(root: Path, own: Path, controller: str) -> list[Path]:
    """The folders of the process's own group and of those above it. A container may show its own group as the root."""
    try:
        rows = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        rows = []
    path = next((row[2] for row in rows if len(row) == 3 and controller in row[1].split(",")), "/")
    inside = root / path.strip("/")
    return [inside, *(parent for parent in inside.parents if parent.is_relative_to(root))]


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit (`max`)."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _kept_files(path: Path, names: tuple[str, ...]) -> int:
    try:
        rows = dict(line.split() for line in path.read_text(encoding="utf-8").splitlines())
        return sum(int(rows.get(name, 0)) for name in names)
    except (OSError, ValueError):
        return 0


def _address_space() -> int:
    """What `ulimit -v` leaves."""
    if sys.platform == "win32":
        return NO_LIMIT
    import resource

    import psutil

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return NO_LIMIT if limit == resource.RLIM_INFINITY else limit - int(psutil.Process().memory_info().vms)


def _peak_of(status: str) -> int:
    """VmHWM of /proc/self/status, given in kB."""
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
