"""`innerloop run --trials`, `--until` and `--windows`: with the scripted engine."""

from __future__ import annotations

import io
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import innerloop as il
from innerloop.harness import resume
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED
from innerloop.harness.experiments.folder import read_events, read_manifest
from innerloop.harness.experiments.listing import line_of_experiment
from innerloop.harness.experiments.local import so_far
from innerloop.harness.experiments.requested import cell_names, windows_of
from innerloop.harness.report.trials import print_trials
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.run import main
from innerloop.harness.schema.experiment import Event
from innerloop.harness.schema.trials import Trials
from innerloop.harness.session.arguments import parser, words_of
from innerloop.harness.show import main as show
from innerloop.harness.store import result_file
from innerloop.harness.store.tables import read_tables
from innerloop.harness.store.typed import typed
from tests.harness.experiments.test_blocks import manifest
from tests.real import ROOT

pytestmark = pytest.mark.slow

FEW = ROOT / "tests" / "golden" / "few.yaml"
SCRIPTED = [
    *("--engine", str(ROOT / "tests" / "plugins" / "scripted"), "--engine-python", sys.executable),
    *("--device", "cpu", "--ceilings", "off", "--engine-arg", "step_us=500"),
]
CUT = """\
name: cut
title: four users whose requests outlast the window
prompt: {tokens: 10}
output: {tokens: 300}
load: {kind: closed, users: 4, duration_s: 0.2}
warmup: {requests: 4, output_tokens: 4, max_rounds: 2}
"""


FIXED = """\
name: fixed
title: as many steps in each process, however fast it is
prompt: {tokens: 10}
output: {tokens: 20}
load: {kind: offline, requests: 8}
warmup: {requests: 4, output_tokens: 8, max_rounds: 1}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked(out: str, *more: str, workload: Any = FEW) -> list[str]:
    given = [] if workload is None else ["--workload", str(workload)]
    return [*SCRIPTED, *given, "--out", out, *more]


def test_each_trial_is_a_process_and_the_document_is_that_of_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked("e", "--trials", "3", "--json")) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert json.loads(Path("e/document.json").read_text()) == found
    assert (found["kind"], found["trials"], len(found["load_s"])) == ("trials", 3, 3)
    [load] = found["loads"]
    first = load["figures"][0]
    runs = [result_file.read(Path("e") / run["folder"]) for run in load["runs"]]
    speeds = [run.throughput.output_tokens_per_s or 0.0 for run in runs]
    assert first["name"] == PRIMARY
    assert first["mean"]["value"] == pytest.approx(sum(speeds) / 3)
    assert first["mean"]["low"] < first["mean"]["value"] < first["mean"]["high"]
    assert (first["low"], first["high"]) == (min(speeds), max(speeds))
    assert first["window_scatter"] is None
    assert len({run.id for run in runs}) == 3
    assert [run.process for run in runs] == [None] * 3
    places = [run.experiment for run in runs]
    assert [(one.cell, one.block) for one in places if one] == [("trial", 1), ("trial", 2), ("trial", 3)]
    assert {one.id for one in places if one} == {read_manifest(Path("e")).id}
    assert resume.main(["e", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == found
    assert len(read_events(Path("e"))) == 6
    assert main_of_show(["e", "--json"], capsys) == found
    opened = il.open("e")
    assert isinstance(opened, il.Experiment)
    assert opened.document == found
    assert [run.folder.name for run in opened.runs] == ["trial-1", "trial-2", "trial-3"]
    assert line_of_experiment(Path("e")).status in ("ok", "suspect")


def main_of_show(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert show(words) == EXIT_OK
    return json.loads(capsys.readouterr().out)


def test_windows_of_several_loads_share_one_engine(capsys: pytest.CaptureFixture[str]) -> None:
    longer = Path("longer.yaml")
    longer.write_text(FEW.read_text().replace("name: few", "name: longer"))
    words = asked("e", "--windows", f"{FEW},{longer},{FEW}", "--workload-arg", "output.tokens=20", workload=None)
    assert main([*words, "--set", "prefix_caching=true", "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    runs = [result_file.read(Path("e/runs") / name) for name in ("few-1", "longer-1", "few.2-1")]
    assert len(found["load_s"]) == 1
    assert [(load["workload"], load["windows"]) for load in found["loads"]] == [("few", 2), ("longer", 1)]
    assert {run.startup_s.load for run in runs} == {found["load_s"][0]}
    assert [run.process and (run.process.window, run.process.windows) for run in runs] == [(1, 3), (2, 3), (3, 3)]
    assert {run.process.id for run in runs if run.process} == {runs[0].id}
    assert {run.status for run in runs} <= {"ok", "suspect"}
    assert [run.caches.reset for run in runs if run.caches] == [True] * 3
    assert [run.counts.output_tokens for run in runs] == [8 * 20] * 3
    ends = [(run.window.start_ns or 0, run.window.end_ns or 0) for run in runs]
    assert ends[0][1] < ends[1][0]
    assert ends[1][1] < ends[2][0]
    shapes = [run.caches.warmup_shapes for run in runs if run.caches]
    assert "long" in shapes[0]
    assert shapes[1] == shapes[2] == ()
    for run, name in zip(runs, ("few-1", "longer-1", "few.2-1"), strict=True):
        tables = read_tables(Path("e/runs") / name)
        assert len(tables.requests) == 8
        assert run.warmup is not None
        [host] = [cost for source, cost in run.telemetry.sampler.items() if source == "host"]
        assert host.samples >= 2
        assert show([f"e/runs/{name}"]) == EXIT_OK


def test_a_window_that_ends_before_its_requests_leaves_the_next_one_an_idle_engine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("cut.yaml").write_text(CUT)
    words = asked("e", "--windows", "2", "--engine-arg", "step_us=2000", "--json", workload="cut.yaml")
    assert main(words) == EXIT_OK
    runs = [result_file.read(Path("e/runs") / name) for name in ("window1-1", "window2-1")]
    assert [run.counts.cut for run in runs] == [4, 4]
    [load] = json.loads(capsys.readouterr().out)["loads"]
    assert (load["processes"], load["windows"]) == (1, 2)
    assert load["figures"][0]["window_scatter"] is not None


def test_a_process_that_fails_in_a_window_keeps_the_windows_before(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fixed.yaml").write_text(FIXED)
    assert main(asked("alone", workload="./fixed.yaml")) == EXIT_OK
    alone = read_tables(Path("alone"))
    later = len(alone.warmup_steps) + len(alone.steps) + 2  # in the warm-up of the second window
    fault = ["--engine-arg", "fault=raise", "--engine-arg", f"fault_step={later}"]
    assert main(asked("e", "--windows", "3", *fault, "--json", workload="./fixed.yaml")) == EXIT_FAILED
    capsys.readouterr()
    states = [event.event for event in read_events(Path("e")) if event.event != "started"]
    assert states == ["done", "failed", "failed"]
    second, third = (result_file.read(Path("e/runs") / f"window{k}-1") for k in (2, 3))
    assert second.failure is not None
    assert "the scripted engine fails" in second.failure.message
    assert third.failure is not None
    assert third.failure.message.startswith("its process failed in window 2 of 3: ")
    assert third.counts.steps == 0


def test_until_stops_early_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked("e", "--until", "99%", "--trials", "9")) == EXIT_OK
    said = capsys.readouterr()
    done = [event for event in read_events(Path("e")) if event.event == "done"]
    assert 3 <= len(done) <= 9
    if len(done) < 9:
        assert f"reached after {len(done)} of 9 trials" in said.out
    assert "stops at ±99.0 %" in said.err


def test_what_does_not_go_together_is_refused_before_anything_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--windows", "few,users-1"], "so leave out --workload"),
        (["--windows", "0"], "not a number from 1"),
        (["--windows", ","], "takes a number"),
        (["--metric", "ttft.p50", "--trials", "2"], "--metric needs --until"),
        (["--until", "2%", "--metric", "speed"], "there is no metric"),
        (["--trials", "2", "--windows", "2", "--profiler", "kernels"], "has one window"),
        (["--trials", "0"], "1 to 100"),
        (["--trials", "2", "--until", "2%"], "needs 3 trials or more"),
    ):
        assert refused(asked("e", *words)) == EXIT_REFUSED, words
        assert told in capsys.readouterr().err
    assert refused(asked("e", "--windows", "few,nothing", workload=None)) == EXIT_REFUSED
    assert not Path("e").exists()


def refused(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as left:
        return int(left.code or 0)


def test_a_dry_run_says_which_processes_there_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked("e", "--trials", "2", "--windows", "2", "--dry-run")) == EXIT_OK
    assert "window1-1, window2-1, window2-2, window1-2" in capsys.readouterr().out
    assert main(asked("e", "--until", "2%", "--dry-run", "--json")) == EXIT_OK
    plan = json.loads(capsys.readouterr().out)
    assert (plan["kind"], plan["trials"], plan["until"]) == ("plan_of_trials", 20, 0.02)
    assert [Path(folder).name for folder in plan["folders"][:2]] == ["trial-1", "trial-2"]
    assert not Path("e").exists()


def test_the_command_line_of_a_run_is_kept_as_it_was_given() -> None:
    given = shlex.split(
        "--set max_batch_size=4 --set prefix_caching=true --note 'a b' --timeout 5m --strict --cpus 0,1"
    )
    arguments = parser().parse_args([*given, "--engine-arg", "x=-1"])
    assert parser().parse_args(words_of(arguments)) == arguments
    assert words_of(parser().parse_args([])) == []


def test_windows_are_named_by_their_workloads() -> None:
    assert cell_names(["users-1", "a/few.yaml", "b/few.yaml", "users-10", "few"]) == [
        *("users-1", "few", "few.2", "users-10", "few.3")
    ]
    assert windows_of("3") == 3
    assert windows_of(" users-1, users-2,") == ["users-1", "users-2"]


def test_progress_says_what_is_known_so_far() -> None:
    wanted = manifest("trial", blocks=9, design="trials", options={"metric": PRIMARY})
    events = [Event("done", "trial", k, "b", "now", "ok", {PRIMARY: 99.0 + k}) for k in (1, 2, 3)]
    assert so_far(wanted, []) is None
    assert so_far(wanted, events[:1]) == "output_tokens_per_s so far: trial 100"
    assert so_far(wanted, events) == "output_tokens_per_s so far: trial 101 ±2.5 %"
    told = so_far(replace(wanted, until=0.02), events)
    assert told is not None
    assert told.endswith("; stops at ±2.0 %")
    pair = manifest("A", "B", blocks=9, options={"metric": PRIMARY})
    both = [replace(one, cell=cell) for one in events[:1] for cell in ("A", "B")]
    assert so_far(pair, both) == "output_tokens_per_s, B / A after trial 1: 1.000"
    assert str(so_far(replace(pair, until=0.02), both)).endswith("; stops at ±2.0 %")


def test_the_report_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    main(asked("e", "--trials", "3", "--windows", "2", "--json"))
    found = typed(Trials, json.loads(capsys.readouterr().out))
    out = io.StringIO()
    print_trials(found, Path("e"), PlainConsole(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "3 trials, 2 windows each; engine loaded in" in text
    assert "output_tokens_per_s" in text
    assert "document.json  runs/window1-1" in text


def test_layers_that_name_no_metric_are_told_by_the_usual_one() -> None:
    """Those of a manifest that another version wrote."""
    layers = manifest("core", "engine", blocks=2, design="layers")
    events = [Event("done", cell, 1, "b", "now", "ok", {PRIMARY: 100.0}) for cell in ("core", "engine")]
    assert so_far(layers, events) == "output_tokens_per_s so far: core 100, engine 100"
