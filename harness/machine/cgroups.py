"""What the control groups around this process leave of the machine: CPU quota and memory (Linux, versions 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

UNLIMITED_BYTES = 1 << 60  # version 1 writes "no limit" as a number near 2^63


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """The CPUs' worth of time that the tightest group allows, or None where no group limits it."""
    quotas = []
    for folder, version in _folders(root, own, "cpu"):
        if version == 2:
            words = _read(folder / "cpu.max").split()
        else:
            words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[0]) and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[int, int] | None:
    """(limit, available) in bytes: the lowest limit, and the least that any limiting group has left.

    Cache that the kernel can drop counts as available. None where no group limits it.
    """
    limits, left = [], []
    for folder, version in _folders(root, own, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (_read(folder / name) for name in names)
        if not limit.isdigit() or int(limit) >= UNLIMITED_BYTES:
            continue
        droppable = _statistic(folder / "memory.stat", "inactive_file" if version == 2 else "total_inactive_file")
        limits.append(int(limit))
        left.append(max(0, int(limit) - max(0, (int(used) if used.isdigit() else 0) - droppable)))
    return (min(limits), min(left)) if limits else None


def oom_kills(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """How many processes of this process's group, and of those below it, the kernel has killed for want of memory;
    None where that is not counted, as by version 1, which leaves out the groups below."""
    for folder, version in _folders(root, own, "memory"):
        if version == 2 and (text := _read(folder / "memory.events")):
            counted = [line.split()[1] for line in text.splitlines() if line.startswith("oom_kill ")]
            return int(counted[0]) if counted and counted[0].isdigit() else None
    return None


def _folders(root: Path, own: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """(folder, version) of this process's group and of every one above it, innermost first. Where the kernel does not
    say which group that is, the root is taken, which in a container is its own."""
    for line in (_read(own) or f"1:{controller}:/\n0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            bases, version = [root, root / "unified"], 2
        elif controller in controllers.split(","):
            bases, version = [root / controllers, root / controller], 1
        else:
            continue
        for base in dict.fromkeys(bases):
            group = base / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_dir():  # inside a container the path may name a group that is not visible there
                    yield folder, version
                if folder == base:
                    break


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _statistic(path: Path, name: str) -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0
