"""What makes a run's figures doubtful: a code, what was seen, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.windows import kind_of, out_of_requests_ns
from innerloop.harness.cli.words import cores, number, share
from innerloop.harness.result.codes import doubt
from innerloop.harness.schema.reasons import Check, Reason
from innerloop.harness.schema.startup import Warmup
from innerloop.harness.schema.telemetry import Host, SamplerCost

LEAST_WINDOW_S = 1.0  # a window shorter than this is mostly its edges
LEAST_STEPS = 10
STEAL_SHARE = 0.01  # of all cores' time, taken by the hypervisor
OTHER_SHARE = 0.05  # of all cores' time, used by neither the worker nor the harness
OTHER_CORES = 1.0  # the same in cores: on a machine of many a small share is enough to disturb a run
SWAP_BYTES = 1 << 20  # moved between memory and swap while measuring
BUBBLE_SHARE = 0.10  # of the window: work was there and no step ran
RECORDER_SHARE = 0.02  # of the steps' time; four times what the recorder is meant to stay below
SAMPLING_GAP_S = 3.0  # between two samples of the host
EARLY_SHARE = 0.02  # of the window: how long before its end the work may run out
SHOWN_CHECKS = 3


HONOURED = (
    "dtype", "tensor_parallel", "context_length", "max_batch_size", "max_tokens_per_step", "kv_cache_tokens",
    "prefix_caching", "chunked_prefill", "cuda_graphs",
)  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What a finished run is judged by. What is not known is None, and then nothing is concluded from it.

    steps, requests: of dtype STEP and REQUEST. start_ns, end_ns: the window's edges. duration_ns: what the workload
    asked for, -1 = until all is finished. bubble_share: of the window. recorder_share: of the steps' time.
    sampler: of the host. checks: what does not add up in the trace. most_warmup: `max_rounds` and `max_s`, as the
    workload has them.
    """

    steps: np.ndarray
    requests: np.ndarray
    start_ns: int
    end_ns: int
    duration_ns: int
    bubble_share: float | None
    recorder_share: float | None
    warmup: Warmup | None
    host: Host | None
    sampler: SamplerCost | None
    checks: Sequence[Check]
    most_warmup: Mapping[str, Any] = field(default_factory=dict)


def suspicions(seen: Evidence) -> list[Reason]:
    """Every reason to doubt a finished run."""
    window_s = (seen.end_ns - seen.start_ns) * NS
    return [
        *_trace(seen.checks),
        *_window(window_s, len(seen.steps)),
        *_workload(seen.requests, seen.start_ns, seen.end_ns, seen.duration_ns),
        *_warmup(seen.warmup, seen.most_warmup),
        *_host(seen.host),
        *_sampling(seen.sampler),
        *_harness(seen.bubble_share, seen.recorder_share),
    ]


def _trace(checks: Sequence[Check]) -> Iterator[Reason]:
    if checks:
        shown = "; ".join(check.detail for check in checks[:SHOWN_CHECKS])
        more = f"; and {len(checks) - SHOWN_CHECKS} more" if len(checks) > SHOWN_CHECKS else ""
        yield doubt(
            "trace_mismatch",
            shown + more,
            "No figure of this run can be trusted: report it, with the run's folder.",
        )


def _window(window_s: float, steps: int) -> Iterator[Reason]:
    if window_s < LEAST_WINDOW_S or steps < LEAST_STEPS:
        yield doubt(
            "short_window",
            f"the window covers only {window_s:.2f} s and {steps} steps",
            f"Measure at least {LEAST_WINDOW_S:g} s and {LEAST_STEPS} steps: add requests to the workload.",
        )


def _workload(requests: np.ndarray, start_ns: int, end_ns: int, duration_ns: int) -> Iterator[Reason]:
    moment = exhausted_ns(requests, start_ns, end_ns, duration_ns)
    if moment is not None:
        yield doubt(
            "workload_exhausted",
            f"the requests ran out {(moment - start_ns) * NS:.1f} s into a window of {duration_ns * NS:.1f} s, "
            "so the load dropped before it closed",
            "Requests are prepared for users that get load.max_tokens_per_s_per_user: raise it (--workload-arg), or "
            "shorten load.duration_s.",
        )


def exhausted_ns(requests: np.ndarray, start_ns: int, end_ns: int, duration_ns: int) -> int | None:
    """When the first user of a closed loop ran out of requests, in a window that was to close at a time; else None.

    The last 2 % of the window do not count.
    """
    if duration_ns < 0 or len(requests) == 0 or kind_of(requests) != "closed":
        return None
    moment = out_of_requests_ns(requests)
    close = max(end_ns, start_ns + duration_ns)
    return moment if moment is not None and moment < close - EARLY_SHARE * duration_ns else None


def _warmup(warmup: Warmup | None, most: Mapping[str, Any]) -> Iterator[Reason]:
    if warmup is not None and not warmup.settled:
        rates = ", ".join(number(round(rate)) for rate in warmup.round_tokens_per_s[-5:])
        word = "round" if warmup.rounds == 1 else "rounds"
        yield doubt(
            "not_settled",
            f"the speed had not settled after {warmup.rounds} warm-up {word} (last rounds, tokens/s: {rates})",
            f"Allow {_more(warmup, most)}, and check what else is running on this machine.",
        )


def _more(warmup: Warmup, most: Mapping[str, Any]) -> str:
    """What would have let the warm-up go on: no round begins after `max_s`, nor are there more than `max_rounds`."""
    rounds, most_s = most.get("max_rounds"), most.get("max_s")
    if rounds is not None and most_s is not None and warmup.rounds < rounds:
        return f"a longer warm-up (it took {warmup.seconds:.0f} s; --workload-arg warmup.max_s=N, here {most_s:g})"
    now = "" if rounds is None else f", here {rounds}"
    return f"more warm-up rounds (--workload-arg warmup.max_rounds=N{now})"


def _host(host: Host | None) -> Iterator[Reason]:
    if host is None:
        return
    if _over(host.steal_share, STEAL_SHARE):
        yield doubt(
            "cpu_stolen",
            f"the hypervisor took {share(host.steal_share)} of this machine's CPU time",
            "Repeat on a machine with dedicated cores.",
        )
    if _over(host.other_share, OTHER_SHARE) or _over(host.other_cores, OTHER_CORES):
        yield doubt(
            "other_processes",
            f"other processes used {share(host.other_share)} of all cores' time ({cores(host.other_cores)} cores)",
            "Stop other programs on this machine, and repeat.",
        )
    swapped = (host.swap_in_bytes or 0) + (host.swap_out_bytes or 0)
    if swapped > SWAP_BYTES:
        yield doubt(
            "swapping",
            f"{number(round(swapped / 2**20))} MiB was swapped in or out during the window",
            "Free memory, or choose a smaller model or KV cache.",
        )


def _sampling(sampler: SamplerCost | None) -> Iterator[Reason]:
    gap_s = None if sampler is None else sampler.longest_gap_s
    if gap_s is not None and gap_s > SAMPLING_GAP_S:
        yield doubt(
            "sampling_gap",
            f"the host was not sampled for {gap_s:.1f} s",
            "The harness got no CPU time, or the machine was suspended: repeat with a spare core.",
        )


def _harness(bubble_share: float | None, recorder_share: float | None) -> Iterator[Reason]:
    if _over(bubble_share, BUBBLE_SHARE):
        yield doubt(
            "bubbles",
            f"{share(bubble_share)} of the window passed between steps while there was work",
            "That time went into submitting and recording requests, not into the engine: see step_s.bubble. "
            "A larger batch or longer outputs make it matter less.",
        )
    if _over(recorder_share, RECORDER_SHARE):
        yield doubt(
            "recorder_cost",
            f"recording took {share(recorder_share)} of step time",
            "The steps are too short for this recorder on this machine: use a larger batch or model.",
        )


def _over(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


ALIKE = "Request a value that the engine supports, so that engines are compared with the same settings."


def unhonoured(asked: Mapping[str, Any], effective: Mapping[str, Any]) -> list[Reason]:
    """The settings that the engine resolved otherwise than asked; what it does not report is taken on trust.

    A KV cache may be larger than asked by less than one block, since it is made of whole ones.
    """
    found: list[Reason] = []
    kept = effective.get("kv_cache_dtype")
    if asked.get("kv_cache_dtype") == "fp8" and kept is not None and not kept.startswith(("fp8", "float8")):
        said = f"kv_cache_dtype: fp8 was requested, but the engine uses {kept}"
        found.append(doubt("setting_not_honoured", said, ALIKE))
    for name in HONOURED:
        wanted, got = asked.get(name), effective.get(name)
        if wanted is None or got is None or got == wanted:
            continue
        if name == "kv_cache_tokens" and 0 < got - wanted < (effective.get("kv_block_tokens") or 1):
            continue
        found.append(
            doubt(
                "setting_not_honoured",
                f"{name}: {wanted} was requested, but the engine runs with {got}",
                ALIKE,
            )
        )
    return found
