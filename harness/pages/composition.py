"""Step time against what was in the step, with the fitted line and the bound of the machine."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.step_costs import expected_s, fits
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.cli.words import NONE, ends, number, seconds, share
from innerloop.harness.pages import specs
from innerloop.harness.pages.parts import Callout, Chart, Label, Part, Row, Section, Series, Table
from innerloop.harness.pages.source import Source
from innerloop.harness.pages.thin import evenly, plain
from innerloop.harness.result.roofline import bound_s_of
from innerloop.harness.schema.investigation import FittedCosts
from innerloop.harness.schema.roofline import OfSteps

MOST_POINTS, SLOWEST, BINS, LEAST_IN_A_BIN = 1200, 60, 40, 12
MEASURED, FIT, BOUND = "measured", "fit", "bound"
LINES = {  # of the charts, by series
    MEASURED: "Each point is a step.",
    FIT: "The fit is the time that a step of the same composition takes on average.",
    BOUND: "The bound is the minimum time that this machine's measured peaks allow.",
}
COSTS = {
    "fixed": "fixed, per step",
    "prefill_token": "per prefill token",
    "decode_token": "per decode token",
    "context_token": "per context token",
}
KINDS = (  # (kind of steps, its name, what x is, its words)
    ("decode_only", "Decode-only steps", "context", "context tokens read from the KV cache"),
    ("with_prefill", "Steps with prefill", "prefill", "prefill positions computed"),
)
MISFIT = {
    "negative_cost": "no fit is shown, because one of its costs would be negative",
    "low_r2": "no fit is shown, because it explains less than 30 % of the variance",
}


def composition(run: Source) -> Section | None:
    """None where the engine does not report what its steps computed."""
    done = run.work
    steps = run.tables.steps
    if done is None or np.isnan(done.prefill).any():
        return None
    found = fits(steps, done)
    expected = expected_s(found, done)
    bound = bound_s_of(run.tables, done, run.result.roofline)
    parts: list[Part] = []
    for kind, title, what, words in KINDS:
        rows = done.prefill == 0 if kind == "decode_only" else done.prefill > 0
        if rows.sum() >= 3:
            x = (done.kv_read if what == "context" else done.prefill)[rows]
            lines = {
                FIT: expected[rows] if found[kind].misfit is None else None,
                BOUND: None if bound is None else bound[rows],
            }
            parts.append(scatter(kind, Label(title, kind), (x, words), wall_ns(steps)[rows] * NS, lines))
    parts += [one for one in (costs(found), roofline(run)) if one is not None]
    if not parts:
        return None
    drawn = {name for part in parts if isinstance(part, Chart) for name in part.columns["series"]}
    intro = " ".join(words for name, words in LINES.items() if name in drawn) or LINES[MEASURED]
    return Section("composition", "Step time by composition", parts, intro)


def chosen(times: np.ndarray) -> np.ndarray:
    """Places of the points that are drawn, int64: even picks, and the slowest steps."""
    if len(times) <= MOST_POINTS:
        return np.arange(len(times))
    slow = np.argpartition(times, -SLOWEST)[-SLOWEST:]
    return np.unique(np.concatenate((evenly(len(times), MOST_POINTS - SLOWEST), slow)))


def binned(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of x and of the values in up to BINS bins of about as many steps each; NaN counts as no value."""
    some = ~np.isnan(values)
    x, values = x[some], values[some]
    if not len(x):
        return x, values
    bins = max(min(BINS, len(x) // LEAST_IN_A_BIN), 2)
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
    counts = np.bincount(place)
    filled = counts > 0
    return np.bincount(place, x)[filled] / counts[filled], np.bincount(place, values)[filled] / counts[filled]


def scatter(
    kind: str, title: Label, of: tuple[np.ndarray, str], times: np.ndarray, lines: dict[str, np.ndarray | None]
) -> Chart:
    """Points of the steps, and a line through the means of each of `lines`; `of` is x and what it is."""
    x, words = of
    places = chosen(times)
    columns: dict[str, list[object]] = {
        "series": [MEASURED] * len(places),
        "x": plain(x[places]),
        "v": plain(times[places]),
    }
    series = [Series(MEASURED, 0, "wall")]
    for name, values in lines.items():
        if values is not None:
            at, means = binned(x, values)
            if not len(at):
                continue
            columns["series"] += [name] * len(at)
            columns["x"] += plain(at)
            columns["v"] += plain(means)
            series.append(Series(name, {FIT: 1, BOUND: 2}[name], "fit" if name == FIT else "least_time"))
    text = [specs.duration_text("v", "v_text"), specs.number_text("x", "x_text")]
    encoding = {
        "x": specs.quantitative("x", None, None, {"zero": False, "nice": False})
        | {"axis": specs.across(words, specs.NUMBER_LABELS)},
        "y": specs.quantitative("v", "step time", specs.DURATION_LABELS, {"domainMin": 0, **specs.UP}),
        "color": specs.colour(series),
        "tooltip": specs.tips(series="", v_text="step time", x_text=words),
    }
    points = {
        "transform": [specs.SHOWN, {"filter": f"datum.series == '{MEASURED}'"}, *text],
        "mark": {"type": "point", "opacity": 0.5, "tooltip": True},
    }
    curves = {
        "transform": [specs.SHOWN, {"filter": f"datum.series != '{MEASURED}'"}, *text],
        "mark": {"type": "line", "strokeWidth": 2.2, "tooltip": True},
    }
    note = ""
    if len(places) < len(times):
        note = (
            f"{len(places):,} of {len(times):,} steps drawn: an even sample plus the {SLOWEST} slowest."
            f"{' The lines are means over all steps.' if len(series) > 1 else ''}"
        ).replace(",", "\u202f", 2)
    return Chart(
        f"steps-{kind.replace('_', '-')}",
        title,
        specs.layered(points, *([curves] if len(series) > 1 else []), encoding=encoding, series=series),
        columns,
        {"series": "series", "x": words, "v": "seconds"},
        f"{title.text}: time against {words}",
        series=series,
        height=250,
        note=note,
    )


def costs(found: dict[str, FittedCosts]) -> Table | Callout | None:
    """What a step's content costs by the fit, with intervals."""
    rows, notes = [], []
    for kind, title, _, _ in KINDS:
        fit = found[kind]
        if fit.misfit is not None:
            notes.append(f"{title}: {MISFIT[fit.misfit]}.")
        elif fit.reason is None:
            notes.append(f"{title}: {number(fit.rows)} steps, the fit explains {share(fit.r2)} of the variance.")
            rows.append(Row(Label(title, kind), ["", ""], "strong"))
            for name, cost in fit.costs.items():
                cells = [seconds(cost.estimate), ends(cost.low, cost.high, seconds, " – ")]
                rows.append(Row(Label(COSTS.get(name, name)), cells, "part"))
    columns = [Label("Fitted cost", "fit"), Label("seconds each"), Label("95 % interval", "interval")]
    if not rows:
        return Callout("", " ".join(notes)) if notes else None
    return Table(columns, rows, note=" ".join(notes))


def roofline(run: Source) -> Table | None:
    """How close the steps came to the machine's measured peaks."""
    found = run.result.roofline
    if found is None or found.bound_share is None:
        return None
    rows = []
    for kind, words in {"all": "all steps", "decode_only": "decode only", "with_prefill": "with prefill"}.items():
        parts = (found.bound_share, found.mbu, found.mfu, found.memory_bound_share)
        if getattr(found.bound_share, kind) is not None:
            rows.append(Row(Label(words), [_share(one, kind) for one in parts]))
    peaks, at = found.total_peaks, found.output_tokens_per_s_at_bound
    rates = "" if peaks is None else f"{number(peaks.bytes_per_s / 1e9)} GB/s, {number(peaks.ops_per_s / 1e9)} GFLOP/s"
    note = (
        f"Measured peaks: {rates}; {number(None if at is None else round(at))} tokens/s at the bound." if rates else ""
    )
    if found.peaks is not None and found.peaks.disturbed:
        note += " They were measured on a busy machine: the true shares may be lower."
    if found.above_bound:
        note += f" {found.above_bound[0].upper()}{found.above_bound[1:]}."
    columns = [Label("Roofline"), Label("of bound", "bound"), Label("MBU", "mbu"), Label("MFU", "mfu")]
    return Table([*columns, Label("memory bound")], rows, note=note)


def _share(of: OfSteps | None, kind: str) -> str:
    return NONE if of is None else share(getattr(of, kind))
