from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.profiling import findings
from innerloop.harness.profiling.choice import choose
from tests.harness.conftest import offline_run


def program(path: Path, body: str) -> str:
    """A shell script that stands for nsys."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_report_is_exported_by_nsys_and_its_command_is_said(tmp_path, said):
    report = tmp_path / "report.nsys-rep"
    report.touch()
    nsys = program(tmp_path / "nsys", f'echo "$@" > {tmp_path}/asked; : > {tmp_path}/report.sqlite')
    assert findings.exported(report, nsys, said.append) == tmp_path / "report.sqlite"
    asked = (tmp_path / "asked").read_text().strip()
    assert asked == f"export --type=sqlite --output={tmp_path}/report.sqlite --force-overwrite=true {report}"
    assert said == [f"exporting: {nsys} {asked}"]


def test_a_failed_export_is_told_in_nsys_s_words(tmp_path, said):
    report = tmp_path / "report.nsys-rep"
    report.touch()
    nsys = program(tmp_path / "nsys", "echo 'the report is empty' >&2; exit 3")
    with pytest.raises(InnerloopError, match="the report is empty"):
        findings.exported(report, nsys, said.append)


def test_a_tool_that_left_no_report_is_said_to_have_left_none(tmp_path, said):
    with pytest.raises(InnerloopError, match="nsys wrote no report"):
        findings.exported(tmp_path / "report.nsys-rep", "nsys", said.append)


def captured(folder: Path, *numbers: int) -> None:
    steps = offline_run()["steps"]
    rows = [[n, int(steps["start_ns"][n]), int(steps["end_ns"][n]), 0] for n in numbers]
    (folder / "captured.json").write_text(
        json.dumps({"columns": ["step", "start_ns", "end_ns", "window"], "rows": rows})
    )


def found(folder: Path, kind: str, said: list[str], device: str = "cuda"):
    steps, profile = offline_run()["steps"], choose(kind, None)
    assert profile is not None
    return findings.find(profile, folder, device, steps, steps, kind, said.append)


def test_ncu_s_report_is_left_to_ncu_and_the_captured_steps_are_told(tmp_path, said):
    captured(tmp_path, 5)
    with pytest.raises(InnerloopError, match="ncu wrote no report"):
        found(tmp_path, "ncu", said)
    (tmp_path / "report.ncu-rep").touch()
    told = found(tmp_path, "ncu", said)
    assert told.captured.ranges == ((5, 6),)
    assert told.kernels is None


def test_an_engine_that_runs_its_kernels_elsewhere_is_not_taken_for_idle(tmp_path, said, monkeypatch):
    from innerloop.harness.profiling import events

    captured(tmp_path, 0)
    empty = events.joined([])
    monkeypatch.setattr(findings, "read", lambda *_: empty)
    with pytest.raises(ValueError, match=r"in another process.*--profiler nsys"):
        found(tmp_path, "kernels", said)
    with pytest.raises(ValueError, match="the core layer"):
        found(tmp_path, "kernels", said, device="cpu")


def test_a_step_whose_batch_was_launched_before_it_has_no_kernels_to_show(tmp_path, said, monkeypatch):
    from innerloop.harness.profiling import events

    captured(tmp_path, 0)
    launched = events.Events(np.zeros(1, events.EVENT), ("of_the_next_step",), np.empty(0, events.RANGE), "cuda")
    monkeypatch.setattr(findings, "read", lambda *_: launched)
    with pytest.raises(ValueError, match="two steps with"):
        found(tmp_path, "kernels", said)


def test_where_every_step_lost_a_record_the_profiler_is_named_and_not_the_engine(tmp_path, said, monkeypatch):
    from innerloop.harness.profiling import events

    captured(tmp_path, 0)
    nothing = np.empty(0, events.RANGE)
    lost = events.Events(np.zeros(1, events.EVENT), ("of_no_step",), nothing, "cuda", lost=3, left_out=1)
    monkeypatch.setattr(findings, "read", lambda *_: lost)
    with pytest.raises(ValueError, match=r"3 launches.*the profiler lost them"):
        found(tmp_path, "kernels", said)
