"""Lists of runs: a table where it fits, a few lines a run on a narrow terminal."""

from __future__ import annotations

import io

import pytest

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.report.runs import print_runs
from innerloop.harness.result.listing import RunLine

LINES = [
    RunLine(
        "runs/20260102T030405Z-torch-llama-tiny-quick-small",
        "2026-01-02T03:04:05+00:00",
        "suspect",
        "not_settled, other_processes",
        engine="torch",
        version="5.24.0",
        layers=["core"],
        model="llama-tiny",
        workload="quick",
        given={"max_batch_size": 16},
        label={"try": "small"},
        output_tokens_per_s=21.4,
    ),
    RunLine("runs/left", "2026-01-02T03:05:00+00:00", "broken"),
]


def lines(width: int) -> list[str]:
    out = io.StringIO()
    print_runs(LINES, "runs", PlainConsole(file=out, width=width, force_terminal=True, color_system=None))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_narrow_terminal_gets_a_few_lines_a_run_without_what_is_unknown() -> None:
    assert lines(80)[:-1] == [
        "20260102T030405Z-torch-llama-tiny-quick-small",
        "  2026-01-02 03:04 · torch 5.24.0 core · llama-tiny · quick",
        "  suspect · 21.4 tokens/s · max_batch_size=16 · try=small",
        "  not_settled, other_processes",
        "left",
        "  2026-01-02 03:05",
        "  broken",
    ]


def test_a_wide_terminal_gets_a_table() -> None:
    assert any("engine" in line and "status" in line for line in lines(200))
    assert any("2026-01-02 03:04" in line and "suspect" in line for line in lines(200))


def test_a_credential_in_the_path_that_was_asked_for_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    print_runs([], "https:/me:k-1@host/runs")
    out = capsys.readouterr().out
    assert "host/runs" in out
    assert "k-1" not in out
