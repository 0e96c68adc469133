"""Runs that are there, opened from Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import innerloop as il
from innerloop.harness.result.listing import line_of
from innerloop.harness.store import journal
from tests.harness.api.conftest import FIRST_VERSION
from tests.harness.made import SPEEDS

TABLES = ("steps", "tokens", "requests", "warmup_steps", "telemetry")


def opened(path: Path) -> il.Run:
    found = il.open(path)
    assert isinstance(found, il.Run)
    return found


def test_a_run_is_opened_by_its_path_a_file_in_it_its_name_and_as_the_last(
    made: tuple[il.Run, il.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made[1]
    monkeypatch.chdir(run.folder.parents[1])
    for name in (run.folder, run.folder / "result.json", run.folder.name, "last"):
        found = il.open(name)
        assert isinstance(found, il.Run)
        assert found.result == run.result
        assert found.folder.resolve() == run.folder


def test_its_tables_are_those_of_its_files(made: tuple[il.Run, il.Run]) -> None:
    run = opened(made[0].folder)
    for name in TABLES:
        stored = pq.read_table(run.folder / f"{name}.parquet")
        assert getattr(run, name).equals(stored), name
        assert getattr(run, name).schema.metadata == stored.schema.metadata
        assert set(stored["run"].to_pylist()) == {run.result.id}


def test_a_result_is_typed(made: tuple[il.Run, il.Run]) -> None:
    speed: float | None = made[0].result.throughput.output_tokens_per_s  # mypy reads this too
    tokens = sum(made[0].requests["output_tokens"].to_pylist())
    assert speed == pytest.approx(tokens / made[0].result.window.duration_s)


def test_runs_of_the_first_version_have_the_columns_of_this_one(made: tuple[il.Run, il.Run]) -> None:
    old = opened(FIRST_VERSION / "torch")
    for name in TABLES:
        assert getattr(old, name).num_rows > 0
    for name in TABLES[:-1]:
        assert getattr(old, name).schema.equals(getattr(made[0], name).schema), name
        assert set(getattr(old, name)["run"].to_pylist()) == {"torch"}
    assert {"run", "source", "time_ns"} <= set(old.telemetry.column_names)
    stored = pq.read_table(FIRST_VERSION / "torch" / "steps.parquet")
    assert old.steps["prefill_positions"].to_pylist() == stored["prefill_tokens"].to_pylist()
    assert old.result.counts.finished == sum(state == "finished" for state in old.requests["state"].to_pylist())


def test_a_raw_trace_is_read_where_no_table_was_made_of_it(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    run = opened(folder)
    assert run.status == "interrupted"
    assert (len(run.steps), len(run.tokens), len(run.requests), len(run.telemetry)) == (50, 400, 8, 0)
    assert run.requests["state"].to_pylist() == ["finished"] * 8
    assert run.tokens["tokens"].to_pylist() == [1] * 400
    assert (folder / "trace").exists()


def test_the_result_of_a_killed_run_is_put_together(tmp_path: Path) -> None:
    shutil.copytree(FIRST_VERSION / "killed", tmp_path / "killed")
    run = opened(tmp_path / "killed")
    assert run.result.status == "interrupted"
    assert json.loads((tmp_path / "killed" / "result.json").read_text())["status"] == "interrupted"


def test_several_layers_have_a_waterfall_and_runs() -> None:
    found = il.open(FIRST_VERSION / "ladder")
    assert isinstance(found, il.Layers)
    assert found.runs
    layers = [rung.name for rung in found.waterfall.rungs for _ in rung.runs]
    assert [run.result.spec.layer for run in found.runs] == layers


def test_several_layers_and_an_experiment_have_the_status_that_a_list_shows(experiment: Callable[..., Path]) -> None:
    layers = il.open(FIRST_VERSION / "ladder")
    line = line_of(FIRST_VERSION / "ladder")
    assert line is not None
    assert layers.status == line.status == "suspect"
    folder = experiment("e", A=SPEEDS)
    assert il.open(folder).status == "ok"
    (folder / journal.FILE).write_text("")
    assert il.open(folder).status == "interrupted"
    (folder / journal.FILE).write_text("[]\n")
    assert il.open(folder).status == "broken"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(il.Refused, match="is not a run"):
        il.open(tmp_path)
    with pytest.raises(il.Refused, match="no file"):
        il.open(tmp_path / "nothing")


@pytest.mark.parametrize("name", TABLES)
def test_a_link_to_itself_in_a_tables_place_is_refused_by_name(
    made: tuple[il.Run, il.Run], tmp_path: Path, name: str
) -> None:
    shutil.copytree(made[0].folder, tmp_path / "run")
    path = tmp_path / "run" / f"{name}.parquet"
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(il.Refused, match=f"{name}.parquet is not a regular file"):
        getattr(opened(tmp_path / "run"), name)


@pytest.mark.parametrize("name", ["steps", "tokens", "requests"])
def test_a_link_to_itself_in_a_raw_traces_place_is_refused_by_name(run_folder: Callable[..., Path], name: str) -> None:
    folder = run_folder()
    path = folder / "trace" / "measure" / f"{name}.bin"
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(il.Refused, match=f"{name}.bin is not a regular file"):
        getattr(opened(folder), name)


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_is_refused_by_name(made: tuple[il.Run, il.Run], tmp_path: Path, name: str) -> None:
    shutil.copytree(made[0].folder, tmp_path / "run")
    path = tmp_path / "run" / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(il.Refused, match=f"{name}.parquet is damaged"):
        getattr(opened(tmp_path / "run"), name)
