"""How much memory this machine has and has left, also inside a container with a limit. Needs no torch."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
VMSTAT = Path("/proc/vmstat")


def total_ram(cgroup: Path = CGROUP) -> int:
    """Bytes that this process and its neighbours in the container can have together."""
    total = int(psutil.virtual_memory().total)
    limit = _limit(cgroup)
    return total if limit is None else min(total, limit)


def free_ram(cgroup: Path = CGROUP) -> int:
    """Bytes that can still be taken; what the system only keeps of files counts as free."""
    free = int(psutil.virtual_memory().available)
    limit = _limit(cgroup)
    if limit is None:
        return free
    used = int((cgroup / "memory.current").read_text()) - _file_cache(cgroup)
    return max(0, min(free, limit - used))


def _limit(cgroup: Path) -> int | None:
    """Of the container, None without one."""
    try:
        said = (cgroup / "memory.max").read_text().strip()
    except OSError:
        return None
    return int(said) if said.isdecimal() else None


def _file_cache(cgroup: Path) -> int:
    for line in (cgroup / "memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return int(value)
    return 0


def own_bytes(processes: Iterable[int]) -> int:
    """Memory that these processes share with nobody: what comes back when they end."""
    found = 0
    for pid in processes:
        with contextlib.suppress(psutil.Error):
            memory = psutil.Process(pid).memory_info()
            found += memory.rss - getattr(memory, "shared", 0)
    return found


def memory_kills() -> int:
    """How often this system's kernel has killed a process because memory was full."""
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
