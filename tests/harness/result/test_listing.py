"""Runs, a line each: finished, failed, running, interrupted, broken; none of them ends the list."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.analysis.chunks import heard
from innerloop.harness.cli.errors import Refused
from innerloop.harness.result.build import build
from innerloop.harness.result.listing import RunLine, chosen, list_runs
from innerloop.harness.result.record import Record
from innerloop.harness.runs import main
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.store import alive, result_file
from tests.golden.call import HERE
from tests.harness.conftest import SECOND
from tests.waiting import Clock

GIVEN = {"settings_given": {"max_batch_size": 16}, "label": {"try": "small"}, "note": "a note"}


@pytest.fixture
def result(spec: dict[str, Any], reported: dict[str, Any], offline_tables: Any) -> Result:
    return build(Record(spec={**spec, **GIVEN}, tables=offline_tables, reported=reported))


def keep(root: Path, name: str, result: Result) -> None:
    (root / name).mkdir(parents=True)
    result_file.write(root / name, result)


def by_name(root: Path) -> dict[str, RunLine]:
    return {Path(line.folder).name: line for line in list_runs(root)}


def test_a_result_gives_what_ran_what_was_set_how_it_ended_and_how_fast(tmp_path: Path, result: Result) -> None:
    keep(tmp_path, "one", replace(result, created="2026-01-02T03:04:05+02:00"))
    [line] = list_runs(tmp_path)
    assert line == RunLine(
        folder=str(tmp_path / "one"),
        when="2026-01-02T01:04:05+00:00",
        status="ok",
        engine="vllm",
        version=result.engine.version,
        layers=("core",),
        model="llama-tiny",
        workload="quick",
        given={"max_batch_size": 16},
        label={"try": "small"},
        note="a note",
        output_tokens_per_s=result.throughput.output_tokens_per_s,
        id=result.id,
    )
    assert line.output_tokens_per_s is not None


def test_a_failure_tells_its_cause_and_the_newest_comes_last(tmp_path: Path, result: Result) -> None:
    failed = replace(result, status="failed", failure=Failure("timeout", "too long"))
    keep(tmp_path, "a", replace(failed, created="2026-01-03T00:00:00+00:00"))
    keep(tmp_path, "b", replace(result, created="2026-01-02T00:00:00+00:00"))
    assert [(line.status, line.reason) for line in list_runs(tmp_path)] == [("ok", None), ("failed", "timeout")]


def test_a_run_without_a_result_is_running_or_interrupted(
    run_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(alive, "time", Clock(1000 * SECOND))
    run_folder("killed", end_ns=0, beat_ns=900 * SECOND)
    run_folder("beats", end_ns=0, beat_ns=995 * SECOND)
    job = run_folder("lives", end_ns=0, beat_ns=900 * SECOND) / "job.json"
    job.write_text(json.dumps({**json.loads(job.read_text()), "harness_pid": os.getppid()}))
    lines = by_name(tmp_path)
    assert {name: line.status for name, line in lines.items()} == {
        "killed": "interrupted",
        "beats": "running",
        "lives": "running",
    }
    assert lines["killed"].engine == "vllm"
    assert lines["killed"].output_tokens_per_s is None


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"result.json": "{"}, "is not JSON"),
        ({"result.json": "[]"}, "result"),
        ({"result.json": '{"schema_version": "2.0", "status": 1, "spec": 5}'}, "is incomplete"),
        ({"result.json": '{"schema_version": "9.0", "status": "ok", "spec": {}}'}, "9.0"),
        ({"job.json": '{"spec": {"engine": 7}}'}, "it lacks"),
        ({"job.json": "\xff\xfe"}, "is not UTF-8 text"),
        ({"waterfall.json": '{"kind": "waterfall"}'}, "waterfall"),
        ({"steps.parquet": ""}, "records without result.json and job.json"),
    ],
)
def test_a_broken_run_is_a_line_with_its_reason_and_the_others_follow(
    tmp_path: Path, files: dict[str, str], reason: str, result: Result
) -> None:
    keep(tmp_path, "whole", result)
    (tmp_path / "broken").mkdir()
    for name, content in files.items():
        (tmp_path / "broken" / name).write_text(content, encoding="latin-1")
    lines = by_name(tmp_path)
    assert lines["whole"].status == "ok"
    assert lines["broken"].status == "broken"
    assert reason in str(lines["broken"].reason)


def test_what_is_no_run_is_left_out(tmp_path: Path) -> None:
    for name in ("notes", ".20260102T030405Z-x", "20260102T030405Z-vllm-x-quick"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes" / "text.md").touch()
    (tmp_path / "file").touch()
    [line] = list_runs(tmp_path)
    assert (line.status, Path(line.folder).name) == ("interrupted", "20260102T030405Z-vllm-x-quick")
    assert list_runs(tmp_path / "none") == []
    with pytest.raises(Refused, match="is not a folder"):
        list_runs(tmp_path / "file")


def test_a_run_of_several_layers_is_one_line() -> None:
    line = by_name(HERE / "first_version")["ladder"]
    assert (line.engine, line.layers, line.status) == ("vllm", ("core", "engine", "async", "http"), "suspect")
    assert line.model == "llama-tiny"


def test_where_takes_fields_and_labels_and_all_must_fit() -> None:
    lines = [
        RunLine("a", "1", "ok", engine="vllm", label={"try": "small"}),
        RunLine("b", "2", "ok", engine="torch", label={"try": "small"}),
        RunLine("c", "3", "failed", engine="vllm"),
    ]

    def folders(*where: str) -> list[str]:
        return [line.folder for line in chosen(lines, where)]

    assert folders() == ["a", "b", "c"]
    assert folders("engine=vllm") == ["a", "c"]
    assert folders("try=small", "engine=vllm") == ["a"]
    assert folders("try=large") == []
    assert folders("status=failed", "try=small") == []
    with pytest.raises(Refused, match="no run has a field or label 'tyr'; did you mean 'try'"):
        folders("tyr=small")
    with pytest.raises(Refused, match="takes FIELD=VALUE"):
        folders("small")


def test_the_verb_prints_lines_or_one_document(
    tmp_path: Path, result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, "a", replace(result, created="2026-01-02T00:00:00+00:00"))
    evil = replace(result.spec, note="x\x1b[31m", label={"try": "\x1b[31mred"})
    keep(tmp_path, "b", replace(result, spec=evil, created="2026-01-03T00:00:00+00:00"))
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "try=\\x1b[31mred" in out
    [line] = [line for line in out.splitlines() if line.startswith("2026-01-02 00:00")]
    assert " max_batch_size=16 " in line
    assert " try=small " in line
    assert main([str(tmp_path), "--last", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "runs"
    [one] = found["runs"]
    assert one["folder"] == str(tmp_path / "b")
    assert one["given"] == {"max_batch_size": 16}
    assert main([str(tmp_path / "none")]) == 0
    assert "create one with innerloop run" in capsys.readouterr().out


def test_of_many_runs_it_is_said_that_it_goes_on(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"run{k}").mkdir()
        (tmp_path / f"run{k}" / "result.json").write_text("{}")
    ticks: list[int] = []
    with heard(lambda: ticks.append(1)):
        assert len(list_runs(tmp_path)) == len(ticks) == 3
