"""`runs` and `show` of experiments: a line each, and the comparison again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.harness import runs, show
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.ended import of_states
from innerloop.harness.experiments.folder import locked, read_events, read_manifest, write_manifest
from innerloop.harness.experiments.listing import changed_in, line_of_experiment, list_experiments, varied
from innerloop.harness.result.listing import RunLine, fitting
from innerloop.harness.store import journal
from tests.harness.experiments.test_blocks import event, manifest
from tests.harness.made import SPEEDS, Make, suspect

SPEED = "throughput.output_tokens_per_s"
SPEED_OF = [("A", 100.0), ("B", 150.0)]
OPTIONS = {"metric": SPEED, "margin": 0.02, "other_work": False, "why": False}
RULES = {"fail_if": [f"{SPEED} < 0.97 * baseline"], "allow_undecided": False, "allow_suspect": False}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_experiment_is_one_line(experiment, tmp_path: Path) -> None:
    folder = experiment("e", A=SPEEDS, B=SPEEDS)
    [line] = list_experiments(tmp_path)
    assert (line.folder, line.status, line.experiment) == (str(folder), "ok", "compare, 4 of 4 trials")
    assert (line.engine, line.reason, line.output_tokens_per_s) == ("vllm", None, None)
    assert line.when == "2026-11-28T00:00:00+00:00"
    document = {"figures": [{"ratio": {"value": 1.0344, "low": 1.02, "high": 1.05}}]}
    (folder / "document.json").write_text(json.dumps(document))
    assert line_of_experiment(folder).experiment == "compare, 4 of 4 trials: B / A 1.034 (1.020 to 1.050)"


def test_a_comparison_shows_its_first_side_and_what_the_other_has_beside(experiment, tmp_path: Path) -> None:
    folder = experiment("e", A=SPEEDS[:1], B=SPEEDS[:1])
    asked, base = read_manifest(folder), ["--engine", "vllm"]
    a = replace(asked.cells[0], request={"arguments": base})
    b = replace(asked.cells[1], request={"arguments": [*base, "--set", "max_batch_size=16"]})
    write_manifest(folder, replace(asked, design="compare", cells=(a, b)))
    events = read_events(folder)
    (folder / journal.FILE).unlink()
    journal.append(folder, *reversed(events))  # B ran first
    result = folder / "runs" / "B-1" / "result.json"
    found = json.loads(result.read_text())
    found["spec"]["settings_given"] = {"max_batch_size": 16}
    result.write_text(json.dumps(found))
    line = line_of_experiment(folder)
    assert "max_batch_size" not in line.given
    assert str(line.experiment).startswith("compare --set max_batch_size=16, 1 of ")
    other = replace(b, request={"arguments": ["--x=" + "y" * 99]})
    assert changed_in(replace(asked, design="compare", cells=(a, other))) == f" --x={'y' * 55}…"


def test_an_experiment_of_trials_says_its_figure(experiment, tmp_path: Path) -> None:
    folder = experiment("e", A=SPEEDS)

    def told(*loads: tuple[str, float, float | None, float | None]) -> str | None:
        figures = [
            {"workload": name, "figures": [{"name": SPEED, "mean": {"value": value, "low": low, "high": high}}]}
            for name, value, low, high in loads
        ]
        (folder / "document.json").write_text(json.dumps({"kind": "trials", "loads": figures}))
        return line_of_experiment(folder).experiment

    words = "compare, 4 of 4 trials: output_tokens_per_s "
    assert told(("quick", 1888.0, 1870.0, 1906.0)) == words + "1\u202f888 (1\u202f870 to 1\u202f906)"
    assert told(("quick", 96.42, None, None)) == words + "96.42"
    assert told(("a", 1.5, None, None), ("b", 2.5, None, None)) == words + "a 1.500, b 2.500"


def test_a_grid_names_all_values_and_its_fastest_cell(experiment, tmp_path: Path) -> None:
    folder = experiment("e", A=SPEEDS, B=SPEEDS)
    asked = read_manifest(folder)
    values = {"A": ("vllm", "./chat.yaml", 8), "B": ("torch", "users-10", 16)}
    cells = tuple(
        replace(cell, at=dict(zip(("engine", "workload", "set.max_batch_size"), values[cell.name], strict=True)))
        for cell in asked.cells
    )
    write_manifest(folder, replace(asked, design="sweep", cells=cells))
    figures = [{"name": name, "figures": {SPEED: {"value": v, "low": None, "high": None}}} for name, v in SPEED_OF]
    document = {"kind": "sweep", "metric": SPEED, "cells": [*figures, {"name": "refused", "figures": {}}]}
    (folder / "document.json").write_text(json.dumps(document))
    line = line_of_experiment(folder)
    assert (line.engine, line.version, line.workload) == ("vllm,torch", None, "chat,users-10")
    assert line.given["max_batch_size"] == "8,16"
    assert line.experiment == "sweep, 4 of 4 trials: most output_tokens_per_s 150.0 with B"
    assert fitting([line], {"engine": "torch"}) == [line]
    assert fitting([line], {"engine": "vll"}) == []


def test_models_of_a_grid_are_called_as_their_runs_call_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = manifest("A")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    kept = "hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de"  # as Hugging Face's cache has it
    paths = ("models/Llama-3.1-8B", "models/Llama-3.2-1B/config.json", kept, "./mine.yaml", "llama3-8b", "config.json")
    cells = tuple(replace(made.cells[0], name=f"c{k}", at={"model": path}) for k, path in enumerate(paths))
    line = varied(RunLine("e", "", ""), replace(made, design="sweep", cells=cells))
    assert line.model == "Llama-3.1-8B,Llama-3.2-1B,Qwen3-0.6B,mine,llama3-8b,here"


def test_one_that_is_not_finished_is_running_or_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    folder.mkdir()
    write_manifest(folder, manifest("A", "B", blocks=2))
    journal.append(folder, event(Job("A", 1), "failed"))
    line = line_of_experiment(folder)
    assert (line.status, line.reason, line.experiment) == ("interrupted", "A-1 failed", "compare, 0 of 2 trials")
    with locked(folder):
        assert line_of_experiment(folder).status == "running"
    for job in (Job("B", 1), Job("A", 2), Job("B", 2)):
        journal.append(folder, event(job, "refused"))
    assert line_of_experiment(folder).status == "failed"


def test_one_stands_as_the_worst_of_its_runs_and_says_how_many_are_suspect(experiment, tmp_path: Path) -> None:
    folder = experiment("e", then=suspect, A=SPEEDS[:2], B=SPEEDS[:2])
    line = line_of_experiment(folder)
    assert (line.status, line.runs) == ("suspect", {"suspect": 4})
    assert line.reason == "suspect runs: 4 of 4 (cpu_stolen in A-1)"
    journal.append(folder, event(Job("B", 2), "failed"))
    line = line_of_experiment(folder)
    assert (line.status, line.runs) == ("failed", {"suspect": 3, "failed": 1})
    assert line.reason == "B-2 failed; suspect runs: 3 of 4 (cpu_stolen in A-1)"
    journal.append(folder, replace(event(Job("B", 2), "refused"), reason="no such engine"))
    line = line_of_experiment(folder)
    assert line.status == "partial"
    assert line.reason == "refused runs: 1 of 4 (no such engine); suspect runs: 3 of 4 (cpu_stolen in A-1)"


def test_what_the_runs_of_each_kind_make_of_an_experiment() -> None:
    def of(design: str, kept: bool, **states: int) -> str:
        return of_states(manifest("A", design=design, kept=kept), states)

    assert [of("trials", False, ok=3), of("trials", False, ok=2, suspect=1)] == ["ok", "suspect"]
    assert [of("trials", False, refused=3), of("sweep", True, refused=3)] == ["failed", "failed"]
    assert [of("trials", False, ok=2, refused=1), of("sweep", True, ok=2, refused=1)] == ["partial", "ok"]
    assert [of("sweep", True, ok=2, failed=1), of("find-rate", True, ok=2, failed=1)] == ["failed", "ok"]
    assert [of("find-rate", True, failed=2), of("bisect", True, suspect=2, failed=1)] == ["failed", "suspect"]


def test_one_that_cannot_be_read_is_broken(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "manifest.json").write_text("{")
    assert line_of_experiment(tmp_path / "e").status == "broken"


def test_runs_lists_both_folders_in_order_of_time(experiment, make: Make, tmp_path: Path, capsys) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "runs").mkdir()
    experiment("e", A=SPEEDS, B=SPEEDS).rename(tmp_path / "experiments" / "e")
    make("one").rename(tmp_path / "runs" / "one")
    assert runs.main(["--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)["runs"]
    assert {Path(line["folder"]).name: line["experiment"] for line in found} == {
        "e": "compare, 4 of 4 trials",
        "one": None,
    }
    assert runs.main([]) == EXIT_OK
    out = capsys.readouterr().out
    assert "runs in runs and experiments;" in out
    assert "experiment" in out.splitlines()[0]
    assert runs.main(["runs"]) == EXIT_OK
    assert "experiment" not in capsys.readouterr().out


def test_show_prints_the_comparison_and_its_conditions_again(experiment, tmp_path: Path, capsys) -> None:
    (tmp_path / "experiments").mkdir()
    slow = [0.8 * one for one in SPEEDS]
    experiment("e", options={**OPTIONS, **RULES}, A=SPEEDS, B=slow).rename(tmp_path / "experiments" / "e")
    assert show.main(["e"]) == EXIT_OK
    out = capsys.readouterr().out
    assert "B vs. A" in out
    assert "Gate: FAILED" in out
    assert show.main(["e", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["kind"] == "gate"
    assert show.main(["e", "--trace"]) == EXIT_REFUSED


def test_show_prints_what_noise_was_measured(experiment, capsys) -> None:
    folder = experiment("e", options=OPTIONS, key="one", A=SPEEDS, B=SPEEDS)
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**document, "design": "noise"}))
    assert show.main([str(folder)]) == EXIT_OK
    assert "How much two identical runs differ" in capsys.readouterr().out
