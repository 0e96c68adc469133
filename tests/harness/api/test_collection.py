"""The runs of a folder, from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import innerloop as il
from innerloop.harness import store
from innerloop.harness.api.collection import figure
from tests.harness.api.conftest import FIRST_VERSION


@pytest.fixture
def folder(made: tuple[il.Run, il.Run], tmp_path: Path) -> Path:
    """Both runs, one that cannot be read, and one of two layers by the first version."""
    runs = tmp_path / "runs"
    for run in made:
        shutil.copytree(run.folder, runs / run.folder.name)
    shutil.copytree(FIRST_VERSION / "ladder", runs / "ladder")
    (runs / "broken").mkdir()
    (runs / "broken" / "result.json").write_text("{")
    return runs


def test_each_run_is_there_and_a_broken_one_ends_nothing(folder: Path, made: tuple[il.Run, il.Run]) -> None:
    runs = il.runs(folder)
    assert len(runs) == len(list(runs))
    by_name = {str(run.folder.relative_to(folder)): run for run in runs}
    inside = {f"ladder/{path.name}" for path in (FIRST_VERSION / "ladder").iterdir() if path.is_dir()}
    assert by_name.keys() == {*(run.folder.name for run in made), "broken", *inside}
    assert by_name["broken"].status == "broken"
    with pytest.raises(il.Refused, match="is not JSON"):
        _ = by_name["broken"].result
    assert runs[0].result.spec.engine in ("torch", "vllm")  # the oldest: of the first version


def test_a_run_that_cannot_be_looked_at_or_has_gone_is_broken_and_ends_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.open

    def another_users(path: Path) -> object:
        if path.name == "broken":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    count = len(il.runs(folder))
    monkeypatch.setattr(store, "open", another_users)
    monkeypatch.setattr("innerloop.harness.result.listing.open", another_users)
    monkeypatch.setattr("innerloop.harness.result.listing.changed", lambda path: "")
    runs = il.runs(folder)
    assert len(list(runs)) == count
    rows = {Path(row["folder"]).name: row for row in runs.table("latency_s.ttft.p50").to_pylist()}
    assert (rows["broken"]["status"], rows["broken"]["when"]) == ("broken", None)


def test_they_are_chosen_by_what_ran_how_it_ended_and_labels(folder: Path, made: tuple[il.Run, il.Run]) -> None:
    runs = il.runs(folder)
    assert [run.folder.name for run in runs.where(engine="scripted", batch=4)] == [made[1].folder.name]
    assert len(runs.where(model="llama-tiny", engine="scripted")) == 2
    assert [run.folder.name for run in runs.where(status="broken")] == ["broken"]
    assert list(runs.where(model="llama3-8b")) == []
    with pytest.raises(il.Refused, match=r"^no run has a field or label 'modell'; did you mean 'model'"):
        runs.where(modell="llama-tiny")


def test_a_folder_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert len(il.runs(tmp_path / "runs")) == 0
    table = il.runs(tmp_path / "runs").table("latency_s.ttft.p50")
    assert (table.num_rows, table.column_names[0]) == (0, "run")


def test_the_table_has_a_row_a_run_with_what_was_set_labels_and_figures(
    folder: Path, made: tuple[il.Run, il.Run]
) -> None:
    table = il.runs(folder).table("latency_s.ttft.p50", "spec.seeds.content")
    rows = {row["folder"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == len(il.runs(folder))
    for run, batch in zip(made, (2, 4), strict=True):
        row = rows[str(folder / run.folder.name)]
        assert row["run"] == run.result.id
        assert (row["given.max_batch_size"], row["label.batch"]) == (batch, str(batch))
        assert row["output_tokens_per_s"] == run.result.throughput.output_tokens_per_s
        assert row["latency_s.ttft.p50"] == run.result.latency_s.ttft.p50
        assert row["spec.seeds.content"] == 0
    broken = rows[str(folder / "broken")]
    assert broken["status"] == "broken"
    assert "is not JSON" in broken["reason"]
    assert broken["engine"] is broken["label.batch"] is broken["latency_s.ttft.p50"] is None
    assert str(table.schema.field("note").type) == "string"


def test_a_figure_that_results_lack_is_refused_with_the_nearest(made: tuple[il.Run, il.Run]) -> None:
    result = made[0].result
    assert figure(result, "spec.seeds.content") == 0
    assert figure(result, "roofline.mbu.all") is None  # there were no ceilings
    with pytest.raises(il.Refused, match=r"latency_s.tfft: a result has no field 'tfft'; did you mean 'ttft'"):
        figure(result, "latency_s.tfft")
    with pytest.raises(il.Refused, match=r"latency_s.ttft has several fields; name one of .*p99"):
        figure(result, "latency_s.ttft")
