"""The pages of experiments: what is drawn is what their documents say."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.folder import write_manifest
from innerloop.harness.experiments.paged import pages_of
from innerloop.harness.pages.frontier import MOST_NAMES
from innerloop.harness.pages.parts import Callout, Chart, Page, Table
from innerloop.harness.pages.probes import bisect_page, found_rate_page, noise_page
from innerloop.harness.pages.sweep import sweep_page
from innerloop.harness.pages.trials import trials_page
from innerloop.harness.report.sweep import curve_name, pareto, remarks
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.schema.bisect import Bisect
from innerloop.harness.schema.find_rate import FindRate
from innerloop.harness.schema.noise import Noise
from innerloop.harness.schema.sweep import Curve, Sweep
from innerloop.harness.schema.trials import Trials
from innerloop.harness.store import journal
from tests.golden.cases import STORED
from tests.harness.experiments.test_blocks import event, manifest
from tests.harness.filled import filled


def chart(page: Page, name: str) -> Chart:
    return next(one for one in page.charts() if one.name == name)


def table(page: Page, section: str) -> Table:
    parts = next(one for one in page.sections if one.name == section).parts
    return next(part for part in parts if isinstance(part, Table))


def test_each_layer_begins_where_the_one_below_ended() -> None:
    [page] = pages_of([str(STORED / "ladder")])
    columns = chart(page, "waterfall").columns
    assert columns["rung"] == ["bound", "core", "engine", "async", "http"]
    assert columns["from"][0] == 0
    assert columns["from"][1:] == pytest.approx(columns["to"][:-1], rel=1e-4)
    assert columns["series"][2] == "faster than the layer below"
    assert sum(columns["added"]) == pytest.approx(columns["to"][-1], rel=1e-4)
    notes = [part.note for section in page.sections for part in section.parts if isinstance(part, Table)]
    assert not any("░" in note for note in notes)  # a terminal's bar, which no page has


def test_the_runs_of_an_experiment_may_have_pages_too() -> None:
    pages = pages_of([str(STORED / "ladder")], with_runs=True)
    assert [page.name for page in pages] == ["ladder", "core-1", "engine-1", "async-1", "http-1"]


def estimate(value: float, by: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": None if by is None else value - by, "high": None if by is None else value + by}


def test_trials_show_each_process_the_mean_and_its_interval() -> None:
    runs = [
        {"folder": f"runs/trial-{k}", "status": "ok", "reasons": [], "output_tokens_per_s": speed}
        for k, speed in enumerate((100.0, 104.0, 96.0), 1)
    ]
    figure = {
        "name": "throughput.output_tokens_per_s", "unit": "tokens/s", "better": "higher", "mean": estimate(100.0, 9.9),
        "low": 96.0, "high": 104.0, "half_width": 0.099, "scatter": 0.04, "doubtful": False,
    }  # fmt: skip
    load = {
        "workload": "few", "processes": 3, "windows": 1, "figures": [figure], "missing": [], "runs": runs,
        "too_few": {"latency_s.ttft.p99": "p99 needs at least 100 values in each run; fewest: 8"},
    }  # fmt: skip
    found = filled(Trials, {
        "status": "ok", "metric": figure["name"], "trials": 3, "load_s": [1.0, 1.0, 1.0], "loads": [load], "notes": [],
        "engine": {"name": "vllm", "version": "1"}, "model": "m", "innerloop_version": "0",
    })  # fmt: skip
    page = trials_page(found, "t")
    dots = chart(page, "runs-0")
    assert dots.columns["v"] == [100.0, 104.0, 96.0]
    assert dots.others["mean"] == {"mean": [100.0], "low": [90.1], "high": [109.9]}
    assert page.verdict == "few: 100 tokens/s ± 9.9 % over 3 processes."
    figures = table(page, "load0")
    assert (figures.rows[1].label.text, {*figures.rows[1].cells}) == ("TTFT p99", {"-"})
    assert "p99 needs at least 100 values in each run; fewest: 8" in figures.note


def cell(name: str, device: float, user: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "at": {"set.x": name}, "state": "done", "reasons": [], "processes": 3, "runs": [], "devices": 1,
        "figures": {"throughput.output_tokens_per_s": estimate(device, 5.0)}, "published": [], "dominated_by": [],
        "tokens_per_s_per_device": estimate(device, 5.0), "interactivity": estimate(user, 1.0), "suspect": 0,
        "dominators": len(more.get("dominated_by", ())), "doubts": {}, **more,
    }  # fmt: skip


SWEEP: dict[str, Any] = {
    "status": "ok", "title": "three", "axes": ["set.x"], "trials": 3, "counts": {"done": 4}, "curves": [], "notes": [],
    "machine": {},
}  # fmt: skip


def test_a_sweep_shows_the_frontier_and_the_boxes_of_the_intervals() -> None:
    cells = [
        cell("a", 100.0, 50.0, frontier=True),
        cell("b", 200.0, 20.0, frontier=True, state="suspect", suspect=1, runs=["r1", "r2", "r3"], doubts={"drift": 1}),
        cell("c", 80.0, 10.0, frontier=False, dominated_by=["a", "b"]),
        cell("d", 90.0, 60.0, frontier=None, substituted="the attention", interactivity=None),
    ]
    found = filled(Sweep, {**SWEEP, "cells": cells})
    page = sweep_page(found, "s")
    [said] = [part for part in page.aside if isinstance(part, Callout)]
    assert said.lines == ["Step time drifted during the window (1 of 3 runs: b)"]
    curve = Curve({"engine": "vllm", "set.max_batch_size": 16}, ("a", "b"), ())
    assert curve_name(curve) == "vllm, max_batch_size=16"
    drawn = chart(page, "pareto")
    assert drawn.columns["cell"] == ["a", "b", "c"]  # d is not ranked
    assert drawn.columns["series"] == ["on the frontier", "on the frontier", "dominated at 95 %"]
    assert drawn.columns["name"] == ["a", "b", "c"]
    assert [layer.get("mark", {}).get("type") for layer in drawn.spec["layer"]][-2:] == [None, "point"]  # over names
    assert drawn.columns["top"] == [105.0, 205.0, 85.0]  # above the boxes
    many = [cell(f"n{k}", 300.0 - k, 5.0, frontier=k == 0) for k in range(MOST_NAMES + 1)]
    named = chart(sweep_page(replace(found, cells=filled(Sweep, {**SWEEP, "cells": many}).cells), "s"), "pareto")
    assert [name for name in named.columns["name"] if name] == ["n0"]
    assert (drawn.columns["x0"][0], drawn.columns["x1"][0]) == (49.0, 51.0)
    assert (drawn.columns["y0"][1], drawn.columns["y1"][1]) == (195.0, 205.0)
    assert "Highest throughput: b*, 200 (195 – 205)" in page.verdict
    assert [row.label.text for row in table(page, "cells").rows] == ["a", "b*", "c", "d"]
    assert "Suspect runs: 1 of 3" in table(page, "cells").note.replace("*: s", "S")
    assert "dominated by a and 1 more" in [row.cells[-1] for row in table(page, "pareto").rows]


def test_of_very_many_cells_the_frontier_is_printed_and_what_is_left_out_is_said() -> None:
    """The table had the 60 slowest for a user, none of them on the frontier."""
    cells = [cell(f"c{k}", 10.0, 1.0 + k, frontier=k >= 98) for k in range(100)]
    found = filled(Sweep, {
        "status": "ok", "title": "many", "axes": ["set.x"], "trials": 3, "counts": {"done": 100}, "cells": cells,
        "curves": [], "notes": [], "machine": {},
    })  # fmt: skip
    text = io.StringIO()
    PlainConsole(file=text, width=200).print(pareto(found))
    shown = [line.split()[0] for line in text.getvalue().splitlines() if line.split()[0].startswith("c")]
    assert shown == [*(f"c{k}" for k in range(58)), "c98", "c99"]
    assert next(remarks(found)).startswith("60 of 100 cells")
    page = sweep_page(found, "s")
    assert chart(page, "cells").note.startswith("The first 60 of 100 cells; the table has all.")
    assert len(table(page, "cells").rows) == 100
    assert "60 of" not in table(page, "cells").note


def probed(load: float, holds: bool | None, kept: dict[str, Any] | None) -> dict[str, Any]:
    return {"load": load, "holds": holds, "kept": {"ttft_p99": kept} if kept else {}, "runs": ["r"], "goodput": load,
            "suspect": int(load == 8.0)}  # fmt: skip


def test_a_search_shows_each_load_with_the_share_that_kept_the_limit() -> None:
    loads = [
        probed(8.0, False, {"value": 0.5, "low": 0.4, "high": 0.6}),
        probed(4.0, True, {"value": 1.0, "low": 0.992, "high": 1.0}),
        probed(6.0, None, None),  # no probe of it has ended
    ]
    limit = {"figure": "ttft", "quantile": 0.99, "limit_s": 0.5}
    found = filled(FindRate, {
        "status": "ok", "over": "rate_per_s", "state": "found", "answer": 4.0, "fails": 8.0, "loads": loads,
        "notes": ["<b>"], "limits": [limit], "workload": "few", "probes": 3,
    })  # fmt: skip
    page = found_rate_page(found, "f")
    assert page.verdict == "4.00 requests/s: limits met; not met at 8.00."
    drawn = chart(page, "kept0")
    assert (drawn.columns["part"], drawn.columns["v"]) == (["4", "8"], [1.0, 0.5])
    assert drawn.columns["series"] == ["met", "not met"]
    assert [(row.label.text, row.cells[1]) for row in table(page, "loads").rows] == [
        ("4", "100.0 % (99.2-100.0)"), ("6", "-"), ("8 *", "50.0 % (40.0-60.0)"),
    ]  # fmt: skip
    assert "suspect probes: 1 of 3" in table(page, "loads").note
    assert all(column.text for column in table(page, "loads").columns)
    assert "goodput: requests/s that met all limits." in table(page, "loads").note
    unknown = replace(found, loads=tuple(replace(one, kept={}) for one in found.loads))
    assert found_rate_page(replace(found, state="unresolved"), "f").status == "unresolved"
    assert found_rate_page(unknown, "f").charts() == []  # a chart without a mark cannot be drawn


def test_a_bisection_shows_how_likely_each_version_is_the_culprit() -> None:
    versions = [
        {"name": "1.0", "probability": 0.01, "trials": 0, "ratio": None, "untestable": None},
        {"name": "1.1", "probability": 0.98, "trials": 6, "ratio": estimate(0.8, 0.05), "untestable": None},
        {"name": "1.2", "probability": 0.01, "trials": 0, "ratio": None, "untestable": "does not install"},
    ]
    found = filled(Bisect, {
        "status": "ok", "what": "vllm", "metric": "throughput.output_tokens_per_s", "verdict": "culprit",
        "culprit": "1.1", "probability": 0.98, "loss": {"value": 0.2, "low": 0.15, "high": 0.25}, "trials": 6,
        "versions": versions, "notes": [],
    })  # fmt: skip
    page = bisect_page(replace(found, why=None), "b")
    assert page.verdict == "1.1: 20.0 % slower (15.0 % to 25.0 %), with probability 98.0 %."
    assert chart(page, "likely").columns["part"] == ["none", "1.1", "1.2"]
    rows = {row.label.text: list(row.cells) for row in table(page, "versions").rows}
    assert rows["1.1"] == ["98.0 %", "0.800", "0.750 – 0.850", "6"]
    assert rows["1.2"][0] == "does not install"


def test_noise_shows_what_comparisons_can_find() -> None:
    metric = "throughput.output_tokens_per_s"
    found = filled(Noise, {
        "metric": metric, "margin": 0.02, "trials": 8, "figures": {metric: {"neighbours": 0.01, "processes": 0.02}},
        "load": {"engine": "vllm", "model": "llama-tiny", "workload": "few"}, "notes": [],
        "status": "suspect", "too_few": {"latency_s.ttft.p99": "p99 needs at least 100 values in each run; fewest: 8"},
    })  # fmt: skip
    page = noise_page(found, "n")
    assert (page.status, page.tone) == ("suspect", "warn")
    assert (table(page, "scatter").rows[1].label.text, table(page, "scatter").rows[1].cells) == ("TTFT p99", ["-", "-"])
    assert "p99 needs at least 100 values in each run; fewest: 8" in table(page, "scatter").note
    assert page.title == "vllm · llama-tiny · few"
    assert table(page, "scatter").rows[0].cells == ["1.0 %", "2.9 %"]  # exp(0.02 x sqrt 2) - 1
    assert [row.label.text for row in table(page, "planning").rows][:2] == ["3", "5"]
    assert [one.text for one in table(page, "planning").columns] == ["Trials", "detectable", "interval"]  # no minutes


def test_runs_that_were_made_before_or_are_gone_take_no_page_from_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"metric": PRIMARY, "suite": None}
    write_manifest(tmp_path, manifest("a", "b", blocks=1, design="sweep", kept=True, options=options))
    made = replace(event(Job("a", 1)), status="ok", figures={PRIMARY: 1.0}, run=str(STORED / "ladder" / "core-1"))
    journal.append(tmp_path, made, replace(event(Job("b", 1)), status="ok", figures={PRIMARY: 1.0}))
    pages = pages_of([str(tmp_path)], with_runs=True)
    assert [page.name for page in pages[1:]] == ["core-1"]
    assert f"{tmp_path / 'runs' / 'b-1'} is left out" in capsys.readouterr().err
