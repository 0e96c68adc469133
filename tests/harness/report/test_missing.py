"""What is missing is a dash in every report and page, never a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from innerloop.harness.pages import comparison as comparison_page
from innerloop.harness.pages import frontier, machine, speed, why
from innerloop.harness.pages import sweep as sweep_page
from innerloop.harness.pages.thin import plain
from innerloop.harness.report import bisect, comparison, find_rate, gate, goodput, layers, run, sweep
from innerloop.harness.schema.bisect import Bisect
from innerloop.harness.schema.comparison import ComparedFigure, Comparison, Estimate
from innerloop.harness.schema.gate import CheckedCondition
from innerloop.harness.schema.goodput import Goodput
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.sweep import SweepCell
from innerloop.harness.schema.telemetry import Host
from innerloop.harness.schema.waterfall import Waterfall
from tests.harness.filled import filled

ROOM = Path(find_rate.__file__).parent.parent


def printed(what: Any) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as found:
        console.print(what)
    return found.get()


def condition(of: Estimate) -> str:
    return gate.interval(filled(CheckedCondition, {"value": of, "relative": True, "figure": "ttft.p50"}))


def kept(of: Estimate) -> str:
    one = {"figure": "ttft", "quantile": 0.99, "limit_s": 0.5, "share": of.value, "low": of.low, "high": of.high}
    return printed(goodput.goodput(filled(Goodput, {"limits": [one]})))


def bisected(of: Estimate) -> str:
    version = {"name": "B", "probability": 0.5, "trials": 1, "ratio": of}
    found = filled(Bisect, {"versions": [version], "verdict": "culprit", "loss": of, "culprit": "B"})
    return bisect.verdict(found) + printed(bisect.versions(found))


@pytest.mark.parametrize(
    ("shown", "neither", "only_high"),
    [
        (find_rate.kept, "97.0 %", "97.0 % (--98.0)"),
        (condition, "-", "- to 0.980"),
        (kept, "97.0 %              -", "- to 98.0 %"),
        (bisected, "97.0 % slower, with probability -", "97.0 % slower (- to 98.0 %)"),
        (comparison.interval, "-", "- to 980 ms"),
        (sweep.interval, "0.970", "0.970 (- to 0.980)"),
        (frontier.interval, "0.970", "0.970 (- – 0.980)"),
        (why.interval, "-", "- – 980 ms"),
        (comparison_page.bounds, "-", "- – 0.980"),
        (lambda of: speed.interval((of.low, of.high)), "-", "- – 0.980"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_an_end_of_an_interval_that_is_missing_is_a_dash(shown: Any, neither: str, only_high: str) -> None:
    assert neither in re.sub(" {15,}", " " * 14, shown(Estimate(0.97, None, None)))
    assert "(" not in shown(Estimate(0.97, None, None)), "there is no interval"
    assert only_high in shown(Estimate(0.97, None, 0.98))


def test_no_code_takes_a_number_for_a_missing_end() -> None:
    wrong = {
        f"{path.name}: {line.strip()}"
        for path in ROOM.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\.(low|high)\s+or\s+[\d.-]", line)
    }
    assert wrong == set()


def test_a_host_whose_counters_are_missing_is_dashes() -> None:
    found = dict(run._host(filled(Host, {"covered_s": 1.0})))
    assert found == {
        "worker": "- of - cores",
        "rest of host": "harness - cores, other processes - cores, steal -",
    }
    page = [words for _, words in machine.host(filled(Result, {"telemetry": {"host": {"covered_s": 1.0}}}))]
    assert page[:2] == ["- of - cores", "- cores, steal -"]


def test_a_rung_above_a_missing_one_adds_a_dash() -> None:
    rung = {"name": "http", "kind": "layer", "s_per_output_token": 0.2, "runs": [], "trials": 1}
    assert "http" in printed(layers.rungs(filled(Waterfall, {"rungs": [rung]})))
    cells = printed(layers.rungs(filled(Waterfall, {"rungs": [rung]}))).splitlines()[1].split()
    assert cells == ["http", "-", "200", "ms", "-", "-", "-"]


def test_a_sweeps_tiles_name_cells_that_have_the_figure() -> None:
    slow = filled(SweepCell, {"name": "slow", "state": "done", "figures": {sweep.TTFT: Estimate(2.0, None, None)}})
    unknown = filled(SweepCell, {"name": "unknown", "state": "done", "figures": {}})
    found = [(tile.label.text, tile.detail) for tile in sweep_page.tiles([unknown, slow])]
    assert found == [("lowest TTFT, p50", "slow")]


def test_a_comparison_without_a_ratio_gives_no_direction() -> None:
    row = filled(ComparedFigure, {"name": "ttft.p50", "ratio": {}, "a": 1.0, "verdict": "undecided", "unit": "s"})
    words = comparison_page.verdict(filled(Comparison, {"figures": [row], "margin": 0.02}))
    assert "cannot be compared" in words
    assert "lower" not in words


def test_a_missing_value_of_a_chart_is_null() -> None:
    assert plain([1.23456789, None, float("nan")]) == [1.23457, None, None]
