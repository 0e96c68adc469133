"""Where the difference between two runs is: in the compositions of their steps, or in what like steps cost.

The decomposition of Oaxaca and Blinder (1973), twofold and with symmetric weights, over bins of like steps instead of a
regression. For an output token, run A takes the sum over bins of rate x cost; so does B. With both halfway between:

    B - A = sum (rate_B - rate_A) x mean cost + sum mean rate x (cost_B - cost_A)
          = mix                             + cost

Bins in which only one of them has steps have no cost to compare: their time is `unmatched`. All parts add up to B - A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.compositions import GROWTH, Binned, Run, binned, bins_of, sums

MOST_CHANGED = 8


@dataclass(frozen=True)
class Change:
    """Steps of one composition: means of what was in them, steps for an output token and seconds of one, A and B."""

    prefill: float
    decode: float
    context: float
    rate: tuple[float, float]
    cost_s: tuple[float | None, float | None]
    added_s: float  # to B - A, for an output token


@dataclass(frozen=True)
class Decomposition:
    """All in seconds for an output token. b_s - a_s = mix_s + cost_s + unmatched_s.

    cost_by_part: `cost_s` by phase, with what no phase names (`rest`) and the gaps between steps (`gap`); a phase that
    one of the runs does not report lies in `rest`. cost_by_coefficient: the same by what it is proportional to: fixed,
    prefill position, decode position, context token, by least squares over the bins that both have, whose rest is 0.
    matched_share: of both runs' time, in bins that both have. changed: the compositions that add or take away most.
    """

    a_s: float
    b_s: float
    mix_s: float
    cost_s: float
    unmatched_s: float
    cost_by_part: Mapping[str, float]
    cost_by_coefficient: Mapping[str, float]
    matched_share: float
    changed: tuple[Change, ...]

    @property
    def difference_s(self) -> float:
        return self.b_s - self.a_s


def decompose(a: Run, b: Run) -> Decomposition | None:
    """None where one of them has no step or gave no token."""
    if min(a.tokens.sum(), b.tokens.sum()) <= 0:
        return None
    numbers = bins_of([a, b])
    count = int(max(one.max() for one in numbers)) + 1
    return split(*(binned(sums(run, bins, count)) for run, bins in zip((a, b), numbers, strict=True)))


def split(one: Binned, two: Binned) -> Decomposition:
    """The same of steps that are in their bins already."""
    both = (one.rate > 0) & (two.rate > 0)
    spent = [np.where(side.rate > 0, side.rate * np.nan_to_num(side.cost), 0.0) for side in (one, two)]
    mix = np.zeros(len(both))
    mix[both] = (two.rate - one.rate)[both] * (one.cost + two.cost)[both] / 2
    weight = (one.rate + two.rate)[both] / 2
    cost = np.zeros(len(both))
    cost[both] = weight * (two.cost - one.cost)[both]
    by_part = _by_part(one, two, both, weight)
    total = sum(float(part.sum()) for part in spent)
    return Decomposition(
        a_s=float(spent[0].sum()),
        b_s=float(spent[1].sum()),
        mix_s=float(mix.sum()),
        cost_s=float(cost.sum()),
        unmatched_s=float((spent[1] - spent[0])[~both].sum()),
        cost_by_part=by_part,
        cost_by_coefficient=_by_coefficient(one, two, both, weight),
        matched_share=sum(float(part[both].sum()) for part in spent) / total if total > 0 else 0.0,
        changed=_changed(one, two, spent[1] - spent[0]),
    )


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
    where = {name: (one.positions[name] + two.positions[name])[both] / 2 for name in GROWTH}
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
        prefill=float(there.positions["prefill"][bin_]),
        decode=float(there.positions["decode"][bin_]),
        context=float(there.positions["context"][bin_]),
        rate=(float(one.rate[bin_]), float(two.rate[bin_])),
        cost_s=(costs[0], costs[1]),
        added_s=added_s,
    )
