"""The page of one run, whatever became of it."""

from __future__ import annotations

from pathlib import Path

from innerloop.harness.pages import summary
from innerloop.harness.pages.composition import composition
from innerloop.harness.pages.distributions import latencies
from innerloop.harness.pages.gantt import requests
from innerloop.harness.pages.kernels import kernels
from innerloop.harness.pages.machine import energy, machine
from innerloop.harness.pages.parts import Callout, Page, Section
from innerloop.harness.pages.phases import phases
from innerloop.harness.pages.repeat import repeat
from innerloop.harness.pages.source import Source, source
from innerloop.harness.pages.speed import speed
from innerloop.harness.pages.timeline import timeline
from innerloop.harness.schema.result import Result


def run_page(result: Result, folder: Path | None) -> Page:
    """`folder` holds the run's records; without them the page has tables and no charts."""
    return page_of(source(result, folder))


def page_of(run: Source) -> Page:
    """The same of a run whose records have been read."""
    result = run.result
    aside = [*summary.aside(result)]
    if run.trouble and result.counts.steps:
        aside.append(Callout("warn", f"There are no charts: {run.trouble}"))
    return Page(
        name=run.name,
        title=summary.title(result),
        subtitle=" · ".join(word for word in (run.name if run.folder else "", summary.subtitle(result)) if word),
        status=result.status,
        tone=summary.TONES.get(result.status, ""),
        verdict=summary.verdict(result),
        tiles=[*summary.tiles(result)],
        sections=[section for section in sections(run) if section is not None],
        aside=aside,
    )


def sections(run: Source) -> list[Section | None]:
    """In the order in which one asks: how fast, how even, when, where the time went."""
    result = run.result
    measured = bool(result.counts.steps)
    return [
        speed(result) if measured else None,
        latencies(run) if measured else None,
        timeline(run),
        phases(run),
        composition(run) if measured else None,
        kernels(result),
        requests(run),
        energy(result),
        machine(result),
        repeat(result),
    ]
