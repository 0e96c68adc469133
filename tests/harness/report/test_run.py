"""A result as a person reads it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.samples import Samples
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.report.run import print_report
from innerloop.harness.result import build as results
from innerloop.harness.result.record import Record
from innerloop.harness.schema.reasons import Failure, Reason
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.telemetry import Device
from innerloop.harness.schema.window import Steady
from innerloop.harness.store import result_file
from innerloop.harness.store.tables import Tables, read_tables
from innerloop.harness.telemetry.host import HOST
from tests.harness.conftest import SECOND, WORKLOAD
from tests.harness.filled import filled


@pytest.fixture
def result(spec: dict[str, Any], reported: dict[str, Any], offline_tables: Tables) -> Result:
    rows = np.zeros(3, dtype=HOST)
    rows["time_ns"] = [SECOND // 2, 2 * SECOND, 4 * SECOND]
    rows["worker_user_s"], rows["machine_busy_s"], rows["machine_idle_s"] = [0, 2, 4], [0, 2, 4], [0, 1, 2]
    rows["worker_rss_bytes"] = 3 << 30
    rows["worker_processes"] = 1
    host = Samples("host", rows, 0.25, 0.01, facts={"cpus": 2})
    return results.build(
        Record(
            spec=spec,
            workload=WORKLOAD,
            workload_hash="abc",
            tables=replace(offline_tables, samples=(host,)),
            reported=reported,
            notes=["the weights are random"],
        )
    )


@pytest.fixture
def failed(result: Result) -> Result:
    failure = Failure(
        cause="out_of_memory_host",
        message="MemoryError: [Errno 12] cannot allocate memory",
        exit=1,
        traceback=('  File "engine.py", line 7, in load', "MemoryError: [/red] is no markup"),
        log_tail=("loading " * 40,),
    )
    reason = Reason("out_of_memory_host", "invalid", (), failure.message, "Choose a smaller model.")
    return replace(result, status="failed", failure=failure, reasons=(reason,))


def text(result: Result, width: int = 80, folder: Path | None = None) -> str:
    console = PlainConsole(width=width, record=True, file=io.StringIO())
    print_report(result, folder, console)
    return console.export_text()


def row(printed: str, label: str) -> list[str]:
    return next(line for line in printed.splitlines() if line.strip().startswith(label)).split()


def test_the_figures_of_a_sound_run_are_printed(result: Result) -> None:
    printed = text(result)
    assert "vllm 1.2.3 core · llama-tiny float32 · cpu · quick" in printed
    assert "OK  8 of 8 requests finished · 128 prompt + 400 output tokens in 2.00 s" in printed
    assert row(printed, "decode")[:2] == ["decode", "200"]
    assert row(printed, "per user")[2] == "25.0"
    assert row(printed, "TTFT")[1:3] == ["39.0", "ms"]
    assert row(printed, "execute")[1:3] == ["76.9", "%"]
    assert row(printed, "other host time")[3:5] == ["17.9", "%"]
    assert "host peak 3.00 GiB" in printed
    assert "20.0 µs per step, 0.051 % of step time" in printed
    assert "note: the weights are random" in printed


def test_requests_that_were_prepared_for_a_window_of_some_seconds_and_not_sent_are_not_held_against_it(
    result: Result,
) -> None:
    counts = replace(result.counts, requests=1050, finished=20, cut=10, unsent=1020)
    assert result.workload is not None
    closed = replace(result, counts=counts, workload=replace(result.workload, duration_s=30.0))
    assert "OK  20 requests finished (10 running at the end)" in text(closed)
    until_all = replace(result, counts=counts, workload=replace(result.workload, duration_s=None))
    assert "OK  20 of 1 050 requests finished (10 cut off, 1 020 not sent)" in text(until_all).replace("\u202f", " ")


def test_what_was_set_labels_and_a_note_stand_below_the_headline(result: Result) -> None:
    assert "set: " not in text(result)
    spec = replace(
        result.spec,
        settings_given={"max_batch_size": 16},
        workload_args={"load.requests": 8},
        label={"try": "small"},
        note="[/red] bell\x07",
    )
    lines = text(replace(result, spec=spec)).splitlines()
    assert lines[1:4] == ["set: max_batch_size=16 load.requests=8", "label: try=small", "note: [/red] bell\\x07"]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("which", ["result", "failed"])
def test_no_line_is_wider_than_the_console_and_no_number_is_cut(
    request: pytest.FixtureRequest, which: str, width: int, tmp_path: Path
) -> None:
    printed = text(request.getfixturevalue(which), width, tmp_path / "runs" / "a-folder")
    assert max(len(line) for line in printed.splitlines()) <= width
    if width >= 80:
        assert "…" not in printed


def test_a_pipe_gets_plain_text(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(result)
    assert "\x1b" not in capsys.readouterr().out


def test_each_suspicion_is_printed_with_what_to_do(result: Result) -> None:
    reasons = (Reason("a", "suspect", ("latency",), "the CPU was stolen", "Repeat elsewhere."),)
    printed = text(replace(result, status="suspect", reasons=reasons))
    assert "SUSPECT" in printed
    assert "! the CPU was stolen\n  Repeat elsewhere." in printed


def test_a_doubt_about_energy_alone_stands_with_the_devices_and_a_note_with_the_notes(result: Result) -> None:
    energy = Reason("energy_mismatch", "suspect", ("energy",), "the counter says 9 J", "Trust neither.")
    capped = Reason("power_cap", "note", ("latency",), "it ran at its power limit", "Compare at equal limits.")
    device = filled(Device, {"index": 0, "foreign_processes": []})
    telemetry = replace(result.telemetry, devices=(device,))
    printed = text(replace(result, reasons=(energy, capped), telemetry=telemetry))
    assert "OK  8 of 8" in printed
    devices = printed[printed.index("\nDevices") : printed.rindex("\n  tokens/s")]
    assert "! the counter says 9 J Trust neither." in " ".join(devices.split())
    assert "note: it ran at its power limit" in printed
    assert "! it ran" not in printed


def test_a_failure_shows_its_cause_and_the_engines_last_words(failed: Result) -> None:
    printed = text(failed)
    for words in (
        "FAILED",
        "failed: out_of_memory_host",
        "MemoryError: [Errno 12] cannot allocate memory",
        "the worker ended with exit code 1",
        "Choose a smaller model.",
        "[/red] is no markup",
        "loading loading",
    ):
        assert words in printed


def test_a_traceback_that_ends_the_log_is_printed_once(failed: Result) -> None:
    assert failed.failure is not None
    lines = ("Traceback (most recent call last):", "ValueError: once")
    why = replace(failed.failure, traceback=lines, log_tail=("loading", *lines), exit=-9)
    printed = text(replace(failed, failure=why))
    assert printed.count("ValueError: once") == 1
    assert "loading" in printed
    assert "the worker was ended by signal 9" in printed
    other = replace(why, log_tail=("loading", *lines, "and then more"))
    assert text(replace(failed, failure=other)).count("ValueError: once") == 2


def test_a_dash_where_requests_had_not_ended_is_explained(result: Result) -> None:
    e2e = replace(result.latency_s.e2e, count=37, unfinished=27, p90=None)
    latency = replace(result.latency_s, e2e=e2e)
    assert "-: p90 unknown where too many values had not ended" in text(replace(result, latency_s=latency))
    assert "had not ended" not in text(result)


def test_what_the_engine_does_not_report_is_a_dash_or_left_out(result: Result) -> None:
    printed = text(result)
    assert not any(line.strip().startswith("sample") for line in printed.splitlines())
    silent = replace(result, throughput=replace(result.throughput, prefill_positions_per_s=None))
    assert row(text(silent), "prefill")[1] == "-"


def test_a_run_without_a_steady_window_says_why(result: Result) -> None:
    short = replace(result, steady=Steady("the batch was full for 0.10 s"))
    assert "no steady figures: the batch was full for 0.10 s" in text(short)


def test_a_run_that_measured_nothing_has_no_tables_of_figures(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    failure = Failure("install_failed", "no network")
    empty = results.build(Record(spec=spec, tables=read_tables(tmp_path), failure=failure))
    printed = text(empty)
    assert "no network" in printed
    page = as_called("docs/how-to/without-a-network.md")  # where it lies, and not as the table of causes has it
    assert page in "".join(part.strip(" │") for part in text(empty, 300).splitlines())
    assert "Throughput" not in printed
    assert "0 of 0" not in printed


def test_the_files_are_named(result: Result, run_folder: Callable[..., Path]) -> None:
    folder = run_folder("a")
    (folder / ".partial").touch()
    (folder / "profile-host").mkdir()
    (folder / "other").mkdir()
    printed = text(result, 120, folder)
    assert str(folder)[-20:] in printed.replace("\n", "")
    assert "engine.log  job.json  profile-host/" in printed
    assert "other/" not in printed
    narrow = text(result, 30, folder).splitlines()
    assert narrow[-2:] == ["  engine.log  job.json", "  profile-host/"]
    assert ".partial" not in printed


def test_a_result_read_from_disk_prints_the_same(result: Result, tmp_path: Path) -> None:
    result_file.write(tmp_path, result)
    assert text(result_file.read(tmp_path)) == text(result)
