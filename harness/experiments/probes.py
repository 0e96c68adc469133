"""What a search's journal says: its probes, and the load that is next."""

from __future__ import annotations

from collections.abc import Sequence

from innerloop.harness.analysis.search import Probe, Search, Tally, search
from innerloop.harness.experiments.blocks import ENDED, Job, latest
from innerloop.harness.schema.experiment import Event, Manifest

FIND_RATE = "find-rate"  # the design
PROBE = "probe"  # its cell
LEAST_CLUSTERING = 1e-3  # what is less is no ratio of variances that a run can have had
LOAD, OVERLOADED, DISTURBED, DOUBTED = "load", "overloaded", "disturbed", "doubted"  # among a probe's figures


def figure_of(limit: str, part: str) -> str:
    """What a probe's figure is called: slo.ttft_p99.kept."""
    return f"slo.{limit}.{part}"


def ended(events: Sequence[Event]) -> list[Event]:
    """The newest event of each probe that has ended, in order."""
    found = [event for event in latest(events).values() if event.event in ENDED]
    return sorted(found, key=lambda event: event.block)


def state(manifest: Manifest, events: Sequence[Event]) -> Search:
    """Where the search stands."""
    options = manifest.options
    limits = {one["name"]: one["quantile"] for one in options["limits"]}
    probes: list[Probe] = []
    for event in ended(events):
        known = event.figures
        load = known.get(LOAD)
        if event.event != "done" or load is None:
            probes.append(Probe(load or _search(manifest, probes).next or options["start"], aborted=True))
            continue
        tallies = {
            name: Tally(
                quantile,
                int(known.get(figure_of(name, "judged")) or 0),
                int(known.get(figure_of(name, "kept")) or 0),
                max(known.get(figure_of(name, "clustering")) or 1.0, LEAST_CLUSTERING),
            )
            for name, quantile in limits.items()
        }
        overloaded, disturbed = (bool(known.get(name)) for name in (OVERLOADED, DISTURBED))
        probes.append(Probe(load, tallies, overloaded, disturbed=disturbed))
    return _search(manifest, probes)


def _search(manifest: Manifest, probes: Sequence[Probe]) -> Search:
    options = manifest.options
    return search(probes, options["start"], manifest.blocks, options["over"] == "users", options.get("least", 0.0))


def next_probe(manifest: Manifest, events: Sequence[Event], boot: str) -> list[Job]:
    """The probe that is next; none where the search is over. The machine's boots do not matter."""
    if state(manifest, events).next is None:
        return []
    return [Job(PROBE, len(ended(events)) + 1)]
