"""Runs and experiments that are there, compared."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from shlex import quote

from innerloop.harness import store
from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.asking import Asked
from innerloop.harness.experiments.compared import blocks_of, compared
from innerloop.harness.experiments.comparison import Member, Question, comparison
from innerloop.harness.experiments.folder import RUNS, holds_experiment, read_events, read_manifest, runs_done
from innerloop.harness.result.compared_run import read_compared
from innerloop.harness.schema.comparison import Comparison
from innerloop.harness.store.find import find_run

SAME = "A and B are the same runs, so nothing can differ"


def compared_runs(a: str, b: str | None, asked: Asked) -> Comparison:
    """B against A, each a run or an experiment of one thing; `a` alone: an experiment with both sides.

    Raises:
        Refused: there is no such run, or they cannot be compared.
    """
    if b is None:
        path = find_run(a)
        if not holds_experiment(path):
            raise Refused(f"{a} is not an experiment; also name the run to compare it with")
        question = asked.question(blocks_of(path)[0][0])
        return compared(path, question if asked.margin is not None else _as_made(path, question))
    one, two = members(a), members(b)
    found = comparison(list(zip(one, two, strict=False)), asked.question(one[0]))
    same = os.path.realpath(find_run(a)) == os.path.realpath(find_run(b))
    return replace(found, notes=(*found.notes, *_notes(len(one), len(two)), *([SAME] if same else [])))


def _as_made(folder: Path, question: Question) -> Question:
    """The question with the margin that the experiment was made with, where it asks about the same figure."""
    options = read_manifest(folder).options
    if options.get("metric") != question.metric or "margin" not in options:
        return question
    return replace(question, margin=options["margin"], margin_source=options.get("margin_source", "given"))


def members(name: str) -> list[Member]:
    """The run that a user names, by its path, by its name in runs/, or as `last`; or those of an experiment of one
    thing, in their order.

    Raises:
        Refused: there is none, it has no result, or it holds runs of several things.
    """
    path = find_run(name)
    if holds_experiment(path):
        return _trials(name)
    found = store.open(path)
    if isinstance(found, store.StoredLadder):
        raise Refused(f"{name} contains one run per layer; name one of its subfolders")
    if found.kind == "interrupted":
        raise Refused(f"{found.folder} has no result", f"innerloop show {quote(str(found.folder))} rebuilds it")
    if found.kind != "run":
        raise Refused(f"{found.path} contains no run with a result")
    return [Member(found.folder, read_compared(found.path))]


def _trials(name: str) -> list[Member]:
    folder = find_run(name)
    manifest = read_manifest(folder)
    if len(manifest.cells) > 1:
        cells = " and ".join(cell.name for cell in manifest.cells)
        raise Refused(
            f"{name} contains runs of {cells}: give it as the only argument, or name one of the folders in "
            f"{folder / RUNS}"
        )
    done = runs_done(folder, read_events(folder))
    if not done:
        raise Refused(
            f"no run of {name} has finished", f"innerloop resume {quote(str(folder))} finishes the experiment"
        )
    return [Member(run, read_compared(run)) for run in done]


def _notes(one: int, two: int) -> list[str]:
    """What is against blocks of runs that were not measured side by side."""
    out = []
    if min(one, two) > 1:
        out.append("A and B were measured one after the other: every ratio includes whatever else changed in between")
    if one != two:
        side, left = ("A", one - two) if one > two else ("B", two - one)
        told = f"1 run of {side} is" if left == 1 else f"{left} runs of {side} are"
        out.append(f"{told} not used: runs are compared in pairs")
    return out
