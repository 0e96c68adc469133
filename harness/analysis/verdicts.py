"""Is B better than A, by how much, and how sure is that: figures of blocks in which both were measured side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from innerloop.harness.analysis.distributions import t_quantile
from innerloop.harness.analysis.statistics import (
    CONFIDENCE,
    LEAST_BLOCKS,
    Interval,
    holm,
    mean_of_positive,
    paired_p,
    paired_ratio,
    smallest_visible,
    standard_error,
)

MARGIN = 0.02  # relative difference that counts as none, unless this machine's noise has been measured
Verdict = Literal["better", "worse", "same", "undecided"]
Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of A and B. a, b: means over blocks with 95 % intervals. ratio: b / a, by the blocks' log ratios.

    verdict: of B, by where the ratio's interval lies: wholly beyond the margin, better or worse; wholly within it, the
    same; else undecided, and `leaning` says which way where it leaves out 1. p: how likely such ratios are without a
    difference, adjusted by Holm for all figures but the first. visible: the smallest relative difference that these
    blocks would have shown with 80 % power.
    """

    name: str
    better: Better
    a: Interval
    b: Interval
    ratio: Interval
    margin: float
    verdict: Verdict
    leaning: Literal["better", "worse"] | None
    p: float | None
    visible: float | None


def compare(
    pairs: Mapping[str, tuple[Better, Sequence[float], Sequence[float]]],
    margin: float = MARGIN,
    looks: int | None = None,
) -> list[Compared]:
    """Each figure's (which direction is better, A's values, B's values), one of each side a block, in the same order.

    The first figure is the one that is asked about; the others' p is adjusted together. A figure that is not above 0
    in every block has no ratio and is left out. looks: how many blocks there were to be at most, where it was looked
    after each whether these are enough: the intervals hold nevertheless (`alpha_spent`), and there is no p.
    """
    usable = {
        name: (better, np.array(a, dtype=np.float64), np.array(b, dtype=np.float64))
        for name, (better, a, b) in pairs.items()
        if len(a) and min(*a, *b) > 0
    }
    raw = {name: paired_p(a, b) if looks is None else None for name, (_, a, b) in usable.items()}
    first = next(iter(pairs), None)
    others = [name for name, p in raw.items() if name != first and p is not None]
    adjusted = dict(zip(others, holm(np.array([raw[name] for name in others])).tolist(), strict=True))
    return [
        replace(compared(name, better, a, b, margin, looks), p=adjusted.get(name, raw[name]))
        for name, (better, a, b) in usable.items()
    ]


def compared(
    name: str, better: Better, a: np.ndarray, b: np.ndarray, margin: float, looks: int | None = None
) -> Compared:
    """Without p. `a`, `b`: float64 [blocks], above 0."""
    alpha = 1 - CONFIDENCE if looks is None else alpha_spent(len(a), looks, 1 - CONFIDENCE)
    if alpha > 0:
        mean_a, mean_b = mean_of_positive(a, 1 - alpha), mean_of_positive(b, 1 - alpha)
        ratio = paired_ratio(a, b, 1 - alpha)
    else:
        mean_a, mean_b, ratio = (
            replace(one, low=None, high=None) for one in (mean_of_positive(a), mean_of_positive(b), paired_ratio(a, b))
        )
    verdict, leaning = judge(ratio, margin, better)
    visible = None
    if len(a) >= LEAST_BLOCKS and alpha > 0:
        error = standard_error(np.log(b / a))
        visible = math.expm1(smallest_visible(error, len(a) - 1, math.log1p(margin), 1 - alpha))
    return Compared(name, better, mean_a, mean_b, ratio, margin, verdict, leaning, None, visible)


def judge(ratio: Interval, margin: float, better: Better) -> tuple[Verdict, Literal["better", "worse"] | None]:
    """(the verdict on B, which way it leans where it is undecided). The margin is the same in logarithms both ways."""
    if ratio.low is None or ratio.high is None:
        return "undecided", None
    low, high, reach = math.log(ratio.low), math.log(ratio.high), math.log1p(margin)
    if better == "lower":
        low, high = -high, -low
    if low > reach:
        return "better", None
    if high < -reach:
        return "worse", None
    if -reach <= low and high <= reach:
        return "same", None
    return "undecided", "better" if low > 0 else "worse" if high < 0 else None


def looks_interval(a: np.ndarray, b: np.ndarray, most: int, confidence: float = CONFIDENCE) -> Interval:
    """The ratio b / a with an interval that may be looked at after every block from the third to the `most`-th, and
    still holds `confidence` for all of these looks together: each spends a part of what may go wrong, the early ones
    little (alpha spending; Lan and DeMets 1983, with the spending function (n / most)^3 and Bonferroni's bound).
    """
    n = len(a)
    logs = np.log(b / a)
    estimate = float(logs.mean()) if n else None
    spent = alpha_spent(n, most, 1 - confidence)
    if n < LEAST_BLOCKS or spent <= 0:
        return Interval(None if estimate is None else math.exp(estimate), None, None, n)
    assert estimate is not None
    reach = t_quantile(1 - spent / 2, n - 1) * standard_error(logs)
    return Interval(math.exp(estimate), math.exp(estimate - reach), math.exp(estimate + reach), n)


def alpha_spent(n: int, most: int, alpha: float) -> float:
    """What the look after block `n` may spend of `alpha`, so that all looks from the third on spend all of it."""

    def by(block: int) -> float:
        return alpha * (block / most) ** 3 if block >= LEAST_BLOCKS else 0.0

    return by(min(n, most)) - by(n - 1) if n <= most else 0.0


def enough(ratio: Interval, within: float) -> bool:
    """Whether the interval's half width, in logarithms, is at most `within`."""
    if ratio.low is None or ratio.high is None:
        return False
    return math.log(ratio.high / ratio.low) / 2 <= math.log1p(within)


def blocks_for(a: np.ndarray, b: np.ndarray, within: float) -> int | None:
    """How many blocks a half width of `within` would take at the scatter of these; None below three blocks."""
    if len(a) < LEAST_BLOCKS:
        return None
    scatter = float(np.log(b / a).std(ddof=1))
    if scatter == 0:
        return LEAST_BLOCKS
    n = LEAST_BLOCKS
    while t_quantile((1 + CONFIDENCE) / 2, n - 1) * scatter / math.sqrt(n) > math.log1p(within):
        n = max(n + 1, int(n * 1.02))
        if n > 100_000:
            break
    return n
