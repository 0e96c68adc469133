"""NVIDIA devices through NVML: found by UUID, asked once what they support, then read with as few calls as possible."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from innerloop.harness.telemetry.device import SLOT, Device, DeviceLost, DeviceTold, MigTold, Row
from innerloop.harness.telemetry.fields import ALL_LINKS, Field, Fields
from innerloop.harness.telemetry.gpm import Gpm
from innerloop.harness.telemetry.owners import Process

TRIES = 3  # a driver may refuse now and then what it supports
TRY_AGAIN_S = 0.01
ARCHITECTURES = {5: "Volta", 6: "Turing", 7: "Ampere", 8: "Ada", 9: "Hopper", 10: "Blackwell", 13: "Rubin"}


class NoDriver(Exception):
    """NVML cannot be used here; the message says why."""


def connect() -> Any:
    """The module pynvml, initialised; each call needs a `nvmlShutdown` of its own.

    Raises:
        NoDriver: no package, no driver, or a driver that does not answer.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the deprecated package of the same import name warns on import
            import pynvml
    except ImportError:
        raise NoDriver("the package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            raise NoDriver("no NVIDIA driver on this machine") from None
        raise NoDriver(f"the NVIDIA driver cannot be used: {error}") from None
    return pynvml


class NvmlDevice(Device):
    """A GPU, or a MIG slice: its memory, processes and activity are its own, the rest is the whole GPU's.

    A GPU in MIG mode is read as its first slice, which is what CUDA takes when none is named.

    Raises:
        NoDriver: see `connect`.
        DeviceLost: no device of that UUID answers.
    """

    def __init__(self, uuid: str) -> None:
        self.faults: dict[str, int] = {}
        self.supported: dict[str, bool] = {}
        self._nvml = connect()
        self._lost_codes = (self._nvml.NVML_ERROR_GPU_IS_LOST, self._nvml.NVML_ERROR_RESET_REQUIRED)
        self._gpm: Gpm | None = None
        try:
            self._own, self._whole = self._find(uuid)
            self._instance = None if self._own is self._whole else self._nvml.nvmlDeviceGetGpuInstanceId(self._own)
            self._fast, self._medium = self._find_fast(), self._find_medium()
            self._slow = self._find_slow()
            self._lists = self._find_lists()
        except self._nvml.NVMLError as error:
            self.close()
            raise DeviceLost(str(error)) from None
        except DeviceLost:
            self.close()
            raise

    def facts(self) -> DeviceTold:
        nvml, whole = self._nvml, self._whole

        def get(name: str, *arguments: Any) -> Any:
            return self._maybe(lambda: getattr(nvml, name)(*arguments))

        memory = self._maybe(self._memory_info) if self.supported["memory"] else None
        limit = get("nvmlDeviceGetEnforcedPowerLimit", whole)
        default = get("nvmlDeviceGetPowerManagementDefaultLimit", whole)
        mig: MigTold | None = None
        if self._instance is not None:
            mig = {
                "parent_uuid": get("nvmlDeviceGetUUID", whole),
                "gpu_instance": self._instance,
                "compute_instance": get("nvmlDeviceGetComputeInstanceId", self._own),
            }
        return {
            "index": get("nvmlDeviceGetIndex", whole),
            "uuid": get("nvmlDeviceGetUUID", self._own),
            "name": get("nvmlDeviceGetName", whole),
            "mig": mig,
            "driver": get("nvmlSystemGetDriverVersion"),
            "architecture": ARCHITECTURES.get(get("nvmlDeviceGetArchitecture", whole)),
            "memory_total_bytes": None if memory is None else int(memory.total),
            "power_limit_w": None if limit is None else limit / 1000,
            "power_default_limit_w": None if default is None else default / 1000,
            "max_sm_clock_mhz": get("nvmlDeviceGetMaxClockInfo", whole, nvml.NVML_CLOCK_SM),
            "max_memory_clock_mhz": get("nvmlDeviceGetMaxClockInfo", whole, nvml.NVML_CLOCK_MEM),
            "supported": dict(self.supported),
        }

    def fast(self, row: Row) -> bool:
        return self._read(self._fast, row)

    def medium(self, row: Row) -> bool:
        return self._read(self._medium, row)

    def slow(self, row: Row) -> None:
        self._read(self._slow, row)

    def processes(self) -> list[Process] | None:
        if not self._lists:
            return None
        found: dict[int, int | None] = {}
        for listed in self._lists:
            try:
                for one in listed(self._own):
                    before, more = found.get(one.pid), one.usedGpuMemory
                    found[one.pid] = before if more is None else more + (before or 0)
            except self._nvml.NVMLError as error:
                self._refused(error)
                return None
        return [Process(pid, held) for pid, held in found.items()]

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):
            if self._gpm is not None:
                self._gpm.close()
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    # what there is to read, found out once

    def _find(self, uuid: str) -> tuple[Any, Any]:
        """(the device's own handle, the whole GPU's); the same object where it is a whole GPU."""
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        if self._maybe(lambda: nvml.nvmlDeviceIsMigDeviceHandle(handle).value):
            return handle, nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        mode = self._maybe(lambda: nvml.nvmlDeviceGetMigMode(handle))
        if mode and mode[0]:
            for place in range(self._maybe(lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
                with suppress(nvml.NVMLError):
                    return nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place), handle
        return handle, handle

    def _find_fast(self) -> list[Callable[[Row], bool]]:
        """Power and energy; one call where the driver has them as fields, since release 530 or so."""
        nvml, whole = self._nvml, self._whole
        instant = self._field("POWER_INSTANT", "power_instant_w", 1e-3, zero_is_fault=True)
        energy = self._field("TOTAL_ENERGY_CONSUMPTION", "energy_j", 1e-3)
        known = [field for field in (instant, energy) if field is not None]
        out: list[Callable[[Row], bool]] = [self._fields(known)] if known else []
        self.supported["power_instant"] = instant is not None
        self.supported["energy"] = energy is not None
        if energy is None and self._works(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(whole)):
            self.supported["energy"] = True
            out.append(self._call("energy_j", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(whole) / 1000))
        if instant is None and self._works(lambda: nvml.nvmlDeviceGetPowerUsage(whole)):
            out.append(self._power_usage)
        self.supported["power_average"] = self._power_usage in out
        return out

    def _find_medium(self) -> list[Callable[[Row], bool]]:
        nvml, whole = self._nvml, self._whole
        clock, degrees = nvml.nvmlDeviceGetClockInfo, nvml.nvmlDeviceGetTemperature
        self._memory_version = getattr(nvml, "nvmlMemory_v2", None)
        if self._memory_version is not None and not self._works(self._memory_info):
            self._memory_version = None
        older = nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", older)
        if not self._works(lambda: reasons(whole)):
            reasons = older
        wanted: dict[str, list[Callable[[Row], bool]]] = {
            "memory": [self._call("memory_used_bytes", lambda: self._memory_info().used)],
            "utilization": [self._utilization],
            "clocks": [
                self._call("sm_clock_mhz", lambda: clock(whole, nvml.NVML_CLOCK_SM)),
                self._call("memory_clock_mhz", lambda: clock(whole, nvml.NVML_CLOCK_MEM)),
            ],
            "temperature": [self._call("temperature_c", lambda: float(degrees(whole, nvml.NVML_TEMPERATURE_GPU)))],
            "event_reasons": [self._call("event_reasons", lambda: reasons(whole))],
        }
        scratch: Row = [None] * len(SLOT)
        out = []
        for name, calls in wanted.items():
            self.supported[name] = all(self._works(partial(call, scratch)) for call in calls)
            out += calls if self.supported[name] else []
        with suppress(nvml.NVMLError):
            self._gpm = Gpm(nvml, whole, self._instance, self.faults, self._check)
            out.append(self._gpm.into)
        self.supported["gpm"] = self._gpm is not None
        return out

    def _find_slow(self) -> list[Callable[[Row], bool]]:
        """Fields that cost the driver up to milliseconds, together in one call."""
        average = None if self._power_usage in self._fast else self._field("POWER_AVERAGE", "power_average_w", 1e-3)
        heat = self._field("MEMORY_TEMP", "memory_temperature_c", 1.0)
        pcie = [self._field(f"PCIE_COUNT_{way}_BYTES", f"pcie_{way.lower()}_bytes", 1) for way in ("TX", "RX")]
        nvlink = [
            self._field(f"NVLINK_THROUGHPUT_DATA_{way}", f"nvlink_{way.lower()}_bytes", 1024, scope=ALL_LINKS)
            for way in ("TX", "RX")
        ]
        self.supported["power_average"] = self.supported["power_average"] or average is not None
        self.supported["memory_temperature"] = heat is not None
        self.supported["pcie"] = all(pcie) or self.supported["gpm"]
        self.supported["nvlink"] = all(nvlink)
        known = [field for field in (average, heat, *pcie, *nvlink) if field is not None]
        return [self._fields(known)] if known else []

    def _find_lists(self) -> list[Callable[[Any], Any]]:
        nvml = self._nvml
        both = (nvml.nvmlDeviceGetComputeRunningProcesses_v3, nvml.nvmlDeviceGetGraphicsRunningProcesses_v3)
        lists = [one for one in both if self._works(partial(one, self._own))]
        self.supported["processes"] = bool(lists)
        return lists

    def _field(self, name: str, column: str, scale: float, scope: int = 0, zero_is_fault: bool = False) -> Field | None:
        """A field, if this part has it."""
        number = getattr(self._nvml, f"NVML_FI_DEV_{name}", None)
        if number is None:  # an older nvidia-ml-py
            return None
        field = Field(number, column, scale, scope, zero_is_fault)
        reader, scratch = self._fields([field], {}), [None] * len(SLOT)
        for attempt in range(TRIES):
            time.sleep(TRY_AGAIN_S if attempt else 0)
            if reader(scratch):
                return field
        return None

    def _works(self, call: Callable[[], Any]) -> bool:
        for attempt in range(TRIES):
            time.sleep(TRY_AGAIN_S if attempt else 0)
            try:
                call()
                return True
            except self._nvml.NVMLError as error:
                self._check(error.value)
        return False

    # reading

    def _fields(self, fields: Sequence[Field], faults: dict[str, int] | None = None) -> Callable[[Row], bool]:
        counted = self.faults if faults is None else faults
        return Fields(self._nvml, self._whole, fields, counted, self._check).into

    def _call(self, column: str, get: Callable[[], Any]) -> Callable[[Row], bool]:
        slot = SLOT[column]

        def into(row: Row) -> bool:
            row[slot] = get()
            return True

        return into

    def _power_usage(self, row: Row) -> bool:
        milliwatts = self._nvml.nvmlDeviceGetPowerUsage(self._whole)
        if milliwatts:
            row[SLOT["power_average_w"]] = milliwatts / 1000
        else:
            self.faults["zero_power"] = self.faults.get("zero_power", 0) + 1
        return True

    def _utilization(self, row: Row) -> bool:
        rates = self._nvml.nvmlDeviceGetUtilizationRates(self._own)
        row[SLOT["gpu_utilization"]], row[SLOT["memory_utilization"]] = rates.gpu / 100, rates.memory / 100
        return True

    def _memory_info(self) -> Any:
        return self._nvml.nvmlDeviceGetMemoryInfo(self._own, self._memory_version)

    def _read(self, calls: Sequence[Callable[[Row], bool]], row: Row) -> bool:
        answered = False
        for call in calls:
            try:
                answered = call(row) or answered
            except self._nvml.NVMLError as error:
                self._refused(error)
        return answered

    def _maybe(self, call: Callable[[], Any]) -> Any:
        """What a call returns, or None where it is not supported."""
        try:
            return call()
        except self._nvml.NVMLError as error:
            self._check(error.value)
            return None

    def _refused(self, error: Any) -> None:
        self._check(error.value)
        self.faults["refused"] = self.faults.get("refused", 0) + 1

    def _check(self, code: int) -> None:
        if code in self._lost_codes:
            raise DeviceLost(str(self._nvml.NVMLError(code)))
