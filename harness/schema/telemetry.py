"""The host and the devices over the window, from their samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure

UNSEEN = "the driver does not report it"
STEADY, STEADY_TOKEN = "energy of the steady window", "steady energy / steady output tokens"
NO_STEADY = "there is no steady window, or its energy is unknown"


@dataclass(frozen=True, slots=True)
class Host:
    """The worker's processes, the machine, and all other processes. `*_cores`: mean cores in use; `*_share`: of all
    cores' time."""

    covered_s: Annotated[float, Figure("part of the window that the samples cover", unit="s")]
    cpus: Annotated[int | None, Figure("hardware threads that this process may use")]
    worker_user_s: float | None
    worker_system_s: float | None
    worker_cores: float | None
    worker_rss_mean_bytes: int | None
    worker_rss_peak_bytes: int | None
    worker_threads_max: int | None
    worker_processes_max: int | None
    worker_major_faults: int | None
    worker_voluntary_switches_per_s: float | None
    worker_involuntary_switches_per_s: float | None
    harness_cores: float | None
    other_cores: Annotated[float | None, Figure("used by neither the worker nor the harness", better="lower")]
    other_share: Annotated[float | None, Figure("the same, of all cores' time", better="lower")]
    busy_share: float | None
    iowait_share: float | None
    steal_share: Annotated[float | None, Figure("taken by the hypervisor", better="lower")]
    available_least_bytes: Annotated[int | None, Figure("least free memory", unit="bytes")]
    swap_in_bytes: int | None
    swap_out_bytes: int | None


@dataclass(frozen=True, slots=True)
class PerToken:
    """Energy per output token, and output tokens per joule."""

    per_token: Annotated[float | None, Figure("energy / output tokens", "J/token", better="lower")]
    per_token_above_idle: Annotated[float | None, Figure("the same above idle", "J/token", better="lower")]
    tokens_per_j: Annotated[float | None, Figure("output tokens / energy", "tokens/J", better="higher")]


@dataclass(frozen=True, slots=True)
class TotalEnergy(PerToken):
    """The window's energy of all devices together, or of the CPU's sockets."""

    window: Annotated[
        float | None, Figure("energy of the window", "J", null="the energy of a device is unknown", better="lower")
    ]
    above_idle: Annotated[
        float | None, Figure("energy minus idle power x duration", "J", null="idle power is unknown")
    ] = None
    dram: Annotated[
        float | None,
        Figure("energy of the memory, where it is counted separately", "J", null="memory is not counted separately"),
    ] = None
    steady: Annotated[float | None, Figure(STEADY, "J", null=NO_STEADY)] = None
    steady_per_token: Annotated[float | None, Figure(STEADY_TOKEN, "J", null=NO_STEADY, better="lower")] = None


@dataclass(frozen=True, slots=True)
class DeviceEnergy(PerToken):
    """One device's energy."""

    window: Annotated[float | None, Figure("energy of the window", "J", null="see note", better="lower")]
    above_idle: Annotated[float | None, Figure("energy minus idle power x duration", "J", null="idle power is unknown")]
    prefill_steps: Annotated[float | None, Figure("of the steps with prefill", "J", null="see note")]
    decode_only_steps: Annotated[float | None, Figure("of the decode-only steps", "J", null="see note")]
    source: Annotated[Literal["counter", "integral"] | None, Figure("source of `window`")]
    counter: Annotated[float | None, Figure("by the energy counter", "J", null="there is no energy counter")]
    integral: Annotated[
        float | None, Figure("by the power reading", "J", null="the power readings do not cover the window")
    ]
    counter_integral_difference: Annotated[
        float | None, Figure("integral / counter - 1", null="one of the two is unknown")
    ]
    resolution_s: Annotated[float | None, Figure("time resolution", "s")]
    note: str | None
    steady: Annotated[float | None, Figure(STEADY, "J", null=NO_STEADY)] = None
    steady_per_token: Annotated[float | None, Figure(STEADY_TOKEN, "J", null=NO_STEADY, better="lower")] = None


@dataclass(frozen=True, slots=True)
class PowerSummary:
    """The power readings of the window."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """A device's memory in use, and what it is used for."""

    before_load: int | None = None
    after_load: int | None = None
    after_warmup: int | None = None
    peak: Annotated[int | None, Figure("peak in the window", "bytes", better="lower")] = None
    worker: Annotated[int | None, Figure("peak use by the worker", "bytes", null=UNSEEN)] = None
    weights: int | None = None
    kv_cache: int | None = None
    rest: Annotated[int | None, Figure("peak - before the load - weights - KV cache", "bytes")] = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """One clock over the window."""

    mean: float | None
    min: float | None
    max: float | None
    busy_mean: Annotated[float | None, Figure("mean of the samples under load", "MHz")]
    max_possible: Annotated[float | None, Figure("maximum of the device", "MHz", null=UNSEEN)]


@dataclass(frozen=True, slots=True)
class Clocks:
    """A device's clocks."""

    sm: Clock
    memory: Clock


@dataclass(frozen=True, slots=True)
class Utilization:
    """Share of time in which something ran."""

    gpu: Annotated[float | None, Figure("time in which any kernel ran, however much of the device it used")]
    memory: Annotated[float | None, Figure("time in which memory was read or written")]


@dataclass(frozen=True, slots=True)
class Temperature:
    """Start, middle and end: means of a twentieth of the readings each."""

    start: float | None
    middle: float | None
    end: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class Maximum:
    """Only the largest value."""

    max: float | None


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """A reason for lowered clocks, and for how long it applied."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LinkRates:
    """Bytes per second over a link."""

    tx: float | None
    rx: float | None
    source: Literal["gpm", "counter"] | None


@dataclass(frozen=True, slots=True)
class ForeignProcess:
    """A process on the device that is not the worker's."""

    pid: int
    name: str | None
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Mig:
    """A slice of a GPU, by the driver's numbers."""

    parent_uuid: Annotated[str | None, Figure("the whole GPU", null=UNSEEN)]
    gpu_instance: int | None
    compute_instance: int | None


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU over the window."""

    index: int | None
    uuid: str | None
    name: str | None
    mig: Annotated[Mig | None, Figure("the slice", null="the device is a whole GPU")]
    driver: str | None
    architecture: str | None
    power_limit_w: float | None
    supported: Annotated[Mapping[str, bool] | None, Figure("readings that the driver supports")]
    source: str
    interval_s: float
    samples: int
    missing_from_s: Annotated[
        float | None, Figure("when it stopped responding", "s", null="the device never stopped responding")
    ]
    missing_reason: str | None
    faults: Annotated[Mapping[str, int], Figure("readings that failed, by name")]
    energy_j: DeviceEnergy
    idle_power_w: Annotated[float | None, Figure("power before anything was started", "W", null="it was not measured")]
    power_w: PowerSummary
    update_period_s: Annotated[float | None, Figure("update period of the power reading", "s", null="it is unknown")]
    memory_bytes: DeviceMemory
    memory_note: str | None
    utilization: Utilization
    clocks_mhz: Clocks
    temperature_c: Temperature
    memory_temperature_c: Maximum
    event_reasons: tuple[ClockEvent, ...]
    pcie_bytes_per_s: LinkRates
    nvlink_bytes_per_s: LinkRates
    gpm: Annotated[Mapping[str, float | None] | None, Figure("means of the GPM readings", null="GPM is not supported")]
    foreign_processes: tuple[ForeignProcess, ...]


@dataclass(frozen=True, slots=True)
class SamplerCost:
    """What a sampler cost, and how late it was."""

    interval_s: float
    samples: int
    late_p50_s: float | None
    late_p99_s: float | None
    longest_gap_s: float | None
    cpu_s: Annotated[float, Figure("CPU time over its lifetime", "s")]
    cpu_share: Annotated[float | None, Figure("CPU time / lifetime, in cores")]
    error: Annotated[str | None, Figure("why it ended early", null="the sampler did not end early")]


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of the window."""

    devices: Annotated[TotalEnergy | None, Figure("all devices together", null="there are no devices")] = None
    cpu: Annotated[TotalEnergy | None, Figure("the CPU's sockets", null="the sockets' energy cannot be read")] = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Everything that was sampled."""

    host: Annotated[Host | None, Figure("the host", null="there are fewer than two samples")] = None
    devices: Annotated[tuple[Device, ...] | None, Figure("one entry per GPU", null="no device could be sampled")] = None
    energy_j: Energy = field(default_factory=Energy)
    sampler: Mapping[str, SamplerCost] = field(default_factory=dict)
