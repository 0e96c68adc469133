"""`find-rate` as an experiment: its journal alone says which load is next and what has been found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.search import Probe, Tally, search
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.finding import figures_of, found_rate, last_probe, least_rate, words_at
from innerloop.harness.experiments.folder import read_events, write_manifest
from innerloop.harness.experiments.listing import status
from innerloop.harness.experiments.probes import (
    DISTURBED,
    DOUBTED,
    FIND_RATE,
    LOAD,
    OVERLOADED,
    PROBE,
    ended,
    figure_of,
    next_probe,
    state,
)
from innerloop.harness.experiments.runner import Outcome, carry_out
from innerloop.harness.find_rate import main
from innerloop.harness.profiles import WorkloadProfile, load_model, load_workload, parse_seeds
from innerloop.harness.profiles.validation import validate
from innerloop.harness.report.find_rate import amount, answer
from innerloop.harness.result.codes import doubt
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.schema.experiment import Manifest
from innerloop.harness.store import result_file
from innerloop.harness.store.typed import document, typed
from innerloop.harness.workloads import build
from tests.harness.experiments.test_blocks import manifest

FINISHED = Path(__file__).parents[2] / "golden" / "first_version" / "ladder" / "core-1"

LENGTHS = {
    "name": "w", "prompt": {"tokens": {"kind": "uniform", "min": 4, "max": 9}},
    "output": {"tokens": {"kind": "uniform", "min": 4, "max": 9}},
}  # fmt: skip


def asked(most: int = 15) -> Manifest:
    options: dict[str, Any] = {
        "metric": PRIMARY, "over": "rate_per_s", "start": 4.0, "engine": "e", "model": "m", "workload": "w",
        "limits": [{"name": "ttft_p95", "figure": "ttft", "quantile": 0.95, "limit_s": 0.5}],
    }  # fmt: skip
    return manifest(PROBE, blocks=most, design=FIND_RATE, kept=True, options=options)


def run(folder: Path, most: int = 15, truth: float = 17.0, stop: int | None = None) -> list[float]:
    loads: list[float] = []

    def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        load = state(asked(most), read_events(folder)).next
        assert load is not None
        if len(loads) == stop:
            return [Outcome("interrupted")]
        loads.append(load)
        if load > 60:
            return [Outcome("failed", reason="out of memory", figures={LOAD: load})]
        kept = min(1.0, 0.95 + 2 * (1 - load / truth))
        figures: dict[str, float | None] = {
            figure_of("ttft_p95", "judged"): 1000.0, figure_of("ttft_p95", "kept"): round(max(kept, 0) * 1000),
            figure_of("ttft_p95", "clustering"): 1.0, LOAD: load, OVERLOADED: float(load > 30 and truth < 100),
            PRIMARY: 10 * load,
        }  # fmt: skip
        return [Outcome("done", "ok", figures)]

    carry_out(folder, execute, "b1", lambda *_: None, choose=next_probe)
    return loads


def test_what_is_found_is_in_the_document(tmp_path: Path) -> None:
    write_manifest(tmp_path, asked())
    loads = run(tmp_path)
    found = found_rate(tmp_path)
    assert found.state == "found"
    assert found.answer is not None
    assert 15.5 < found.answer <= 17.0
    assert (found.confirmed, found.refuted, found.probes) == (True, True, len(loads))
    at = next(one for one in found.loads if one.load == 32)
    assert (at.holds, at.overloaded, at.output_tokens_per_s) == (False, True, 320.0)
    assert at.kept["ttft_p95"].value == 0.0
    assert status(tmp_path, asked(), read_events(tmp_path)) == "ok"
    assert "limits met; not met at" in answer(found)
    assert typed(type(found), document(found)) == found


def test_before_a_probe_it_is_said_what_the_last_one_showed(tmp_path: Path) -> None:
    write_manifest(tmp_path, asked())
    assert last_probe(asked(), []) is None
    assert run(tmp_path, stop=1) == [4.0]
    events = read_events(tmp_path)[:2]
    assert last_probe(asked(), events) == "4 requests/s: limits met; requests within: ttft_p95 1000 of 1000"
    known = {**events[1].figures, figure_of("ttft_p95", "judged"): 12.0, figure_of("ttft_p95", "kept"): 11.0}
    few = [replace(events[1], figures=known)]
    assert last_probe(asked(), few) == "4 requests/s: undecided; requests within: ttft_p95 11 of 12"
    slowed = [replace(events[1], figures={**events[1].figures, DISTURBED: 1.0})]
    words = "4 requests/s: this probe does not count: something other than the engine slowed it"
    assert last_probe(asked(), slowed) == f"{words}; requests within: ttft_p95 1000 of 1000"
    failed = [replace(events[1], event="failed", reason="out of memory")]
    assert last_probe(asked(), failed) == "the probe did not finish: out of memory"


def test_a_load_has_its_unit() -> None:
    loads = (1, "users"), (2.0, "users"), (1, "rate_per_s")
    assert [amount(*one) for one in loads] == ["1 user", "2 users", "1 requests/s"]


def test_a_disturbed_probe_does_not_count_and_a_doubted_one_makes_the_whole_suspect(tmp_path: Path) -> None:
    write_manifest(tmp_path, asked())
    limit = {figure_of("ttft_p95", part): value for part, value in (("judged", 1000.0), ("clustering", 1.0))}

    def figures(load: float, share: float, slowed: bool) -> dict[str, float | None]:
        return {LOAD: load, figure_of("ttft_p95", "kept"): share, DISTURBED: float(slowed), DOUBTED: 0.0, **limit}

    def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        events = read_events(tmp_path)
        load = state(asked(), events).next
        assert load is not None
        first_at_4 = load == 4 and not ended(events)
        share = 100.0 if first_at_4 or load > 5 else 1000.0
        return [Outcome("done", "suspect", figures(load, share, first_at_4))]

    carry_out(tmp_path, execute, "b1", lambda *_: None, choose=next_probe)
    found = found_rate(tmp_path)
    at = next(one for one in found.loads if one.load == 4)
    assert (at.holds, at.disturbed, len(at.runs)) == (True, 1, 2)
    assert (found.state, found.status) == ("found", "ok")
    assert "4 requests/s: 1 of 2 probes not counted" in found.notes[0]
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_text().splitlines()
    lines[-1] = lines[-1].replace(f'"{DOUBTED}": 0.0', f'"{DOUBTED}": 1.0')
    journal.write_text("\n".join(lines) + "\n")
    assert found_rate(tmp_path).status == "suspect"


def test_what_a_probe_tells_of_its_run_is_kept() -> None:
    known = result_file.read(FINISHED)
    slowed = (doubt("other_processes", "0.3 cores", "stop them"), doubt("overloaded", "it grew", "lower it"))
    for reasons, expected in (
        ((), (0, 0)),
        (slowed, (1, 0)),
        (slowed[1:], (0, 0)),
        ((doubt("drift", "faster", "longer"),), (0, 1)),
    ):
        figures = figures_of(replace(known, reasons=reasons), 4.0)
        assert (figures[DISTURBED], figures[DOUBTED]) == expected


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    for folder in (tmp_path / "whole", tmp_path / "cut"):
        write_manifest(folder, asked())
    whole = run(tmp_path / "whole")
    first = run(tmp_path / "cut", stop=4)
    assert status(tmp_path / "cut", asked(), read_events(tmp_path / "cut")) == "interrupted"
    assert first + run(tmp_path / "cut") == whole
    assert found_rate(tmp_path / "cut").answer == found_rate(tmp_path / "whole").answer


def test_a_probe_that_fails_is_a_load_that_fails_and_is_named(tmp_path: Path) -> None:
    write_manifest(tmp_path, asked(30))
    run(tmp_path, most=30, truth=1000.0)
    found = found_rate(tmp_path)
    assert found.answer is not None
    assert found.fails is not None
    assert found.answer <= 60 < found.fails
    assert any("did not finish" in note for note in found.notes)
    assert next(one for one in found.loads if one.load == found.fails).aborted == ("out of memory",)


def test_used_up_probes_are_an_answer(tmp_path: Path) -> None:
    write_manifest(tmp_path, asked(2))
    run(tmp_path, most=2)
    found = found_rate(tmp_path)
    assert (found.state, found.answer) == ("unresolved", 8.0)
    assert answer(found) == "unresolved after 2 of 2 probes: limits met at 8.00 requests/s so far"


def test_a_repeated_probe_of_a_load_has_requests_of_its_own() -> None:
    assert words_at(["--engine=x"], "rate_per_s", 4.25, 2) == [
        "--engine=x", "--workload-arg=load.rate_per_s=4.25", "--seed=3"
    ]  # fmt: skip
    assert words_at(["--seed=7"], "users", 12.0, 2) == ["--workload-arg=load.users=12", "--seed=9"]
    assert words_at(["--seed=1,schedule=7"], "users", 1.0, 1)[-1] == "--seed=2,schedule=8"


def test_the_rate_is_not_halved_to_where_three_probes_have_too_few_requests() -> None:
    load = load_workload("poisson-4", ["load.duration_s=12"]).load
    least = least_rate(load, [0.95, 0.9])  # 73 requests decide that a p95 is met
    assert least == 73 / 36
    assert least_rate(load_workload("users-10").load, [0.99]) == 0.0
    probes: list[Probe] = []
    while (load_now := search(probes, 8.0, 15, least=least).next) is not None:
        probes.append(Probe(load_now, {"ttft_p95": Tally(0.95, 100, 0, 1.0)}))
    assert [one.load for one in probes] == [8.0, 4.0]
    assert search(probes, 8.0, 15, least=least).state == "below"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workload=poisson-4"], "--slo is missing; give limits"),
        (["--slo=ttft_p99=1s", "--workload=quick"], "neither a rate nor users to vary"),
        (["--slo=ttft_p99=1s", "--trials=3"], "cannot be combined with find-rate"),
        (["--slo=tfft_p99=1s"], "no latency 'tfft'"),
        (["--slo=ttft_p99=1s", "--workload=users-10", "--start=3.7"], "--start: 3.7 is not a number of users"),
        (["--slo=ttft_p99=1s", "--workload=users-10", "--start=0.5"], "--start: 0.5 is not a number of users"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--engine=torch", *words]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_first_probes_of_two_rates_have_the_same_requests_and_arrivals_scaled() -> None:
    slow, fast = (
        build(validate(WorkloadProfile, {**LENGTHS, "load": {"kind": "open", "rate_per_s": rate, "requests": 50}}, "w"),
              load_model("llama-tiny"), parse_seeds(3), 2048)
        for rate in (4.0, 8.0)
    )  # fmt: skip
    assert slow.output_lens.tolist() == fast.output_lens.tolist()
    assert np.array_equal(slow.prompt_tokens, fast.prompt_tokens)
    np.testing.assert_allclose(slow.due_ns, 2 * fast.due_ns, atol=2)
