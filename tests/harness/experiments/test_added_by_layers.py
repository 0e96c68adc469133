"""`--layers` without engines: what is run in which order, what is kept, and what is refused."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import innerloop as il
from innerloop.harness import resume
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, InnerloopError, Refused
from innerloop.harness.experiments.folder import read_events
from innerloop.harness.experiments.layers import added_by_layers, chosen
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.report.layers import bar, doubts, print_waterfall
from innerloop.harness.result import build as results
from innerloop.harness.result.record import Record
from innerloop.harness.run import main
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.steps import Client
from innerloop.harness.schema.waterfall import LayerRow, Waterfall
from innerloop.harness.session import run as session
from innerloop.harness.show import main as show
from innerloop.harness.store import result_file, waterfall_file
from innerloop.harness.store.run_folder import make_folder, release
from innerloop.harness.store.typed import document as as_plain
from innerloop.harness.store.typed import typed
from tests.harness.filled import filled

LAYERS = ("core", "engine", "http")


@pytest.fixture
def ran(monkeypatch, tmp_path, offline_tables, spec, reported):
    """Stands in for `session.run_windows`: notes each run, and does to it what `ran.does[folder]` says."""
    noted = SimpleNamespace(folders=[], does={}, profiles=[], status="ok", hashes={})

    def run(asked: Sequence[tuple[Any, Any]], machine: Any, console: Any) -> list[tuple[Result, Path]]:
        [(one, options)] = asked
        noted.folders.append(options.out.name)
        noted.profiles.append(options.profile and options.profile.kind)
        does = noted.does.get(options.out.name)
        if isinstance(does, BaseException):
            raise does
        folder = make_folder(options.out)
        told = {**spec, "layer": one.layer}
        hashed = noted.hashes.get(folder.name, "abc123")
        made = results.build(
            Record(told, offline_tables, workload_hash=hashed, reported=reported, failure=does, created="now", id="one")
        )
        if does is None:
            made = replace(made, status=noted.status, reasons=())
        result_file.write(folder, made)
        release(folder)
        return [(made, folder)]

    monkeypatch.setattr(session, "run_windows", run)
    monkeypatch.chdir(tmp_path)
    return noted


def layered(tmp_path: Path, *more: str, trials: int = 1) -> tuple[Waterfall, int]:
    words = ["--engine", "vllm", "--device", "cpu", "--layers", "core,engine,http", "--trials", str(trials)]
    code = main([*words, "--out", str(tmp_path / "e"), "--json", *more])
    return stored(tmp_path / "e"), code


def stored(folder: Path) -> Waterfall:
    return typed(Waterfall, json.loads((folder / "document.json").read_text()))


def test_trials_go_up_the_layers_and_down_again_each_in_a_folder_of_its_own(ran, tmp_path, capsys):
    found, code = layered(tmp_path, trials=2)
    assert ran.folders == ["core-1", "engine-1", "http-1", "http-2", "engine-2", "core-2"]
    assert (code, found.status) == (EXIT_OK, "ok")
    assert all((tmp_path / "e" / "runs" / name / "result.json").exists() for name in ran.folders)
    assert json.loads(capsys.readouterr().out) == as_plain(found) == as_plain(added_by_layers(tmp_path / "e"))
    assert found.workload_hash == "abc123"
    assert [len(rung.runs) for rung in found.rungs if rung.kind == "layer"] == [2, 2, 2]
    assert found.rungs[-1].runs[1].folder == "runs/http-2"


def test_a_profiling_pass_is_made_once_on_layer_core(ran, tmp_path):
    layered(tmp_path, "--profiler", "kernels", trials=2)
    assert ran.profiles == ["kernels", None, None, None, None, None]


def test_a_layer_that_fails_does_not_stop_the_others(ran, tmp_path):
    ran.does["engine-1"] = Failure("hang", "it hung")
    found, code = layered(tmp_path)
    assert ran.folders == ["core-1", "engine-1", "http-1"]
    assert (found.status, code) == ("failed", EXIT_FAILED)
    assert next(rung.reason for rung in found.rungs if rung.name == "engine") == "it hung"


def test_a_refusal_of_the_first_run_is_that_of_the_whole_and_leaves_nothing(ran, tmp_path, capsys):
    ran.does["core-1"] = Refused("not enough disk space")
    assert main(["--engine", "vllm", "--device", "cpu", "--layers", "all", "--out", "e"]) == EXIT_REFUSED
    assert "not enough disk space" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_what_keeps_a_later_run_from_being_made_is_told_at_its_layer(ran, tmp_path):
    ran.does["http-1"] = InnerloopError("no server here")
    found, code = layered(tmp_path)
    assert (found.status, code) == ("failed", EXIT_FAILED)
    assert found.rungs[-1].reason == "no server here"
    assert found.rungs[-1].runs[0].status == "failed"


def test_a_layer_that_is_refused_later_alone_fails_nothing(ran, tmp_path):
    ran.does["engine-1"] = Refused("no such thing")
    found, code = layered(tmp_path)
    assert (found.status, code) == ("partial", EXIT_OK)
    assert next(rung.reason for rung in found.rungs if rung.name == "engine") == "no such thing"


def test_trials_are_compared_with_those_beside_them_also_where_one_has_no_result(ran, tmp_path):
    ran.does["engine-1"] = InnerloopError("once")
    found, _ = layered(tmp_path, trials=4)
    assert [rung.trials for rung in found.rungs if rung.kind == "layer"] == [4, 3, 4]
    assert next(rung.ratio_to_below for rung in found.rungs if rung.name == "engine") == pytest.approx(1.0)


def test_an_interruption_stops_it_and_resume_goes_on(ran, tmp_path):
    ran.does["engine-1"] = Failure("interrupted", "innerloop received SIGINT")
    found, code = layered(tmp_path, trials=2)
    assert ran.folders == ["core-1", "engine-1"]
    assert (code, found.status) == (130, "interrupted")
    assert (found.rungs[-3].tokens_per_s or 0) > 0
    del ran.does["engine-1"]
    assert resume.main([str(tmp_path / "e"), "--json"]) == EXIT_OK
    assert stored(tmp_path / "e").status == "ok"
    assert ran.folders[2:] == ["engine-1", "http-1", "http-2", "engine-2", "core-2"]


def test_a_signal_between_two_runs_stops_it_too(ran, tmp_path, monkeypatch):
    inner = session.run_windows

    def run(*arguments: Any) -> Any:
        done = inner(*arguments)
        if ran.folders == ["core-1", "engine-1"]:
            signal.raise_signal(signal.SIGTERM)
        return done

    monkeypatch.setattr(session, "run_windows", run)
    found, code = layered(tmp_path)
    assert ran.folders == ["core-1", "engine-1"]
    assert code == 128 + signal.SIGTERM
    assert found.status == "interrupted"


def test_the_document_is_on_disk_while_it_goes_on(ran, tmp_path, monkeypatch):
    monkeypatch.setattr("innerloop.harness.experiments.local.WRITE_EVERY_S", 0.0)
    seen = []
    inner = session.run_windows

    def run(*arguments: Any) -> Any:
        path = tmp_path / "e" / "document.json"
        seen.append(json.loads(path.read_text())["status"] if path.exists() else None)
        return inner(*arguments)

    monkeypatch.setattr(session, "run_windows", run)
    layered(tmp_path)
    assert seen == [None, "partial", "partial"]


def test_runs_that_were_given_other_requests_are_not_compared(ran, tmp_path):
    ran.hashes["http-1"] = "other"
    found, _ = layered(tmp_path)
    assert (found.status, found.workload_hash) == ("failed", None)


def test_a_suspect_run_has_a_code_of_its_own_where_that_is_asked_for(ran, tmp_path):
    ran.status = "suspect"
    found, code = layered(tmp_path, "--strict")
    assert (found.status, code) == ("suspect", EXIT_UNDECIDED)
    assert len(read_events(tmp_path / "e")) == 6


@pytest.mark.parametrize("given", ["all", "http,core,engine,async", " core , engine,async,http"])
def test_layers_are_put_in_order_and_all_are_those_of_the_engine(given):
    assert chosen(load_engine("vllm"), given) == ("core", "engine", "async", "http")


@pytest.mark.parametrize(
    ("engine", "given", "words"),
    [
        ("vllm", "core,cor", "did you mean 'core'"),
        ("vllm", "core,core", "names a layer twice"),
        ("vllm", "core", "two layers;"),
        ("vllm", ",", "two layers;"),
        ("torch", "core,http", "only as text"),
        ("openvino", "all", "two layers;"),
    ],
)
def test_nonsense_is_refused_with_the_reason(engine, given, words):
    with pytest.raises(Refused) as caught:
        chosen(load_engine(engine), given)
    assert words in " ".join([str(caught.value), *caught.value.details])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "all", "--windows", "2"], "--layers and --windows cannot be combined"),
        (["--layers", "all", "--until", "2%"], "--layers and --until cannot be combined"),
        (["--layer", "core", "--layers", "all"], "use one or the other"),
        (["--layers", "core,nothing"], "no layer 'nothing'"),
        (["--layers", "engine,http", "--profile", "kernels"], "the core layer"),
    ],
)
def test_the_command_line_refuses_what_does_not_go_together(arguments, words, capsys):
    assert main(["--engine", "vllm", "--dry-run", *arguments]) == EXIT_REFUSED
    assert words in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_run_and_where_the_layers_differ(capsys, tmp_path):
    given = ["--engine", "vllm", "--layers", "core,http", "--trials", "2", "--dry-run", "--out", str(tmp_path / "x")]
    assert main(given) == EXIT_OK
    printed = capsys.readouterr().out
    assert "core-1, http-1, http-2, core-2" in printed
    assert "skip_tokenizer_init = false" in printed
    assert main([*given, "--json"]) == EXIT_OK
    resolved = json.loads(capsys.readouterr().out)
    assert {plan["workload_hash"] for plan in resolved["layers"].values()}.__len__() == 1
    assert not (tmp_path / "x").exists()


def test_the_report_names_what_lies_in_the_folder(ran, tmp_path, capsys):
    layered(tmp_path)
    capsys.readouterr()
    print_waterfall(stored(tmp_path / "e"), tmp_path / "e")
    printed = capsys.readouterr().out
    assert "document.json  runs/core-1  runs/engine-1  runs/http-1" in " ".join(printed.split("\n"))
    assert "same requests on 3 layers" in printed
    assert show([str(tmp_path / "e" / "runs" / "core-1")]) == EXIT_OK
    capsys.readouterr()
    assert show(["e", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == as_plain(stored(tmp_path / "e"))
    opened = il.open("e")
    assert isinstance(opened, il.Layers)
    assert opened.waterfall == stored(tmp_path / "e")
    assert [run.folder.name for run in opened.runs] == ["core-1", "engine-1", "http-1"]


def test_the_report_fits_80_columns_and_says_what_to_keep_in_mind(ran, tmp_path):
    ran.does["engine-1"] = Failure("hang", "it hung")
    document, _ = layered(tmp_path, trials=3)
    document = replace(
        document,
        differences={"skip_tokenizer_init": {"core": True, "http": False}},
        client=filled(Client, {"share_of_capacity": 0.1, "capacity_tokens_per_s": 1e5}),
    )
    out = io.StringIO()
    print_waterfall(document, Path("e"), PlainConsole(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "?: may be due to chance; both layers need at least three trials" in " ".join(text.split())
    assert "differs between layers: skip_tokenizer_init is true on core; false on http" in " ".join(text.split())
    assert "10.0 % of the 100\u202f000 tokens/s" in text


def test_a_file_that_is_no_waterfall_is_refused(tmp_path):
    (tmp_path / "waterfall.json").write_text("{}")
    with pytest.raises(Refused, match="not the result of a run with --layers"):
        waterfall_file.read(tmp_path)
    (tmp_path / "waterfall.json").write_text('{"kind": "waterfall", "schema_version": 99}')
    with pytest.raises(Refused, match="schema version 99"):
        waterfall_file.read(tmp_path)


def test_a_bar_lies_between_the_rung_below_and_its_own():
    assert bar(0.0, 0.5, 1.0) == "█" * 9
    assert bar(0.5, 1.0, 1.0) == " " * 9 + "█" * 9
    assert bar(1.0, 0.5, 1.0) == " " * 9 + "░" * 9  # it is faster than the one below
    assert bar(0.5, 0.501, 1.0).strip() == "▏"


def test_a_reason_for_doubt_is_said_once_a_layer():
    runs: list[dict[str, Any]] = [
        {"status": "suspect", "reasons": [{"code": "steal", "detail": f"{k} %"}]} for k in (3, 4)
    ]
    runs[1]["reasons"].append({"code": "warmup", "detail": "not settled"})
    runs[1]["reasons"].append({"code": "few_requests", "detail": "64 requests"})  # a note, and no doubt
    assert list(doubts(filled(LayerRow, {"name": "core", "runs": runs}))) == [
        "core: 3 % (2 of 2 runs)",
        "core: not settled (1 of 2 runs)",
    ]


def rung(name: str, added_ms: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "layer",
        "s_per_output_token": 0.01,
        "s_per_output_token_range": [0.01, 0.01],
        "tokens_per_s": 100.0,
        "added_s_per_output_token": added_ms * 1e-3,
        "trials": 1,
        "runs": [],
        **more,
    }


def printed_rungs(trials: int, *rungs: dict[str, Any]) -> str:
    out = io.StringIO()
    values = {"innerloop_version": "0", "status": "ok", "layers": ["core", "engine"], "trials": trials}
    found = filled(Waterfall, {**values, "rungs": list(rungs), "engine": {}, "differences": {}})
    print_waterfall(found, console=PlainConsole(file=out, width=80))
    return out.getvalue()


def row(text: str, name: str) -> str:
    return " ".join(next(line for line in text.splitlines() if line.strip().startswith(f"{name} ")).split())


def test_with_one_trial_every_difference_may_be_chance_but_the_first_rung_is_none():
    text = printed_rungs(1, rung("core", 10.0), rung("engine", -2.0))
    assert "+10.0 ms " in row(text, "core")
    assert "-2.00 ms? " in row(text, "engine")
    assert "░" in row(text, "engine")
    assert "?: may be due to chance; both layers need at least three trials" in text
    assert "░: this layer was faster than the one below" in text


def test_trials_that_agree_are_no_chance_and_a_layer_without_a_pair_of_them_may_be():
    apart = {"within_scatter": False, "trials": 2}
    assert "?" not in printed_rungs(2, rung("core", 10.0, trials=2), rung("engine", 2.0, **apart))
    unsure = printed_rungs(3, rung("core", 10.0, trials=3), rung("engine", 2.0, within_scatter=True, trials=3))
    assert "+2.00 ms? " in row(unsure, "engine")
    chance = "?: may be due to chance; the 95 % interval of the ratio to the layer below contains 1"
    assert chance in " ".join(unsure.split())
    assert "+2.00 ms? " in row(printed_rungs(2, rung("core", 10.0, trials=2), rung("engine", 2.0)), "engine")
