"""`python -m harness.show RUN`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import run
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED
from innerloop.harness.result import build as results
from innerloop.harness.result.record import Record
from innerloop.harness.show import main
from innerloop.harness.store import alive, result_file
from innerloop.harness.store.tables import convert
from tests.harness.conftest import SECOND
from tests.real import ROOT
from tests.waiting import Clock

RunFolder = Callable[..., Path]


@pytest.fixture
def finished(run_folder: RunFolder, spec: dict[str, Any], reported: dict[str, Any]) -> Path:
    folder = run_folder()
    tables = convert(folder)
    result = results.build(Record(spec=spec, workload_hash="abc123", tables=tables, reported=reported))
    result_file.write(folder, result)
    return folder


@pytest.mark.parametrize("name", ["", "result.json"])
def test_a_run_is_printed_by_its_folder_or_its_file(
    finished: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(finished / name)]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "OK  8 of 8 requests finished" in printed
    assert "steps.parquet" in printed


@pytest.mark.slow
def test_it_prints_what_the_run_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripted = ("--engine", ROOT / "tests" / "plugins" / "scripted", "--engine-python", sys.executable)
    load = ("--workload", ROOT / "tests" / "golden" / "few.yaml", "--device", "cpu", "--ceilings", "off")
    assert run.main([*map(str, (*scripted, *load, "--out", tmp_path / "run"))]) == EXIT_OK
    printed = capsys.readouterr().out
    assert main([str(tmp_path / "run")]) == EXIT_OK
    assert capsys.readouterr().out == printed != ""


def test_json_is_the_result_and_nothing_else(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(finished), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == result_file.read_plain(finished)


def test_a_run_whose_harness_was_killed_is_put_together_from_its_records(
    run_folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(end_ns=0, beat_ns=SECOND, count=30)
    assert main([str(folder), "--json"]) == EXIT_OK
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == "interrupted"
    assert result["failure"]["cause"] == "interrupted"
    assert "30 steps and 240 tokens had been recorded" in result["failure"]["message"]
    assert result["failure"]["log_tail"][-1] == "the last line of the engine"
    assert result["workload_hash"] == "abc123"
    assert result["counts"]["steps"] == 30
    assert result_file.read_plain(folder) == result
    assert (folder / "steps.parquet").exists()
    assert not (folder / "trace").exists()


def test_what_a_killed_harness_had_begun_to_write_goes(run_folder: RunFolder) -> None:
    folder = run_folder(end_ns=0)
    (folder / "profile-host").mkdir()
    begun = [folder / ".telemetry.parquet.partial", folder / "profile-host" / ".result.json.partial"]
    for path in begun:
        path.write_text("half")
    assert main([str(folder)]) == EXIT_OK
    assert not any(path.exists() for path in begun)


def test_a_recovered_run_prints_again_the_same(run_folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(end_ns=0)
    main([str(folder), "--json"])
    first = capsys.readouterr().out
    main([str(folder), "--json"])
    assert capsys.readouterr().out == first


def test_a_run_killed_before_it_measured_is_recovered_too(
    run_folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder()
    for path in (folder / "trace").rglob("*.bin"):
        path.unlink()
    assert main([str(folder)]) == EXIT_OK
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "nothing had been measured yet" in printed


def test_a_folder_that_cannot_be_written_is_still_printed(
    run_folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(end_ns=0)

    def read_only(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("innerloop.harness.store.atomic.replace_file", read_only)
    assert main([str(folder), "--json"]) == EXIT_OK
    result = json.loads(capsys.readouterr().out)
    assert result["counts"]["steps"] == 50
    assert any("Read-only file system" in note for note in result["notes"])
    assert (folder / "trace" / "measure" / "steps.bin").exists()


def test_a_run_that_shows_signs_of_life_is_left_alone(
    run_folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alive, "time", Clock(1000 * SECOND))
    folder = run_folder(end_ns=0, beat_ns=991 * SECOND)
    assert main([str(folder)]) == EXIT_REFUSED
    assert "was active 9 s ago" in capsys.readouterr().err
    assert (folder / "trace" / "measure" / "steps.bin").exists()


def test_a_run_whose_harness_lives_is_left_alone(run_folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(end_ns=0)
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "harness_pid": os.getppid()}))
    assert main([str(folder)]) == EXIT_REFUSED
    assert f"is still running (process {os.getppid()})" in capsys.readouterr().err


def test_a_later_process_with_the_harnesss_number_is_not_the_harness(run_folder: RunFolder) -> None:
    folder = run_folder(end_ns=0)
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "harness_pid": os.getppid()}))
    os.utime(folder / "job.json", (1, 1))  # written long before that process began
    assert main([str(folder), "--json"]) == EXIT_OK


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "neither result.json nor job.json"),
        ({"job.json": "{}"}, "is not a valid job.json"),
        ({"job.json": "[]"}, "is not a valid job.json"),
        ({"job.json": '{"spec": 1}'}, "is not a valid job.json"),
        ({"result.json": "no"}, "is not JSON"),
    ],
)
def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, files: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert main([str(tmp_path)]) == EXIT_REFUSED
    assert words in capsys.readouterr().err


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == EXIT_REFUSED
    assert "there is no" in capsys.readouterr().err


def test_a_trace_and_json_cannot_both_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--trace", "--json"]) == EXIT_REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    assert "use one or the other" in told.err


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "waterfall", "schema_version": 1}',
        '{"kind": "waterfall", "schema_version": 1, "rungs": [1]}',
        '{"kind": "waterfall", "schema_version": 1, "rungs": {}}',
    ],
)
def test_a_waterfall_that_lost_a_part_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "waterfall.json").write_text(text)
    assert main([str(tmp_path)]) == EXIT_REFUSED
    assert "is incomplete" in capsys.readouterr().err


def test_help_has_examples_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from harness.show import parser\n"
        "print(parser().format_help())\n"
        "heavy = {'numpy', 'pyarrow', 'rich', 'pydantic', 'psutil'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout


def test_a_profiling_pass_is_no_run_of_its_own(run_folder, capsys):
    folder = run_folder()
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "profile": {"kind": "kernels"}}))
    assert main([str(folder)]) == EXIT_REFUSED
    assert str(folder.parent) in capsys.readouterr().err


def test_a_recovered_run_has_the_id_that_its_job_gave_it(
    run_folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(end_ns=0)
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "id": "0192-an-id"}))
    assert main([str(folder), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["id"] == "0192-an-id"


def test_a_job_that_says_little_is_shown_with_what_it_says(
    run_folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another version, or from somebody else: nothing in it acts on the terminal."""
    folder = run_folder()
    job = {
        "spec": {"engine": "\x1b]0;owned\x07", "model": "\x1b[2J[red]x", "settings": {}},
        "harness_pid": None,
        "id": 7,
    }
    (folder / "job.json").write_text(json.dumps(job))
    assert main([str(folder)]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "\\x1b]0;owned" in printed  # rich leaves a bell out
    assert "\\x1b[2J[red]x" in printed
    assert "job.json lacks: device, engine_args, layer, seeds, settings_given, workload" in " ".join(printed.split())
    assert "\x1b" not in printed


def test_a_job_of_wrong_kinds_is_refused(run_folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder()
    (folder / "job.json").write_text(json.dumps({"spec": {"engine": ["vllm"]}}))
    assert main([str(folder)]) == EXIT_REFUSED
    assert "job.json is not a valid job.json: engine: " in capsys.readouterr().err
    assert (folder / "trace" / "measure" / "steps.bin").exists()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def nowhere(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, loop, nowhere])
@pytest.mark.parametrize("name", ["result.json", "job.json", "engine.log", "workload.npz", "steps.parquet"])
def test_what_is_no_file_in_a_files_place_is_neither_waited_for_nor_taken_for_missing(
    run_folder: RunFolder, name: str, put: Callable[[Path], None]
) -> None:
    folder = run_folder()
    (folder / name).unlink(missing_ok=True)
    if name == "steps.parquet":
        (folder / "trace" / "measure" / "steps.bin").unlink()
    put(folder / name)
    assert main([str(folder), "--json"]) == (EXIT_OK if name in ("engine.log", "workload.npz") else EXIT_REFUSED)


def test_of_a_folder_of_runs_it_says_how_to_list_them(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(finished.parent)]) == EXIT_REFUSED
    said = capsys.readouterr().err
    assert f"{finished.parent} is not a run: it has neither result.json nor job.json" in said
    assert f"innerloop runs {finished.parent}" in said


def test_a_newline_in_a_folders_name_breaks_no_line(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = finished.rename(finished.with_name("a\nb\x1b[2J"))
    (odd / "c\nd").write_text("")
    assert main([str(odd)]) == EXIT_OK
    printed = "".join(capsys.readouterr().out.split())  # a long path is broken anywhere
    assert "/a\\nb\\x1b[2Jc\\ndengine.log" in printed


def test_whether_a_harness_lives_does_not_hang_on_clocks(run_folder: RunFolder) -> None:
    """A file's time and a process's start by the clock move apart where the clock is set."""
    folder, pid = run_folder(end_ns=0), os.getppid()
    job = {"harness_pid": pid, "harness_start": alive.start_of(pid)}
    os.utime(folder / "job.json", (1, 1))
    assert alive.harness_runs(job, folder / "job.json")
    assert not alive.harness_runs({**job, "harness_start": "another boot 17"}, folder / "job.json")
    assert alive.this_harness() == {"harness_pid": os.getpid(), "harness_start": alive.start_of(os.getpid())}
    assert alive.start_of(1 << 30) is None
