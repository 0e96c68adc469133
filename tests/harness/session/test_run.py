from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

from innerloop.harness.machine import Machine, this_machine
from innerloop.harness.process.launcher import Limits
from innerloop.harness.session import run as session
from innerloop.harness.session.options import Options
from innerloop.harness.session.prepared import Prepared, find_ceilings


def test_ceilings_are_left_out_when_they_are_not_wanted(monkeypatch, tmp_path):
    def measured(*_: Any) -> Any:
        raise AssertionError("nothing was to be measured")

    monkeypatch.setattr("innerloop.harness.session.prepared.for_run", measured)
    nothing: Any = None
    prepared = Prepared(environment=cast("Any", SimpleNamespace()))
    options = Options(tmp_path, Limits(), ceilings="off")
    find_ceilings(nothing, nothing, prepared, options, print)
    assert prepared.ceilings is None
    assert prepared.no_ceilings is not None
    assert "--ceilings off" in prepared.no_ceilings


def test_peaks_are_of_the_cpus_that_the_worker_gets(monkeypatch, tmp_path):
    """One CPU of many was held against the peaks of all; `taskset` and --cpus gave two answers."""
    seen: list[tuple[set[int], int]] = []

    def measured(spec: Any, environment: Any, machine: Machine, say: Any) -> Any:
        seen.append((os.sched_getaffinity(0), machine.logical_cores))
        return None, "not here"

    monkeypatch.setattr("innerloop.harness.session.prepared.for_run", measured)
    prepared = Prepared(environment=cast("Any", SimpleNamespace()))
    spec: Any = SimpleNamespace(engine=SimpleNamespace(attached=False))
    before = os.sched_getaffinity(0)
    for cpus in (None, (min(before),)):
        find_ceilings(spec, this_machine(), prepared, Options(tmp_path, Limits(), cpus=cpus), print)
    assert seen == [(before, len(before)), ({min(before)}, 1)]
    assert os.sched_getaffinity(0) == before


def test_a_trace_that_cannot_be_written_takes_nothing_from_the_run(run_folder, monkeypatch):
    folder = run_folder()

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    monkeypatch.setattr("innerloop.harness.store.atomic.replace_file", full)
    session.write_trace(folder, cast("Any", None), said.append)
    assert "could not be written" in said[0]
    assert not list(folder.glob("*perfetto*"))
    assert not list(folder.glob(".*perfetto*"))
