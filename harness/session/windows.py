"""Several runs as windows of one process: what they must share, and which part of what was observed is whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from innerloop.harness.analysis.samples import Samples
from innerloop.harness.cli.errors import Refused
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.events import of_all_windows
from innerloop.harness.process.launcher import BEFORE_WINDOWS, Outcome
from innerloop.harness.schema.result import Process
from innerloop.harness.session.inputs import Inputs, inputs_of
from innerloop.harness.store.run_folder import make_folder, release

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.session.options import Options
    from innerloop.harness.spec.model import RunSpec
    from innerloop.harness.telemetry.sampler import Sampler
    from innerloop.harness.telemetry.samplers import Samplers

Window = tuple["RunSpec", "Options"]


def inputs_of_windows(asked: Sequence[Window], machine: Machine) -> list[Inputs]:
    """The inputs of each, which have no folder yet.

    Raises:
        Refused: one of them cannot be made, or they do not load the same engine.
    """
    loads = [spec.load for spec, _ in asked]
    if any(load != loads[0] for load in loads):
        raise Refused("windows share a loaded engine: only their workloads and seeds may differ")
    made: list[Inputs] = []
    for spec, options in asked:
        made.append(inputs_of(spec, machine, options, made[0].environment if made else None))
    if len(made) == 1:
        return made
    return [replace(one, process=Process(made[0].id, k, len(made))) for k, one in enumerate(made, 1)]


def in_folders(drawn: Sequence[Inputs]) -> list[Inputs]:
    """Each with a folder of its own, all or none.

    Raises:
        Refused: a folder cannot be made, or is taken.
    """
    made: list[Inputs] = []
    try:
        for one in drawn:
            made.append(one.in_folder(make_folder(one.options.out, one.options.numbered)))
    except Refused:
        for one in made:
            release(one.folder)
        raise
    return made


def outcomes(windows: Sequence[Inputs], outcome: Outcome) -> list[Outcome]:
    """How each window went: those that had closed have not failed, whatever came after them."""
    now = len(outcome.closed)
    if outcome.failure is None:
        return [*outcome.closed, outcome]
    failure = replace(outcome.failure, log_tail=log_tail(windows[0].folder / "engine.log"))
    outcome.failure = failure
    before = replace(failure, message=f"its process failed in window {now + 1} of {len(windows)}: {failure.message}")
    reached = {name: at for name, at in outcome.phases.items() if name in BEFORE_WINDOWS}
    others = [
        Outcome(of_all_windows(outcome.reported), dict(reached), failure=before, worker_pid=outcome.worker_pid)
        for _ in windows[now + 1 :]
    ]
    return [*outcome.closed, outcome, *others]


@dataclass(frozen=True, slots=True)
class SamplerOfWindow:
    """A window's part of what a sampler saw."""

    sampler: Sampler
    begin_ns: int
    end_ns: int | None

    def stop(self) -> Samples:
        """The samples from `begin_ns` to `end_ns`, a neighbour on either side, and those of the idle device."""
        found = self.sampler.stop()
        times = found.table["time_ns"]
        first = max(int(np.searchsorted(times, self.begin_ns, side="right")) - 1, 0)
        last = len(times) if self.end_ns is None else int(np.searchsorted(times, self.end_ns)) + 1
        kept = np.arange(len(times)) < int(np.searchsorted(times, found.facts.get("idle_until_ns", 0)))
        kept[first:last] = True
        return replace(found, table=found.table[kept])


def samplers_of(sampled: Samplers, windows: Sequence[Inputs], outcome: Outcome) -> Sequence[Sampler | SamplerOfWindow]:
    """The samplers as one of the windows has them; a process with one window has all that they saw."""
    if len(windows) == 1:
        return sampled.all
    return [SamplerOfWindow(one, outcome.phases.get("warmup", 0), outcome.phases.get("close")) for one in sampled.all]
