"""The page of an experiment has the command that repeats it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import yaml

from innerloop.harness import bisect, compare, find_rate
from innerloop.harness.experiments.asking import NOISE
from innerloop.harness.experiments.axes import cell_names, points_of_run, points_of_suite
from innerloop.harness.experiments.bisecting import BISECT
from innerloop.harness.experiments.probes import FIND_RATE
from innerloop.harness.experiments.repeating import commands
from innerloop.harness.profiles.suites import Suite, load_suite
from innerloop.harness.profiles.validation import validate
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.schema.experiment import Manifest
from innerloop.harness.session.arguments import parser as run_parser
from tests.harness.experiments.test_blocks import manifest


def made(design: str, cells: dict[str, list[str]], options: dict[str, Any] | None = None, **more: Any) -> Manifest:
    one = manifest(*cells, blocks=4, design=design, options=options or {}, **more)
    asked = tuple(replace(cell, request={"arguments": cells[cell.name]}) for cell in one.cells)
    return replace(one, cells=asked)


BASE = ["--engine", "vllm"]
SIDES = {"A": BASE, "B": [*BASE, "--set", "max_batch_size=16"]}


def test_a_comparison_names_both_sides_and_what_was_asked() -> None:
    [line] = commands(made("compare", SIDES))
    assert shlex.split(line) == [
        "innerloop", "compare", "--base", "--engine vllm", "--change", "--set max_batch_size=16", "--trials", "4",
    ]  # fmt: skip
    asked = {
        "metric": "latency_s.itl.p99", "margin": 0.03, "margin_source": "given", "why": False, "verify": True,
        "fail_if": ["itl.p99 > 1.05 * baseline"], "other_work": False,
    }  # fmt: skip
    [line] = commands(made("compare", SIDES, asked, until=0.01))
    found = compare.parser().parse_args(shlex.split(line)[2:])
    assert (found.metric, found.margin, found.until, found.trials) == ("latency_s.itl.p99", 0.03, 0.01, 4)
    assert (found.why, found.verify, found.fail_if) == (False, True, ["itl.p99 > 1.05 * baseline"])


def test_a_measurement_of_noise_has_one_side() -> None:
    [line] = commands(made(NOISE, {"A": BASE, "B": BASE}, {"metric": PRIMARY, "why": False}))
    assert line == "innerloop noise --base '--engine vllm' --trials 4"


def test_layers_and_windows_are_named() -> None:
    [line] = commands(made("layers", {name: [f"--layer={name}"] for name in ("core", "http")}))
    assert line == "innerloop run --layers core,http --trials 4"
    cells = {name: [*BASE, f"--workload={name}"] for name in ("users-10", "users-50")}
    [line] = commands(made("trials", cells, together=True))
    assert line == "innerloop run --engine vllm --windows users-10,users-50 --trials 4"


def test_a_search_names_its_limits_and_where_it_began() -> None:
    words = ["--engine=vllm", "--workload=poisson-4", "--slo=ttft_p99=500ms"]
    [line] = commands(made(FIND_RATE, {"probe": words}, {"start": 6.5}))
    found = find_rate.parser().parse_args(shlex.split(line)[2:])
    assert (found.engine, found.workload, found.slo) == ("vllm", "poisson-4", "ttft_p99=500ms")
    assert (found.start, found.probes) == (6.5, 4)


LOSS = {"metric": "latency_s.tpot.p50", "effect": 0.1}


def test_a_bisection_of_releases_names_them() -> None:
    names = ["vllm==0.30.0", "vllm==0.32.0"]
    cells = {name: ["--workload", "users-10", f"--engine={name}"] for name in names}
    [line] = commands(made(BISECT, cells, {**LOSS, "what": "vllm"}))
    found = bisect.parser().parse_args(shlex.split(line)[2:])
    assert (found.engine, found.versions, found.base) == ("vllm", "0.30.0,0.32.0", "--workload users-10")
    assert (found.metric, found.effect, found.trials) == ("latency_s.tpot.p50", 0.1, 4)


def test_a_bisection_of_commits_names_the_checkout_and_how_it_is_built() -> None:
    def source(name: str) -> dict[str, Any]:
        return {"checkout": "/home/me/my vllm", "folder": f"/cache/{name}", "build": [["pip", "install", "-e", "."]]}

    names = ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    cells = {name: [*BASE, f"--engine-python=/cache/{name}/.venv/bin/python"] for name in names}
    sources = {name: source(name) for name in names}
    [line] = commands(made(BISECT, cells, {**LOSS, "what": "/home/me/my vllm", "sources": sources}))
    found = bisect.parser().parse_args(shlex.split(line)[2:])
    assert (str(found.checkout), found.good, found.bad) == ("/home/me/my vllm", *names)
    assert found.build == ["pip install -e ."]
    assert found.base == "--engine vllm '--engine-python={dir}/.venv/bin/python'"


def test_a_grid_of_a_command_line_is_one_command_again() -> None:
    typed = ["--engine", "vllm,torch", "--workload", "users-10", "--set", "max_batch_size=8,16", "--set", "seed=3"]
    points = points_of_run(run_parser().parse_args(typed), ["--workload=users-10", "--set=seed=3"])
    cells = {name: list(point.words) for name, point in zip(cell_names(points), points, strict=True)}
    one = made("sweep", cells, {"suite": None})
    at = tuple(replace(cell, at=point.at) for cell, point in zip(one.cells, points, strict=True))
    [line] = commands(replace(one, cells=at))
    found = run_parser().parse_args(shlex.split(line)[2:])
    assert (found.engine, found.workload, found.trials) == ("vllm,torch", "users-10", 4)
    assert sorted(found.set) == ["max_batch_size=8,16", "seed=3"]
    assert len(points_of_run(found, [])) == 4


def test_a_suite_is_named_and_a_file_is_written_out() -> None:
    suite, source = load_suite("study-small")
    [line] = commands(made("sweep", {"c": BASE}, {"suite": suite.model_dump(mode="json")}))
    assert line == "innerloop suite study-small --trials 4"
    own = suite.model_copy(update={"name": "batch", "exclude": [{"engine": "torch", "workload": "users-10"}]})
    first, *written, end, last = commands(made("sweep", {"c": BASE}, {"suite": own.model_dump(mode="json")}))
    assert end == "END_OF_FILE"
    assert (first, last) == ("cat > batch.yaml <<'END_OF_FILE'", "innerloop sweep batch.yaml --trials 4")
    again = validate(Suite, yaml.safe_load("\n".join(written)), "batch.yaml")
    assert again == own
    assert points_of_suite(again, "batch.yaml") == points_of_suite(own, source)


def test_files_of_the_users_own_are_named_before_the_command() -> None:
    cells = {"a": [*BASE, "--workload", "./few.yaml", "--model=mine/model"], "b": [*BASE, "--workload=./few.yaml"]}
    said, line = commands(made("compare", cells))
    assert said == "# needs ./few.yaml, mine/model; see the page of a run (innerloop report --runs)"
    assert line.startswith("innerloop compare")
    assert len(commands(made("noise", {"a": [*BASE, "--workload", "quick"]}))) == 1
    said = commands(made("noise", {"a": [*BASE, "--workload", "./a\ntouch b\n.yaml"]}))[0]
    assert said.startswith(r"# needs './a\ntouch b\n.yaml'; s")
