"""What has come of an experiment's jobs: their results, and how the whole stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from innerloop.harness.experiments.bisecting import BISECT
from innerloop.harness.experiments.blocks import ENDED, Job, jobs_left, latest
from innerloop.harness.experiments.folder import RUNS
from innerloop.harness.experiments.probes import DOUBTED, FIND_RATE
from innerloop.harness.experiments.stopping import precise
from innerloop.harness.schema.experiment import Event, Manifest
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.waterfall import LayerRun, RunReason
from innerloop.harness.store import result_file

Status = Literal["ok", "suspect", "failed", "partial", "interrupted"]
Ended = tuple[Event, Result | None]  # None: refused, or it failed before there was one


def ended_jobs(folder: Path, manifest: Manifest, events: Sequence[Event]) -> dict[str, dict[int, Ended]]:
    """The jobs that have ended, by cell and block, both in the manifest's order.

    Raises:
        Refused: a result cannot be read.
    """
    newest = latest(events)
    found: dict[str, dict[int, Ended]] = {cell.name: {} for cell in manifest.cells}
    for cell, blocks in found.items():
        for block in range(1, manifest.blocks + 1):
            event = newest.get(Job(cell, block).name)
            if event is None or event.event not in ENDED:
                continue
            path = folder / RUNS / event.job
            there = event.event != "refused" and (path / result_file.FILE).exists()
            blocks[block] = (event, result_file.read(path) if there else None)
    return found


def status(manifest: Manifest, events: Sequence[Event], results: Sequence[Result]) -> Status:
    """failed: a run is. partial: not all are there: some are left, or were refused."""
    states = {event.event for event in latest(events).values()}
    if "interrupted" in states:
        return "interrupted"
    if "failed" in states:
        return "failed"
    boot = events[-1].boot if events else ""
    if "refused" in states or (not precise(manifest, events) and jobs_left(manifest, events, boot)):
        return "partial"
    return "suspect" if any(result.status == "suspect" for result in results) else "ok"


def of_states(manifest: Manifest, states: Mapping[str, int]) -> Literal["ok", "suspect", "failed", "partial"]:
    """How an experiment that is over stands, by the states of its runs (`state_of`): as the worst of them.

    What chooses its runs by what it finds takes one that failed, and with `kept` one that was refused, for an answer;
    only without any that came to its end is it failed.
    """
    if not states.get("ok") and not states.get("suspect"):
        return "failed"
    if states.get("failed") and manifest.design not in (FIND_RATE, BISECT):
        return "failed"
    if states.get("refused") and not manifest.kept:
        return "partial"
    return "suspect" if states.get("suspect") else "ok"


def standing(manifest: Manifest, events: Sequence[Event], over: bool) -> Status:
    """How what chooses its runs stands; `over`: it has what it looks for, or may not look on."""
    if events and events[-1].event == "interrupted":
        return "interrupted"
    return of_states(manifest, states_of(events)) if over else "partial"


def state_of(event: Event) -> str:
    """How a run ended: ok, suspect, failed or refused. A probe is not suspect for what a load that is too high does."""
    if event.event == "done" and event.figures.get(DOUBTED) is not None:
        return "suspect" if event.figures[DOUBTED] else "ok"
    return event.status or "ok" if event.event == "done" else event.event


def states_of(events: Sequence[Event]) -> dict[str, int]:
    """How many of the runs ended how."""
    return dict(Counter(state_of(event) for event in latest(events).values() if event.event in ENDED))


def run_of(event: Event, result: Result | None) -> LayerRun:
    """A job as documents name it, by its path from the experiment's folder."""
    return LayerRun(
        folder=f"{RUNS}/{event.job}",
        status=event.event if result is None else result.status,
        reasons=tuple(RunReason(reason.code, reason.detail) for reason in result.reasons) if result else (),
        output_tokens_per_s=None if result is None else result.throughput.output_tokens_per_s,
    )


def last_time(manifest: Manifest, events: Sequence[Event]) -> str:
    """When the last thing happened, UTC in ISO 8601."""
    return events[-1].time if events else manifest.created
