"""Throughput and latency as tables, with intervals and the number of values behind them."""

from __future__ import annotations

from innerloop.harness.cli.words import NONE, ends, number, seconds, share
from innerloop.harness.pages.parts import Label, Row, Section, Table, Tone, filled
from innerloop.harness.report.goodput import HOLDS, kept_all
from innerloop.harness.report.quantiles import left_out
from innerloop.harness.report.run import RULES
from innerloop.harness.schema.common import Bounds, Summary
from innerloop.harness.schema.goodput import Goodput, Limit
from innerloop.harness.schema.quantiles import quantile_of, values_needed
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.window import Throughput

RATES = (  # (label, term, field)
    ("output tokens/s (decode)", "decode_rate", "output_tokens_per_s"),
    ("prefill positions/s", "prefill_rate", "prefill_positions_per_s"),
    ("total tokens/s", "total_rate", "total_tokens_per_s"),
    ("tokens/s per user", "user_rate", "tokens_per_s_per_user"),
    ("requests/s", "request_rate", "requests_per_s"),
)
TONES: dict[bool | None, Tone] = {True: "good", False: "bad", None: "warn"}
LATENCIES = (("TTFT", "ttft"), ("TPOT", "tpot"), ("ITL", "itl"), ("end to end", "e2e"))


def speed(result: Result) -> Section:
    limits = [] if result.goodput is None else [goodput(result.goodput)]
    return Section("speed", "Throughput and latency", [throughput(result), latency(result), *limits])


def throughput(result: Result) -> Table:
    whole, steady = result.throughput, result.steady
    inside = steady.throughput or Throughput()
    rows = []
    for label, term, field in RATES:
        ci = getattr(inside, f"{field}_ci", None)
        cells = [number(getattr(whole, field)), number(getattr(inside, field)), interval(ci)]
        rows.append(Row(Label(label, term), cells, style="strong" if field == "output_tokens_per_s" else ""))
    note = (
        f"Steady: {seconds(steady.duration_s)} and {number(steady.steps)} steps, {RULES[steady.rule]}."
        if steady.reason is None
        else f"No steady figures: {steady.reason}."
    )
    columns = [Label("Throughput"), Label("window", "window"), Label("steady", "steady")]
    return filled(Table([*columns, Label("95 % interval, steady", "rate_interval")], rows, note=note))


def latency(result: Result) -> Table:
    """Of the whole window: mean and quantiles, p50 and p99 with their intervals."""
    rows = []
    for label, term in LATENCIES:
        of: Summary = getattr(result.latency_s, term)
        cells = [seconds(of.mean), point(of, "p50"), bounds(of.p50_ci), point(of, "p90"), point(of, "p99")]
        rows.append(Row(Label(label, term), [*cells, bounds(None if quantile_of(of, "p99") is None else of.p99_ci),
                                             number(of.count)]))  # fmt: skip
    names = ("mean", None), ("p50", "p50"), ("95 %", "interval"), ("p90", "p90"), ("p99", "p99"), ("95 %", "interval")
    columns = [Label("Latency"), *(Label(name, term) for name, term in names), Label("n", "n")]
    cut = any(getattr(result.latency_s, term).unfinished for _, term in LATENCIES)
    known = [getattr(result.latency_s, term) for _, term in LATENCIES]
    changing = any(one.p50 is not None and one.p50_ci is None and one.p90_ci is not None for one in known)
    note = (
        f"From the time a request was due. A dash: too few values (p90 needs {values_needed(0.9)}, p99 "
        f"{values_needed(0.99)}){', or too many that had not ended' if cut else ''}"
        f"{', or values that change too much over the window for an interval' if changing else ''}."
    )
    if told := left_out({label: getattr(result.latency_s, term) for label, term in LATENCIES}):
        note += f" {told[0].upper()}{told[1:]}."
    return filled(Table(columns, rows, note=note))


def goodput(found: Goodput) -> Table:
    """Whether each latency limit was met, and how many requests met all of them."""
    rows = [
        Row(
            Label(f"{Limit(one.figure, one.quantile, one.limit_s).name} {seconds(one.limit_s)}"),
            [share(one.share), ends(one.low, one.high, share, " – "), number(one.judged), HOLDS[one.holds]],
            tone=TONES[one.holds],
        )
        for one in found.limits
    ]
    columns = [Label("Goodput", "goodput"), Label("within"), Label("95 %", "interval"), Label("n", "n"), Label("limit")]
    return Table(columns, rows, note=f"{kept_all(found)}.")


def point(of: Summary, name: str) -> str:
    """A quantile, where there are enough values for it."""
    return seconds(quantile_of(of, name))


def bounds(ci: Bounds | None) -> str:
    if ci is None or ci == (None, None):
        return NONE
    if ci[0] is None:
        return f"≤ {seconds(ci[1])}"
    return f"≥ {seconds(ci[0])}" if ci[1] is None else f"{seconds(ci[0])} – {seconds(ci[1])}"


def interval(ci: Bounds | None) -> str:
    return NONE if ci is None else ends(*ci, number, " – ")
