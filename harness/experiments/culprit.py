"""`innerloop bisect`: the experiment, how its runs are made, and its document."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from innerloop.harness import __version__
from innerloop.harness.analysis.bisection import CERTAINTY, NONE, loss, merged
from innerloop.harness.analysis.statistics import paired_ratio
from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.bisecting import BISECT, State, better_of, next_pair, state
from innerloop.harness.experiments.blocks import Job, latest
from innerloop.harness.experiments.commits import Candidate, built, make
from innerloop.harness.experiments.comparison import Block, Member, Question, comparison, estimate
from innerloop.harness.experiments.ended import standing, states_of
from innerloop.harness.experiments.enough import refuse_too_few
from innerloop.harness.experiments.folder import RUNS, read_events, read_manifest
from innerloop.harness.experiments.local import Way, run_grid
from innerloop.harness.experiments.sides import described, words_of
from innerloop.harness.result.compared_run import read_compared
from innerloop.harness.result.identity import key_of, new_id
from innerloop.harness.schema.bisect import VERSION as DOCUMENT_VERSION
from innerloop.harness.schema.bisect import Bisect, VersionProbed
from innerloop.harness.schema.comparison import Comparison, Estimate
from innerloop.harness.schema.experiment import VERSION, Cell, Event, Manifest
from innerloop.harness.session.arguments import parser, request_of
from innerloop.harness.spec.resolve import resolve

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine

WAY: Way = built((run_grid, next_pair))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for. effect: the smallest relative loss; trials: pairs of runs at most."""

    metric: str
    effect: float
    trials: int
    certainty: float = CERTAINTY


def refuse_too_few_versions(what: str, candidates: Sequence[Candidate]) -> None:
    """Raises: Refused: there are fewer than two."""
    if len(candidates) < 2:
        names = ", ".join(one.name for one in candidates) or "none"
        raise Refused(f"bisect needs at least two versions of {what}; got {names}")


def bisection_of(what: str, candidates: Sequence[Candidate], asked: Asked, machine: Machine) -> Manifest:
    """The experiment that looks for the culprit among the candidates, the first of which is the anchor.

    Raises:
        Refused: the first, or all others, cannot be run.
        InstallFailed: the first commit cannot be built.
    """
    cells = []
    for k, one in enumerate(candidates):
        if one.source is not None and k == 0:
            make(Path(one.source["checkout"]), one.source["commit"], Path(one.source["folder"]), one.source["build"])
        elif one.source is not None:  # not built yet: that it cannot be run shows when its turn comes
            cells.append(Cell(one.name, {"arguments": list(one.words)}, one.name, {"version": one.name}))
            continue
        arguments = parser().parse_args(list(one.words))
        try:
            spec = resolve(request_of(arguments), machine).describe()
            refuse_too_few([asked.metric], spec)
            key = key_of(spec)
            refused = None
        except Refused as error:
            if k == 0:
                raise
            key, refused = one.name, str(error)
        cells.append(Cell(one.name, {"arguments": list(one.words)}, key, {"version": one.name}, refused=refused))
    usable = [cell for cell in cells if cell.refused is None]
    if len(usable) < 2:
        raise Refused(f"only {usable[0].name} can be run: {cells[-1].refused}")
    return Manifest(
        schema_version=VERSION,
        innerloop_version=__version__,
        id=new_id(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        design=BISECT,
        cells=tuple(usable),
        blocks=asked.trials,
        order="random",
        seed=secrets.randbits(32),
        machine=described(machine),
        options={
            "folder": os.getcwd(),
            "what": what,
            "metric": asked.metric,
            "effect": asked.effect,
            "certainty": asked.certainty,
            "sources": {one.name: one.source for one in candidates if one.source is not None},
            "left_out": {cell.name: cell.refused for cell in cells if cell.refused is not None},
        },
        kept=True,
    )


def releases_of(engine: str, names: Sequence[str], base: str) -> list[Candidate]:
    """Each release of an engine, as a candidate."""
    words = words_of(base, "--base")
    return [Candidate(name, (*words, f"--engine={name}")) for name in names]


def bisected(folder: Path) -> Bisect:
    """What a bisection's blocks so far say.

    Raises:
        Refused: it is no experiment, or what it holds cannot be read.
    """
    manifest, events = read_manifest(folder), read_events(folder)
    now, options = state(manifest, events), manifest.options
    names = [cell.name for cell in manifest.cells]
    over = now.open is None
    culprit = None if now.found in (None, NONE) else names[now.found]
    lost = None
    if now.found is not None and now.found != NONE:
        lost = loss(now.found, len(names), now.seen, options["effect"])
    found: Any = "undecided" if now.found is None else "no culprit" if now.found == NONE else "culprit"
    return Bisect(
        schema_version=DOCUMENT_VERSION,
        innerloop_version=__version__,
        created=events[-1].time if events else manifest.created,
        status=standing(manifest, events, over),
        what=options["what"],
        metric=options["metric"],
        better="higher" if better_of(options["metric"]) == "higher" else "lower",
        effect=options["effect"],
        certainty=options["certainty"],
        verdict=found,
        culprit=culprit,
        before=None if now.before is None else names[now.before],
        probability=float(merged(now.posterior.probabilities, now.untestable).max()),
        loss=None if lost is None else Estimate(*(-math.expm1(-one) for one in lost)),
        noise=now.posterior.noise,
        trials=len(now.pairs),
        most=manifest.blocks,
        versions=tuple(_version(k, name, now, names, events, options["metric"]) for k, name in enumerate(names)),
        why=_why(folder, now, names, options["metric"]),
        notes=tuple(_notes(now, names, options, states_of(events))),
    )


def _version(
    k: int, name: str, now: State, names: Sequence[str], events: Sequence[Event], metric: str
) -> VersionProbed:
    newest = latest(events)
    pairs = [pair for pair in now.pairs if pair.first == 0 and pair.second == k]
    values = [[newest[Job(names[place], pair.block).name].figures.get(metric) for place in (0, k)] for pair in pairs]
    known = np.array([row for row in values if all(row)], dtype=np.float64).reshape(-1, 2)
    return VersionProbed(
        name=name,
        probability=float(now.posterior.probabilities[k]),
        trials=len(known),
        ratio=estimate(paired_ratio(known[:, 0], known[:, 1])) if len(known) else None,
        untestable=now.untestable.get(k),
    )


def _why(folder: Path, now: State, names: Sequence[str], metric: str) -> Comparison | None:
    """The culprit against the version before it, in the blocks that compare just these two."""
    blocks: list[Block] = []
    for pair in now.pairs:
        if now.found in (None, NONE) or (pair.first, pair.second) != (now.before, now.found):
            continue
        a, b = (folder / RUNS / Job(names[place], pair.block).name for place in (pair.first, pair.second))
        try:
            blocks.append((Member(a, read_compared(a)), Member(b, read_compared(b))))
        except Refused:
            continue
    if not blocks:
        return None
    try:
        return comparison(blocks, Question(metric))
    except Refused:
        return None


def _notes(now: State, names: Sequence[str], options: Any, runs: Mapping[str, int]) -> Iterator[str]:
    if runs.get("suspect"):
        yield f"suspect runs: {runs['suspect']} of {sum(runs.values())}; innerloop show gives the reasons of each"
    for name, reason in options["left_out"].items():
        yield f"{name} was left out: {reason}"
    for k, reason in now.untestable.items():
        yield f"{names[k]} cannot be tested: {reason}"
    if now.found is not None and now.before is not None and now.found - now.before > 1:
        between = ", ".join(names[now.before + 1 : now.found])
        yield f"the slowdown may instead have come in with {between}, which cannot be tested"
