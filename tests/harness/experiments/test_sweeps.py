"""A grid's journal becomes its document: rows for all cells, whatever became of them, and who is better than whom."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.experiments.blocks import Job, jobs_left
from innerloop.harness.experiments.folder import read_events, write_manifest
from innerloop.harness.experiments.runner import Execute, Outcome, carry_out, next_jobs
from innerloop.harness.experiments.sweeps import PER_USER, sweep_of, swept
from innerloop.harness.report.sweep import doubts, loads_of, print_sweep, unbeaten
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.schema.experiment import Cell, Event, Manifest
from innerloop.harness.store import journal
from innerloop.harness.store.typed import document, typed
from tests.harness.experiments.test_blocks import event, manifest

ENGINES = {"fast": 1.5, "slow": 1.0}
USERS = {"users-1": (100.0, 100.0), "users-8": (400.0, 50.0)}  # tokens/s, and those of a user


def cell(name: str, **changes: Any) -> Cell:
    engine, _, users = name.partition("-")
    return Cell(name, {}, name, {"engine": engine, "workload": users}, work="w", **changes)


def grid(blocks: int = 3, **changes: Any) -> Manifest:
    cells = tuple(cell(f"{engine}-{users}", process=engine) for engine in ENGINES for users in USERS)
    asked = manifest(
        blocks=blocks, design="sweep", order="random", kept=True, options={"metric": PRIMARY, "suite": None}
    )
    return replace(asked, cells=cells, **changes)


def figures(job: Job) -> dict[str, float | None]:
    engine, _, users = job.cell.partition("-")
    speed, of_a_user = USERS[users]
    by = ENGINES[engine] * (1 + 0.01 * job.block)
    return {PRIMARY: speed * by, PER_USER: of_a_user * by}


def done(job: Job, **changes: Any) -> Event:
    return replace(event(job), status="ok", figures=figures(job), **changes)


def all_jobs(of: Manifest) -> list[Job]:
    return jobs_left(of, [], "b1")


def test_every_cell_is_a_row_with_its_interval_and_the_faster_engine_dominates() -> None:
    found = sweep_of(grid(), [done(job) for job in all_jobs(grid())])
    rows = {one.name: one for one in found.cells}
    assert (found.status, found.counts, found.trials, found.axes) == ("ok", {"done": 4}, 3, ("engine", "workload"))
    fast = rows["fast-users-8"].figures[PRIMARY]
    # 400 x 1.5 x (1.01, 1.02, 1.03): mean 612, standard deviation 6, t(.975, 2) = 4.3027, / sqrt(3)
    assert fast.value == pytest.approx(612)
    assert fast.high == pytest.approx(612 + 4.30265 * 6 / 3**0.5, rel=1e-5)
    assert rows["slow-users-8"].dominated_by == ("fast-users-8",)
    assert rows["slow-users-1"].dominated_by == ("fast-users-1",)
    assert [name for name, one in rows.items() if one.frontier] == ["fast-users-1", "fast-users-8"]
    assert typed(type(found), document(found)) == found


def test_each_reason_to_doubt_runs_is_told_once_with_the_cells_that_have_it() -> None:
    jobs = all_jobs(grid())
    codes = {jobs[0].name: ("other_processes", "not_settled"), jobs[1].name: ("other_processes",)}
    events = [done(job, doubts=codes.get(job.name, ())) for job in jobs]
    found = sweep_of(grid(), events)
    rows = {one.name: one.doubts for one in found.cells}
    assert rows[jobs[0].cell]["not_settled"] == 1
    names = [one.name for one in found.cells if one.doubts]
    assert [*doubts(found)] == [
        f"other processes used the CPUs (2 of 12 runs: {', '.join(names)})",
        f"the speed was still changing when the warm-up ended (1 of 12 runs: {jobs[0].cell})",
    ]
    assert typed(type(found), document(found)) == found


def test_a_suspect_run_marks_its_cell_whatever_else_became_of_it() -> None:
    jobs = all_jobs(grid())
    events = [replace(done(job), status="suspect") if job == jobs[0] else done(job) for job in jobs[:-1]]
    last = jobs[-1]
    other = next(job for job in jobs if job.cell == last.cell and job != last)
    events = [replace(one, status="suspect") if one.job == other.name else one for one in events]
    found = sweep_of(grid(), [*events, event(last, "failed")])
    rows = {one.name: one for one in found.cells}
    assert (rows[last.cell].state, rows[last.cell].suspect, rows[jobs[0].cell].state) == ("failed", 1, "suspect")
    shown = io.StringIO()
    print_sweep(found, console=PlainConsole(file=shown, width=120))
    assert f"{last.cell}* (failed)" in shown.getvalue()
    assert "suspect runs: 2 of 12" in shown.getvalue()


def test_quantiles_of_too_few_values_are_unknown_and_say_why() -> None:
    values = {"latency_s.ttft": 20}
    found = sweep_of(grid(1), [done(job, values=values) for job in all_jobs(grid(1))])
    assert found.cells[0].too_few["latency_s.ttft.p99"] == ("p99 needs at least 100 values in each run; fewest: 20")


def test_where_every_cell_was_refused_nothing_is_ok() -> None:
    assert sweep_of(grid(), [event(job, "refused") for job in all_jobs(grid())]).status == "failed"


def test_throughput_is_that_of_a_device() -> None:
    asked = grid()
    two = replace(asked, cells=tuple(replace(one, devices=2) for one in asked.cells))
    found = sweep_of(two, [done(job) for job in all_jobs(two)])
    row = next(one for one in found.cells if one.name == "fast-users-8")
    assert row.tokens_per_s_per_device is not None
    assert row.tokens_per_s_per_device.value == pytest.approx(306)


def test_one_process_has_no_interval_and_nothing_is_said_to_dominate() -> None:
    found = sweep_of(grid(1), [done(job) for job in all_jobs(grid(1))])
    assert {one.dominated_by for one in found.cells} == {()}
    assert any("--trials 3 would be enough" in note for note in found.notes)


def test_a_cell_whose_engine_was_replaced_in_part_stands_outside() -> None:
    asked = grid()
    marked = replace(
        asked, cells=tuple(replace(c, substituted="kernels" if "fast" in c.name else None) for c in asked.cells)
    )
    found = sweep_of(marked, [done(job) for job in all_jobs(marked)])
    assert {one.name: one.frontier for one in found.cells} == {
        "fast-users-1": None, "fast-users-8": None, "slow-users-1": True, "slow-users-8": True,
    }  # fmt: skip
    assert "not ranked, because a part of the engine was replaced: fast-users-1 and 1 more (kernels)" in found.notes
    assert {loads_of(found, curve) for curve in found.curves} == {"users-1 to users-8"}
    assert {one.dominated_by for one in found.cells} == {()}


def test_other_work_is_not_compared() -> None:
    asked = grid()
    apart = replace(asked, cells=tuple(replace(c, work=c.at["engine"]) for c in asked.cells))
    found = sweep_of(apart, [done(job) for job in all_jobs(apart)])
    assert {one.dominated_by for one in found.cells} == {()}


def test_failed_refused_and_missing_cells_are_rows_with_their_reasons() -> None:
    asked = replace(grid(1), cells=(*grid(1).cells, cell("none-users-1", refused="it has no GPU")))
    jobs = [Job(one.name, 1) for one in asked.measured]
    events = [
        done(jobs[0]),
        replace(event(jobs[1], "failed"), reason="out of memory"),
        replace(event(jobs[2], "refused"), reason="too long"),
    ]
    found = sweep_of(asked, events)
    assert [(one.state, one.reasons) for one in found.cells] == [
        ("done", ()),
        ("failed", ("out of memory",)),
        ("refused", ("too long",)),
        ("to come", ()),
        ("refused", ("it has no GPU",)),
    ]
    assert found.status == "failed"
    assert Job("none-users-1", 1) not in all_jobs(asked)
    text = printed(found)
    assert "failed: out of memory (fast-users-8)" in text
    assert "refused: it has no GPU (none-users-1)" in text


def test_published_figures_stand_beside_ours_with_what_differs() -> None:
    published = {
        "title": "A study", "source": "https://example.org", "date": "2024", "conditions": {"hardware": "one A100"},
        "figures": [{"at": {"engine": "fast", "workload": "users-8"}, "figure": "output_tokens_per_s",
                     "words": "up to 4 000", "low": None, "high": 4000.0}],
    }  # fmt: skip
    asked = grid(options={"metric": PRIMARY, "suite": {"name": "s", "title": "t", "published": published}})
    found = sweep_of(asked, [done(job) for job in all_jobs(asked)])
    assert next(one.published for one in found.cells if one.published)[0].high == 4000
    text = printed(found)
    assert "published: A study, 2024, https://example.org" in text
    assert "one A100" in text
    assert "up to 4 000" in text


def printed(found: Any) -> str:
    out = io.StringIO()
    print_sweep(found, None, PlainConsole(file=out, width=110))
    return out.getvalue()


def test_the_report_has_the_table_at_fixed_interactivity() -> None:
    text = printed(sweep_of(grid(), [done(job) for job in all_jobs(grid())]))
    # the slow engine gives a user 51 to 102 tokens/s, the fast one 76.5 to 153
    assert "unreachable" not in text.split("fixed interactivity")[1].split("fast")[0]
    [line] = [line for line in text.splitlines() if line.split()[:1] == ["slow"]]
    assert "(" in line
    assert "document.json" not in text


def test_cells_of_a_process_are_windows_of_it_in_random_order() -> None:
    asked = grid(20, seed=3)
    orders = set()
    for block in range(1, 21):
        events = [done(job) for job in all_jobs(asked) if job.block < block]
        first = next_jobs(asked, events, "b1")
        assert len(first) == 2
        assert len({job.cell.partition("-")[0] for job in first}) == 1
        orders.add(tuple(job.cell for job in first))
    assert len(orders) == 4


def test_what_is_done_is_kept_over_a_restart_of_the_machine() -> None:
    asked = grid()
    jobs = all_jobs(asked)
    events = [done(job) for job in jobs[:5]]
    assert jobs_left(asked, events, "b2") == jobs[5:]
    found = sweep_of(asked, [*events, *(done(job, boot="b2") for job in jobs[5:])])
    assert found.boots == 2
    assert any("2 boots" in note for note in found.notes)


def nothing(*_: Any) -> None:
    pass


def test_jobs_that_a_failed_process_did_not_reach_are_run_again(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        calls.append([job.name for job in jobs])
        if len(calls) == 1:
            return [Outcome("failed", reason="it crashed"), Outcome("unreached")]
        return [Outcome("done", "ok", figures(job)) for job in jobs]

    write_manifest(tmp_path, grid(1))
    assert carry_out(tmp_path, execute, "b1", nothing)
    assert len(calls) == 3
    assert calls[1] == calls[0][1:]
    assert swept(tmp_path).counts == {"failed": 1, "done": 3}


def test_no_process_begins_after_the_budget_and_the_rest_is_to_come(tmp_path: Path) -> None:
    write_manifest(tmp_path, grid())
    refuse: Execute = lambda jobs, runs: pytest.fail("a process began")  # noqa: E731
    assert carry_out(tmp_path, refuse, "b1", nothing, until_s=0.0)
    assert swept(tmp_path).status == "partial"


def test_a_journal_is_read_once_however_many_cells_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    whole = journal.events

    def counted(folder: Path, typed: Any) -> list[Event]:
        reads.append(folder)
        return whole(folder, typed)

    monkeypatch.setattr(journal, "events", counted)
    write_manifest(tmp_path, grid())
    carry_out(tmp_path, lambda jobs, runs: [Outcome("done", "ok", figures(job)) for job in jobs], "b1", nothing)
    assert len(reads) == 1
    assert len(read_events(tmp_path)) == 24


def test_without_intervals_a_cell_is_below_the_frontier_and_no_more() -> None:
    for blocks, words in ((1, "below the frontier"), (3, "not dominated at 95 %")):
        slower = {"slow-users-1": {PRIMARY: 100.0, PER_USER: 100.0}}
        jobs = all_jobs(grid(blocks))
        noise = {job: 0.5 * (job.block - 2) * 100 for job in jobs}  # so wide that nothing dominates
        events = [
            replace(
                done(job),
                figures={
                    name: value + noise[job]
                    for name, value in (slower.get(job.cell, figures(job))).items()
                    if value is not None
                },
            )
            for job in jobs
        ]
        rows = {one.name: one for one in sweep_of(grid(blocks), events).cells}
        below = rows["slow-users-1"]
        assert (below.frontier, below.dominated_by) == (False, ())
        assert unbeaten(below) == words
