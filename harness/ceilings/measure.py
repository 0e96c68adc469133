"""One measurement of the ceilings: a process behind the guard, followed to its end."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from innerloop.harness.ceilings.model import Ceilings, Key, MatrixRate, MemoryRate
from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.cli.signals import hold
from innerloop.harness.machine import cpu_times
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.guard import TEMPORARY
from innerloop.harness.process.launcher import RECORDED_PREFIXES, Worker

if TYPE_CHECKING:
    from innerloop.harness.environments import Environment
    from innerloop.harness.machine import Machine

LIMIT_S = 180.0  # importing torch from a cold disk takes most of it
TICK_S = 0.2
PLACES = (  # of variables that say where things are: without them there may be no GPU (MPS), or another torch
    "CUDA_CACHE_PATH", "CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_MPS_LOG_DIRECTORY", "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHON", "TMPDIR",
)  # fmt: skip


class Told(TypedDict):
    """The message `result` of `engines.ceilings`; `memory` only where it was asked for."""

    cpu_s: float
    memory: MemoryRate | None
    matrix: dict[str, MatrixRate]
    torch: str
    threads: int | None
    tf32: bool | None


def measure(
    environment: Environment, machine: Machine, key: Key, dtypes: Sequence[str], known: Ceilings | None
) -> Ceilings:
    """Measures the matrix rates of `dtypes`, and the memory's unless `known` has it; what is known is kept.

    Raises:
        InnerloopError: the process failed, or did not end in time.
    """
    with hold() as held, tempfile.TemporaryDirectory(prefix="innerloop-ceilings-") as name, held.released():
        folder = Path(name)
        job = {"device": environment.device, "dtypes": list(dtypes), "memory": known is None}
        (folder / "job.json").write_text(json.dumps(job))
        (folder / TEMPORARY).touch()  # so that it goes also where the harness is killed
        meter = Meter(machine if environment.device == "cuda" else None)
        try:
            told = follow(environment, folder, meter, {**neutral(environment.variables), **pinned_threads(machine)})
        finally:
            meter.close()
    memory = told["memory"] if known is None else known.memory
    assert memory is not None
    earlier = {} if known is None else known.matrix
    others = [meter.other_cores(told["cpu_s"]), None if known is None else known.other_cores]
    shares = [meter.other_gpu_share(), None if known is None else known.other_gpu_share]
    return Ceilings(
        key=key,
        memory=memory,
        matrix={**earlier, **told["matrix"]},
        measured=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        threads=told["threads"],
        tf32=told["tf32"],
        other_cores=max((cores for cores in others if cores is not None), default=None),  # of all that is kept
        other_gpu_share=max((one for one in shares if one is not None), default=None),
        clocks=meter.most,
    )


def pinned_threads(machine: Machine) -> dict[str, str]:
    """Variables with which every usable core takes part, whatever the user's own say: what is kept is the machine's,
    and the next run may be given another number of threads."""
    cores = machine.physical_cores
    if machine.cpu_quota is not None:
        cores = max(min(cores, round(machine.cpu_quota)), 1)
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(cores))


def neutral(own: Mapping[str, str]) -> dict[str, str | None]:
    """The variables of an environment, without those of the user's that can change what is measured: instructions that
    a library may not use, a limit of threads, where threads are put. What is kept is good for runs with others."""
    user = {name: None for name in os.environ if name.startswith(RECORDED_PREFIXES) and not name.startswith(PLACES)}
    return {**user, **own}


def follow(environment: Environment, folder: Path, meter: Meter, variables: Mapping[str, str | None]) -> Told:
    """Starts the process and returns its result; nothing of it is left.

    Raises:
        InnerloopError: it sent none.
    """
    log = folder / "ceilings.log"
    pid: int | None = None
    with hold() as held:
        worker = Worker(environment.python, folder / "job.json", log, variables, module="ceilings")
        deadline = time.monotonic() + LIMIT_S
        try:
            while worker.alive and time.monotonic() < deadline:
                with held.released():
                    events = worker.events(TICK_S)
                for event in events:
                    kind = event["event"]
                    if kind == "started":
                        pid = event["pid"]
                    elif kind == "measuring":
                        meter.begin()
                    elif kind == "result":
                        meter.end()
                        return cast(Told, event)
                    elif kind == "error":
                        raise InnerloopError(
                            f"the peaks could not be measured: {event['message']}", *event["traceback"]
                        )
                    elif kind == "exit":
                        raise InnerloopError(
                            f"the process that measured the peaks exited with code {event['code']}", *log_tail(log)
                        )
                meter.look()
            ended = "the process that measured the peaks was killed"
            late = f"measuring the peaks took longer than {LIMIT_S:g} s"
            raise InnerloopError(late if worker.alive else ended, *log_tail(log))
        finally:
            worker.close(pid)


class Meter:
    """What else went on during a measurement: the CPU time of other processes, a GPU's clock and power."""

    def __init__(self, machine: Machine | None) -> None:
        """`machine`: the first of its GPUs is looked at; None: no GPU is."""
        from innerloop.harness.telemetry.device import Device, DeviceLost
        from innerloop.harness.telemetry.nvml import NoDriver, NvmlDevice

        self._before: list[float] = []  # a GPU's utilization until it is measured
        self.most: dict[str, float | None] | None = None
        self._device: Device | None = None
        self._begun: tuple[float, float | None] | None = None
        self._ended: tuple[float, float | None] | None = None
        if machine is not None and machine.gpus:
            with suppress(NoDriver, DeviceLost):
                self._device = NvmlDevice(machine.gpus[0].uuid)
                self.most = dict.fromkeys(("sm_clock_mhz", "power_instant_w"))

    def begin(self) -> None:
        self._begun = (time.monotonic(), busy_s())

    def end(self) -> None:
        self._ended = (time.monotonic(), busy_s())

    def look(self) -> None:
        """Takes one reading of the GPU; the highest ones are kept once it is measured."""
        from innerloop.harness.telemetry.device import SLOT, DeviceLost, Row

        if self._device is None or self.most is None:
            return
        row: Row = [None] * len(SLOT)
        try:
            self._device.fast(row)
            self._device.medium(row)
        except DeviceLost:
            self.close()
            return
        if self._begun is None:
            used = row[SLOT["gpu_utilization"]]
            self._before += [] if used is None else [used]
            return
        for name, most in self.most.items():
            value = row[SLOT[name]]
            if value is not None:
                self.most[name] = max(value, most or 0.0)

    def other_cores(self, own_cpu_s: float) -> float | None:
        """Cores' worth of CPU time that others used between `begin` and `end`."""
        if self._begun is None or self._ended is None:
            return None
        (begun, busy_before), (ended, busy_after) = self._begun, self._ended
        if busy_before is None or busy_after is None or ended <= begun:
            return None
        return max(busy_after - busy_before - own_cpu_s, 0.0) / (ended - begun)

    def other_gpu_share(self) -> float | None:
        """Of the time before `begin` in which the GPU ran anything, which was others' (NVML's utilization)."""
        return sum(self._before) / len(self._before) if self._before else None

    def close(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None


def busy_s() -> float | None:
    """Seconds of CPU time that the whole machine has spent since it started, over all cores; None: not known."""
    times = cpu_times()
    if times is None:
        return None
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
