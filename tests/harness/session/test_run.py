from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

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
