"""Doubts about the load and its course: an engine that was overloaded or changed its speed, and too few requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.run import Figures
from innerloop.harness.analysis.summary import CENSORED_SHARE
from innerloop.harness.analysis.windows import first_due_ns, kind_of
from innerloop.harness.cli.words import number, share
from innerloop.harness.profiles.loads import still_arriving
from innerloop.harness.result.codes import doubt
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.quantiles import values_needed
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.stability import Stability

FEW = values_needed(0.99)  # requests
SOONER = "or let users arrive sooner: with load.start=spread they come over load.arrive_over_s seconds."


def suspicions(figures: Figures) -> list[Reason]:
    """What the trace says against its own figures, beside checks."""
    return [
        *_unfinished(figures.latency_s.ttft, figures.latency_s.e2e),
        *_few(figures.latency_s.ttft),
        *_changed(figures.stability, figures.window.start_ns or 0),
    ]


def _unfinished(ttft: Summary, e2e: Summary) -> Iterator[Reason]:
    if _share(ttft) > CENSORED_SHARE:
        yield doubt(
            "censored",
            f"{share(_share(ttft))} of the requests that were due had no first token when the window closed",
            "TTFT quantiles treat them as longer than their wait so far. Lower the load, or measure until all finish.",
        )
    elif _share(e2e) > CENSORED_SHARE:
        yield doubt(
            "cut_requests",
            f"{share(_share(e2e))} of the requests that were due were still running when the window closed",
            "End-to-end quantiles treat them as longer than their time so far; TPOT covers only finished requests. "
            "Measure for longer.",
        )


def _share(summary: Summary) -> float:
    due = summary.count + summary.unfinished
    return summary.unfinished / due if due else 0.0


def _few(ttft: Summary) -> Iterator[Reason]:
    if 0 < ttft.count < FEW:
        yield doubt(
            "few_requests",
            f"{number(ttft.count)} requests: p99 needs at least {FEW} values",
            f"Use at least {FEW} requests; MLPerf requires 662.",
        )


def late_users(requests: np.ndarray, start_ns: int, duration_ns: int, load: Mapping[str, Any]) -> Iterator[Reason]:
    """Of a closed loop whose window was to close at a time: users that came in its second half, or not at all.

    requests: of dtype REQUEST. duration_ns: -1 = until all is finished. load: the workload's, as its profile has it.
    """
    if duration_ns < 0 or load.get("users") is None or kind_of(requests) != "closed":
        return
    come = first_due_ns(requests)
    come = come[come < start_ns + duration_ns]
    if len(come) < load["users"]:
        yield doubt(
            "missing_users",
            f"only {len(come)} of {load['users']} users came before the window closed",
            f"Measure for longer (--workload-arg load.duration_s=N), {SOONER}",
        )
        return
    last_s = (int(come.max(initial=start_ns)) - start_ns) * NS
    said = still_arriving(len(come), last_s, duration_ns * NS, load.get("arrive_over_s") or 0.0)
    if said is not None:
        yield doubt("late_users", said, f"Measure for longer, {SOONER}")


def _changed(seen: Stability, start_ns: int) -> Iterator[Reason]:
    backlog, drift = seen.backlog, seen.drift
    if backlog is not None and backlog.overloaded:
        yield doubt(
            "overloaded",
            f"the number of requests in the system grew by {number(round(backlog.per_minute, 1))} per minute until the "
            f"last arrival (at least {number(round(backlog.low, 1))})",
            "The engine cannot keep up with this rate, so TTFT only reflects the run's length. Lower the rate.",
        )
    if drift is not None and drift.kind == "drift":
        yield doubt(
            "drift",
            f"similar steps took {_change(drift.change)} by the end ({_change(drift.per_minute)} per minute)",
            "Check clocks, temperature and memory over time; a longer run would give different figures.",
        )
    elif drift is not None and drift.kind == "level_shift":
        when = "" if drift.shift_ns is None else f", {(drift.shift_ns - start_ns) * NS:.0f} s into the window"
        yield doubt(
            "level_shift",
            f"similar steps suddenly took {_change(drift.change)}{when}",
            "Check the clocks, and what else started at that point; the figures mix both levels.",
        )


def _change(part: float) -> str:
    return f"{share(abs(part))} {'longer' if part > 0 else 'less time'}"
