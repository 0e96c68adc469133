"""The ladder without engines: what is run in which order, what is kept, and what is refused."""

from __future__ import annotations

import io
import json
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_REFUSED, InnerloopError, Refused
from innerloop.harness.experiments import ladder as layers
from innerloop.harness.experiments.document import status
from innerloop.harness.experiments.ladder import Ladder, chosen
from innerloop.harness.process.launcher import Limits
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.report.layers import bar, doubts, print_waterfall
from innerloop.harness.result import build as results
from innerloop.harness.result.record import Record
from innerloop.harness.run import main
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.steps import Client
from innerloop.harness.schema.waterfall import Rung, Waterfall
from innerloop.harness.session import run as session
from innerloop.harness.session.options import Options
from innerloop.harness.show import main as show
from innerloop.harness.store import result_file, waterfall_file
from innerloop.harness.store.run_folder import make_folder
from innerloop.harness.store.typed import document as as_plain
from tests.harness.conftest import SPEC
from tests.harness.filled import filled

LAYERS = ("core", "engine", "http")


@pytest.fixture
def ran(monkeypatch, offline_tables, spec, reported):
    """Stands in for `session.run`: notes each run, and does to it what `ran.does[folder]` says."""
    noted = SimpleNamespace(folders=[], does={}, profiles=[])

    def run(one: Any, machine: Any, options: Any, console: Any) -> tuple[Result, Path]:
        folder = make_folder(options.out)
        noted.folders.append(folder.name)
        noted.profiles.append(options.profile)
        does = noted.does.get(folder.name)
        if isinstance(does, BaseException):
            raise does
        told = {**spec, "layer": one.layer}
        result = results.build(
            Record(spec=told, workload_hash="abc123", tables=offline_tables, reported=reported, failure=does)
        )
        result_file.write(folder, result)
        return result, folder

    monkeypatch.setattr(session, "run", run)
    return noted


def ladder(tmp_path: Path, trials: int = 1, profile: Any = None) -> tuple[Waterfall, Path]:
    options = Options(tmp_path / "ladder", Limits(), profile=profile)
    return layers.run(
        Ladder(LAYERS, trials),
        lambda layer: SimpleNamespace(layer=layer, describe=lambda: {**SPEC, "layer": layer}),  # type: ignore[arg-type,return-value]
        None,  # type: ignore[arg-type]
        options,
        PlainConsole(file=io.StringIO()),
    )


def failure_of(folder: Path) -> str:
    found = result_file.read(folder).failure
    assert found is not None
    return found.message


def test_trials_go_up_the_ladder_and_down_again_each_in_a_folder_of_its_own(ran, tmp_path):
    document, folder = ladder(tmp_path, trials=2)
    assert ran.folders == ["core-1", "engine-1", "http-1", "http-2", "engine-2", "core-2"]
    assert layers.exit_code(document) == EXIT_OK
    assert all((folder / name / "result.json").exists() for name in ran.folders)
    assert json.loads((folder / "waterfall.json").read_text()) == waterfall_file.read_plain(folder)
    assert waterfall_file.read(folder) == document
    assert document.workload_hash == "abc123"
    assert [len(rung.runs) for rung in document.rungs if rung.kind == "layer"] == [2, 2, 2]


def test_a_profiling_pass_is_made_once_on_layer_core(ran, tmp_path):
    ladder(tmp_path, trials=2, profile="kernels")
    assert ran.profiles == ["kernels", None, None, None, None, None]


def test_a_layer_that_fails_does_not_stop_the_others(ran, tmp_path):
    ran.does["engine-1"] = Failure("hang", "it hung")
    document, _ = ladder(tmp_path)
    assert ran.folders == ["core-1", "engine-1", "http-1"]
    assert document.status == "failed"
    assert layers.exit_code(document) == EXIT_FAILED
    assert next(rung.reason for rung in document.rungs if rung.name == "engine") == "it hung"


def test_a_refusal_of_the_first_run_is_the_ladders_and_leaves_nothing(ran, tmp_path, monkeypatch):
    def refuse(*_: Any) -> None:
        raise Refused("not enough disk space")

    monkeypatch.setattr(session, "run", refuse)
    with pytest.raises(Refused, match="not enough disk space"):
        ladder(tmp_path)
    assert not (tmp_path / "ladder").exists()


def test_a_refusal_of_a_later_run_is_that_layers_failure(ran, tmp_path):
    ran.does["http-1"] = InnerloopError("no server here")
    document, folder = ladder(tmp_path)
    assert layers.exit_code(document) == EXIT_FAILED
    assert failure_of(folder / "http-1") == "no server here"


def test_an_interruption_stops_the_ladder_and_keeps_what_was_done(ran, tmp_path):
    ran.does["engine-1"] = Failure("interrupted", "the harness received SIGINT")
    document, folder = ladder(tmp_path, trials=2)
    assert ran.folders == ["core-1", "engine-1"]
    assert layers.exit_code(document) == EXIT_INTERRUPTED
    assert waterfall_file.read(folder).status == "interrupted"
    assert (waterfall_file.read(folder).rungs[-3].tokens_per_s or 0) > 0


def test_a_signal_between_two_runs_stops_the_ladder_too(ran, tmp_path, monkeypatch):
    inner = session.run

    def run(*arguments: Any) -> Any:
        done = inner(*arguments)
        if ran.folders == ["core-1"]:
            signal.raise_signal(signal.SIGTERM)
        return done

    monkeypatch.setattr(session, "run", run)
    document, folder = ladder(tmp_path)
    assert ran.folders == ["core-1"]
    assert layers.exit_code(document) == EXIT_INTERRUPTED
    assert waterfall_file.read(folder).status == "interrupted"


def test_the_waterfall_is_on_disk_after_every_run(ran, tmp_path, monkeypatch):
    seen = []
    inner = session.run

    def run(one: Any, machine: Any, options: Any, console: Any) -> Any:
        path = options.out.parent / "waterfall.json"
        seen.append(waterfall_file.read(path).status if path.exists() else None)
        return inner(one, machine, options, console)

    monkeypatch.setattr(session, "run", run)
    ladder(tmp_path)
    assert seen == [None, "partial", "partial"]


def test_runs_that_were_given_other_requests_are_no_ladder(ran, tmp_path):
    document, folder = ladder(tmp_path)
    assert document.status != "failed"
    done = [result_file.read(folder / name) for name in ("core-1", "http-1")]
    assert status(done, 0, ["a"]) == "ok"
    assert status(done, 0, ["a", "b"]) == "failed"


@pytest.mark.parametrize("given", ["all", "http,core,engine,async", " core , engine,async,http"])
def test_layers_are_put_in_order_and_all_are_those_of_the_engine(given):
    assert chosen(load_engine("vllm"), given, None) == Ladder(("core", "engine", "async", "http"), 1)


@pytest.mark.parametrize(
    ("engine", "given", "trials", "words"),
    [
        ("vllm", "core,cor", 1, "did you mean 'core'"),
        ("vllm", "core,core", 1, "names a layer twice"),
        ("vllm", "core", 1, "two layers;"),
        ("vllm", ",", 1, "two layers;"),
        ("vllm", "all", 0, "1 to 100"),
        ("torch", "core,http", 1, "only as text"),
        ("mlc_llm", "all", 1, "two layers;"),
    ],
)
def test_nonsense_is_refused_with_the_reason(engine, given, trials, words):
    with pytest.raises(Refused) as caught:
        chosen(load_engine(engine), given, trials)
    assert words in " ".join([str(caught.value), *caught.value.details])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trials", "2"], "--trials needs --layers"),
        (["--layer", "core", "--layers", "all"], "give one of them"),
        (["--layers", "core,nothing"], "no layer 'nothing'"),
        (["--layers", "engine,http", "--profile", "kernels"], "layer core"),
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


def test_a_ladder_is_shown_again_by_its_folder_or_its_file(ran, tmp_path, capsys):
    document, folder = ladder(tmp_path)
    assert show([str(folder)]) == EXIT_OK
    printed = capsys.readouterr().out
    for path in (folder, folder / "waterfall.json"):
        assert show([str(path), "--json"]) == EXIT_OK
        assert json.loads(capsys.readouterr().out) == as_plain(document)
    assert "http" in printed
    assert "same requests on 3 layers" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_the_report_fits_80_columns_and_says_what_to_keep_in_mind(ran, tmp_path):
    ran.does["engine-1"] = Failure("hang", "it hung")
    document, folder = ladder(tmp_path, trials=3)
    document = replace(
        document,
        differences={"skip_tokenizer_init": {"core": True, "http": False}},
        client=filled(Client, {"share_of_capacity": 0.1, "capacity_tokens_per_s": 1e5}),
    )
    out = io.StringIO()
    print_waterfall(document, folder, PlainConsole(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "?: may be chance; both layers need at least three trials" in " ".join(text.split())
    assert "differs between layers: skip_tokenizer_init is True on core; False on http" in " ".join(text.split())
    assert "10.0 % of the 100\u202f000 tokens/s" in text


def test_a_file_that_is_no_waterfall_is_refused(tmp_path):
    (tmp_path / "waterfall.json").write_text("{}")
    with pytest.raises(Refused, match="not an innerloop waterfall"):
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
    assert list(doubts(filled(Rung, {"name": "core", "runs": runs}))) == [
        "core: 3 % (one of 2 such runs)",
        "core: not settled",
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
    assert "?: may be chance; both layers need at least three trials" in text
    assert "░: this layer was faster than the one below" in text


def test_trials_that_agree_are_no_chance_and_a_layer_without_a_pair_of_them_may_be():
    apart = {"within_scatter": False, "trials": 2}
    assert "?" not in printed_rungs(2, rung("core", 10.0, trials=2), rung("engine", 2.0, **apart))
    unsure = printed_rungs(3, rung("core", 10.0, trials=3), rung("engine", 2.0, within_scatter=True, trials=3))
    assert "+2.00 ms? " in row(unsure, "engine")
    assert "?: may be chance; the 95 % interval of the ratio to the layer below contains 1" in " ".join(unsure.split())
    assert "+2.00 ms? " in row(printed_rungs(2, rung("core", 10.0, trials=2), rung("engine", 2.0)), "engine")
