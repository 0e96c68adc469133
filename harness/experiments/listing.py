"""Experiments as lines beside runs: what they ask, how far they are, and what they found."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import number
from innerloop.harness.experiments import bisecting, probes
from innerloop.harness.experiments.asking import COMPARE
from innerloop.harness.experiments.bisecting import BISECT
from innerloop.harness.experiments.blocks import ENDED, latest
from innerloop.harness.experiments.ended import of_states, state_of, states_of
from innerloop.harness.experiments.folder import (
    DOCUMENT,
    failed_jobs,
    held,
    holds_experiment,
    place_of,
    read_events,
    read_manifest,
    runs_done,
)
from innerloop.harness.experiments.probes import FIND_RATE
from innerloop.harness.experiments.stopping import precise
from innerloop.harness.profiles.sources import name_of, plain
from innerloop.harness.result.listing import RunLine, changed, line_of
from innerloop.harness.schema.experiment import Event, Manifest
from innerloop.harness.store.find import folders
from innerloop.harness.store.versions import Document, read_document

ADAPTIVE: dict[str, Callable[[Manifest, Sequence[Event]], bool]] = {  # designs that choose their runs: are they over?
    FIND_RATE: lambda manifest, events: probes.state(manifest, events).next is None,
    BISECT: lambda manifest, events: bisecting.state(manifest, events).open is None,
}
FILES = ("model", "workload")  # what may be the path of a file, of which a run's line has the name
MOST_LETTERS = 60  # of what differs between two sides
MOST_NAMED = 3  # jobs that failed


def list_experiments(root: Path) -> list[RunLine]:
    """All experiments in a folder, the newest last. One that cannot be read is a line with the reason."""
    lines = [line_of_experiment(folder) for folder in folders(root) if holds_experiment(folder)]
    return sorted(lines, key=lambda line: (line.when, line.folder))


def line_of_experiment(folder: Path) -> RunLine:
    """One line for all runs of an experiment: engine, model and settings are those of the first of them, and of a grid
    all the values that its cells have."""
    try:
        return _line(folder)
    except Refused as refusal:
        reason = str(refusal)
    except Exception as error:  # a listing must not end at a file that somebody else wrote
        reason = f"{type(error).__name__}: {error}"
    return RunLine(str(folder), changed(folder), "broken", reason)


def _line(folder: Path) -> RunLine:
    manifest, events = read_manifest(folder), read_events(folder)
    of_first = [event for event in events if event.cell == manifest.cells[0].name] if manifest.cells else []
    done = runs_done(folder, of_first) or runs_done(folder, events)
    first = line_of(done[0]) if done else None
    line = varied(first or RunLine(str(folder), "", ""), manifest)
    events = [_with_status(folder, event) for event in latest(events).values()]
    return replace(
        line,
        folder=str(folder),
        when=manifest.created[:19] + "+00:00",
        status=status(folder, manifest, events),
        reason="; ".join(_reasons(folder, events)) or None,
        output_tokens_per_s=None,
        id=manifest.id,
        experiment=told(manifest, events, _document(folder)),
        runs=states_of(events),
    )


def varied(line: RunLine, manifest: Manifest) -> RunLine:
    """The line with every value of what differs between a grid's cells: `vllm,torch`, max_batch_size=8,16."""
    values: dict[str, dict[str, None]] = {}
    for cell in manifest.cells:
        for path, value in cell.at.items():
            text = value if isinstance(value, str) else json.dumps(value)
            values.setdefault(path, {})[_called(text) if path in FILES else text] = None
    joined = {path: ",".join(texts) for path, texts in values.items() if len(texts) > 1}
    named: dict[str, Any] = {path: joined[path] for path in ("engine", "model", "workload") if path in joined}
    given = {path.partition(".")[2]: text for path, text in joined.items() if "." in path}
    version = None if "engine" in named else line.version
    return replace(line, **named, version=version, given={**line.given, **given}) if joined else line


def _called(text: str) -> str:
    """A profile's name, or what a run of the file or the model's folder has for it."""
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        return plain(path.stem)
    if path.suffix == ".json":
        return name_of(path.absolute().parent)
    return name_of(path.absolute()) if "/" in text else text


def _with_status(folder: Path, event: Event) -> Event:
    """With the status of its result, which a journal of before does not have."""
    if event.event != "done" or event.status is not None:
        return event
    found = line_of(place_of(folder, event))
    return replace(event, status=None if found is None else found.status)


def _reasons(folder: Path, events: Sequence[Event]) -> Iterator[str]:
    """Why an experiment is not ok: how many of its runs failed, were refused or are suspect, and what the first of
    those shows."""
    ended = _ended(events)
    failed = failed_jobs(events)
    if len(failed) <= MOST_NAMED:
        yield from (f"{event.job} failed" for event in failed)
    else:
        yield f"failed runs: {len(failed)} of {len(ended)}"
    refused = [event for event in ended if event.event == "refused"]
    if refused:
        yield f"refused runs: {len(refused)} of {len(ended)} ({refused[0].reason})"
    suspect = [event for event in ended if state_of(event) == "suspect"]
    if suspect:
        first = suspect[0]
        line = line_of(place_of(folder, first))
        seen = "" if line is None or not line.reason else f" ({line.reason} in {first.job})"
        yield f"suspect runs: {len(suspect)} of {len(ended)}{seen}"


def status(folder: Path, manifest: Manifest, events: Sequence[Event]) -> str:
    """That of its runs (`of_states`) or, where runs are left, running or interrupted."""
    if manifest.design in ADAPTIVE:
        over = ADAPTIVE[manifest.design](manifest, events)
    else:
        over = len(_ended(events)) >= manifest.blocks * len(manifest.measured) or precise(manifest, events)
    if not over:
        return "running" if held(folder) else "interrupted"
    return of_states(manifest, states_of(events))


def told(manifest: Manifest, events: Sequence[Event], document: Document) -> str:
    """`compare, 8 of 8 trials: B / A 1.034 (1.021 to 1.047)`; `trials, 3 of 3 trials: output_tokens_per_s 1888`."""
    cells = max(len(manifest.measured), 1)
    if manifest.design == FIND_RATE:
        now = probes.state(manifest, events)
        found = "no load has met the limits yet" if now.answer is None else f"{manifest.options['over']} {now.answer:g}"
        return f"{FIND_RATE}, {len(_ended(events))} probes: {found} ({now.state})"
    if manifest.design == BISECT:
        names, bisected = [cell.name for cell in manifest.cells], bisecting.state(manifest, events)
        said = "undecided" if bisected.found is None else names[bisected.found] if bisected.found else "no culprit"
        return f"{BISECT}, {len(bisected.pairs)} trials: {said}"
    words = f"{manifest.design}{changed_in(manifest)}, {len(_ended(events)) // cells} of {manifest.blocks} trials"
    try:
        found = _found(document)
    except (LookupError, TypeError, ValueError, AttributeError):  # another design's, or none yet
        found = ""
    return f"{words}: {found}" if found else words


def changed_in(manifest: Manifest) -> str:
    """What side B of a comparison has and A has not: ` --set max_batch_size=16`."""
    if manifest.design != COMPARE or len(manifest.cells) < 2:
        return ""
    a, b = (list(map(str, cell.request.get("arguments", ()))) for cell in manifest.cells[:2])
    words = shlex.join(b[len(a) :] if b[: len(a)] == a else [word for word in b if word not in a])
    return f" {words[: MOST_LETTERS - 1]}…" if len(words) > MOST_LETTERS else f" {words}" if words else ""


def _found(document: Document) -> str:
    """The figure that was asked about: a comparison's ratio, the mean of each load of trials, a grid's fastest cell."""
    if document.get("kind") == "sweep":
        of = {cell["name"]: cell["figures"][document["metric"]] for cell in document["cells"] if cell["figures"]}
        best = max(of, key=lambda name: of[name]["value"])
        return f"most {document['metric'].rpartition('.')[2]} {_bounded(of[best])} with {best}"
    if document.get("kind") != "trials":
        return f"B / A {_bounded(document['figures'][0]['ratio'])}"
    told = [(load["workload"], load["figures"][0]) for load in document["loads"]]
    named = [f"{workload} " if len(told) > 1 else "" for workload, _ in told]
    figures = ", ".join(name + _bounded(figure["mean"]) for name, (_, figure) in zip(named, told, strict=True))
    return f"{told[0][1]['name'].rpartition('.')[2]} {figures}"


def _bounded(estimate: Document) -> str:
    if estimate["low"] is None:
        return number(estimate["value"], 4)
    return f"{number(estimate['value'], 4)} ({number(estimate['low'], 4)} to {number(estimate['high'], 4)})"


def _ended(events: Sequence[Event]) -> list[Event]:
    return [event for event in latest(events).values() if event.event in ENDED]


def _document(folder: Path) -> Document:
    try:
        return read_document(folder / DOCUMENT)
    except (FileNotFoundError, Refused):
        return {}
