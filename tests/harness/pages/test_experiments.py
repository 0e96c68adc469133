"""The pages of experiments: what is drawn is what their documents say."""

from __future__ import annotations

from typing import Any

import pytest

from innerloop.harness.experiments.paged import pages_of
from innerloop.harness.pages.parts import Chart, Page, Table
from innerloop.harness.pages.sweep import sweep_page
from innerloop.harness.pages.trials import trials_page
from innerloop.harness.schema.sweep import Sweep
from innerloop.harness.schema.trials import Trials
from tests.golden.cases import STORED
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
    load = {"workload": "few", "processes": 3, "windows": 1, "figures": [figure], "missing": [], "runs": runs}
    found = filled(Trials, {
        "status": "ok", "metric": figure["name"], "trials": 3, "load_s": [1.0, 1.0, 1.0], "loads": [load], "notes": [],
        "engine": {"name": "vllm", "version": "1"}, "model": "m", "innerloop_version": "0",
    })  # fmt: skip
    page = trials_page(found, "t")
    dots = chart(page, "runs-0")
    assert dots.columns["v"] == [100.0, 104.0, 96.0]
    assert dots.others["mean"] == {"mean": [100.0], "low": [90.1], "high": [109.9]}
    assert page.verdict == "few: 100 tokens/s ± 9.9 % over 3 processes."


def cell(name: str, device: float, user: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "at": {"set.x": name}, "state": "done", "reasons": [], "processes": 3, "runs": [], "devices": 1,
        "figures": {"throughput.output_tokens_per_s": estimate(device, 5.0)}, "published": [], "dominated_by": [],
        "tokens_per_s_per_device": estimate(device, 5.0), "interactivity": estimate(user, 1.0), **more,
    }  # fmt: skip


def test_a_sweep_shows_the_frontier_and_the_boxes_of_the_intervals() -> None:
    cells = [
        cell("a", 100.0, 50.0, frontier=True),
        cell("b", 200.0, 20.0, frontier=True),
        cell("c", 80.0, 10.0, frontier=False, dominated_by=["a", "b"]),
        cell("d", 90.0, 60.0, frontier=None, substituted="the attention", interactivity=None),
    ]
    found = filled(Sweep, {
        "status": "ok", "title": "three", "axes": ["set.x"], "trials": 3, "counts": {"done": 4}, "cells": cells,
        "curves": [], "notes": [], "machine": {},
    })  # fmt: skip
    page = sweep_page(found, "s")
    drawn = chart(page, "pareto")
    assert drawn.columns["cell"] == ["a", "b", "c"]  # d is not ranked
    assert drawn.columns["series"] == ["on the frontier", "on the frontier", "dominated at 95 %"]
    assert (drawn.columns["x0"][0], drawn.columns["x1"][0]) == (49.0, 51.0)
    assert (drawn.columns["y0"][1], drawn.columns["y1"][1]) == (195.0, 205.0)
    assert "Highest throughput: b, 200 (195 – 205)" in page.verdict
    assert [row.label.text for row in table(page, "cells").rows] == ["a", "b", "c", "d"]
    assert "dominated by a and 1 more" in [row.cells[-1] for row in table(page, "pareto").rows]
