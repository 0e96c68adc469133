"""Several values of an option are a grid, and so is a sweep's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.axes import (
    Point,
    axes_of,
    cell_names,
    parsed,
    points_of_run,
    points_of_suite,
    text_of,
    words_of_values,
)
from innerloop.harness.profiles.suites import Suite
from innerloop.harness.profiles.validation import parse_assignments
from innerloop.harness.session.arguments import parser


def suite(**given: Any) -> Suite:
    return Suite(name="s", **given)


def test_options_with_commas_are_axes_and_others_are_not() -> None:
    line = parser().parse_args(
        [
            "--engine=vllm,torch",
            "--workload=users-10",
            "--set=max_batch_size=8,16",
            "--set=seed=1",
            "--seed=1,schedule=7",
        ]
    )
    assert axes_of(line) == {"engine": ["vllm", "torch"], "set.max_batch_size": ["8", "16"]}
    points = points_of_run(line, ["--seed=1"])
    assert [point.at for point in points] == [
        {"engine": "vllm", "set.max_batch_size": 8},
        {"engine": "vllm", "set.max_batch_size": 16},
        {"engine": "torch", "set.max_batch_size": 8},
        {"engine": "torch", "set.max_batch_size": 16},
    ]
    assert points[1].words == ("--seed=1", "--engine=vllm", "--set=max_batch_size=16")
    assert cell_names(points)[1] == "vllm-max_batch_size-16"


def test_a_path_with_a_comma_that_is_there_is_one_value(tmp_path: Path) -> None:
    path = tmp_path / "a,b.yaml"
    path.write_text("")
    assert axes_of(parser().parse_args(["--workload", str(path)])) == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--engine=vllm,,torch"], "empty value"), (["--set=max_batch_size=8,8"], "names 8 twice")],
)
def test_an_axis_has_no_empty_value_and_none_twice(words: list[str], told: str) -> None:
    with pytest.raises(Refused, match=told):
        axes_of(parser().parse_args(words))


def test_a_file_has_grids_points_and_exclusions() -> None:
    points = points_of_suite(
        suite(
            base={"device": "cpu"},
            grid={"engine": ["vllm", "torch"], "workload_arg.load.users": [1, 2]},
            points=[{"engine": "vllm", "workload": "quick"}, {"engine": "vllm", "workload_arg.load.users": 1}],
            exclude=[{"engine": ["torch"], "workload_arg.load.users": 2}],
        ),
        "f.yaml",
    )
    assert [point.at for point in points] == [
        {"engine": "vllm", "workload_arg.load.users": 1},
        {"engine": "vllm", "workload_arg.load.users": 2},
        {"engine": "torch", "workload_arg.load.users": 1},
        {"engine": "vllm", "workload": "quick"},
    ]
    assert points[0].words == ("--device=cpu", "--engine=vllm", "--workload-arg=load.users=1")
    assert parsed(points[3].words).workload == "quick"


def test_an_exclusion_sees_what_all_runs_have() -> None:
    with pytest.raises(Refused, match="no points are left"):
        points_of_suite(suite(base={"device": "cpu"}, grid={"engine": ["vllm"]}, exclude=[{"device": "cpu"}]), "f")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"grid": {"enginee": ["vllm"]}}, "a run has no option 'enginee'; did you mean 'engine'"),
        ({"grid": {"set": [1]}}, "no option 'set'"),
        ({"grid": {"engine.x": [1]}}, "no option 'engine.x'"),
        ({"grid": {"engine": "vllm"}}, "grid.engine must be a list"),
        ({"grid": {"engine": []}}, "grid.engine must be a list of values"),
        ({"grid": {"set.seed": list(range(101)), "set.max_batch_size": list(range(1, 101))}}, "10100 combinations"),
        ({}, "no points are left"),
    ],
)
def test_what_a_file_has_wrong_is_named(given: Any, told: str) -> None:
    with pytest.raises(Refused, match=told):
        points_of_suite(suite(**given), "f.yaml")


@pytest.mark.parametrize(
    "value", [8, True, None, 1.5, "fp8", "true", "8", {"kind": "uniform", "min": 1}, [1, 2], "a: b"]
)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    [word] = words_of_values({"engine_arg.x": value})
    assert parse_assignments([word.removeprefix("--engine-arg=")], "")["x"] == value
    assert text_of("a b", quoted=False) == "a b"


def test_off_is_the_word_that_yaml_reads_as_false() -> None:
    words = words_of_values({"ceilings": False, "device_telemetry": False, "set.prefix_caching": False})
    assert words == ("--ceilings=off", "--device-telemetry=off", "--set=prefix_caching=false")


def test_names_leave_out_what_goes_with_something_else_and_are_told_apart() -> None:
    points = [
        Point({"workload": "a/few.yaml", "set.prefix_caching": False}, ()),
        Point({"workload": "users-10", "set.prefix_caching": True}, ()),
        Point({"workload": "b/few.yaml", "set.prefix_caching": False}, ()),
    ]
    assert cell_names(points) == ["few", "users-10", "few.2"]


def test_a_value_that_its_option_does_not_take_is_refused() -> None:
    with pytest.raises(Refused, match="--timeout"):
        parsed(["--timeout=soon"])


def test_no_two_cells_have_one_name_whatever_their_values_look_like() -> None:
    values = ["a", "a!", "a.2", "a?", ["x/b"]]
    names = cell_names([Point({"label.k": value}, ()) for value in values])
    assert names == ["k-a", "k-a.3", "k-a.2", "k-a.4", "k-b"]
