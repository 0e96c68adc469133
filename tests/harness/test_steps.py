"""`python -m harness.steps`: what it prints and writes of runs that went well, were cut, or failed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from innerloop.harness import steps as verb
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED
from innerloop.harness.report.steps import parts, print_steps, short
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.result.steps import findings, investigate
from innerloop.harness.schema.investigation import Cost as FittedCost
from innerloop.harness.schema.investigation import FittedCosts, Investigation
from innerloop.harness.schema.roofline import Cost, Peaks, Roofline
from innerloop.harness.store.result_file import write
from innerloop.harness.store.tables import convert
from tests.harness.conftest import offline_run
from tests.harness.filled import filled


def whole(run_folder, spec, reported, **header):
    folder = run_folder(**header)
    write(folder, build(Record(spec=spec, workload_hash="abc", tables=convert(folder), reported=reported)))
    return folder


def printed(found, width=80):
    console = PlainConsole(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_steps(found, console)
    return console.export_text()


def test_json_is_one_document_with_every_part(run_folder, spec, reported, capsys):
    folder = whole(run_folder, spec, reported)
    assert verb.main([str(folder), "--json", "--slowest", "3"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "steps"
    assert found["steps"] == 50
    assert len(found["slowest"]) == 3
    assert set(found["fit_s"]) == {"decode_only", "with_prefill"}
    assert found["preemptions"]["count"] == 0
    assert found["interference_s"]["decode_only"]["count"] == 8 * 49
    assert set(found["host_s"]) == {"schedule"}


def test_the_title_says_what_was_set_and_the_labels(run_folder, spec, reported, capsys):
    given = {"settings_given": {"max_batch_size": 16}, "label": {"try": "small"}}
    folder = whole(run_folder, {**spec, **given}, reported)
    assert verb.main([str(folder)]) == EXIT_OK
    assert capsys.readouterr().out.startswith("run · vllm · llama-tiny · quick · max_batch_size=16 · try=small\n")


def test_the_report_fits_eighty_columns_and_needs_no_terminal(run_folder, spec, reported, capsys):
    folder = whole(run_folder, spec, reported)
    assert verb.main([str(folder)]) == EXIT_OK
    out = capsys.readouterr().out
    assert "\x1b" not in out
    for title in (
        "Slowest steps",
        "Step time by composition",
        "Preemptions",
        "How prefill delays other requests",
        "Host phases",
    ):
        assert title in out
    assert max(map(len, printed(investigate(folder, 10)).splitlines())) <= 80


def test_a_run_without_a_result_is_read_from_its_raw_trace(run_folder):
    folder = run_folder(end_ns=0)  # killed: the window was never closed
    found = investigate(folder, 2)
    assert found.steps == 50
    assert found.engine is None
    assert found.slowest[0].bound_s is None
    assert "50 steps" in printed(found)


def test_a_run_that_measured_nothing_says_so(tmp_path, capsys):
    (tmp_path / "job.json").write_text("{}")
    assert verb.main([str(tmp_path)]) == EXIT_OK
    assert "no steps were recorded" in capsys.readouterr().out
    assert verb.main([str(tmp_path), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["duration_s"] is None


def test_one_step_is_printed(offline_tables):
    tables = type(offline_tables)(
        offline_tables.steps[:1],
        offline_tables.tokens[:8],
        offline_tables.requests,
        offline_tables.warmup_steps,
        offline_tables.header,
    )
    text = printed(findings("one", tables, None, 5))
    assert "decode only: 0 steps are too few for a fit" in text
    assert "no requests had a second token" in text


def test_an_engine_that_reports_little_is_printed_with_what_it_leaves_out(offline_tables):
    for name in ("prefill_tokens", "decode_tokens", "running", "preempted", "execute_ns", "schedule_ns"):
        offline_tables.steps[name] = -1
    text = printed(findings("silent", offline_tables, None, 5))
    assert "the engine does not report prefill per step" in text
    assert "the engine does not report them" in text
    assert "the engine does not report these phases" in text


def test_the_bound_of_a_step_is_shown_where_the_run_has_one(offline_tables, spec):
    cost: dict[str, Any] = dict.fromkeys(
        ("layers_bytes", "lm_head_bytes", "embedding_bytes", "kv_bytes", "linear_ops", "lm_head_ops", "attention_ops"),
        1000.0,
    )
    roofline = Roofline(
        reason=None,
        cost=Cost(**cost, dtype="float32", linear_dtype="float32"),
        total_peaks=Peaks(bytes_per_s=1e6, ops_per_s=1e9, linear_ops_per_s=1e9),
    )
    result = build(Record(spec=spec, tables=offline_tables))
    found = findings("x", offline_tables, replace(result, roofline=roofline), 1)
    assert 0 < (found.slowest[0].bound_s or 0) < 10


@pytest.mark.parametrize(("name", "words"), [("/no/such/run", "there is no file"), (".", "is not a run")])
def test_what_is_no_run_is_refused(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert verb.main([name]) == EXIT_REFUSED
    assert words in capsys.readouterr().err


def test_the_figures_of_a_long_run_of_large_steps_are_not_cut(run_folder, spec, reported):
    found = investigate(whole(run_folder, spec, reported), 1)
    [row] = found.slowest
    row = replace(row, step=1_234_567, at_s=123.4, wall_s=0.389, expected_s=0.237, bound_s=0.236, preempted=12)
    row = replace(row, prefill_positions=16_384, decode_positions=1024, context_tokens=8.3e6)
    found = replace(found, slowest=(row,))
    text = " ".join(printed(found).split())
    assert "1234567 123 s 389 ms 237 ms 236 ms 16 384 1 024 8.30 M" in text
    assert "preempted 12" in text


def test_of_a_ladder_a_run_is_to_be_named(tmp_path, capsys):
    (tmp_path / "waterfall.json").write_text("{}")
    assert verb.main([str(tmp_path)]) == EXIT_REFUSED
    assert "name one of its subfolders" in capsys.readouterr().err


def test_a_storm_has_a_row_of_its_own(offline_tables):
    offline_tables.steps["preempted"][[20, 21, 22]] = 2
    text = printed(findings("storm", offline_tables, None, 1))
    assert "6 in 3 steps, 1 storm of" in text
    assert "20 to 22" in text


def test_a_long_context_is_shortened():
    assert [short(n) for n in (None, 0.0, 1234.0, 123456.0, 4567890.0)] == ["-", "0", "1\u202f234", "123 k", "4.57 M"]


def test_nothing_is_printed_after_the_headline_of_an_empty_run():
    made = offline_run()
    assert made["steps"].dtype.names  # the trace's layout is the one that this verb reads
    assert len(list(parts(filled(Investigation, {"run": "x", "steps": 0})))) == 2


COSTS = {"fixed": FittedCost(4e-3, 1e-4, 3.8e-3, 4.2e-3), "decode_token": FittedCost(-9e-5, 1e-6, -9.2e-5, -8.8e-5)}


@pytest.mark.parametrize(
    ("misfit", "words"),
    [
        ("negative_cost", "the fit does not describe these steps: it gives a negative cost"),
        ("low_r2", "the fit does not describe these steps: it explains too little of the variance"),
    ],
)
def test_a_line_that_does_not_describe_the_steps_is_said_to_be_none(offline_tables, misfit, words):
    fit = filled(FittedCosts, {"costs": COSTS, "r2": 0.06, "rmse": 1e-3, "rows": 50, "dropped": {}, "together": []})
    found = findings("x", offline_tables, None, 1)
    assert "does not describe" not in printed(found)
    assert words in " ".join(printed(replace(found, fit_s={"decode_only": replace(fit, misfit=misfit)})).split())
