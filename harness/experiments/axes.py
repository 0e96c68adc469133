"""Several values of an option make a grid: what `innerloop run` and a sweep's file ask for, as points, one a run."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.environments.versions import expanded
from innerloop.harness.profiles.suites import Suite, Values
from innerloop.harness.profiles.validation import parse_yaml
from innerloop.harness.session.arguments import parser

MOST_POINTS = 10_000
LONGEST = 100  # characters of a cell's name
NAMED = ("engine", "model", "workload")  # options of `innerloop run` whose values may be several, with commas
OPTIONS = (
    *NAMED, "weights", "layer", "device", "seed", "engine_python", "environment", "trust_remote_code", "cpus",
    "harness_cpus", "timeout", "load_timeout", "hang_timeout", "ceilings", "device_telemetry", "device_hz", "slo",
)  # fmt: skip
ASSIGNED = ("set", "engine_arg", "workload_arg", "model_arg", "label")  # options that take NAME=VALUE
SWITCHES = ("ceilings", "device_telemetry")  # options that take the word off, which YAML reads as false
OF_ALL = ("trials", "out", "json", "strict", "fresh", "budget", "dry_run", "metric", "html")  # not of one of the runs


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a grid. at: its values of what differs between the points; words: its command line."""

    at: Mapping[str, Any]
    words: tuple[str, ...]


def axes_of(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The options of a command line that have several values, by dotted path: `engine`, `set.max_batch_size`.

    Raises:
        Refused: a value is empty or named twice.
    """
    found = {name: values_of(getattr(arguments, name), name) for name in NAMED if getattr(arguments, name)}
    for item in arguments.set:
        name, _, text = item.partition("=")
        if not text.lstrip().startswith(("[", "{", "'", '"')):
            found[f"set.{name.strip()}"] = split(text, f"--set {name.strip()}")
    return {path: values for path, values in found.items() if len(values) > 1}


def values_of(text: str, name: str) -> list[str]:
    """The values that an option names, ranges of an engine's versions written out; a path that is there is one."""
    if os.path.exists(text):
        return [text]
    values = split(text, f"--{name}")
    return expanded(values) if name == "engine" else values


def split(text: str, flag: str) -> list[str]:
    """
    Raises:
        Refused: a value is empty or named twice.
    """
    values = [value.strip() for value in text.split(",")]
    if len(values) > 1 and "" in values:
        raise Refused(f"{flag}: {text!r} has an empty value; use a list such as {flag} a,b")
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise Refused(f"{flag}: {text!r} names {twice[0]} twice")
    return values


def points_of_run(arguments: argparse.Namespace, words: Sequence[str]) -> list[Point]:
    """Every combination of the values. `words`: the rest of the command line, which all points share.

    Raises:
        Refused: as `axes_of`, or there are too many.
    """
    axes: dict[str, list[Any]] = {
        path: [parse_yaml(one, f"--set {path}") if path.startswith("set.") else one for one in values]
        for path, values in axes_of(arguments).items()
    }
    return [Point(at, (*words, *words_of_values(at))) for at in combined(axes)]


def points_of_suite(suite: Suite, source: str) -> list[Point]:
    """Every point of a suite's grids and list that is not excluded, each once, in the order of the file.

    Raises:
        Refused: a path that no option has, a value that cannot be one, or nothing is left.
    """
    grids = suite.grid if isinstance(suite.grid, list) else [suite.grid] if suite.grid else []
    for given in (suite.base, *grids, *suite.points, *suite.exclude):
        for path in given:
            check_path(path, source)
    known: dict[str, Values] = {}
    for at in (*(at for grid in grids for at in combined(ranged(grid, source))), *suite.points):
        whole = {**suite.base, **at}
        if not any(matches(whole, rule) for rule in suite.exclude):
            known.setdefault(json.dumps(whole, sort_keys=True), dict(at))
    if not known:
        raise Refused(f"{source}: no points are left; give grid or points, or exclude fewer")
    found = list(known.values())
    paths = list(dict.fromkeys(path for at in found for path in at))
    differing = [path for path in paths if len({json.dumps(at.get(path)) for at in found}) > 1] or paths[:1]
    return [
        Point({path: at[path] for path in differing if path in at}, words_of_values({**suite.base, **at}))
        for at in found
    ]


def ranged(grid: Mapping[str, Any], source: str) -> dict[str, list[Any]]:
    """A grid's axes, each with its values.

    Raises:
        Refused: an axis is no list, or has no values.
    """
    for path, values in grid.items():
        if not isinstance(values, list) or not values:
            raise Refused(f"{source}: grid.{path} must be a list of values")
    return {path: expanded(values) if path == "engine" else values for path, values in grid.items()}


def combined(axes: Mapping[str, Sequence[Any]]) -> list[Values]:
    """Every combination, the last axis fastest.

    Raises:
        Refused: there are too many.
    """
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MOST_POINTS:
        raise Refused(f"these axes have {count} combinations; the limit is {MOST_POINTS}")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def matches(at: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Whether a point has all values of a rule; where the rule has a list, one of them."""
    return all(at.get(path) in (value if isinstance(value, list) else [value]) for path, value in rule.items())


def check_path(path: str, source: str) -> None:
    """
    Raises:
        Refused: it is no option of a run.
    """
    head, dot, rest = path.partition(".")
    if head in ASSIGNED and rest:
        return
    if head in ASSIGNED or dot or head not in OPTIONS:
        known = [*OPTIONS, *(f"{name}.NAME" for name in ASSIGNED)]
        raise Refused(f"{source}: a run has no option {path!r}{nearest(path, known)}")


def words_of_values(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The flags of `innerloop run` for values by dotted path."""
    words = []
    for path, value in values.items():
        head, _, rest = path.partition(".")
        flag = f"--{head.replace('_', '-')}"
        if head == "trust_remote_code":
            words += [flag] if value else []
        else:
            text = "off" if value is False and head in SWITCHES else text_of(value, quoted=False)
            words.append(f"{flag}={rest}={text_of(value)}" if rest else f"{flag}={text}")
    return tuple(words)


def text_of(value: Any, quoted: bool = True) -> str:
    """A value as it is typed; `quoted`: so that it is read back as the same YAML value."""
    if not isinstance(value, str):
        return json.dumps(value)
    if not quoted:
        return value
    try:
        return value if parse_yaml(value, "") == value else json.dumps(value)
    except Refused:
        return json.dumps(value)


def parsed(words: Iterable[str]) -> argparse.Namespace:
    """A point's command line.

    Raises:
        Refused: a value that its option does not take.
    """
    line = parser()

    def refuse(message: str) -> Any:
        raise Refused(line.said(message))

    line.error = refuse  # type: ignore[method-assign]
    found: argparse.Namespace = line.parse_args(list(words))
    return found


def cell_names(points: Sequence[Point]) -> list[str]:
    """A folder's name for each point, of its values, with a number where another one has it. Values that go with
    others, so that points differ without them, are left out."""
    telling = list(dict.fromkeys(path for point in points for path in point.at))
    for path in [path for path in telling if path not in NAMED]:
        fewer = [one for one in telling if one != path]
        if len({json.dumps([point.at.get(one) for one in fewer]) for point in points}) == len(points):
            telling = fewer
    parts = [[_part(path, point.at[path]) for path in telling if path in point.at] for point in points]
    names = ["-".join(filter(None, words))[:LONGEST].rstrip("-._") or "cell" for words in parts]
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        while seen[name] > 1 and f"{name}.{seen[name]}" in names:  # a point whose values say so
            seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return found


def _part(path: str, value: Any) -> str:
    name = path.rpartition(".")[2]
    text = str(value)
    text = os.path.splitext(os.path.basename(text.rstrip("/")))[0] if "/" in text else text
    text = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")
    return text if path in NAMED else f"{name}-{text}"
