"""What is marked over time: preemptions, sudden changes, lowered clocks, collected garbage, captures of CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.device import IDLE, reason_names
from innerloop.harness.analysis.preemptions import preemptions
from innerloop.harness.cli.words import seconds
from innerloop.harness.pages.parts import Columns
from innerloop.harness.pages.samples import column, samples
from innerloop.harness.pages.source import Source
from innerloop.harness.pages.thin import plain

MOST_MARKS = 20  # of a kind
INTERRUPTIONS = {"garbage": "Python garbage collection", "capture": "CUDA graph capture"}


def events(run: Source) -> Columns:
    """What is marked: when, seconds, and what it was."""
    found = sorted(_events(run))
    return {"at": plain([at for at, _ in found]), "what": [what for _, what in found]}


def _events(run: Source) -> Iterator[tuple[float, str]]:
    start_ns, end_ns = run.window
    seen = preemptions(run.tables.steps, start_ns)
    for storm in seen.storms if seen is not None else ():
        yield storm.at_s, f"preemption storm: {storm.preempted} requests"
    yield from preempting(run)
    for one in run.result.overhead.interruptions or ():
        took = "" if one.duration_s is None else f", {seconds(one.duration_s)}"
        yield one.at_s, f"{INTERRUPTIONS[one.what]}{took}"
    stability = run.result.stability
    drift = stability.drift if stability is not None else None
    if drift is not None and drift.shift_ns is not None:
        yield float(run.at_s(np.array(drift.shift_ns))), "step time changed suddenly (level shift)"
    for name, table in samples(run, devices=True):
        time, reasons = column(table, "time_ns"), column(table, "event_reasons")
        inside = (time >= start_ns) & (time <= end_ns) & known(reasons)
        bits = np.where(inside, reasons, 0).astype(np.int64)[inside] & ~IDLE
        lowered = bits != 0
        begins = np.flatnonzero(lowered & ~np.concatenate(([False], lowered[:-1])))
        for place in begins[:MOST_MARKS]:
            words = ", ".join(reason_names(int(bits[place])))
            yield float(run.at_s(time[inside][place])), f"{name}: clocks lowered ({words})"


def preempting(run: Source) -> Iterator[tuple[float, str]]:
    """The steps that preempted most, outside of the storms."""
    steps, (start_ns, _) = run.tables.steps, run.window
    seen = preemptions(steps, start_ns)
    if seen is None:
        return
    stormy = np.zeros(len(steps), dtype=bool)
    for storm in seen.storms:
        stormy[storm.first_step : storm.last_step + 1] = True
    rows = np.flatnonzero((steps["preempted"] > 0) & ~stormy)
    for row in rows[np.argsort(-steps["preempted"][rows], kind="stable")][:MOST_MARKS].tolist():
        count = int(steps["preempted"][row])
        at_s = float(run.at_s(np.array(steps["start_ns"][row])))
        yield at_s, f"preempted: {count} request{'s' if count > 1 else ''}"
