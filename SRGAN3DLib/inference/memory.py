"""How much memory the process holds, how much the machine has left; bytes. No dependency: Linux, macOS and Windows are asked themselves."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
from pathlib import Path


def resident_bytes() -> int:
    """What the process holds now (its resident set)."""
    if sys.platform == "linux":
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return _windows_counters()[3]
    return int(subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True).stdout) * 1024


def peak_bytes() -> int:
    """The most the process has held since it started."""
    if sys.platform == "win32":
        return _windows_counters()[2]
    if sys.platform == "linux":
        return _fields("/proc/self/status")["VmHWM"]
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available_bytes() -> int:
    """What the process may still take without driving others out: free memory, or the container's, whichever is less."""
    if sys.platform == "linux":
        return min(_fields("/proc/meminfo")["MemAvailable"], _container_bytes())
    if sys.platform == "win32":
        status = (ctypes.c_ulonglong * 8)(64)  # MEMORYSTATUSEX: its length (and load), all physical bytes, those available, ...
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status[2])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # macOS compresses and swaps: half of the machine is a fair share


def megabytes(count: float) -> str:
    """As `--memory-limit` takes it, rounded up: `1500M`."""
    return f"{math.ceil(count / 2**20)}M"


def _fields(path: str) -> dict[str, int]:
    """`Name:  123 kB` lines -> bytes."""
    rows = (line.split() for line in Path(path).read_text().splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(value) * 1024 for name, value, *_ in rows}


def _container_bytes() -> int:
    """What a control group (version 2 or 1) still allows; without one, no bound."""
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            root = Path("/sys/fs/cgroup")
            return max(0, int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return 1 << 62


def _windows_counters() -> tuple[int, ...]:
    """PROCESS_MEMORY_COUNTERS as (size, page faults, peak resident, resident, ...)."""

    class Counters(ctypes.Structure):
        _fields_ = (("size", ctypes.c_uint32), ("faults", ctypes.c_uint32), *((f"f{n}", ctypes.c_size_t) for n in range(8)))

    counters = Counters(ctypes.sizeof(Counters))
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo(ctypes.c_void_p(kernel.GetCurrentProcess()), ctypes.byref(counters), counters.size)
    return (counters.size, counters.faults, *(getattr(counters, f"f{n}") for n in range(8)))
