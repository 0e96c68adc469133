"""The highest load within latency limits, by probes: doubled, bisected to 5 %, confirmed below and refuted above."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from innerloop.harness.analysis.goodput import holds, share_kept
from innerloop.harness.analysis.statistics import Interval

PRECISION = 1.05  # the load that fails / the load that holds, at the end of the bisection
BELOW, ABOVE = 0.95, 1.1  # of the answer: where it must hold, and where it must fail
MOST_AT_ONE_LOAD = 3  # probes, before it stays undecided, or fails though a higher one holds
FARTHEST = 1024  # times the first load, either way
State = Literal["searching", "found", "unresolved", "above", "below"]


@dataclass(frozen=True, slots=True)
class Tally:
    """What one probe says of one limit."""

    quantile: float
    judged: int
    kept: int
    clustering: float


@dataclass(frozen=True, slots=True)
class Probe:
    """One run at a load. overloaded: requests piled up. aborted: it did not come to its end. disturbed: something other
    than the engine slowed it."""

    load: float
    limits: Mapping[str, Tally] = field(default_factory=dict)
    overloaded: bool = False
    aborted: bool = False
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """All probes at one load. holds: None where they do not decide it. shares: kept, by limit. disturbed: probes that
    do not count."""

    load: float
    probes: int
    holds: bool | None
    shares: Mapping[str, Interval]
    overloaded: bool
    aborted: int
    disturbed: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """Where the search stands. next: the load to probe now, None where it is over.

    found: `answer` holds, and 1.05 times as much does not. unresolved: the probes were used up before; `answer` is the
    highest that held so far. above: all that was tried held. below: nothing that was tried did, and a load failed.
    """

    state: State
    next: float | None
    answer: float | None
    fails: float | None
    confirmed: bool | None
    refuted: bool | None
    judged: tuple[Judged, ...]


def search(probes: Sequence[Probe], start: float, most: int, whole: bool = False, least: float = 0.0) -> Search:
    """What the probes so far say, and the next load. `whole`: loads are whole numbers (users). Below `least` probes
    have too few requests to meet a limit."""
    judged = judge_all(probes)
    by_load = {one.load: one for one in judged}
    answer = max((one.load for one in judged if one.holds), default=None)
    fails = min((one.load for one in judged if one.holds is False), default=None)
    if answer is not None and fails is not None and fails <= answer:  # contradicted: the lower one counts
        answer = max((one.load for one in judged if one.holds and one.load < fails), default=None)
    stop = min(
        (one.load for one in judged if one.load > (answer or 0.0) and (one.holds is False or _given_up(one))),
        default=None,
    )
    wanted = _next(answer, stop, max(start / FARTHEST, least), start, by_load, whole)
    checks = {} if answer is None else {place: rounded(answer * place, whole) for place in (BELOW, ABOVE)}
    below, above = (by_load.get(checks.get(place, -1.0)) for place in (BELOW, ABOVE))
    confirmed = None if below is None else below.holds
    refuted = None if above is None or above.holds is None else not above.holds
    over = wanted is None
    if over or len(probes) >= most:
        state = _ended(answer, fails, stop, over)
        return Search(state, None, answer, fails, confirmed, refuted, judged)
    return Search("searching", wanted, answer, fails, confirmed, refuted, judged)


def _next(
    answer: float | None, stop: float | None, least: float, start: float, by_load: Mapping[float, Judged], whole: bool
) -> float | None:
    """The load to probe next; None where nothing is left to ask."""
    undecided = [one.load for one in by_load.values() if one.holds is None and not _given_up(one)]
    if undecided:
        return undecided[-1]
    if (again := _contradicted(by_load.values())) is not None:
        return again
    if answer is None and stop is None:
        return rounded(start, whole)
    if answer is None:
        assert stop is not None
        lower = rounded(stop / 2, whole)
        return lower if least <= lower < stop else None
    if stop is None:
        return rounded(answer * 2, whole) if answer * 2 <= start * FARTHEST else None
    between = rounded(math.sqrt(answer * stop), whole)
    if stop > answer * PRECISION and answer < between < stop and (not whole or stop - answer > 1):
        return between
    for place in (BELOW, ABOVE):
        load = rounded(answer * place, whole)
        if load != answer and load not in by_load and load > 0:
            return load
    return None


def _contradicted(judged: Collection[Judged]) -> float | None:
    """The lowest load that fails, where a higher one holds: chance decided one of the two, so it is probed again."""
    failing = min((one for one in judged if one.holds is False), key=lambda one: one.load, default=None)
    if failing is None or failing.aborted or failing.probes >= MOST_AT_ONE_LOAD:
        return None
    return failing.load if any(one.holds and one.load > failing.load for one in judged) else None


def _ended(answer: float | None, fails: float | None, stop: float | None, over: bool) -> State:
    if answer is None:
        return "below" if fails is not None else "unresolved"
    if stop is None:
        return "above" if over else "unresolved"
    return "found" if over and fails is not None else "unresolved"


def _given_up(one: Judged) -> bool:
    return one.holds is None and one.probes >= MOST_AT_ONE_LOAD


def judge_all(probes: Sequence[Probe]) -> tuple[Judged, ...]:
    """The probes by load, in the order in which the loads were first tried."""
    groups: dict[float, list[Probe]] = {}
    for probe in probes:
        groups.setdefault(probe.load, []).append(probe)
    return tuple(judge(load, group) for load, group in groups.items())


def judge(load: float, probes: Sequence[Probe]) -> Judged:
    """A load holds where every limit does; it fails where one does not, requests pile up, or an engine gives up.

    What disturbs a probe slows it: it can show that a load holds, never that it fails.
    """
    ended = [probe for probe in probes if not probe.aborted]
    whole = [probe for probe in ended if not probe.disturbed or _decided([probe])[1]]
    shares, found = _decided(whole)
    aborted = len(probes) - len(ended)
    return Judged(
        load,
        len(probes),
        False if aborted else found,
        shares,
        _overloaded(whole),
        aborted,
        len(ended) - len(whole),
    )


def _overloaded(probes: Sequence[Probe]) -> bool:
    return 2 * sum(probe.overloaded for probe in probes) > len(probes)


def _decided(whole: Sequence[Probe]) -> tuple[dict[str, Interval], bool | None]:
    """The shares kept in all probes together, and whether they hold."""
    shares = {name: pooled([probe.limits[name] for probe in whole]) for name in (whole[0].limits if whole else {})}
    quantiles = {name: whole[0].limits[name].quantile for name in shares}
    verdicts = [holds(share, quantiles[name]) for name, share in shares.items()]
    if _overloaded(whole) or False in verdicts:
        return shares, False
    return shares, True if verdicts and all(verdicts) else None


def pooled(tallies: Sequence[Tally]) -> Interval:
    """The share kept in all probes together; each counts as many independent requests as its clustering says."""
    judged, kept = sum(one.judged for one in tallies), sum(one.kept for one in tallies)
    alone = sum(one.judged / one.clustering for one in tallies)
    return share_kept(kept, judged, judged / alone if alone > 0 else 1.0)


def rounded(load: float, whole: bool) -> float:
    """A load as it is asked for: four digits, or a whole number of users."""
    return float(max(round(load), 1)) if whole else float(f"{load:.4g}")
