"""The host and the devices over the window, from their samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.quantiles import of_fewer

UNSEEN = "the driver does not report it"
UNREAD = "the kernel does not show it"
STEADY, STEADY_TOKEN = "energy of the steady window", "steady energy / steady output tokens"
NO_STEADY = "there is no steady window, or its energy is unknown"
UNSAMPLED = "it was not sampled"
NO_ENERGY = "the energy is unknown, or no tokens were produced"


@dataclass(frozen=True, slots=True)
class Host:
    """The worker's processes, the machine, and all other processes. `*_cores`: mean cores in use; `*_share`: of all
    cores' time."""

    covered_s: Annotated[float, Figure("part of the window that the samples cover", unit="s")]
    cpus: Annotated[int | None, Figure("hardware threads that this process may use", null=UNSAMPLED)]
    worker_user_s: Annotated[
        float | None, Figure("CPU time of the worker and its descendants in user mode", "s", null=UNREAD)
    ]
    worker_system_s: Annotated[float | None, Figure("their CPU time in the kernel", "s", null=UNREAD)]
    worker_cores: Annotated[float | None, Figure("their CPU time per second of the window", null=UNREAD)]
    worker_rss_mean_bytes: Annotated[int | None, Figure("their resident memory, mean", "bytes", null=UNREAD)]
    worker_rss_peak_bytes: Annotated[int | None, Figure("their resident memory, largest sample", "bytes", null=UNREAD)]
    worker_threads_max: Annotated[int | None, Figure("most threads at once", null=UNREAD)]
    worker_processes_max: Annotated[int | None, Figure("most processes at once", null=UNREAD)]
    worker_major_faults: Annotated[int | None, Figure("page faults that read from disk", null=UNREAD)]
    worker_voluntary_switches_per_s: Annotated[
        float | None, Figure("voluntary context switches: the thread blocked", "1/s", null=UNREAD)
    ]
    worker_involuntary_switches_per_s: Annotated[
        float | None,
        Figure("involuntary context switches: the thread was preempted", "1/s", null=UNREAD, better="lower"),
    ]
    harness_cores: Annotated[float | None, Figure("the harness's CPU time per second of the window", null=UNREAD)]
    other_cores: Annotated[
        float | None, Figure("cores that neither the worker nor the harness used", better="lower", null=UNREAD)
    ]
    other_share: Annotated[float | None, Figure("the same, of all cores' time", better="lower", null=UNSAMPLED)]
    busy_share: Annotated[float | None, Figure("user, nice, system, irq and softirq time", null=UNREAD)]
    iowait_share: Annotated[float | None, Figure("time in which cores waited for disks", null=UNREAD)]
    steal_share: Annotated[float | None, Figure("taken by the hypervisor", better="lower", null=UNSAMPLED)]
    available_least_bytes: Annotated[int | None, Figure("least free memory", unit="bytes", null=UNSAMPLED)]
    swap_in_bytes: Annotated[int | None, Figure("read from swap, by any process", "bytes", null=UNREAD)]
    swap_out_bytes: Annotated[int | None, Figure("written to swap, by any process", "bytes", null=UNREAD)]


@dataclass(frozen=True, slots=True)
class PerToken:
    """Energy per output token, and output tokens per joule."""

    per_token: Annotated[float | None, Figure("energy / output tokens", "J/token", better="lower", null=NO_ENERGY)]
    per_token_above_idle: Annotated[
        float | None, Figure("the same above idle", "J/token", better="lower", null=NO_ENERGY)
    ]
    tokens_per_j: Annotated[float | None, Figure("output tokens / energy", "tokens/J", better="higher", null=NO_ENERGY)]


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
    source: Annotated[Literal["counter", "integral"] | None, Figure("source of `window`", null="the energy is unknown")]
    counter: Annotated[float | None, Figure("by the energy counter", "J", null="there is no energy counter")]
    integral: Annotated[
        float | None, Figure("by the power reading", "J", null="the power readings do not cover the window")
    ]
    counter_integral_difference: Annotated[
        float | None, Figure("integral / counter - 1", null="one of the two is unknown")
    ]
    resolution_s: Annotated[float | None, Figure("time resolution", "s", null="the energy is unknown")]
    note: Annotated[str | None, Figure("limitations of these figures", null="there are none")]
    steady: Annotated[float | None, Figure(STEADY, "J", null=NO_STEADY)] = None
    steady_per_token: Annotated[float | None, Figure(STEADY_TOKEN, "J", null=NO_STEADY, better="lower")] = None


@dataclass(frozen=True, slots=True)
class PowerSummary:
    """The power readings of the window."""

    mean: Annotated[float | None, Figure("mean of the readings", "W", null=UNSAMPLED)]
    p50: Annotated[float | None, Figure("median of the readings", "W", null=UNSAMPLED)]
    p90: Annotated[float | None, Figure("90 % quantile", "W", null=f"{UNSAMPLED}, or {of_fewer('p90')}")]
    p99: Annotated[float | None, Figure("99 % quantile", "W", null=f"{UNSAMPLED}, or {of_fewer('p99')}")]
    max: Annotated[float | None, Figure("largest reading", "W", null=UNSAMPLED)]


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """A device's memory in use, and what it is used for."""

    before_load: Annotated[int | None, Figure("in use before the load, by any process", "bytes", null=UNSAMPLED)] = None
    after_load: Annotated[int | None, Figure("in use after the load", "bytes", null=UNSAMPLED)] = None
    after_warmup: Annotated[int | None, Figure("in use after the warm-up", "bytes", null=UNSAMPLED)] = None
    peak: Annotated[int | None, Figure("peak in the window", "bytes", better="lower", null=UNSAMPLED)] = None
    worker: Annotated[int | None, Figure("peak use by the worker", "bytes", null=UNSEEN)] = None
    weights: Annotated[
        int | None, Figure("this device's part of the weights", "bytes", null="the engine does not report it")
    ] = None
    kv_cache: Annotated[
        int | None, Figure("its part of the KV cache", "bytes", null="the engine does not report it")
    ] = None
    rest: Annotated[
        int | None, Figure("peak - before the load - weights - KV cache", "bytes", null="one of these is unknown")
    ] = None
    total: Annotated[int | None, Figure("memory of the device", "bytes", null=UNSEEN)] = None


@dataclass(frozen=True, slots=True)
class Clock:
    """One clock over the window."""

    mean: Annotated[float | None, Figure("mean of the readings", "MHz", null=UNSAMPLED)]
    min: Annotated[float | None, Figure("lowest reading", "MHz", null=UNSAMPLED)]
    max: Annotated[float | None, Figure("highest reading", "MHz", null=UNSAMPLED)]
    busy_mean: Annotated[
        float | None,
        Figure("mean of the samples under load", "MHz", null="it was not sampled, or the device was never busy"),
    ]
    max_possible: Annotated[float | None, Figure("maximum of the device", "MHz", null=UNSEEN)]


@dataclass(frozen=True, slots=True)
class Clocks:
    """A device's clocks."""

    sm: Clock
    memory: Clock


@dataclass(frozen=True, slots=True)
class Utilization:
    """Share of time in which something ran."""

    gpu: Annotated[
        float | None, Figure("time in which any kernel ran, however much of the device it used", null=UNSAMPLED)
    ]
    memory: Annotated[float | None, Figure("time in which memory was read or written", null=UNSAMPLED)]


@dataclass(frozen=True, slots=True)
class Temperature:
    """Start, middle and end: means of a twentieth of the readings each."""

    start: Annotated[float | None, Figure("at the window's start", "°C", null=UNSAMPLED)]
    middle: Annotated[float | None, Figure("in its middle", "°C", null=UNSAMPLED)]
    end: Annotated[float | None, Figure("at its end", "°C", null=UNSAMPLED)]
    max: Annotated[float | None, Figure("highest reading", "°C", null=UNSAMPLED)]


@dataclass(frozen=True, slots=True)
class Maximum:
    """Only the largest value."""

    max: Annotated[float | None, Figure("highest reading", null=UNSAMPLED)]


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """A reason for lowered clocks, and for how long it applied."""

    reason: Annotated[str, Figure("NVML's reason, in words")]
    seconds: Annotated[float, Figure("how long it held in the window", "s")]


@dataclass(frozen=True, slots=True)
class LinkRates:
    """Bytes per second over a link."""

    tx: Annotated[float | None, Figure("sent by the device", "bytes/s", null=UNSAMPLED)]
    rx: Annotated[float | None, Figure("received by the device", "bytes/s", null=UNSAMPLED)]
    source: Annotated[Literal["gpm", "counter"] | None, Figure("GPM's rates, or counters", null=UNSAMPLED)]


@dataclass(frozen=True, slots=True)
class ForeignProcess:
    """A process on the device that is not the worker's."""

    pid: Annotated[int, Figure("its process id")]
    name: Annotated[str | None, Figure("its name", null="it is not known here")]
    peak_bytes: Annotated[int | None, Figure("most device memory that it held", "bytes", null=UNSEEN)]


@dataclass(frozen=True, slots=True)
class Mig:
    """A slice of a GPU, by the driver's numbers."""

    parent_uuid: Annotated[str | None, Figure("the whole GPU", null=UNSEEN)]
    gpu_instance: Annotated[int | None, Figure("number of the GPU instance", null=UNSEEN)]
    compute_instance: Annotated[int | None, Figure("number of the compute instance", null=UNSEEN)]


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU over the window."""

    index: Annotated[int | None, Figure("its number, in the order of PCI bus ids", null=UNSEEN)]
    uuid: Annotated[str | None, Figure("NVML's UUID", null=UNSEEN)]
    name: Annotated[str | None, Figure("the product's name", null=UNSEEN)]
    mig: Annotated[Mig | None, Figure("the slice", null="the device is a whole GPU")]
    driver: Annotated[str | None, Figure("the driver's version", null=UNSEEN)]
    architecture: Annotated[str | None, Figure("such as hopper", null=UNSEEN)]
    power_limit_w: Annotated[float | None, Figure("power limit in force at the start", "W", null=UNSEEN)]
    supported: Annotated[
        Mapping[str, bool] | None, Figure("readings that the driver supports", null="it could not be determined")
    ]
    source: Annotated[str, Figure("its rows in telemetry.parquet")]
    interval_s: Annotated[float, Figure("planned time between samples", "s")]
    samples: Annotated[int, Figure("samples in the window")]
    missing_from_s: Annotated[
        float | None, Figure("when it stopped responding", "s", null="the device never stopped responding")
    ]
    missing_reason: Annotated[str | None, Figure("why it could no longer be read", null="it could always be read")]
    faults: Annotated[Mapping[str, int], Figure("readings that failed, by name")]
    energy_j: DeviceEnergy
    idle_power_w: Annotated[float | None, Figure("power before anything was started", "W", null="it was not measured")]
    power_w: PowerSummary
    update_period_s: Annotated[float | None, Figure("update period of the power reading", "s", null="it is unknown")]
    memory_bytes: DeviceMemory
    memory_note: Annotated[str | None, Figure("limitations of the memory figures", null="there are none")]
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

    interval_s: Annotated[float, Figure("planned time between samples", "s")]
    samples: Annotated[int, Figure("samples in the window")]
    late_p50_s: Annotated[float | None, Figure("actual less planned time, median", "s", null=UNSAMPLED, better="lower")]
    late_p99_s: Annotated[
        float | None, Figure("the same, 99 % quantile", "s", null=f"{UNSAMPLED}, or {of_fewer('p99')}", better="lower")
    ]
    longest_gap_s: Annotated[
        float | None, Figure("longest time between two samples", "s", null="there are fewer than two", better="lower")
    ]
    cpu_s: Annotated[float, Figure("CPU time over its lifetime", "s")]
    cpu_share: Annotated[float | None, Figure("CPU time / lifetime, in cores", null="it is unknown")]
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
    sampler: Annotated[Mapping[str, SamplerCost], Figure("what each sampler cost, by its source")] = field(
        default_factory=dict
    )
