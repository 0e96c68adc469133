"""What this machine is: the facts that a result is meaningless without, and where innerloop keeps its files."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.errors import Refused

if TYPE_CHECKING:
    from innerloop.harness.machine.gpus import Gpu

# The instruction sets that decide which kernels an engine picks on a CPU.
CPU_FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimdhp", "sve", "sve2", "i8mm", "bf16",
)  # fmt: skip
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine as this process may use it: CPU affinity, control groups and CUDA_VISIBLE_DEVICES are honoured."""

    os: str  # "linux", "darwin", "windows"
    os_name: str  # "Debian GNU/Linux 12 (bookworm)"
    kernel: str
    libc: str | None  # "glibc 2.36"; None where there is no glibc
    arch: str  # "x86_64", "aarch64"
    cpu: str
    cpu_flags: tuple[str, ...]  # those of CPU_FLAGS that it has
    physical_cores: int  # cores and threads that this process may run on
    logical_cores: int
    machine_logical_cores: int
    cpu_quota: float | None  # CPUs' worth of time that a control group allows
    memory_bytes: int
    memory_available_bytes: int
    python: str
    gpus: tuple[Gpu, ...] = ()

    @property
    def platform(self) -> str:
        """The name by which engine profiles know it: `linux-x86_64`."""
        return f"{self.os}-{self.arch}"

    def device_kinds(self) -> tuple[str, ...]:
        """What engines can run on here, the preferred kind first."""
        return ("cuda", "cpu") if self.gpus else ("cpu",)

    def summary(self) -> str:
        """One line for people: `linux x86_64, AMD EPYC, 2 cores, 23.5 GiB memory, no NVIDIA GPU`."""
        cores = f"{self.physical_cores} core{'s' if self.physical_cores != 1 else ''}"
        if self.cpu_quota is not None and self.cpu_quota < self.logical_cores:
            cores += f" (limited to {self.cpu_quota:g})"
        memory = f"{self.memory_bytes / 2**30:.1f} GiB memory"
        return f"{self.os} {self.arch}, {self.cpu}, {cores}, {memory}, {self.gpu_summary()}"

    def gpu_summary(self) -> str:
        """`no NVIDIA GPU`, or `2 x NVIDIA H200 (140 GiB, compute capability 9.0), driver 580.65, CUDA 13.0`."""
        if not self.gpus:
            return "no NVIDIA GPU"
        kinds: dict[str, int] = {}
        for gpu in self.gpus:
            size = f"{gpu.memory_bytes / 2**30:.0f} GiB" if gpu.memory_bytes else "memory unknown"
            words = f"{gpu.name} ({size}, compute capability {gpu.compute_capability or 'unknown'})"
            kinds[words] = kinds.get(words, 0) + 1
        devices = " and ".join(f"{count} x {words}" for words, count in kinds.items())
        return f"{devices}, driver {self.gpus[0].driver or 'unknown'}, CUDA {self.gpus[0].cuda or 'unknown'}"


def this_machine() -> Machine:
    """Looks at this machine (about 0.1 s). What cannot be found out is left out; never raises for it."""
    from innerloop.harness.machine import cgroups
    from innerloop.harness.machine.gpus import visible_gpus

    system = platform.system().lower()
    arch = platform.machine().lower()
    model, flags = _cpu()
    usable = _usable_cpus()
    total, available = memory()
    limit = cgroups.memory()
    if limit is not None:
        total, available = min(total, limit[0]), min(available, limit[1])
    return Machine(
        os=system,
        os_name=_os_name(),
        kernel=platform.release(),
        libc=_libc(),
        arch=ARCHITECTURES.get(arch, arch),
        cpu=model,
        cpu_flags=flags,
        physical_cores=_physical_cores(usable),
        logical_cores=len(usable),
        machine_logical_cores=os.cpu_count() or len(usable),
        cpu_quota=cgroups.cpu_quota(),
        memory_bytes=total,
        memory_available_bytes=available,
        python=platform.python_version(),
        gpus=visible_gpus(),
    )


class NoHome(Refused):
    """This user has no home, and so nothing is kept for them: whoever only looks there finds nothing."""


def cache_folder() -> Path:
    """Where environments and checkpoints are kept: $INNERLOOP_HOME, else, or where that is blank, the user's cache
    folder. Not created here.

    Raises:
        NoHome: the user has none, as in some containers. Refused: INNERLOOP_HOME names one of nobody.
    """
    chosen = os.environ.get("INNERLOOP_HOME", "")
    if chosen.strip():
        whole = Path(os.path.expanduser(chosen))
        if whole.parts[0].startswith("~"):
            raise Refused(f"INNERLOOP_HOME is {chosen}: there is no such user", "set it to a folder")
        return whole.absolute()
    from platformdirs import user_cache_path

    try:
        return user_cache_path("innerloop")
    except RuntimeError:
        raise NoHome("this user has no home folder", "set INNERLOOP_HOME to a writable folder") from None


def _cpu() -> tuple[str, tuple[str, ...]]:
    """(model, the instruction sets of CPU_FLAGS that it has)."""
    fields: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip().lower()] = value.strip()
    has = set(fields.get("flags", fields.get("features", "")).split())
    model = fields.get("model name") or _arm(fields) or platform.processor() or platform.machine() or "unknown CPU"
    return model, tuple(flag for flag in CPU_FLAGS if flag in has)


def _arm(fields: Mapping[str, str]) -> str | None:
    """What an Arm CPU is by the registers that the kernel shows, which has no name for it."""
    registers = ("cpu implementer", "cpu part", "cpu variant")
    parts = [fields[name].removeprefix("0x") for name in registers if name in fields]
    return f"Arm CPU {'-'.join(parts)}" if parts else None


def _usable_cpus() -> list[int]:
    """The logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _physical_cores(cpus: list[int]) -> int:
    """The cores behind these logical CPUs."""
    cores = set()
    for cpu in cpus:
        try:
            siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            import psutil

            return min(psutil.cpu_count(logical=False) or len(cpus), len(cpus))
        cores.add(siblings)
    return len(cores)


def memory() -> tuple[int, int]:
    """(total, available) in bytes, of the whole machine; where /proc does not say it, as in sandboxes, by sysconf."""
    import psutil

    try:
        found = psutil.virtual_memory()
    except (OSError, LookupError, ValueError):  # of a file that is not there, or is empty
        return tuple(os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))  # type: ignore[return-value]
    return int(found.total), int(found.available)


def cpu_times() -> Any:
    """psutil's, of all cores together since the machine started; None where /proc does not say them."""
    import psutil

    try:
        return psutil.cpu_times()
    except (OSError, LookupError, ValueError, TypeError):  # as above
        return None


def _os_name() -> str:
    if sys.platform == "linux":
        try:
            release = platform.freedesktop_os_release()
            return release.get("PRETTY_NAME") or release["NAME"]
        except (OSError, KeyError):
            return "Linux"
    return platform.platform(terse=True)


def _libc() -> str | None:
    if sys.platform != "linux":
        return None
    name, version = platform.libc_ver()
    return f"{name} {version}" if name == "glibc" else None
