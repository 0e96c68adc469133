"""Where the time of the steps went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.figure import Figure

UNREPORTED = "the engine does not report this phase"


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Durations in seconds; a phase that is never reported has a count of 0."""

    wall: Annotated[Summary, Figure("end - start of each step", unit="s", better="lower")]
    schedule: Annotated[Summary, Figure("choosing the batch", unit="s", better="lower")]
    prepare: Annotated[Summary, Figure("building the model's inputs", unit="s", better="lower")]
    execute: Annotated[Summary, Figure("running or launching the model", unit="s", better="lower")]
    wait: Annotated[Summary, Figure("waiting for the device", unit="s", better="lower")]
    sample: Annotated[Summary, Figure("choosing tokens", unit="s", better="lower")]
    update: Annotated[Summary, Figure("processing tokens, finishing requests", unit="s", better="lower")]
    other_host: Annotated[Summary, Figure("step time that no reported phase covers", unit="s", better="lower")]
    decode_only: Annotated[Summary, Figure("time of steps without prefill", unit="s", better="lower")]
    with_prefill: Annotated[Summary, Figure("time of steps with prefill", unit="s", better="lower")]
    bubble: Annotated[Summary, Figure("time between steps while there was work", unit="s", better="lower")]


@dataclass(frozen=True, slots=True)
class StepShare:
    """Each phase's share of the wall time of the steps that report it, 0 to 1."""

    schedule: Annotated[
        float | None, Figure("time in the phase / wall time of the steps that report it", null=UNREPORTED)
    ]
    prepare: Annotated[
        float | None, Figure("time in the phase / wall time of the steps that report it", null=UNREPORTED)
    ]
    execute: Annotated[
        float | None, Figure("time in the phase / wall time of the steps that report it", null=UNREPORTED)
    ]
    wait: Annotated[float | None, Figure("time in the phase / wall time of the steps that report it", null=UNREPORTED)]
    sample: Annotated[
        float | None, Figure("time in the phase / wall time of the steps that report it", null=UNREPORTED)
    ]
    update: Annotated[
        float | None, Figure("time in the phase / wall time of the steps that report it", null=UNREPORTED)
    ]
    other_host: Annotated[
        float | None, Figure("time in the phase / wall time of the steps that report it", null=UNREPORTED)
    ]


@dataclass(frozen=True, slots=True)
class TimeShare:
    """Shares of the window; the three add up to 1."""

    steps: Annotated[float | None, Figure("in steps", null="no step was recorded")]
    bubbles: Annotated[float | None, Figure("between steps while there was work", null="no step was recorded")]
    idle: Annotated[float | None, Figure("no request was due and unfinished", null="no step was recorded")]


@dataclass(frozen=True, slots=True)
class Interruption:
    """Something that held the worker up in the window."""

    what: Annotated[
        Literal["garbage", "capture"], Figure("garbage: a Python garbage collection; capture: a CUDA graph capture")
    ]
    at_s: Annotated[float, Figure("when it began, from the window's start", "s")]
    duration_s: Annotated[float | None, Figure("how long it took", "s", null="a capture is not timed")]


@dataclass(frozen=True, slots=True)
class Overhead:
    """What measuring cost."""

    recorder_ns_per_step: Annotated[
        float | None,
        Figure("time that recording a step takes, by its own clock", "ns", better="lower", null="there was no step"),
    ]
    recorder_ns_per_token: Annotated[
        float | None, Figure("recording / output tokens", "ns", better="lower", null="there was no step")
    ]
    recorder_share_of_step_time: Annotated[
        float | None, Figure("recording / wall time of the steps", better="lower", null="there was no step")
    ]
    clock_ns_per_call: Annotated[float | None, Figure("reading the clock once", "ns", null="there was no step")] = None
    observer_ns_per_step: Annotated[
        float | None,
        Figure(
            "the adapter's observation of the engine, by its own clock",
            "ns",
            better="lower",
            null="an older innerloop wrote it, or there was no step",
        ),
    ] = None
    step_ratio: Annotated[
        float | None,
        Figure(
            "median of bare / recorded over neighbouring decode steps of the last warm-up",
            null="there are too few pairs, or the engine's steps are only observed",
            better="higher",
        ),
    ] = None
    step_ratio_low: Annotated[float | None, Figure("of its 95 % interval", null="there is no ratio")] = None
    step_ratio_high: Annotated[float | None, Figure("of its 95 % interval", null="there is no ratio")] = None
    step_ratio_pairs: Annotated[int | None, Figure("pairs of steps behind step_ratio", null="there is no ratio")] = None
    gc_pauses: Annotated[
        int | None,
        Figure("Python garbage collections in the window", better="lower", null="an older innerloop wrote it"),
    ] = None
    gc_s: Annotated[
        float | None, Figure("their time", unit="s", better="lower", null="an older innerloop wrote it")
    ] = None
    gc_longest_s: Annotated[
        float | None, Figure("the longest of them", unit="s", better="lower", null="an older innerloop wrote it")
    ] = None
    trace_growths: Annotated[
        int | None, Figure("times the trace had to grow in the window", null="an older innerloop wrote it")
    ] = None
    interruptions: Annotated[
        tuple[Interruption, ...] | None,
        Figure("the 20 longest garbage collections of 1 ms or more, and the first 20 captures", null="not recorded"),
    ] = None


@dataclass(frozen=True, slots=True)
class Client:
    """The client of the http layer."""

    cpu_s: Annotated[
        float | None, Figure("CPU time of its process in the window", unit="s", null="the run did not get that far")
    ]
    cpu_s_per_s: Annotated[float | None, Figure("CPU time / window, in cores", null="the run did not get that far")]
    capacity_tokens_per_s: Annotated[
        float | None,
        Figure("highest rate received from a null server", unit="tokens/s", null="the run did not get that far"),
    ]
    share_of_capacity: Annotated[
        float | None,
        Figure("share of the capacity used in this run", better="lower", null="the run did not get that far"),
    ]
    null_server: Annotated[
        Mapping[str, float | int | str | None],
        Figure("how the capacity was measured", null="the run did not get that far"),
    ]
