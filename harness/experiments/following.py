"""How far an experiment is, from its journal: also from another terminal, while it runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.blocks import ENDED, seconds_between
from innerloop.harness.experiments.ended import state_of, states_of
from innerloop.harness.experiments.folder import checked_event, holds_experiment, read_manifest
from innerloop.harness.experiments.listing import status
from innerloop.harness.experiments.probes import FIND_RATE
from innerloop.harness.schema.experiment import Event, Manifest
from innerloop.harness.store.find import find_run
from innerloop.harness.store.journal import Tail

LAST = 5  # jobs that ended last


@dataclass(frozen=True, slots=True)
class JobNow:
    """A job. seconds: for how long it has been running, or how long it ran; None where that is not known."""

    name: str
    state: str
    seconds: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """An experiment at one moment. jobs: of a search, at most so many. to_come: jobs that are neither done, failed,
    refused nor running. left_s: at the pace so far. suspect: how many of those done are."""

    folder: str
    design: str
    state: str  # running, ok, suspect, failed, partial, interrupted
    time: str
    jobs: int
    done: int
    failed: int
    refused: int
    reused: int
    to_come: int
    running: tuple[JobNow, ...]
    last: tuple[JobNow, ...]
    elapsed_s: float | None
    left_s: float | None
    suspect: int = 0


class Follower:
    """Reads of the journal only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest: Manifest = read_manifest(folder)
        self._tail = Tail(folder, checked_event)
        self._newest: dict[str, Event] = {}
        self._begun: dict[str, str] = {}
        self._ended: list[Event] = []

    def progress(self) -> Progress:
        """How far it is now.

        Raises:
            Refused: the journal cannot be read.
        """
        for event in self._tail.new():
            self._newest[event.job] = event
            if event.event == "started":
                self._begun[event.job] = event.time
            elif event.event in ENDED:
                self._ended.append(event)
        manifest, now = self._manifest, datetime.now(timezone.utc)
        states: Counter[str] = Counter(event.event for event in self._newest.values())
        state = status(self._folder, manifest, list(self._newest.values()))
        jobs = manifest.blocks * max(len(manifest.measured), 1)
        running = tuple(
            JobNow(name, "running", seconds_between(event.time, now.isoformat()), None)
            for name, event in self._newest.items()
            if event.event == "started" and state == "running"
        )
        ended = sum(states[one] for one in ENDED)
        made = [event for event in self._ended if event.run is None and event.job in self._begun]
        elapsed = seconds_between(min(self._begun.values()), now.isoformat()) if self._begun else None
        to_come = max(jobs - ended - len(running), 0) if state in ("running", "interrupted") else 0
        left = None
        if made and state == "running":
            span = seconds_between(min(self._begun.values()), made[-1].time)
            left = None if span is None else span / len(made) * (to_come + len(running))
        return Progress(
            folder=str(self._folder),
            design=manifest.design,
            state=state,
            time=now.isoformat(timespec="seconds"),
            jobs=jobs,
            done=states["done"],
            failed=states["failed"],
            refused=states["refused"],
            reused=sum(event.run is not None for event in self._newest.values()),
            to_come=to_come,
            running=running,
            last=tuple(
                JobNow(
                    one.job,
                    one.event if state_of(one) == "ok" else state_of(one),
                    seconds_between(self._begun.get(one.job), one.time),
                    one.reason,
                )
                for one in self._ended[-LAST:]
            ),
            elapsed_s=elapsed,
            left_s=None if manifest.design == FIND_RATE else left,
            suspect=states_of(list(self._newest.values())).get("suspect", 0),
        )


def follow(folder: Path, hz: float, once: bool) -> Iterator[Progress]:
    """How far an experiment is, at a fixed rate, until nobody runs it any more.

    Raises:
        Refused: it is no experiment.
    """
    follower = Follower(folder)
    while True:
        now = follower.progress()
        yield now
        if once or now.state != "running":
            return
        time.sleep(1 / hz)


def experiment_named(name: str) -> Path:
    """
    Raises:
        Refused: there is none of that name.
    """
    folder = find_run(name)
    if not holds_experiment(folder):
        raise Refused(f"{folder} is not an experiment", "without a name, innerloop watch shows the GPUs and the host")
    return folder
