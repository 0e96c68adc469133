"""Due times at a rate, constant or not: even, at random, in bursts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import number
from innerloop.harness.profiles.loads import Open, RateFrom
from innerloop.harness.workloads import draws

NS = 1_000_000_000
MAX_REQUESTS = 20_000_000
Times = npt.NDArray[np.int64]


def at_rate(rate_per_s: float, arrivals: str, count: int, seed: int, burstiness: float = 1.0) -> Times:
    """The first `count` due times in ns, int64 [count], ascending."""
    if arrivals == "constant":
        return np.rint(np.arange(bounded(count)) * (NS / rate_per_s)).astype(np.int64)
    gaps = _gaps(arrivals, bounded(count), seed, burstiness) * (NS / rate_per_s)
    return np.cumsum(np.rint(gaps).astype(np.int64))  # whole ns first: a sum of floats differs between machines


def open_loop(plan: Open, seed: int) -> Times:
    """Due times in ns of an open load, int64 [n], ascending.

    Raises:
        Refused: none falls due within the duration, or too many.
    """
    end_ns = round(plan.duration_s * NS) if plan.duration_s is not None else None
    expected = plan.requests or _expected(plan)
    spread = expected / plan.burstiness if plan.arrivals == "gamma" else expected
    count = plan.requests or bounded(int(expected + 8 * max(spread, expected) ** 0.5) + 16)
    if plan.rates is None:
        due = at_rate(plan.mean_rate_per_s, plan.arrivals, count, seed, plan.burstiness)
    else:
        due = _changing(plan, plan.rates, count, seed)
    if end_ns is not None:
        due = due[due < end_ns]
    if not len(due):
        rate = "the rates" if plan.rates is not None else f"load.rate_per_s ({plan.rate_per_s:g})"
        raise Refused(f"no requests would be sent: {rate} x load.duration_s ({plan.duration_s:g}) is too small")
    return due


def _gaps(arrivals: str, count: int, seed: int, burstiness: float) -> draws.Floats:
    """Gaps of mean 1, [count]."""
    key = draws.key(seed, draws.SCHEDULE)
    return draws.gamma(key, count, burstiness) if arrivals == "gamma" else draws.exponential(key, count)


def _expected(plan: Open) -> float:
    """How many requests fall due within the duration on average."""
    duration_s = plan.duration_s or 0.0
    if plan.rates is None:
        return plan.mean_rate_per_s * duration_s
    return float(_integral(plan, plan.rates, duration_s)[1][-1])


def _integral(plan: Open, rates: list[RateFrom], duration_s: float) -> tuple[draws.Floats, draws.Floats]:
    """The edges of the parts in s, and the requests expected until each: float64 [parts + 1] both."""
    edges = np.array([*(one.at_s for one in rates), duration_s])
    level = np.array([one.per_s for one in rates])
    after = np.append(level[1:], level[-1]) if plan.change == "ramp" else level
    return edges, np.concatenate([[0.0], np.cumsum(np.diff(edges) * (level + after) / 2)])


def _changing(plan: Open, rates: list[RateFrom], count: int, seed: int) -> Times:
    """Arrivals at rate 1, moved to where the rate's integral reaches them."""
    edges, expected = _integral(plan, rates, plan.duration_s or 0.0)
    if plan.arrivals == "constant":
        units = np.arange(count, dtype=np.float64)
    else:
        units = np.cumsum(_gaps(plan.arrivals, count, seed, plan.burstiness))
    units = units[units < expected[-1]]
    part = np.minimum(np.searchsorted(expected, units, side="right") - 1, len(rates) - 1)
    rate = np.array([one.per_s for one in rates])
    after = np.append(rate[1:], rate[-1]) if plan.change == "ramp" else rate
    first, slope = rate[part], (after[part] - rate[part]) / np.diff(edges)[part]
    over = units - expected[part]
    # over = first t + slope t^2 / 2, solved without cancellation where the slope is 0
    with np.errstate(invalid="ignore", divide="ignore"):
        t = 2 * over / (first + np.sqrt(np.maximum(first**2 + 2 * slope * over, 0.0)))
    return np.rint((edges[part] + np.nan_to_num(t)) * NS).astype(np.int64)


def bounded(count: int) -> int:
    """Raises: Refused: more requests than can be prepared."""
    if count > MAX_REQUESTS:
        raise Refused(f"the workload has {number(count)} requests; the limit is {number(MAX_REQUESTS)}")
    return count
