"""`innerloop find-rate`: an experiment whose next run depends on those before it, and its document."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness import __version__
from innerloop.harness.analysis.goodput import fewest
from innerloop.harness.analysis.search import MOST_AT_ONE_LOAD, Judged
from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.comparison import estimate
from innerloop.harness.experiments.ended import standing, state_of
from innerloop.harness.experiments.folder import RUNS, read_events, read_manifest
from innerloop.harness.experiments.local import outcome_of, run_of_words
from innerloop.harness.experiments.probes import (
    DISTURBED,
    DOUBTED,
    FIND_RATE,
    LOAD,
    OVERLOADED,
    PROBE,
    ended,
    figure_of,
    state,
)
from innerloop.harness.experiments.runner import Execute, Outcome
from innerloop.harness.experiments.sides import described
from innerloop.harness.profiles.loads import Load, Open
from innerloop.harness.profiles.slo import parse_slo
from innerloop.harness.report.find_rate import amount
from innerloop.harness.result.codes import disturbed, makes_suspect, of_the_load
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.result.identity import key_of, new_id
from innerloop.harness.schema.experiment import VERSION, Cell, Event, Manifest
from innerloop.harness.schema.find_rate import VERSION as DOCUMENT_VERSION
from innerloop.harness.schema.find_rate import FindRate, LoadProbed
from innerloop.harness.schema.goodput import Limit
from innerloop.harness.schema.result import ExperimentPlace, Result
from innerloop.harness.schema.waterfall import EngineName
from innerloop.harness.session import run as session
from innerloop.harness.session.arguments import request_of, words_of
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store import result_file

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine

FIELDS = ("rate_per_s", "users")  # of a workload's load: what is searched
GOODPUT = "goodput.requests_per_s"
SEED = "--seed="


def search_of(arguments: argparse.Namespace, machine: Machine) -> Manifest:
    """The experiment that a command line asks for.

    Raises:
        Refused: there are no limits, the load cannot be varied, or it cannot run here.
    """
    limits = parse_slo(arguments.slo)
    if not limits:
        raise Refused("--slo is missing; give limits, such as --slo ttft_p99=500ms,tpot_p95=50ms, or a profile's name")
    alone = argparse.Namespace(**vars(arguments))
    start, most = arguments.start, arguments.probes
    for name in ("start", "probes", "out", "html", "json", "dry_run"):
        setattr(alone, name, None if name not in ("json", "dry_run") else False)
    spec = resolve(request_of(alone), machine)
    load = spec.workload.load
    over = next((name for name in FIELDS if getattr(load, name, None) is not None), None)
    if over is None:
        raise Refused(
            f"the load of {spec.workload.name} is {spec.workload.load.kind}: it has neither a rate nor users to vary",
            "choose an open workload (poisson-4) to search over the rate, or a closed one (users-10) to search over "
            "the number of users",
        )
    if over == "users" and start is not None and (start < 1 or start != int(start)):
        raise Refused(f"--start: {start:g} is not a number of users; give a whole number, 1 or more")
    return Manifest(
        schema_version=VERSION,
        innerloop_version=__version__,
        id=new_id(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        design=FIND_RATE,
        cells=(Cell(PROBE, {"arguments": words_of(alone)}, key_of(spec.describe())),),
        blocks=most,
        order="there and back",
        seed=0,
        machine=described(machine),
        options={
            "folder": os.getcwd(),
            "metric": PRIMARY,
            "over": over,
            "start": start or float(getattr(load, over)),
            "least": least_rate(load, [one.quantile for one in limits]),
            "limits": [{**asdict(one), "name": one.name} for one in limits],
            "engine": spec.engine.name,
            "model": spec.model.name,
            "workload": spec.workload.name,
            "warnings": list(spec.workload.warnings()),
        },
        kept=True,
    )


def probing(folder: Path, manifest: Manifest, machine: Machine, console: Console) -> Execute:
    """Each probe is an ordinary run at the load that the search asks for."""
    [cell] = manifest.cells
    over = manifest.options["over"]

    def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        [job], [run] = jobs, runs
        load = state(manifest, read_events(folder)).next
        assert load is not None
        if (seen := last_probe(manifest, read_events(folder))) is not None:
            console.print(seen, style="dim", highlight=False)
        console.print(f"probe at {amount(load, over)}", style="dim", highlight=False)
        before = sum(event.figures.get(LOAD) == load for event in ended(read_events(folder)))
        words = words_at(cell.request["arguments"], over, load, before)
        place = ExperimentPlace(manifest.id, manifest.design, job.cell, job.block)
        try:
            [(result, _)] = session.run_windows([run_of_words(words, run, machine, place)], machine, console)
        except Refused:
            raise
        except InnerloopError as error:
            return [Outcome("failed", reason=str(error), figures={LOAD: load})]
        found = outcome_of(result)
        return [Outcome(found.state, found.status, {**found.figures, **figures_of(result, load)}, found.reason)]

    return execute


def last_probe(manifest: Manifest, events: Sequence[Event]) -> str | None:
    """What the newest probe showed: `2 users: undecided; ttft_p90: 11 of 12 requests within the limit`."""
    if not (probes := ended(events)):
        return None
    known, options = probes[-1].figures, manifest.options
    if probes[-1].event != "done" or (load := known.get(LOAD)) is None:
        return f"the probe did not finish: {probes[-1].reason or probes[-1].event}"
    one = next((one for one in state(manifest, events).judged if one.load == load), None)
    if known.get(DISTURBED):
        holds = "this probe does not count: something other than the engine slowed it"
    else:
        holds = {True: "limits met", False: "limits not met", None: "undecided"}[None if one is None else one.holds]
    counts = [(limit["name"], *(known.get(figure_of(limit["name"], part)) for part in ("kept", "judged")))
              for limit in options["limits"]]  # fmt: skip
    within = [f"{name} {kept:g} of {judged:g}" for name, kept, judged in counts if kept is not None and judged]
    told = f"; requests within: {', '.join(within)}" if within else ""
    return f"{amount(load, options['over'])}: {holds}{told}"


def words_at(words: Sequence[str], over: str, load: float, before: int) -> list[str]:
    """A probe's command line: its load, and a seed by how many probes this load had before. The first probes of all
    loads have the same requests and arrivals, scaled to the rate, so that no load is easier by chance; a further probe
    has others.
    """
    value = f"{load:g}" if over == "rate_per_s" else str(int(load))
    given = next((word.removeprefix(SEED) for word in words if word.startswith(SEED)), "1")
    seeds = re.sub(r"\d+", lambda found: str(int(found[0]) + before), given)
    others = [word for word in words if not word.startswith(SEED)]
    return [*others, f"--workload-arg=load.{over}={value}", f"{SEED}{seeds}"]


def least_rate(load: Load, quantiles: Sequence[float]) -> float:
    """The rate below which even all probes that one load may have are too few requests to meet the limits, requests/s;
    0 where the number of requests does not depend on the rate."""
    if not isinstance(load, Open) or load.duration_s is None:
        return 0.0
    return max(map(fewest, quantiles)) / (MOST_AT_ONE_LOAD * load.duration_s)


def figures_of(result: Result, load: float) -> dict[str, float | None]:
    """What the search needs of a probe."""
    backlog = result.stability.backlog if result.stability is not None else None
    slowed = disturbed(result.reasons)
    doubted = any(makes_suspect(one) and not of_the_load(one) for one in result.reasons)
    found: dict[str, float | None] = {
        LOAD: load,
        OVERLOADED: float(backlog is not None and backlog.overloaded),
        DISTURBED: float(slowed),
        DOUBTED: float(doubted and not slowed),
    }
    for one in result.goodput.limits if result.goodput is not None else ():
        name = Limit(one.figure, one.quantile, one.limit_s).name
        found |= {figure_of(name, part): float(getattr(one, part)) for part in ("judged", "kept", "clustering")}
    return found


def found_rate(folder: Path) -> FindRate:
    """What a search's probes so far say.

    Raises:
        Refused: it is no experiment, or what it holds cannot be read.
    """
    manifest, events = read_manifest(folder), read_events(folder)
    now, probes, options = state(manifest, events), ended(events), manifest.options
    version = next((_version(folder, event) for event in probes if event.event == "done"), None)
    loads = tuple(_load(one, probes) for one in now.judged)
    return FindRate(
        schema_version=DOCUMENT_VERSION,
        innerloop_version=__version__,
        created=events[-1].time if events else manifest.created,
        status=standing(manifest, events, over=now.next is None),
        engine=EngineName(options["engine"], version),
        model=options["model"],
        workload=options["workload"],
        over=options["over"],
        limits=tuple(Limit(one["figure"], one["quantile"], one["limit_s"]) for one in options["limits"]),
        state=now.state,
        answer=now.answer,
        fails=now.fails,
        confirmed=now.confirmed,
        refuted=now.refuted,
        probes=len(probes),
        most=manifest.blocks,
        loads=loads,
        notes=tuple(_notes(now.judged, options)),
    )


def _version(folder: Path, event: Event) -> str | None:
    try:
        return result_file.read(folder / RUNS / event.job).engine.version
    except Refused:
        return None


def _load(one: Judged, probes: Sequence[Event]) -> LoadProbed:
    mine = [event for event in probes if event.figures.get(LOAD) == one.load]
    done = [event for event in mine if event.event == "done"]

    def mean(name: str) -> float | None:
        known = [value for event in done if (value := event.figures.get(name)) is not None]
        return sum(known) / len(known) if known else None

    return LoadProbed(
        load=one.load,
        holds=one.holds,
        kept={name: estimate(share) for name, share in one.shares.items()},
        overloaded=one.overloaded,
        goodput=mean(GOODPUT),
        output_tokens_per_s=mean(PRIMARY),
        runs=tuple(f"{RUNS}/{event.job}" for event in mine),
        aborted=tuple(event.reason or event.event for event in mine if event.event != "done"),
        disturbed=one.disturbed,
        suspect=sum(state_of(event) == "suspect" for event in done),
    )


def _notes(judged: Sequence[Judged], options: Mapping[str, Any]) -> Iterator[str]:
    for one in judged:
        load = amount(one.load, options["over"])
        probes = "1 probe" if one.probes == 1 else f"{one.probes} probes"
        if one.holds is None:
            what = "a machine that does nothing else" if one.disturbed == one.probes else "more requests"
            yield f"{load}: undecided after {probes}; {what} would settle it"
        if one.disturbed:
            yield (
                f"{load}: {one.disturbed} of {probes} not counted: something other than the engine slowed the machine "
                "(innerloop show of the run says what)"
            )
        if one.aborted:
            yield f"{load}: {one.aborted} of {probes} did not finish"
    held = sorted(one.load for one in judged if one.holds)
    failed = sorted(one.load for one in judged if one.holds is False)
    if held and failed and failed[0] < held[-1]:
        yield f"contradictory: limits not met at {failed[0]:g} but met at {held[-1]:g}; the lower one is used"
