"""Energy from a counter, or from a power reading's integral, over any span of time.

Both become a Curve: the energy used so far at some moments, straight in between. How finely a curve can tell time is
its resolution: what a device does within that, no span's energy can say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.columns import NS

LONGEST_GAP_S = 3.0  # between two power readings: the integral over a longer one would be invented
LEAST_PERIODS = 20  # in a span whose energy is to be known to 5 %: an edge can be wrong by half a period
STRETCH_PERIODS = 5  # in a stretch of like steps that is long enough to be told from its neighbours
STRETCH_SHARE = 0.8  # of the time of a kind of steps that must lie in such stretches
SYNCHRONOUS = 0.9  # share of samples with a new value from which on a reading counts as new at every sample


@dataclass(frozen=True)
class Curve:
    """`times_ns` float64 [n], rising; `joules` float64 [n], never falling; `resolution_s` as above."""

    times_ns: np.ndarray
    joules: np.ndarray
    resolution_s: float


def updates(values: np.ndarray) -> np.ndarray:
    """The places, int64, of the values that differ from the one before them; there must be no missing ones."""
    return np.flatnonzero(values[1:] != values[:-1]) + 1


def update_period_s(times_ns: np.ndarray, values: np.ndarray) -> float | None:
    """How often a reading changes: the mean gap between changes, of those gaps that are near the usual one.

    The usual gap is the first quartile, as a gap that occurs: a reading whose true value stands still shows no change,
    so longer gaps are left out. None with fewer than four changes. Samples taken less often than the reading changes
    give their own interval: an upper limit.
    """
    known = ~np.isnan(values)
    times, values = times_ns[known], values[known]
    moments = times[updates(values)]
    if len(moments) < 4:
        return None
    gaps = np.diff(moments)
    usual = np.quantile(gaps, 0.25, method="higher")
    return float(gaps[(gaps > 0.5 * usual) & (gaps <= 1.5 * usual)].mean()) * NS


def counter_curve(times_ns: np.ndarray, joules: np.ndarray) -> Curve | None:
    """The curve of an energy counter (float64 [samples], NaN = missing); None if it went back or hardly ever moved.

    Where the counter is updated less often than it is sampled, a new value is as old as half a sample on average, and
    the moments are moved back by that.
    """
    known = ~np.isnan(joules)
    times, values = times_ns[known].astype(np.float64), joules[known]
    if len(values) < 2 or (np.diff(values) < 0).any():
        return None
    at = updates(values)
    if len(at) < 2:
        return None
    between = np.diff(times)
    if len(at) >= SYNCHRONOUS * (at[-1] - at[0] + 1):
        moments, resolution = times[at], float(np.median(between))
    else:
        moments, resolution = times[at] - between[at - 1] / 2, float(np.median(np.diff(times[at])))
    return Curve(moments, values[at], resolution * NS)


def power_curve(times_ns: np.ndarray, watts: np.ndarray) -> Curve | None:
    """The curve of a power reading (float64 [samples], NaN = missing) by the trapezoid rule; None without two of them.

    Over a gap of more than 3 s the curve has no values (NaN), and so has every span that reaches across.
    """
    known = ~np.isnan(watts)
    times, values = times_ns[known].astype(np.float64), watts[known]
    if len(values) < 2:
        return None
    seconds = np.diff(times) * NS
    parts = np.where(seconds > LONGEST_GAP_S, np.nan, seconds * (values[1:] + values[:-1]) / 2)
    period = update_period_s(times, values)
    resolution = max(float(np.median(seconds)), period or 0.0)
    return Curve(times, np.concatenate(([0.0], np.cumsum(parts))), resolution)


def used_j(curve: Curve | None, start_ns: float, end_ns: float) -> float | None:
    """The energy used in a span; None if the curve does not reach its edges, give or take two resolutions."""
    if curve is None or end_ns <= start_ns:
        return None
    at = energy_at(curve, np.array([start_ns, end_ns], dtype=np.float64))
    used = float(at[1] - at[0])
    return None if np.isnan(used) else used


def energy_at(curve: Curve, moments_ns: np.ndarray) -> np.ndarray:
    """The curve at some moments: float64 [moments], NaN where it does not reach.

    Up to two resolutions beyond its ends it goes on at the power of its last two resolutions.
    """
    times, joules = curve.times_ns, curve.joules
    reach = 2 * curve.resolution_s / NS
    out = np.interp(moments_ns, times, joules)
    for end, beyond in ((0, times[0] - moments_ns), (-1, moments_ns - times[-1])):
        outside = beyond > 0
        if outside.any():
            inner = times[end] + (reach if end == 0 else -reach)
            inner = min(max(inner, times[0]), times[-1])
            span = abs(inner - times[end])
            slope = abs(np.interp(inner, times, joules) - joules[end]) / span if span > 0 else np.nan
            sign = -1 if end == 0 else 1
            out = np.where(outside, np.where(beyond <= reach, joules[end] + sign * slope * beyond, np.nan), out)
    return out


def too_short(start_ns: int, end_ns: int, period_s: float | None) -> bool:
    """Whether a span has too few periods of a reading for its energy to be known to some 5 %."""
    return period_s is not None and (end_ns - start_ns) * NS < LEAST_PERIODS * period_s


def by_kind(
    curve: Curve | None, start_ns: np.ndarray, end_ns: np.ndarray, with_prefill: np.ndarray
) -> tuple[float | None, float | None, str | None]:
    """(energy of the steps with prefill, of those without, why one of them is None), in joules.

    `start_ns`, `end_ns` int64 and `with_prefill` bool are of shape [steps], in order of time. Like steps in a row make
    a stretch, gaps between them included. Only where most of a kind's time lies in stretches of at least five
    resolutions can the curve tell it from the other.
    """
    if curve is None or len(start_ns) == 0:
        return None, None, "no energy was measured"
    first = np.concatenate(([0], np.flatnonzero(with_prefill[1:] != with_prefill[:-1]) + 1))
    last = np.concatenate((first[1:] - 1, [len(start_ns) - 1]))
    begin, end = start_ns[first], end_ns[last]
    length_s = (end - begin) * NS
    long = length_s >= STRETCH_PERIODS * curve.resolution_s
    energy = energy_at(curve, end.astype(np.float64)) - energy_at(curve, begin.astype(np.float64))
    found: dict[str, float | None] = {}
    short = []
    for name, kind in (("with prefill", with_prefill[first]), ("decode-only", ~with_prefill[first])):
        total_s = float(length_s[kind].sum())
        joules = float(energy[kind].sum()) if total_s > 0 else 0.0
        found[name] = None if np.isnan(joules) else joules
        if total_s > 0 and float(length_s[kind & long].sum()) < STRETCH_SHARE * total_s:
            found[name] = None
            steps = f"{name} steps" if name == "decode-only" else f"steps {name}"
            short.append(f"stretches of {steps} last {np.median(length_s[kind]) * 1e3:.0f} ms")
    why = None
    if short:
        why = f"{' and '.join(short)}; they need to last {STRETCH_PERIODS} x {curve.resolution_s * 1e3:.0f} ms"
    return found["with prefill"], found["decode-only"], why
