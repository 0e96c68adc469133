"""Whatever fails while a run is put away, the run stays what it was: exit code, result.json and records."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.run import main
from tests.harness.test_failures import FEW, SCRIPTED

pytestmark = pytest.mark.slow

ASKED = 8 * 6  # tokens


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """go(*arguments): runs the scripted engine here, and returns the exit code and result.json, None without one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.yaml").write_text(FEW)

    def run(*arguments: str) -> tuple[int, dict[str, Any] | None]:
        fixed = ("--engine", str(SCRIPTED), "--workload", "few.yaml", "--out", "run", "--ceilings", "off")
        code = main([*fixed, *arguments])
        path = tmp_path / "run" / "result.json"
        return code, json.loads(path.read_text()) if path.exists() else None

    return run


def raises(error: BaseException) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", [MemoryError(), ValueError("too long"), OSError(28, "No space left on device")])
def test_records_that_cannot_be_put_away_as_tables_have_their_figures_all_the_same(go, monkeypatch, error):
    monkeypatch.setattr("innerloop.harness.store.parquet.write", raises(error))
    code, result = go("--json")
    assert code == 0
    assert result["status"] != "failed"
    assert result["counts"]["output_tokens"] == ASKED
    assert [note for note in result["notes"] if "the raw trace was left in" in note]
    assert Path("run/trace/measure/steps.bin").exists()


@pytest.mark.parametrize("place", ["observed", "build"])
def test_a_run_without_figures_is_a_failure_of_ours_that_says_where_its_records_are(go, monkeypatch, place):
    from innerloop.harness.session import conclude

    own, left = getattr(conclude, place), [MemoryError("1 TiB")]

    def once(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return own(*arguments)

    monkeypatch.setattr(conclude, place, once)
    code, result = go("--json")
    assert (code, result["failure"]["cause"]) == (3, "harness")
    assert "the run finished" in result["failure"]["message"]
    assert "MemoryError: 1 TiB" in result["failure"]["message"]
    assert str(Path("run").absolute()) in result["failure"]["message"]
    assert any("raise left.pop()" in line for line in result["failure"]["traceback"])
    assert result["counts"]["steps"] == 0
    assert list(Path("run").glob("**/steps.*"))


@pytest.mark.parametrize("kept", [True, False])
def test_a_folder_that_is_taken_away_during_the_run_is_no_run_without_steps(go, monkeypatch, capsys, kept):
    """It was a suspect run of 0 steps, with exit code 0. `kept`: only what lay in the folder is gone."""
    from innerloop.harness.session import run

    own = run.conclude

    def late(inputs: Any, *more: Any) -> Any:
        shutil.rmtree(inputs.folder / "trace" if kept else inputs.folder)
        return own(inputs, *more)

    monkeypatch.setattr(run, "conclude", late)
    code, _ = go("--json")
    result = json.loads(capsys.readouterr().out)
    assert (code, result["status"], result["failure"]["cause"]) == (3, "failed", "file_error")
    assert f"{Path('run').absolute()} was removed or renamed" in result["failure"]["message"]


def test_an_engines_failure_stays_the_failure(go, monkeypatch):
    monkeypatch.setattr("innerloop.harness.session.conclude.observed", raises(MemoryError()))
    code, result = go("--json", "--engine-arg", "fault=raise")
    assert (code, result["failure"]["cause"]) == (3, "engine_exception")
    assert [note for note in result["notes"] if "MemoryError" in note]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), UnicodeEncodeError("utf-8", "x", 0, 1, "no")]
)
def test_a_result_that_cannot_be_written_is_printed_and_keeps_its_code(go, monkeypatch, capsys, error):
    monkeypatch.setattr("innerloop.harness.store.result_file.write", raises(error))
    code, result = go("--json")
    assert (code, result) == (0, None)
    printed = json.loads(capsys.readouterr().out)
    assert printed["counts"]["output_tokens"] == ASKED
    assert [note for note in printed["notes"] if "the result could not be written" in note]


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_a_report_that_cannot_be_printed_changes_no_code(go, monkeypatch, capsys, how):
    monkeypatch.setattr("innerloop.harness.report.run.print_report", raises(KeyError("place")))
    monkeypatch.setattr("innerloop.harness.run.print_json", raises(KeyError("place")))
    code, result = go(*how)
    assert code == 0
    assert result["counts"]["output_tokens"] == ASKED
    assert "the result could not be printed (KeyError: 'place')" in capsys.readouterr().err


def test_stdout_on_a_full_disk_changes_no_code(go, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code, result = go()
    assert code == 0
    assert result["counts"]["output_tokens"] == ASKED
    assert "the output could not be written" in capsys.readouterr().err


def test_a_trace_that_breaks_the_picture_takes_nothing_from_the_run(go, monkeypatch, capsys):
    monkeypatch.setattr("innerloop.harness.export.perfetto.write", raises(IndexError("step 3")))
    code, result = go("--trace")
    assert code == 0
    assert result["counts"]["output_tokens"] == ASKED
    assert "could not be written: IndexError: step 3" in capsys.readouterr().err


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_an_engines_message_of_any_letters_is_kept_and_acts_on_nothing(go, capsys, how):
    code, result = go(*how, "--engine-arg", "fault=raise_markup")
    assert (code, result["failure"]["cause"]) == (3, "engine_exception")
    assert "[/INST] [red]not markup[/red] \x1b[31mnot red" in result["failure"]["message"]
    assert result["failure"]["message"].endswith("\\udc80")
    out, err = capsys.readouterr()
    assert "[/INST] [red]not markup" in (err if how else out)
    assert not {letter for letter in out + err if ord(letter) < 32 or 127 <= ord(letter) < 160} - {"\n"}
