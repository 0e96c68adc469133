"""Where the difference between two runs is: in the compositions of their steps, or in what like steps cost.

The decomposition of Oaxaca and Blinder (1973), twofold and with symmetric weights, over bins of like steps. For an
output token, run A takes the sum over bins of rate x cost; so does B. With both halfway between:

    B - A = sum (rate_B - rate_A) x mean cost + sum mean rate x (cost_B - cost_A)
          = mix                             + cost

Steps of a bin that one run has never run would cost there what they cost on the other side, and as much more or less
as the lines through both runs' steps (step_model.py) differ for such steps: the regression of Oaxaca and Blinder. Where
one of the lines says nothing of such steps, their time is `unmatched`. All parts add up to B - A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.compositions import GROWTH, Binned, Run, binned, bins_of, sums
from innerloop.harness.analysis.step_model import TERMS, Line, Moments, Reach, moments, terms_of

MOST_CHANGED = 8


@dataclass(frozen=True)
class Change:
    """Steps of one composition: means of what was in them (None: not reported), steps for an output token and seconds
    of one, A and B."""

    prefill: float | None
    decode: float | None
    context: float | None
    rate: tuple[float, float]
    cost_s: tuple[float | None, float | None]
    added_s: float  # to B - A, for an output token


@dataclass(frozen=True)
class Decomposition:
    """All in seconds for an output token. b_s - a_s = mix_s + cost_s + unmatched_s.

    cost_by_part: `cost_s` by phase, with what no phase names (`rest`) and the gaps between steps (`gap`); a phase that
    one of the runs does not report lies in `rest`. cost_by_coefficient: the same by what it is proportional to: fixed,
    prefill position, decode position, context token, by least squares over the bins that both have, whose rest is 0,
    and by the lines of both runs for the others. mix_by_coefficient: `mix_s` by the same, at the mean of both lines,
    and `rest`, which these do not explain; None where a line does not describe its run's steps.
    matched_share, modelled_share: of both runs' time, in bins that both have, and in those of one whose cost on the
    other side is told by the lines; None without time. changed: the compositions that add or take away most.
    """

    a_s: float
    b_s: float
    mix_s: float
    cost_s: float
    unmatched_s: float
    cost_by_part: Mapping[str, float]
    cost_by_coefficient: Mapping[str, float]
    mix_by_coefficient: Mapping[str, float] | None
    matched_share: float | None
    modelled_share: float | None
    changed: tuple[Change, ...]

    @property
    def difference_s(self) -> float:
        return self.b_s - self.a_s


@dataclass(frozen=True)
class Modelled:
    """Bins of one run whose cost on the other side both lines tell, bool [bins], and the lines, of A and of B."""

    bins: np.ndarray
    lines: tuple[Line, Line]


def decompose(a: Run, b: Run) -> Decomposition | None:
    """None where one of them has no step or gave no token."""
    if min(a.tokens.sum(), b.tokens.sum()) <= 0:
        return None
    numbers = bins_of([a, b])
    count = int(max(one.max() for one in numbers)) + 1
    one, two = (binned(sums(run, bins, count)) for run, bins in zip((a, b), numbers, strict=True))
    return split(one, two, modelled(one, two, moments(a), moments(b)))


def modelled(
    one: Binned, two: Binned, a: tuple[Moments, Reach] | None, b: tuple[Moments, Reach] | None
) -> Modelled | None:
    """Of whole runs; None where a line does not describe its run."""
    if a is None or b is None:
        return None
    told = np.zeros(len(one.rate), dtype=bool)
    for side, other in ((one, two), (two, one)):
        there = (side.rate > 0) & ~(other.rate > 0)
        terms = terms_of(side.positions)[there]
        told[there] = a[1].tells(terms) & b[1].tells(terms)
    return Modelled(told | ((one.rate > 0) & (two.rate > 0)), (a[1].line, b[1].line))


def split(one: Binned, two: Binned, by_lines: Modelled | None = None) -> Decomposition:
    """The same of steps that are in their bins already."""
    in_one, in_two = one.rate > 0, two.rate > 0
    both = in_one & in_two
    told = np.zeros(len(both), dtype=bool) if by_lines is None else by_lines.bins & (in_one ^ in_two)
    spent = [np.where(side.rate > 0, side.rate * np.nan_to_num(side.cost), 0.0) for side in (one, two)]
    terms = terms_of(two.positions)
    terms[~in_two] = terms_of(one.positions)[~in_two]
    weight = (one.rate + two.rate) / 2
    mix, cost = np.zeros(len(both)), np.zeros(len(both))
    mix[both] = (two.rate - one.rate)[both] * (one.cost + two.cost)[both] / 2
    cost[both] = weight[both] * (two.cost - one.cost)[both]
    if by_lines is not None:
        first, second = by_lines.lines
        cost[told] = weight[told] * (terms[told] @ (second.whole - first.whole))
        mix[told] = (spent[1] - spent[0])[told] - cost[told]
    compared = both | told
    total = sum(float(part.sum()) for part in spent)
    reached = [sum(float(part[bins].sum()) for part in spent) for bins in (both, told)]
    by_part = _by_part(one, two, both, weight[both])
    by_coefficient = _by_coefficient(one, two, both, weight[both])
    mix_by_coefficient = None
    if by_lines is not None:
        carried = weight[told] @ terms[told]
        for name, added in _parts_by_line(first, second, carried).items():
            by_part[name] = by_part.get(name, 0.0) + added
        for k, name in enumerate(TERMS):
            by_coefficient[name] += float(carried[k] * (second.whole - first.whole)[k])
        mix_by_coefficient = _mix_by_coefficient(first, second, terms, two.rate - one.rate, compared, float(mix.sum()))
    return Decomposition(
        a_s=float(spent[0].sum()),
        b_s=float(spent[1].sum()),
        mix_s=float(mix.sum()),
        cost_s=float(cost.sum()),
        unmatched_s=float((spent[1] - spent[0])[~compared].sum()),
        cost_by_part=by_part,
        cost_by_coefficient=by_coefficient,
        mix_by_coefficient=mix_by_coefficient,
        matched_share=reached[0] / total if total > 0 else None,
        modelled_share=reached[1] / total if total > 0 else None,
        changed=_changed(one, two, spent[1] - spent[0]),
    )


def _parts_by_line(one: Line, two: Line, carried: np.ndarray) -> dict[str, float]:
    """The cost of the modelled bins by part of a step. carried: mean rate x terms, added up over the bins, [4]. A part
    that one side does not know lies in its `rest`, so that there is nothing of it to compare."""
    out: dict[str, float] = {}
    nothing = np.zeros(len(carried))
    for name in dict.fromkeys((*one.parts, *two.parts)):
        added = float(carried @ (two.parts.get(name, nothing) - one.parts.get(name, nothing)))
        if name != "rest" and not np.isnan(added):
            out[name] = added
    return {**out, "rest": float(carried @ (two.whole - one.whole)) - sum(out.values())}


def _mix_by_coefficient(
    one: Line, two: Line, terms: np.ndarray, more: np.ndarray, compared: np.ndarray, mix: float
) -> dict[str, float]:
    """What the steps that ran more or less often (`more`, two's rate minus one's, [bins]) had in them, at the mean of
    both lines; `rest` is what these leave of the mix."""
    known = compared & np.isfinite(terms).all(axis=1)
    added = (more[known] @ terms[known]) * (one.whole + two.whole) / 2
    return {**{name: float(added[k]) for k, name in enumerate(TERMS)}, "rest": mix - float(added.sum())}


def _by_part(one: Binned, two: Binned, both: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """The cost difference by part of a step; a part that is not known on either side goes into `rest`, and one that a
    side does not have at all takes no time there."""
    names = tuple(dict.fromkeys((*one.parts, *two.parts)))
    nothing = np.zeros(len(both))
    out = dict.fromkeys(names, 0.0)
    for name in names:
        before, after = (side.parts.get(name, nothing)[both] for side in (one, two))
        for side, values, sign in ((one, before, -1.0), (two, after, 1.0)):
            other = after if side is one else before
            alone = np.isnan(other) & ~np.isnan(values)
            out["rest"] += sign * float((weight * np.where(alone, values, 0.0)).sum())
        together = ~np.isnan(before) & ~np.isnan(after)
        out[name] += float((weight * np.where(together, after - before, 0.0)).sum())
    return out


def _by_coefficient(one: Binned, two: Binned, both: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """The cost difference by what it grows with. A weighted fit with a constant leaves a rest of 0, so that these add
    up; what cannot be told apart is shared out as the pseudoinverse does."""
    names = ("fixed", *GROWTH)
    if not both.any():
        return dict.fromkeys(names, 0.0)
    where = {name: np.nan_to_num(one.positions[name] + two.positions[name])[both] / 2 for name in GROWTH}
    matrix = np.column_stack([np.ones(int(both.sum())), *(where[name] for name in GROWTH)])
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-30)
    root = np.sqrt(weight)[:, None]
    found, *_ = np.linalg.lstsq(matrix / scale * root, (two.cost - one.cost)[both] * root[:, 0], rcond=1e-10)
    return {name: float((weight * matrix[:, k] / scale[k] * found[k]).sum()) for k, name in enumerate(names)}


def _changed(one: Binned, two: Binned, added: np.ndarray) -> tuple[Change, ...]:
    order = np.argsort(-np.abs(added), kind="stable")[:MOST_CHANGED]
    return tuple(_change(one, two, int(bin_), float(added[bin_])) for bin_ in order if added[bin_] != 0)


def _change(one: Binned, two: Binned, bin_: int, added_s: float) -> Change:
    there = two if two.rate[bin_] > 0 else one
    costs = tuple(float(side.cost[bin_]) if side.rate[bin_] > 0 else None for side in (one, two))
    return Change(
        **{name: _known(there.positions[name][bin_]) for name in GROWTH},
        rate=(float(one.rate[bin_]), float(two.rate[bin_])),
        cost_s=(costs[0], costs[1]),
        added_s=added_s,
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
