"""One accelerator while the engine steps: what any vendor's device has to answer, and the thread that asks it."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np

from innerloop.harness.telemetry.owners import Owners, Process
from innerloop.harness.telemetry.sampler import TIMES, Sampler

DEFAULT_HZ = 20.0
MOST_HZ = 200.0
MEDIUM_EVERY_S = 0.1  # also the shortest span that GPM's counters are meant to be read over
SLOW_EVERY_S = 1.0  # what costs the driver milliseconds
SILENT_S = 3.0  # a device that answers nothing for this long is lost

# How often a column is read is beside it; in between, and where the device cannot say, it is missing.
DEVICE = np.dtype(
    [
        *TIMES,
        ("power_instant_w", "<f8"),  # every sample
        ("energy_j", "<f8"),  # every sample; a counter that never falls
        ("power_average_w", "<f8"),  # slow; every sample where there is no instant power
        ("memory_used_bytes", "<i8"),  # medium, as all that follow
        ("gpu_utilization", "<f8"),  # 0 to 1
        ("memory_utilization", "<f8"),
        ("sm_clock_mhz", "<i4"),
        ("memory_clock_mhz", "<i4"),
        ("temperature_c", "<f8"),
        ("event_reasons", "<i8"),  # a bit a reason why the clocks are not at their highest
        ("sm_activity", "<f8"),  # 0 to 1, over the time since the column was last read
        ("sm_occupancy", "<f8"),
        ("tensor_activity", "<f8"),
        ("dram_bandwidth", "<f8"),
        ("graphics_activity", "<f8"),
        ("gpm_pcie_tx_bytes_per_s", "<f8"),
        ("gpm_pcie_rx_bytes_per_s", "<f8"),
        ("gpm_nvlink_tx_bytes_per_s", "<f8"),
        ("gpm_nvlink_rx_bytes_per_s", "<f8"),
        ("memory_temperature_c", "<f8"),  # slow, as all that follow
        ("pcie_tx_bytes", "<i8"),  # counters, sent and received by the device
        ("pcie_rx_bytes", "<i8"),
        ("nvlink_tx_bytes", "<i8"),
        ("nvlink_rx_bytes", "<i8"),
        ("memory_worker_bytes", "<i8"),  # of the worker's own processes
    ]
)
READ = (DEVICE.names or ())[len(TIMES) :]
SLOT = {name: place for place, name in enumerate(READ)}
MISSING: tuple[Any, ...] = tuple(float("nan") if DEVICE[name].kind == "f" else -1 for name in READ)

Row = list[Any]  # one value a column of READ, filled in place


class DeviceLost(Exception):
    """The device does not answer any more; the message is the driver's."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a live view shows of a device; None is not known."""

    power_w: float | None
    utilization: float | None
    memory_bytes: int | None


class MigTold(TypedDict):
    """A slice of a GPU, by the driver's numbers."""

    parent_uuid: str | None
    gpu_instance: int | None
    compute_instance: int | None


class DeviceTold(TypedDict):
    """What the driver says of a device that does not change; None is not known. `supported`: what can be read."""

    index: int | None
    uuid: str | None
    name: str | None
    mig: MigTold | None
    driver: str | None
    architecture: str | None
    memory_total_bytes: int | None
    power_limit_w: float | None
    power_default_limit_w: float | None
    max_sm_clock_mhz: int | None
    max_memory_clock_mhz: int | None
    supported: dict[str, bool]


class Device(ABC):
    """An open device. A method that reads fills its columns of `row` and leaves the others as they are.

    `supported` says what can be read, by the names of docs/method/telemetry.md; it is found out once, when the
    device is opened. `faults` counts what went wrong in single readings, by kind.

    All readings raise DeviceLost when the device is gone for good; any other failure leaves its columns missing.
    """

    supported: dict[str, bool]
    faults: dict[str, int]

    @abstractmethod
    def facts(self) -> DeviceTold:
        """What does not change: names, limits, what is supported."""

    @abstractmethod
    def fast(self, row: Row) -> bool:
        """Power and energy; False if nothing was answered."""

    @abstractmethod
    def medium(self, row: Row) -> bool:
        """Memory, utilization, clocks, temperature, event reasons, activity; False if nothing was answered."""

    @abstractmethod
    def slow(self, row: Row) -> None:
        """What is dear to read: averages, byte counters."""

    @abstractmethod
    def processes(self) -> list[Process] | None:
        """Who uses the device; None if the driver does not say."""

    @abstractmethod
    def close(self) -> None:
        """Releases the driver."""


class DeviceSampler(Sampler):
    """Samples one device. It may start before the worker does, with pid -1; `follow` names the worker later.

    `facts`, besides the device's own: `idle_until_ns`, until when it was measured idle; `followed_ns`, when the worker
    was named; `processes`, who was seen on the device (see Owners.seen); `missing_from_ns` and `missing_reason` of a
    device that was lost.
    """

    dtype = DEVICE

    def __init__(
        self, source: str, identity: Mapping[str, str | int | None], open_device: Callable[[], Device], hz: float
    ) -> None:
        super().__init__(1 / hz)
        self.source = source
        self.facts.update(kind="device", **identity)
        self.shown = Shown(None, None, None)
        self.ready = threading.Event()  # the first sample is there, or there will be none
        self._open_device = open_device
        self._device: Device | None = None
        self._owners = Owners()
        self._medium_due_ns = self._slow_due_ns = 0
        self._silent_since_ns: int | None = None

    def follow(self, *roots: int) -> None:
        """Names the worker, and whatever else is the engine's: the process trees whose memory on the device counts."""
        self.facts["followed_ns"] = time.monotonic_ns()
        self._owners.follow(*roots)

    def open(self, pid: int) -> None:
        if pid > 0:
            self.follow(pid)
        try:
            self._device = self._open_device()
            told = self._device.facts()
            self.facts.update({name: fact for name, fact in told.items() if fact is not None or name not in self.facts})
        except DeviceLost as lost:
            self.facts.update(missing_from_ns=time.monotonic_ns(), missing_reason=str(lost))
            raise

    def close(self) -> None:
        self.facts["processes"] = [asdict(one) for one in self._owners.seen()]
        self._owners.close()
        if self._device is not None:
            self.facts["faults"] = dict(self._device.faults)
            self._device.close()
        self.ready.set()

    def read(self) -> tuple[Any, ...]:
        row = list(MISSING)
        now = time.monotonic_ns()
        try:
            self._read(row, now)
        except DeviceLost as lost:
            since = now if self._silent_since_ns is None else self._silent_since_ns
            self.facts.update(missing_from_ns=since, missing_reason=str(lost))
            raise
        self.ready.set()
        return tuple(row)

    def _read(self, row: Row, now: int) -> None:
        device = self._device
        assert device is not None, "call open() first"
        slack_ns = int(self.interval_s * 0.5e9)
        answered = device.fast(row)
        if self._stop.is_set() or now + slack_ns >= self._medium_due_ns:
            self._medium_due_ns = now + int(MEDIUM_EVERY_S * 1e9)
            answered = device.medium(row) or answered
            self._show(row)
        self._notice(answered, now)
        if self._stop.is_set() or now + slack_ns >= self._slow_due_ns:
            self._slow_due_ns = now + int(SLOW_EVERY_S * 1e9)
            device.slow(row)
            listed = device.processes()
            if listed is not None:
                row[SLOT["memory_worker_bytes"]] = self._owners.look(listed, now)

    def _notice(self, answered: bool, now: int) -> None:
        """Tells a moment's silence from a device that is gone without saying so."""
        if answered:
            self._silent_since_ns = None
        elif self._silent_since_ns is None:
            self._silent_since_ns = now
        elif now - self._silent_since_ns > SILENT_S * 1e9:
            raise DeviceLost(f"no reading succeeded for {SILENT_S:g} s")

    def _show(self, row: Row) -> None:
        watts, average, used, busy = (
            row[SLOT[name]] for name in ("power_instant_w", "power_average_w", "memory_used_bytes", "gpu_utilization")
        )
        watts = average if watts != watts else watts
        if busy != busy:
            busy = row[SLOT["sm_activity"]]
        self.shown = Shown(
            power_w=watts if watts == watts else None,
            utilization=busy if busy == busy else None,
            memory_bytes=used if used >= 0 else None,
        )
