"""The profiling pass: a second worker that ran the same workload under a profiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from innerloop.harness.schema.common import ByStepKind, CountByStepKind, Summary
from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.reasons import Failure


@dataclass(frozen=True, slots=True)
class Captured:
    """The steps that the profiler saw."""

    steps: CountByStepKind
    ranges: Annotated[tuple[tuple[int, int], ...], Figure("[first step, step after the last) of each captured range")]


@dataclass(frozen=True, slots=True)
class Slowdown:
    """How many times longer the profiling pass's steps took than similar steps of the measured run."""

    with_prefill: Annotated[float | None, Figure("of steps with prefill", null="there are no such steps to compare")]
    decode_only: Annotated[float | None, Figure("of decode-only steps", null="there are no such steps to compare")]


@dataclass(frozen=True, slots=True)
class ThreadShare:
    """A Python thread's share of the samples."""

    name: Annotated[str, Figure("the thread")]
    share: Annotated[float, Figure("of all samples")]


@dataclass(frozen=True, slots=True)
class FunctionShare:
    """A function of the thread that steps: its share of that thread's samples."""

    name: Annotated[str, Figure("the function and its file")]
    self_share: Annotated[float, Figure("share of the samples in the function itself")]
    total_share: Annotated[float, Figure("share of the samples in it and in the functions it calls")]


@dataclass(frozen=True, slots=True)
class HostProfile:
    """What py-spy saw of the worker's Python threads."""

    rate_hz: Annotated[int, Figure("requested samples per second", "Hz")]
    samples: Annotated[int | None, Figure("samples taken", null="py-spy did not say")]
    errors: Annotated[int | None, Figure("samples that failed", null="py-spy did not say")]
    behind_s: Annotated[float, Figure("longest delay of a sample", unit="s")]
    threads: tuple[ThreadShare, ...]
    top: tuple[FunctionShare, ...]


@dataclass(frozen=True, slots=True)
class Profiling:
    """The profiling pass, and what it cost. Its figures never mix with the measured ones."""

    kind: Annotated[str, Figure("kernels, nsys, ncu or host")]
    steps: Annotated[str, Figure("requested steps")]
    windows: Annotated[tuple[Mapping[str, Any], ...], Figure("the requested steps, as capture ranges")]
    folder: Annotated[str, Figure("its folder, inside the run's folder")]
    command: Annotated[str, Figure("command that repeats the pass")]
    seconds: Annotated[float, Figure("duration of the pass", unit="s")]
    worker_pid: Annotated[int | None, Figure("process of the pass", null="it was not started")]
    measured_worker_pid: Annotated[int | None, Figure("process of the measured run", null="it is unknown")]
    failure: Annotated[Failure | None, Figure("why there is nothing to show", null="the pass succeeded")]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")] = ()
    captured: Annotated[Captured | None, Figure("the steps that the profiler saw", null="the pass failed")] = None
    slowdown: Annotated[Slowdown | None, Figure("what the profiler cost", null="the pass failed")] = None
    host: Annotated[HostProfile | None, Figure("what py-spy saw", null="a different profiler was used")] = None


@dataclass(frozen=True, slots=True)
class KernelClass:
    """Kernels of one class."""

    ns: Annotated[int, Figure("sum of their times", unit="ns")]
    share: Annotated[float | None, Figure("of all kernels' time", null="nothing ran")]
    launches: Annotated[int, Figure("kernels, copies and memsets (on a CPU operators) of the class")]


@dataclass(frozen=True, slots=True)
class Kernel:
    """All launches of one kernel."""

    name: Annotated[str, Figure("the kernel's or operator's name")]
    kernel_class: Annotated[
        str, Figure("gemm, moe, attention, kv_write, norm_activation, sampling, communication, copies or other")
    ]
    ns: Annotated[int, Figure("sum of their times", unit="ns")]
    share: Annotated[float | None, Figure("of all kernels' time", null="nothing ran")]
    launches: Annotated[int, Figure("how often it was launched")]
    mean_s: Annotated[float, Figure("of a launch", unit="s")]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleGaps(Summary):
    """Periods in which a device was idle, in seconds."""

    total: Annotated[float, Figure("sum, per device", unit="s")]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the measured run would take if the device were never idle."""

    busy_s: Annotated[float | None, Figure("busy time of the measured steps", unit="s", null="see reason")]
    output_tokens_per_s: Annotated[float | None, Figure("output tokens / busy_s", unit="tokens/s", null="see reason")]
    covered_share: Annotated[float | None, Figure("measured steps that resemble a captured one", null="see reason")]
    reason: Annotated[str | None, Figure("why there is no estimate", null="there is an estimate")]


@dataclass(frozen=True, slots=True)
class Kernels:
    """Kernels, or a CPU's operators, of the captured steps."""

    source: Annotated[str, Figure("the profiler")]
    device: Annotated[str, Figure("cuda or cpu")]
    devices: Annotated[int, Figure("devices that kernels ran on; 0 on a CPU")]
    steps: CountByStepKind
    wall_s_per_step: Annotated[ByStepKind, Figure("mean wall time", unit="s")]
    busy_s_per_step: Annotated[ByStepKind, Figure("mean time in which something ran", unit="s")]
    launches_per_step: Annotated[ByStepKind, Figure("mean number of kernels launched in a step")]
    idle_share: Annotated[ByStepKind, Figure("time in which nothing ran", better="lower")]
    idle_gaps_s: IdleGaps
    total_ns: Annotated[CountByStepKind, Figure("sum of all kernels' times", unit="ns")]
    outside_steps_ns: Annotated[int, Figure("time of kernels outside captured steps", unit="ns")]
    classes: Annotated[Mapping[str, Mapping[str, KernelClass]], Figure("by kind of step and class")]
    top: Annotated[Mapping[str, tuple[Kernel, ...]], Figure("the longest, by kind of step")]
    unknown_names: Annotated[tuple[str, ...], Figure("longest kernels without a class")]
    joined_by_time: Annotated[int, Figure("kernels assigned to a step by time alone")]
    launches_lost: Annotated[int, Figure("launches without a device record")]
    steps_left_out: Annotated[int, Figure("captured steps excluded because kernels were lost")]
    slowdown: Slowdown
    estimate: Estimate
