"""The state that a machine is in: what makes the same machine faster or slower from one run to the next."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from innerloop.harness.schema.engine import HostState


def host_state(
    worker_cpus: tuple[int, ...] | None = None, harness_cpus: tuple[int, ...] | None = None, root: Path = Path("/")
) -> HostState:
    """Reads it from below `root`; never raises."""
    affinity = tuple(sorted(os.sched_getaffinity(0)))
    cpus = root / "sys/devices/system/cpu"
    return HostState(
        governor=_governor(cpus, affinity),
        turbo=_turbo(cpus),
        smt=_flag(cpus / "smt/active"),
        frequency_mhz=_frequency(cpus, root / "proc/cpuinfo", affinity),
        isolated_cpus=_read(cpus / "isolated") or None,
        affinity=affinity,
        worker_cpus=worker_cpus,
        harness_cpus=harness_cpus,
        load_average=_load(root / "proc/loadavg"),
        niceness=os.getpriority(os.PRIO_PROCESS, 0),
        boot_id=_read(root / "proc/sys/kernel/random/boot_id") or None,
        clock_limits=clock_limits(root),
        huge_pages=huge_pages(root),
    )


def numa_node(pci_bus_id: str, root: Path = Path("/")) -> int | None:
    """The node of a PCI device (NVML writes its domain in eight digits, the kernel in four); None: it has none."""
    domain, _, rest = pci_bus_id.lower().partition(":")
    node = _read(root / "sys/bus/pci/devices" / f"{domain[-4:]}:{rest}" / "numa_node")
    return int(node) if node.isdigit() else None  # -1: the firmware does not say


def numa_nodes(root: Path = Path("/")) -> int | None:
    """How many memory nodes the CPUs that this process may run on belong to; None: one, or it is not known."""
    affinity = os.sched_getaffinity(0)
    nodes = (root / "sys/devices/system/node").glob("node[0-9]*")
    found = sum(any((node / f"cpu{cpu}").exists() for cpu in affinity) for node in nodes)
    return found if found > 1 else None


def _governor(cpus: Path, affinity: Iterable[int]) -> str | None:
    found = {_read(cpus / f"cpu{cpu}/cpufreq/scaling_governor") for cpu in affinity} - {""}
    return ", ".join(sorted(found)) or None


def _turbo(cpus: Path) -> bool | None:
    disabled = _flag(cpus / "intel_pstate/no_turbo")
    return _flag(cpus / "cpufreq/boost") if disabled is None else not disabled


def _frequency(cpus: Path, cpuinfo: Path, affinity: tuple[int, ...]) -> tuple[float, float] | None:
    """From cpufreq in kHz; else, as in virtual machines, from /proc/cpuinfo."""
    texts = [_read(cpus / f"cpu{cpu}/cpufreq/scaling_cur_freq") for cpu in affinity]
    found = [int(text) / 1000 for text in texts if text.isdigit()]
    if not found:
        lines = [line.split(":") for line in _read(cpuinfo).splitlines() if line.startswith("cpu MHz")]
        found = [float(value) for _, value in lines]
    return (min(found), max(found)) if found else None


def clock_limits(root: Path = Path("/")) -> str | None:
    """The highest clocks that the CPUs of this process may have now, in MHz: `4x3800`, or `4x3800 8x2600` where there
    are several kinds of cores; None: the kernel does not say."""
    cpus = root / "sys/devices/system/cpu"
    texts = [_read(cpus / f"cpu{cpu}/cpufreq/scaling_max_freq") for cpu in os.sched_getaffinity(0)]
    found = Counter(int(text) // 1000 for text in texts if text.isdigit())
    return " ".join(f"{found[mhz]}x{mhz}" for mhz in sorted(found, reverse=True)) or None


def huge_pages(root: Path = Path("/")) -> str | None:
    """Who gets large pages of memory: `always`, `madvise`, `never`; None: the kernel does not say."""
    words = _read(root / "sys/kernel/mm/transparent_hugepage/enabled").split()
    return next((word.strip("[]") for word in words if word.startswith("[")), None)


def _load(path: Path) -> tuple[float, float, float] | None:
    words = _read(path).split()
    return (float(words[0]), float(words[1]), float(words[2])) if len(words) >= 3 else None


def _flag(path: Path) -> bool | None:
    text = _read(path)
    return text == "1" if text in ("0", "1") else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
