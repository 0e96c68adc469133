"""The parts of the difference between A and B, each with its interval: of blocks of runs, or of one run a side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from innerloop.harness.analysis.compositions import Run, binned, bins_of, sums
from innerloop.harness.analysis.decomposition import Change, Decomposition, Modelled, decompose, modelled, split
from innerloop.harness.analysis.distributions import t_quantile
from innerloop.harness.analysis.statistics import BATCHES, CONFIDENCE, LEAST_BLOCKS, Interval, mean_interval
from innerloop.harness.analysis.step_model import moments

Pair = tuple[Run, Run]
LEAST_STEPS = 10 * BATCHES  # of a run that is cut into segments
LEAST_CAPTURED = 3 * BATCHES  # of a profiling pass, which has few and takes them like steps


@dataclass(frozen=True, slots=True)
class Attribution:
    """Seconds for an output token: of A, of B, and by its name each part of B - A.

    mix + cost + unmatched = difference; the parts `cost.schedule` ... add up to cost, and so do `cost by fixed` ...;
    `mix by fixed` ... add up to mix, where lines through the steps describe all runs.
    scatter: what the intervals hold: "processes", of at least three blocks; "steps", of one run on each side, cut into
    segments of time: how processes differ is not in them; None: there are no intervals.
    """

    a_s: Interval
    b_s: Interval
    parts: dict[str, Interval]
    scatter: Literal["processes", "steps"] | None
    matched_share: float | None
    modelled_share: float | None
    changed: tuple[Change, ...]


def attribute(blocks: Sequence[Pair], least: int = LEAST_STEPS) -> Attribution | None:
    """Of blocks of one run of A and one of B each; None where a run has no steps or gave no token. least: steps that a
    single run must have on each side for intervals."""
    found = [decompose(a, b) for a, b in blocks]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    whole = known[0] if len(known) == 1 else decompose(*(_joined([pair[k] for pair in blocks]) for k in (0, 1)))
    assert whole is not None
    values = _with_like_parts([flat(one) for one in known])
    if len(known) == 1:
        a, b = blocks[0]
        enough = min(len(a.seconds), len(b.seconds)) >= least
        intervals = _of_segments(a, b, values[0]) if enough else _without_bounds(values)
        scatter: Literal["processes", "steps"] | None = "steps" if enough else None
    elif len(known) < LEAST_BLOCKS:
        intervals, scatter = _without_bounds(values), None
    else:
        intervals = {name: mean_interval(np.array([one[name] for one in values])) for name in values[0]}
        scatter = "processes"
    a_s, b_s = intervals.pop("a"), intervals.pop("b")
    shares = (_mean([one.matched_share for one in known]), _mean([one.modelled_share for one in known]))
    return Attribution(a_s, b_s, intervals, scatter, *shares, whole.changed)


def flat(found: Decomposition) -> dict[str, float]:
    """Everything of a decomposition that adds up, by name."""
    return {
        "a": found.a_s,
        "b": found.b_s,
        "difference": found.difference_s,
        "mix": found.mix_s,
        "cost": found.cost_s,
        "unmatched": found.unmatched_s,
        **{f"cost.{name}": value for name, value in found.cost_by_part.items()},
        **{f"cost by {name}": value for name, value in found.cost_by_coefficient.items()},
        **{f"mix by {name}": value for name, value in (found.mix_by_coefficient or {}).items()},
    }


def _with_like_parts(values: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Without the parts that some of them have not."""
    names = [name for name in values[0] if all(name in one for one in values)]
    return [{name: one[name] for name in names} for one in values]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _of_segments(a: Run, b: Run, whole: dict[str, float]) -> dict[str, Interval]:
    """By the jackknife that leaves out one of ten segments of a run at a time (Künsch 1989), both runs' variances
    added; t with the degrees of freedom of one run's segments."""
    numbers = bins_of([a, b])
    count = int(max(one.max() for one in numbers)) + 1
    one, two = (sums(run, bins, count, BATCHES) for run, bins in zip((a, b), numbers, strict=True))
    of_a, of_b = moments(a, BATCHES), moments(b, BATCHES)
    lines = modelled(binned(one), binned(two), of_a, of_b)

    def less(without_a: int | None, without_b: int | None) -> dict[str, float]:
        within = lines
        if lines is not None and of_a is not None and of_b is not None:
            within = Modelled(lines.bins, (of_a[0].line(without_a), of_b[0].line(without_b)))
        return flat(split(binned(one, without_a), binned(two, without_b), within))

    less_a = [less(k, None) for k in range(BATCHES) if one.tokens.sum() > one.tokens[k]]
    less_b = [less(None, k) for k in range(BATCHES) if two.tokens.sum() > two.tokens[k]]
    reach = t_quantile((1 + CONFIDENCE) / 2, BATCHES - 1)
    out = {}
    for name, value in whole.items():
        error = math.sqrt(sum(_jackknife([found[name] for found in side]) for side in (less_a, less_b)))
        out[name] = Interval(value, value - reach * error, value + reach * error, BATCHES)
    return out


def _jackknife(values: list[float]) -> float:
    """The variance of an estimate, from its values without one segment each."""
    n = len(values)
    return (n - 1) * float(np.var(values)) if n else 0.0


def _without_bounds(values: Sequence[dict[str, float]]) -> dict[str, Interval]:
    n = len(values)
    return {name: Interval(sum(one[name] for one in values) / n, None, None, n) for name in values[0]}


def _joined(runs: Sequence[Run]) -> Run:
    """The steps of several runs as those of one."""
    columns = {
        name: np.concatenate([getattr(run, name) for run in runs])
        for name in ("tokens", "seconds", "prefill", "decode", "context")
    }
    names = dict.fromkeys(name for run in runs for name in run.parts)
    parts = {name: np.concatenate([run.parts.get(name, np.zeros(len(run.seconds))) for run in runs]) for name in names}
    return Run(**columns, parts=parts)
