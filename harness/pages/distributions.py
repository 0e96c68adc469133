"""Latencies as empirical distribution functions, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.latency import e2e_ns, first_tokens, gaps_of, tpot_ns, ttft_ns
from innerloop.harness.analysis.selection import at_ranks
from innerloop.harness.pages import specs
from innerloop.harness.pages.parts import Chart, Label, Section, Series
from innerloop.harness.pages.source import Source
from innerloop.harness.pages.thin import plain

POINTS = 400  # of a curve
LEAST_MARKS = 3  # of a logarithmic axis
SERIES = (Series("TTFT", 0, "ttft"), Series("TPOT", 1, "tpot"), Series("ITL", 2, "itl"), Series("end to end", 3, "e2e"))


def latencies(run: Source) -> Section | None:
    """None where no request got a token."""
    values = values_of(run)
    if not values:
        return None
    chart = ecdf(values)
    intro = (
        "Each curve shows the share of values that are no larger. A steep curve means similar values; a long tail to "
        "the right means a few slow ones."
    )
    return Section("distributions", "Latency distributions", [chart], intro)


def values_of(run: Source) -> dict[str, np.ndarray]:
    """The latencies that there are, by series, ns, int64 or float64 [values] each."""
    requests, tokens = run.tables.requests, run.tables.tokens
    if not len(requests):
        return {}
    found = {
        "TTFT": ttft_ns(requests),
        "TPOT": tpot_ns(requests, first_tokens(requests, tokens)),
        "ITL": gaps_of(tokens).itl_ns if len(tokens) else np.empty(0),
        "end to end": e2e_ns(requests),
    }
    return {name: values for name, values in found.items() if len(values)}


def steps_up(values: np.ndarray, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """(value, share of the values that are at most as large) of an empirical distribution function, float64 [points]:
    of every value, or of `most` evenly chosen ranks, among them the least and the greatest."""
    count = len(values)
    ranks = np.arange(count) if count <= most else np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))
    return at_ranks(values, ranks), (ranks + 1) / count


def decades(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times every power of ten that lies among the values, for a logarithmic axis."""
    if not values:
        return []
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [float(f"{part}e{power}") for power in powers for part in (1, 2, 5)]
    return [mark for mark in marks if low <= mark <= high]


def scale(values: Sequence[float]) -> specs.Spec:
    """The channel of the values: logarithmic, unless they lie too close together for an axis to show."""
    marks = decades(values)
    if len(marks) < LEAST_MARKS:
        axis = specs.across(None, specs.DURATION_LABELS, grid=True)
        return specs.quantitative("s", None, None, {"zero": False}) | {"axis": axis}
    axis = specs.axis(None, specs.DURATION_LABELS, grid=True, values=marks)
    return specs.quantitative("s", None, None, {"type": "log", "nice": False}) | {"axis": axis}


TITLE = Label("Share of values that are no larger", "ecdf")


def ecdf(
    values: dict[str, np.ndarray],
    name: str = "latencies",
    known: tuple[Series, ...] = SERIES,
    title: Label = TITLE,
) -> Chart:
    """A curve for each series of `values`, ns; values of 0 have no place on a logarithmic scale."""
    series, x, share, counts = [], [], [], {}
    zeros = 0
    for key, given in values.items():
        at, part = steps_up(given)
        some = at > 0
        zeros += int((~some).sum())
        series += [key] * int(some.sum())
        x += plain(at[some] * NS)
        share += plain(part[some])
        counts[key] = len(given)
    shown = [one for one in known if one.name in values]
    spec = specs.single(
        {"type": "line", "interpolate": "step-after", "tooltip": True},
        {
            "x": scale(x),
            "y": specs.quantitative("share", "share of values", specs.PERCENT_LABELS, {"domain": [0, 1], **specs.UP}),
            "color": specs.colour(shown),
            "tooltip": specs.tips(series="latency", s_text="at most", share_text="share of values"),
        },
        [
            specs.duration_text("s", "s_text"),
            {"calculate": "format(datum.share * 100, '.1f') + ' %'", "as": "share_text"},
        ],
        series=shown,
    )
    thinned = [f"{key} {count:,}".replace(",", "\u202f") for key, count in counts.items() if count > POINTS]
    note = (
        f"Drawn at {POINTS} evenly spaced ranks, including the smallest and the largest: {', '.join(thinned)} values."
    )
    return Chart(
        name,
        title,
        spec,
        {"series": series, "s": x, "share": share},
        {"series": "latency", "s": "seconds", "share": "share of values"},
        "Empirical distribution functions of the latencies",
        series=shown,
        height=260,
        note=(note if thinned else "") + (" Values of 0 s are left out." if zeros else ""),
    )
