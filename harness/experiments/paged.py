"""The pages of what a user names: a run, several layers, trials, or a comparison."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness import store
from innerloop.harness.cli.errors import Refused, told
from innerloop.harness.cli.output import tell
from innerloop.harness.experiments.asking import NOISE
from innerloop.harness.experiments.bisecting import BISECT
from innerloop.harness.experiments.compared import compared
from innerloop.harness.experiments.culprit import bisected
from innerloop.harness.experiments.finding import found_rate
from innerloop.harness.experiments.folder import RUNS, holds_experiment, read_events, read_manifest, runs_done
from innerloop.harness.experiments.grid import SWEEP
from innerloop.harness.experiments.layers import added_by_layers
from innerloop.harness.experiments.noise import noise_of
from innerloop.harness.experiments.probes import FIND_RATE
from innerloop.harness.experiments.repeating import commands
from innerloop.harness.experiments.requested import LAYERS, TRIALS
from innerloop.harness.experiments.sides import question_of
from innerloop.harness.experiments.sweeps import swept
from innerloop.harness.experiments.trials import measured
from innerloop.harness.pages.comparison import comparison_page
from innerloop.harness.pages.files import write_html
from innerloop.harness.pages.layers import layers_page
from innerloop.harness.pages.parts import Page
from innerloop.harness.pages.probes import bisect_page, found_rate_page, noise_page
from innerloop.harness.pages.run import page_of
from innerloop.harness.pages.several import MOST_CURVES, overview
from innerloop.harness.pages.source import Source, source
from innerloop.harness.pages.sweep import sweep_page
from innerloop.harness.pages.trials import trials_page
from innerloop.harness.schema.comparison import Comparison
from innerloop.harness.schema.experiment import Manifest
from innerloop.harness.schema.sweep import Sweep
from innerloop.harness.schema.trials import Trials
from innerloop.harness.schema.waterfall import Waterfall
from innerloop.harness.session.reopen import result_of
from innerloop.harness.store.find import find_run
from innerloop.harness.store.tables import no_tables

if TYPE_CHECKING:
    from rich.console import Console


def pages_of(names: Sequence[str], with_runs: bool = False) -> list[Page]:
    """A page for each name; with more than one run, an overview in front. with_runs: an experiment's runs have pages,
    too, but for those that cannot be read, which is said.

    Raises:
        Refused: there is no such run or experiment, or nothing of it has ended.
    """
    pages: list[Page] = []
    runs: list[Source] = []
    for name in names:
        path = find_run(name)
        if holds_experiment(path):
            pages.append(experiment_page(path))
            inside = runs_done(path, read_events(path)) if with_runs else []
        elif isinstance(found := store.open(path), store.StoredLadder):
            pages.append(ladder_page(found))
            inside = (
                [found.folder / run.folder for rung in found.waterfall().rungs for run in rung.runs]
                if with_runs
                else []
            )
        else:
            inside = [path]
        for one in inside:
            try:
                run = opened(one)
            except Refused as refusal:  # one that is gone takes nothing from the others
                if one == path:
                    raise
                tell(f"{one} is left out: {refusal}")
                continue
            pages.append(page_of(run))
            # The overview draws the records of the first ones: those of all runs would not fit into memory.
            runs.append(run if len(runs) < MOST_CURVES else replace(run, tables=no_tables()))
    return [overview(runs), *pages] if len(runs) > 1 and len(runs) == len(pages) else pages


def opened(path: Path) -> Source:
    """A run's result and records.

    Raises:
        Refused: there is none, or it cannot be read.
    """
    found = store.open(path)
    if isinstance(found, store.StoredLadder) or found.kind == "nothing":
        raise Refused(f"{path} is not a run")
    result, _ = result_of(found)
    return source(result, found.folder)


def ladder_page(found: store.StoredLadder) -> Page:
    return layers_page(found.waterfall(), found.folder.absolute().name)


def experiment_page(folder: Path) -> Page:
    """The page of an experiment's document, which is made anew from its runs.

    Raises:
        Refused: it has no page, or no run of it has ended.
    """
    manifest = read_manifest(folder)
    make = DESIGNS.get(manifest.design)
    if make is None:
        hint = "innerloop show prints it"
        raise Refused(f"{folder} is a {manifest.design} experiment, which has no page yet", hint)
    return make(folder, manifest)


def document_page(found: Comparison | Waterfall | Trials | Sweep, folder: Path) -> Page:
    """The page of a document that was made already."""
    manifest = read_manifest(folder)
    name, again = folder.absolute().name, commands(manifest)
    if isinstance(found, Waterfall):
        return layers_page(found, name, again)
    if isinstance(found, Trials):
        return trials_page(found, name, again)
    if isinstance(found, Sweep):
        return sweep_page(found, name, again)
    return comparison_page(found, name, again, sides_in(folder, found))


def _compared(folder: Path, manifest: Manifest) -> Page:
    return document_page(compared(folder, question_of(manifest)), folder)


def _layers(folder: Path, _: Manifest) -> Page:
    return document_page(added_by_layers(folder), folder)


def _trials(folder: Path, _: Manifest) -> Page:
    return document_page(measured(folder), folder)


def _sweep(folder: Path, _: Manifest) -> Page:
    return document_page(swept(folder), folder)


def _found_rate(folder: Path, manifest: Manifest) -> Page:
    return found_rate_page(found_rate(folder), folder.absolute().name, commands(manifest))


def _bisect(folder: Path, manifest: Manifest) -> Page:
    return bisect_page(bisected(folder), folder.absolute().name, commands(manifest))


def _noise(folder: Path, manifest: Manifest) -> Page:
    return noise_page(noise_of(folder), folder.absolute().name, commands(manifest))


DESIGNS: Mapping[str, Callable[[Path, Manifest], Page]] = {
    "compare": _compared,
    LAYERS: _layers,
    TRIALS: _trials,
    SWEEP: _sweep,
    FIND_RATE: _found_rate,
    BISECT: _bisect,
    NOISE: _noise,
}
"""How the page of each design is made."""


def compared_page(found: Comparison, a: str, b: str | None) -> Page:
    """The page of a comparison of what a user named."""
    if b is None:
        return document_page(found, find_run(a))
    sides = {"A": readable(found.a.runs), "B": readable(found.b.runs)}
    return comparison_page(found, "comparison", [f"innerloop compare {shlex.quote(a)} {shlex.quote(b)}"], sides)


def sides_in(folder: Path, found: Comparison) -> dict[str, list[Source]]:
    """The runs of both sides of an experiment."""
    return {
        name: readable([str(folder / RUNS / Path(run).name) for run in side.runs])
        for name, side in (("A", found.a), ("B", found.b))
    }


def readable(folders: Sequence[str]) -> list[Source]:
    """Those of the runs that can be read."""
    out = []
    for folder in folders:
        try:
            out.append(opened(Path(folder)))
        except Refused:
            continue
    return out


def put(path: Path | None, page: Callable[[], Page], console: Console) -> None:
    """Writes one page where a file was asked for; what keeps it from being written is said, and changes nothing else:
    the result is in its folder already."""
    if path is None:
        return
    try:
        write_html(path, [page()])
    except (Refused, OSError) as error:
        console.print(f"the page could not be written: {told(error)}", highlight=False, markup=False)
    else:
        console.print(f"page: {path}", highlight=False, markup=False)
