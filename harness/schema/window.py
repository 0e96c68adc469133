"""The measured window: what was done in it, how fast, and what a request's sender saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.common import Bounds, Level, Summary
from innerloop.harness.schema.figure import Figure

NEVER_OPENED = "the window never opened"
UNREPORTED = "the engine does not report it"
NO_RATE_INTERVAL = "the window is not the steady one, or has too few steps"


@dataclass(frozen=True, slots=True)
class Window:
    """Monotonic time of the host; the worker, the harness and the samplers read the same clock."""

    start_ns: Annotated[int | None, Figure("when the loop began", unit="ns", null=NEVER_OPENED)]
    end_ns: Annotated[
        int | None,
        Figure(
            "when the last request had finished, or the end of the step during which the duration ran out",
            "ns",
            null=NEVER_OPENED,
        ),
    ]
    duration_s: Annotated[float | None, Figure("end - start", unit="s", null=NEVER_OPENED)]
    asked_s: Annotated[
        float | None, Figure("the workload's duration", unit="s", null="it runs until all requests are finished")
    ] = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What was requested, and what was done."""

    requests: Annotated[int, Figure("requests in the workload")]
    finished: Annotated[int, Figure("requests that got all their tokens")]
    cut: Annotated[int, Figure("requests that were still running when the window closed, or when the run died")]
    unsent: Annotated[int, Figure("were never due, or not yet submitted")]
    without_first_token: Annotated[
        int, Figure("were submitted but had no token when the window closed: they have no TTFT")
    ]
    prompt_tokens: Annotated[int, Figure("of the requests that had a first token", unit="tokens")]
    output_tokens: Annotated[
        int, Figure("tokens returned by the engine, including those of cut requests", unit="tokens")
    ]
    prefill_positions: Annotated[
        int | None, Figure("prompt positions computed, including recomputed ones", null=UNREPORTED)
    ]
    decode_positions: Annotated[int | None, Figure("newest tokens fed back to the model", null=UNREPORTED)]
    steps: Annotated[int, Figure("steps recorded")]
    preemptions: Annotated[int | None, Figure("times a request was preempted", null=UNREPORTED, better="lower")]
    drafted_tokens: Annotated[
        int | None,
        Figure("positions computed for speculative decoding, in addition to prefill and decode", null=UNREPORTED),
    ] = None
    accepted_tokens: Annotated[int | None, Figure("how many of these became output", null=UNREPORTED)] = None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Work done per second of a window. A step, a first token or a finish counts when it ends inside."""

    prefill_positions_per_s: Annotated[
        float | None,
        Figure("prompt positions computed; recomputation counts, prefix-cache hits do not", "positions/s",
               "prefill positions / duration", UNREPORTED, "higher"),
    ] = None  # fmt: skip
    output_tokens_per_s: Annotated[
        float | None,
        Figure("all output tokens, including first ones", "tokens/s", "output tokens / duration", NEVER_OPENED,
               "higher"),
    ] = None  # fmt: skip
    total_tokens_per_s: Annotated[
        float | None,
        Figure("useful work: recomputed tokens count once, prefix-cache hits count as computed", "tokens/s",
               "(prompt tokens of requests whose first token came in the window + output tokens) / duration",
               NEVER_OPENED, "higher"),
    ] = None  # fmt: skip
    tokens_per_s_per_user: Annotated[
        float | None,
        Figure("output rate that one user sees after the first token", "tokens/s",
               "1 / mean ITL of the tokens that came in the window", "no request got a second token", "higher"),
    ] = None  # fmt: skip
    requests_per_s: Annotated[
        float | None,
        Figure("requests finished", "requests/s", "finished / duration", NEVER_OPENED, "higher"),
    ] = None  # fmt: skip
    tokens_per_s_per_request: Annotated[
        float | None,
        Figure("AIPerf's output token throughput per user: every request has the same weight", "tokens/s",
               "mean over finished requests of 1 / TPOT", "no finished request has more than one token", "higher"),
    ] = None  # fmt: skip
    user_tokens: Annotated[int, Figure("tokens that tokens_per_s_per_user is based on", "tokens")] = 0
    output_tokens_per_s_ci: Annotated[
        Bounds | None, Figure("95 % interval by batch means", "tokens/s", null=NO_RATE_INTERVAL)
    ] = None
    tokens_per_s_per_user_ci: Annotated[
        Bounds | None, Figure("95 % interval by batch means", "tokens/s", null=NO_RATE_INTERVAL)
    ] = None


@dataclass(frozen=True, slots=True)
class Latency:
    """In seconds, each from when the request was due by the workload's schedule."""

    ttft: Annotated[Summary, Figure("time to first token", "s", "first token - due", better="lower")]
    tpot: Annotated[
        Summary,
        Figure(
            "time per output token after the first arrival",
            "s",
            "(last arrival - first arrival) / (tokens - tokens of the first arrival)",
            better="lower",
        ),
    ]
    itl: Annotated[
        Summary,
        Figure(
            "gap between a request's arrivals; k tokens that arrive together count as k equal gaps", "s", better="lower"
        ),
    ]
    e2e: Annotated[
        Summary, Figure("from when a request was due to its last token", "s", "last token - due", better="lower")
    ]
    arrival_gap: Annotated[
        Summary | None,
        Figure(
            "gap between a request's arrivals, however many tokens they bring",
            "s",
            better="lower",
            null="nothing was measured",
        ),
    ] = None
    send_lag: Annotated[
        Summary | None,
        Figure("how late requests were submitted", "s", "submitted - due", better="lower", null="nothing was measured"),
    ] = None
    avoidable_lag: Annotated[
        Summary | None,
        Figure(
            "the harness's part of it",
            "s",
            "submitted - max(due, end of the step in progress)",
            better="lower",
            null="nothing was measured",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Steady:
    """The same figures over the part of the window in which the load was steady."""

    reason: Annotated[str | None, Figure("why there is no steady window", null="there is a steady window")]
    rule: Annotated[
        Literal["full_batch", "after_last_user", "mser5"] | None,
        Figure("how its edges were found: see docs/method/figures.md", null="an older innerloop wrote it"),
    ] = None
    start_ns: Annotated[int | None, Figure("its start", unit="ns", null="there is no steady window")] = None
    end_ns: Annotated[int | None, Figure("its end", unit="ns", null="there is no steady window")] = None
    duration_s: Annotated[float | None, Figure("end - start", unit="s", null="there is no steady window")] = None
    steps: Annotated[int | None, Figure("steps in it", null="there is no steady window")] = None
    throughput: Annotated[
        Throughput | None, Figure("work per second of the steady window", null="`reason` says why")
    ] = None
    latency_s: Annotated[
        Latency | None, Figure("of requests due in it; gaps of arrivals in it", null="there is no steady window")
    ] = None
    wall_s: Annotated[Summary | None, Figure("wall time of its steps", unit="s", null="`reason` says why")] = None
    batch: Annotated[Level | None, Figure("requests in a step's batch", null="`reason` says why")] = None
    kv_usage: Annotated[Level | None, Figure("share of the KV cache in use", null="`reason` says why")] = None


@dataclass(frozen=True, slots=True)
class OverTime:
    """The window cut into equal bins."""

    bin_s: Annotated[float, Figure("length of a bin", unit="s")]
    running: Annotated[tuple[float | None, ...], Figure("mean batch")]
    waiting: Annotated[tuple[float | None, ...], Figure("mean number of waiting requests")]
    kv_usage: Annotated[tuple[float | None, ...], Figure("mean share of the KV cache in use")]
    output_tokens_per_s: Annotated[
        tuple[float, ...], Figure("output tokens per second, in equal parts of the window", unit="tokens/s")
    ]
