"""What the words on a page mean: taken from the schema, where the figures are defined, and a few of the pages' own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from innerloop.harness.schema.comparison import ComparedFigure, Comparison, Decomposition
from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.goodput import Goodput
from innerloop.harness.schema.profiling import Kernels
from innerloop.harness.schema.quantiles import of_fewer
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.roofline import Roofline
from innerloop.harness.schema.steps import Overhead, StepSeconds, TimeShare
from innerloop.harness.schema.sweep import SweepCell
from innerloop.harness.schema.telemetry import Host, TotalEnergy
from innerloop.harness.schema.trials import TrialFigure
from innerloop.harness.schema.waterfall import LayerRow
from innerloop.harness.schema.window import Counts, Latency, OverTime, Throughput

OF_THE_SCHEMA: dict[str, tuple[str, type, str]] = {  # key -> (what it is called, class, field)
    "prefill_rate": ("prefill positions/s", Throughput, "prefill_positions_per_s"),
    "decode_rate": ("output tokens/s", Throughput, "output_tokens_per_s"),
    "total_rate": ("total tokens/s", Throughput, "total_tokens_per_s"),
    "user_rate": ("tokens/s per user", Throughput, "tokens_per_s_per_user"),
    "request_rate": ("requests/s", Throughput, "requests_per_s"),
    "rate_interval": ("95 % interval of a rate", Throughput, "output_tokens_per_s_ci"),
    "goodput": ("goodput", Goodput, "requests_per_s"),
    "ttft": ("TTFT", Latency, "ttft"),
    "tpot": ("TPOT", Latency, "tpot"),
    "itl": ("ITL", Latency, "itl"),
    "e2e": ("end to end", Latency, "e2e"),
    "finished": ("finished", Counts, "finished"),
    "cut": ("cut", Counts, "cut"),
    "preemptions": ("preemptions", Counts, "preemptions"),
    "schedule": ("schedule", StepSeconds, "schedule"),
    "prepare": ("prepare", StepSeconds, "prepare"),
    "execute": ("execute", StepSeconds, "execute"),
    "wait": ("wait", StepSeconds, "wait"),
    "sample": ("sample", StepSeconds, "sample"),
    "update": ("update", StepSeconds, "update"),
    "other_host": ("other host time", StepSeconds, "other_host"),
    "bubble": ("between steps", StepSeconds, "bubble"),
    "wall": ("step time", StepSeconds, "wall"),
    "decode_only": ("decode only", StepSeconds, "decode_only"),
    "with_prefill": ("with prefill", StepSeconds, "with_prefill"),
    "idle": ("idle", TimeShare, "idle"),
    "bound": ("of bound", Roofline, "bound_share"),
    "mbu": ("MBU", Roofline, "mbu"),
    "mfu": ("MFU", Roofline, "mfu"),
    "batch": ("batch", Result, "batch"),
    "waiting": ("waiting", Result, "waiting"),
    "kv_usage": ("KV cache in use", Result, "kv_usage"),
    "speed_over_time": ("speed over time", OverTime, "output_tokens_per_s"),
    "other_cores": ("other processes", Host, "other_cores"),
    "energy": ("energy", TotalEnergy, "window"),
    "energy_per_token": ("energy per token", TotalEnergy, "per_token"),
    "recorder": ("recorder", Overhead, "recorder_ns_per_step"),
    "kernel_time": ("kernel time", Kernels, "total_ns"),
    "launches": ("launches", Kernels, "launches_per_step"),
    "kernel_idle": ("idle within steps", Kernels, "idle_share"),
    "per_step": ("per step", LayerRow, "ms_per_step"),
    "added": ("added", LayerRow, "added_ms_per_step"),
    "token_time": ("time per output token", LayerRow, "s_per_output_token"),
    "ratio": ("B / A", ComparedFigure, "ratio"),
    "verdict": ("verdict", ComparedFigure, "verdict"),
    "p": ("p", ComparedFigure, "p"),
    "margin": ("margin", Comparison, "margin"),
    "trials": ("trials", Comparison, "trials"),
    "mix": ("mix", Decomposition, "mix_s"),
    "cost": ("cost", Decomposition, "cost_s"),
    "unmatched": ("not comparable", Decomposition, "unmatched_s"),
    "matched": ("matched share", Decomposition, "matched_share"),
    "mix_by": ("mix by composition", Decomposition, "mix_by_coefficient_s"),
    "frontier": ("frontier", SweepCell, "frontier"),
    "dominated": ("dominated", SweepCell, "dominated_by"),
    "trial_mean": ("mean of trials", TrialFigure, "mean"),
    "half_width": ("half width", TrialFigure, "half_width"),
    "scatter": ("scatter", TrialFigure, "scatter"),
}
OWN = {
    "window": ("window", "the whole measured time, from when the loop began to when it closed"),
    "steady": (
        "steady",
        "the part of the window in which the load neither rose nor fell; each kind of load has a rule for its edges",
    ),
    "p50": ("p50", "median: half of the values are at most this; quantiles are interpolated linearly"),
    "p90": ("p90", f"90 % of the values are at most this; unknown where {of_fewer('p90')}"),
    "p99": ("p99", f"99 % of the values are at most this; unknown where {of_fewer('p99')}"),
    "interval": ("95 % interval", "an interval made this way covers the long-run value in 95 of 100 runs"),
    "n": ("n", "the number of values behind a row"),
    "share": ("share", "share of the time spent in steps"),
    "ecdf": ("share of values", "the share of values that are no larger: the empirical distribution function"),
    "phase": ("phase", "a part of a step that the engine reports; time that no phase covers is other host time"),
    "fit": (
        "fit",
        "least squares: a fixed time per step, and a cost per prefill token, decode token and context token",
    ),
    "least_time": (
        "bound",
        "the minimum time that a step's bytes and operations need at this machine's measured peaks (roofline model)",
    ),
    "positions": ("prefill positions", "prompt positions that a step computed"),
    "context": ("context tokens", "tokens that were in the KV cache before the step and that the step read"),
    "queue": (
        "queued",
        "from when a request was due until it was submitted and its prompt was started, as far as known",
    ),
    "gantt": ("requests", "one line per request, in order of due time"),
    "storm": ("preemption storm", "three or more preemptions within 20 steps of each other"),
    "level_shift": ("level shift", "the moment at which step time for steps of the same composition changed suddenly"),
    "throttling": ("lowered clocks", "a device reported a reason for lowered clocks other than being idle"),
    "suspect": ("suspect", "something was observed that makes some of the figures doubtful; each reason says which"),
    "power": ("power", "what the whole device draws, as its driver reports it"),
    "clock": ("clock", "clock rate of the GPU's streaming multiprocessors (SM)"),
    "temperature": ("temperature", "temperature of the GPU's die"),
    "utilization": ("utilization", "time in which any kernel ran, however much of the device it used"),
    "cores": ("cores", "CPU time used per second of wall time"),
}


@dataclass(frozen=True, slots=True)
class Definition:
    """What a word means."""

    name: str
    text: str
    formula: str | None = None
    unit: str | None = None
    null: str | None = None


def defined(term: str) -> Definition:
    """What a key of OF_THE_SCHEMA or OWN means.

    Raises:
        KeyError: there is no such term.
    """
    if term in OWN:
        return Definition(*OWN[term])
    name, owner, field = OF_THE_SCHEMA[term]
    figure = figure_of(owner, field)
    return Definition(name, figure.text, figure.formula, figure.unit, figure.null)


def figure_of(owner: type, field: str) -> Figure:
    """What the schema says of a field.

    Raises:
        KeyError: it says nothing.
    """
    hint = get_type_hints(owner, include_extras=True)[field]
    found: list[Any] = [one for one in get_args(hint) if isinstance(one, Figure)] if get_origin(hint) else []
    if not found:
        raise KeyError(f"{owner.__name__}.{field} has no Figure")
    return found[0]
