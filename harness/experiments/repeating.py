"""The command lines that repeat an experiment, from its manifest."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from innerloop.harness.experiments.asking import COMPARE, NOISE
from innerloop.harness.experiments.axes import text_of, words_of_values
from innerloop.harness.experiments.bisecting import BISECT
from innerloop.harness.experiments.grid import SWEEP
from innerloop.harness.experiments.probes import FIND_RATE
from innerloop.harness.experiments.requested import LAYERS
from innerloop.harness.pages.repeat import written
from innerloop.harness.profiles import names as known_names
from innerloop.harness.profiles.suites import FAMILY, Suite, load_suite
from innerloop.harness.profiles.validation import validate
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.schema.experiment import Manifest

SUFFIXES = (".yaml", ".yml")
SWITCHES = ("verify", "verified", "other_work", "allow_undecided", "allow_suspect")  # options of both names


def commands(manifest: Manifest) -> list[str]:
    """The command lines that repeat an experiment; before them which files of the user's own they need."""
    paths = dict.fromkeys(path for words in _cells(manifest) for path in _own_files(words))
    # A line break in a path would end the comment.
    files = ", ".join(path if path.isprintable() else repr(path) for path in paths)
    said = [f"# needs {files}; see the page of a run (innerloop report --runs)"] if files else []
    return [*said, *LINES.get(manifest.design, _of_runs)(manifest)]


def _own_files(words: Sequence[str]) -> Iterator[str]:
    """The files of workloads and models that a command line names."""
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        flag, _, value = word.partition("=")
        if flag in ("--workload", "--model"):
            yield from (one for one in (value or following).split(",") if "/" in one or one.endswith(SUFFIXES))


def _compared(manifest: Manifest) -> list[str]:
    a, b = _cells(manifest)
    base, change = (a, b[len(a) :]) if b[: len(a)] == a else (a, b)
    why = [] if manifest.options.get("why", True) else ["--no-why"]
    sides = ["--base", shlex.join(base), "--change", shlex.join(change)]
    return [_line("compare", *sides, *_trials(manifest), *why)]


def _noise(manifest: Manifest) -> list[str]:
    return [_line("noise", "--base", shlex.join(_cells(manifest)[0]), *_trials(manifest))]


def _found_rate(manifest: Manifest) -> list[str]:
    [words] = _cells(manifest)
    return [_line("find-rate", *words, "--start", f"{manifest.options['start']:g}", "--probes", str(manifest.blocks))]


def _bisected(manifest: Manifest) -> list[str]:
    cells, options = _cells(manifest), manifest.options
    names, first = [cell.name for cell in manifest.cells], cells[0]
    source = (options.get("sources") or {}).get(names[0])
    if source is None:  # the last word of each is its --engine
        versions = ",".join(name.partition("==")[2] for name in names)
        words, base = [options["what"], versions], first[:-1]
    else:
        base = [word.replace(source["folder"], "{dir}") for word in first]
        words = ["--checkout", source["checkout"], "--good", names[0], "--bad", names[-1]]
        words += [word for built in source["build"] for word in ("--build", shlex.join(built))]
    asked = ["--base", shlex.join(base), "--metric", options["metric"], "--effect", f"{options['effect'] * 100:g}%"]
    return [_line("bisect", *words, *asked, "--trials", str(manifest.blocks))]


def _swept(manifest: Manifest) -> list[str]:
    """Of options with several values the command line; of a suite its name; of a file the file, too."""
    trials = ["--trials", str(manifest.blocks)]
    data = manifest.options.get("suite")
    if data is None:
        return [_line("run", *_axes_and_rest(manifest), *trials)]
    suite = validate(Suite, data, "the manifest")
    if suite.name in known_names(FAMILY) and load_suite(suite.name)[0] == suite:
        return [_line("suite", suite.name, *trials)]
    file = f"{suite.name}.yaml"
    return [*written(file, suite.model_dump(mode="json", exclude_defaults=True)), _line("sweep", file, *trials)]


def _axes_and_rest(manifest: Manifest) -> Iterator[str]:
    """`--engine=a,b`, and what all cells have."""
    first = (*manifest.measured, *manifest.cells)[0]
    varied = words_of_values(first.at)
    yield from (word for word in map(str, first.request.get("arguments", ())) if word not in varied)
    for path in first.at:
        values = dict.fromkeys(words_of_values({path: cell.at[path]})[0] for cell in manifest.cells if path in cell.at)
        one = words_of_values({path: first.at[path]})[0]
        flag = one.removesuffix(text_of(first.at[path], quoted="." in path))
        yield flag + ",".join(word.removeprefix(flag) for word in values)


def _of_runs(manifest: Manifest) -> list[str]:
    """Layers, trials and windows."""
    cells = _cells(manifest)
    layered = manifest.design == LAYERS
    words = without(cells[0] if cells else [], "--layer" if layered else None, manifest.together)
    names = ",".join(cell.name for cell in manifest.cells)
    words += ["--layers", names] if layered else []
    if manifest.together:
        same = len({tuple(cell) for cell in cells}) == 1
        words += ["--windows", str(len(cells)) if same else names]
    return [_line("run", *words, *_trials(manifest))]


LINES: Mapping[str, Callable[[Manifest], list[str]]] = {
    COMPARE: _compared,
    NOISE: _noise,
    FIND_RATE: _found_rate,
    BISECT: _bisected,
    SWEEP: _swept,
}


def _line(verb: str, *words: str) -> str:
    return shlex.join(["innerloop", verb, *words])


def _cells(manifest: Manifest) -> list[list[str]]:
    """The arguments of each cell."""
    return [[str(word) for word in cell.request.get("arguments", ())] for cell in manifest.cells]


def _trials(manifest: Manifest) -> Iterator[str]:
    """How many, when they end, what is asked of them, and what is looked at beside."""
    options: Mapping[str, Any] = manifest.options
    yield from ("--trials", str(manifest.blocks))
    if manifest.until is not None:
        yield from ("--until", f"{manifest.until * 100:g}%")
    if options.get("metric", PRIMARY) != PRIMARY:
        yield from ("--metric", options["metric"])
    if options.get("margin_source") == "given":
        yield from ("--margin", f"{options['margin'] * 100:g}%")
    for name in ("profiler", "profiler_steps"):
        if options.get(name):
            yield from (f"--{name.replace('_', '-')}", str(options[name]))
    for name in SWITCHES:
        if options.get(name):
            yield f"--{name.replace('_', '-')}"
    for condition in options.get("fail_if") or ():
        yield from ("--fail-if", condition)


def without(words: Sequence[str], flag: str | None, together: bool) -> list[str]:
    """A command line without a flag and its value; windows of several workloads have each their own `--workload`."""
    dropped = {flag, "--workload" if together else None} - {None}
    places = [place for place, word in enumerate(words) if word in dropped]
    left_out = {place for at in places for place in (at, at + 1)}
    kept = [word for place, word in enumerate(words) if place not in left_out]
    return [word for word in kept if not any(word.startswith(f"{one}=") for one in dropped)]
