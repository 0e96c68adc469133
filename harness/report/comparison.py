"""A comparison as a person reads it: what differs, what follows from it, and where the difference comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.harness.analysis.kernel_classes import TITLES
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.tables import FittedTable
from innerloop.harness.cli.words import NONE, counted, ends, number, seconds, share, visible
from innerloop.harness.report.steps import short
from innerloop.harness.report.tables import section, table
from innerloop.harness.result.figures import TOO_FEW
from innerloop.harness.schema.comparison import (
    ChangedSteps,
    ComparedFigure,
    Comparison,
    Decomposition,
    Difference,
    Estimate,
    KernelWhy,
    Side,
)

MOST_DIFFERENCES = 20
BAR = 13  # columns of the longer of A and B
MOST_PACKAGES = 5
MUCH = 0.1  # of both sides' time that is not comparable: then it is said what would help
VERDICTS = {"better": "faster", "worse": "slower", "undecided": "undecided"}
OTHER_WORDS = {"better": "less", "worse": "more"}  # of figures that are no speed
SHORTER = {"steady.throughput.": "steady ", "throughput.": "", "latency_s.": "", "telemetry.energy_j": "energy"}
STYLES = {"better": "green", "worse": "red", "same": "", "undecided": "yellow"}
COEFFICIENTS = {
    "fixed": "fixed, per step",
    "prefill": "prefill tokens",
    "decode": "decode tokens",
    "context": "context tokens",
    "rest": "what that leaves",
}


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    (console or PlainConsole()).print(Group(*parts(found)))


def parts(found: Comparison) -> Iterator[RenderableType]:
    yield side("A", found.a)
    yield side("B", found.b)
    for line in found.waived:
        yield Text(f"! {line}: compared anyway, as requested", style="yellow")
    yield section("What differs", differing(found.differences))
    yield section("B vs. A", figures(found))
    for line in found.notes:
        yield Text(f"! {line}", style="yellow")
    for name, one in (("A", found.a), ("B", found.b)):
        for line in doubts(one):
            yield Text(f"! {name} is suspect, {line}", style="yellow")
    if found.why is not None:
        yield section("Where the difference comes from", why(found.why))
    elif found.why_not:
        yield Text(f"where the difference comes from: unknown, because {found.why_not}", style="dim")


def doubts(one: Side) -> Iterator[str]:
    """A line a kind of doubt: what was seen, in the first run of those that have it."""
    for code in dict.fromkeys(doubt.code for doubt in one.doubts):
        found = [doubt for doubt in one.doubts if doubt.code == code]
        of = "" if len(one.runs) == 1 else f", {len(found)} of {len(one.runs)} runs"
        yield f"{code}: {found[0].detail} ({visible(found[0].run)}{of})"


def side(name: str, one: Side) -> Text:
    words = " · ".join(visible(word) for word in (one.engine, one.model, one.workload) if word)
    labels = "".join(f" · {visible(key)}={visible(value)}" for key, value in one.label.items())
    out = Text(f"{name}  {words}{labels}", style="bold")
    more = f" and {len(one.runs) - 1} more" if len(one.runs) > 1 else ""
    out.append(f"  {visible(one.runs[0])}{more}", style="dim not bold")
    if one.verified is not None:
        out.append("  verified" if one.verified else "  NOT VERIFIED", style="green" if one.verified else "bold red")
    return out.append(f"  {one.status.upper()}", style="yellow") if one.status != "ok" else out


def differing(rows: Sequence[Difference]) -> RenderableType:
    if not rows:
        return Text("no recorded differences")
    packages = [row for row in rows if row.name.startswith("packages.")]
    others = [row for row in rows if row not in packages]
    changed = [row for row in packages if row.a is not None and row.b is not None]
    shown = [*others[:MOST_DIFFERENCES], *changed[:MOST_PACKAGES]]
    out = table("", "A", "B", left=3)
    for column in out.columns[1:]:
        column.no_wrap = False
    for row in shown:
        out.add_row(visible(row.name), value(row.a), value(row.b))
    left = len(others[MOST_DIFFERENCES:])
    words = [f"{left} more"] if left else []
    words += [f"{len(packages) - len(changed[:MOST_PACKAGES])} more packages"] if len(packages) > MOST_PACKAGES else []
    return Group(out, Text(f"and {' and '.join(words)}; --json lists them all", style="dim")) if words else out


def value(of: Any) -> str:
    if of is None:
        return NONE
    if isinstance(of, bool):
        return str(of).lower()
    if isinstance(of, (list, tuple)):
        return ", ".join(value(one) for one in of) or NONE
    return visible(str(of))


def figures(found: Comparison) -> RenderableType:
    bounded = any(row.ratio.low is not None for row in found.figures)
    out = table("", "A", "B", "B / A", *(["95 %"] if bounded else []), "verdict", gap=1)
    out.columns[-1].justify, out.columns[-1].no_wrap = "left", False
    for row in found.figures:
        style = "bold" if row.name == found.metric else ""
        bounds = [ends(row.ratio.low, row.ratio.high, ratio, "-")] if bounded else []
        out.add_row(
            Text(short_name(row.name) + (" *" if row.doubtful else ""), style=style),
            figure(row, row.a),
            figure(row, row.b),
            number(row.ratio.value),
            *bounds,
            Text(verdict(row, found.margin), style="dim" if row.reason else STYLES[row.verdict]),
        )
    lines: list[RenderableType] = [out, *(Text(line, style="dim") for line in too_few(found))]
    if found.trials > 1:
        words = "A, B: means over the trials; B / A: geometric mean of each trial's ratio"
        lines.append(Text(words, style="dim"))
    if found.figures[0].smallest_visible is not None:
        told = f"the smallest difference in {short_name(found.metric)} that these {found.trials} trials could detect"
        lines.append(Text(f"{told}: {share(found.figures[0].smallest_visible)}", style="dim"))
    if found.trials_needed is not None:
        lines.append(Text(f"about {counted(found.trials_needed, 'trial')} would give an interval of ±1 %", style="dim"))
    if found.margin_source == "noise":
        margin = share(found.margin)
        words = f"differences up to {margin} are ignored: two identical runs differ by that much here"
        lines.append(Text(words, style="dim"))
    if any(row.doubtful for row in found.figures):
        lines.append(Text("*: doubtful, because a run is suspect", style="dim"))
    if found.missing:
        lines.append(Text(f"missing or 0 on at least one side: {', '.join(found.missing)}", style="dim"))
    return Group(*lines)


def too_few(found: Comparison) -> Iterator[str]:
    """Why quantiles are unknown, in footnotes."""
    return footnotes({row.name: row.reason for row in found.figures if row.reason is not None}, found.metric)


def footnotes(reasons: Mapping[str, str], metric: str = "") -> Iterator[str]:
    """A footnote for each reason why figures are unknown, with their names; what to do where it is about `metric`."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    for reason, those in names.items():
        advice = f"; {TOO_FEW}" if metric in those else ""
        yield f"-: {', '.join(map(short_name, those))}: {reason}{advice}"


def short_name(name: str) -> str:
    for long, word in SHORTER.items():
        name = name.replace(long, word)
    return name


def figure(row: ComparedFigure, of: Estimate) -> str:
    return seconds(of.value) if row.unit == "s" else number(of.value)


def verdict(row: ComparedFigure, margin: float) -> str:
    if row.reason is not None:
        return "too few values"
    if row.verdict == "same":
        return f"same within {share(margin)}"
    speed = row.unit in ("s", "tokens/s", "requests/s")
    word = VERDICTS[row.verdict] if speed or row.verdict == "undecided" else OTHER_WORDS[row.verdict]
    if row.leaning is None:
        return word
    return f"{word}, maybe {(VERDICTS if speed else OTHER_WORDS)[row.leaning]}"


def why(found: Decomposition) -> RenderableType:
    """The waterfall from A to B, then the cost in both of its divisions, then the steps that changed most."""
    out = part_table("step time per token", found)
    out.add_column("", no_wrap=True)
    total_a, total_b = found.a_s.value or 0.0, found.b_s.value or 0.0
    scale = BAR / max(total_a, total_b, 1e-30)
    at = total_a
    bounded = found.scatter is not None
    out.add_row(*row_of("A", found.a_s, total_a, bounded, whole=True), "█" * round(total_a * scale))
    for name, part in {
        "mix: different steps": found.mix_s,
        "cost: same steps": found.cost_s,
        "not comparable": found.unmatched_s,
    }.items():
        change = part.value or 0.0
        low, high = sorted((round(at * scale), round((at + change) * scale)))
        bar = " " * low + ("█" if change > 0 else "░") * (high - low)
        out.add_row(*row_of(f"  {name}", part, total_a, bounded), bar)
        at += change
    out.add_row(*row_of("B", found.b_s, total_a, bounded, whole=True), "█" * round(total_b * scale))
    lines: list[RenderableType] = [out, Text(held(found), style="dim"), Text("")]
    lines.append(
        divided("cost by phase", found.cost_by_phase_s, found, {"rest": "other host time", "gap": "between steps"})
    )
    lines += [Text(""), divided("cost by composition", found.cost_by_coefficient_s, found, COEFFICIENTS)]
    if found.mix_by_coefficient_s is not None:
        lines += [Text(""), divided("mix by composition", found.mix_by_coefficient_s, found, COEFFICIENTS)]
    if found.kernels is not None:
        lines += [Text(""), *by_kernel_class(found.kernels)]
    if found.changed:
        title = f"steps that changed most, per {number(1000)} output tokens"
        lines += [Text(""), Text(title, style="dim"), changed(found.changed)]
    return Group(*lines)


def by_kernel_class(found: KernelWhy) -> Iterator[RenderableType]:
    """What the captured steps of both profiling passes say: their own time, and in which kernels its cost is."""
    words = {**TITLES, "rest": "outside kernels"}
    yield divided("cost by kernel class", found.cost_by_class_s, found, words)
    a, b, cost = seconds(found.a_s.value), seconds(found.b_s.value), plus(found.cost_s.value)
    told = (
        f"of {found.steps_a} and {found.steps_b} captured steps, under the profiler: {a} and {b} per token; same "
        f"steps: {cost}; {share(found.matched_share)} of the time is in steps that both captured"
    )
    yield Text(told, style="dim")


def part_table(title: str, found: Decomposition | KernelWhy) -> FittedTable:
    out = table(title, "", *(["95 % interval"] if found.scatter is not None else []), "of A", gap=1, least=(22, None))
    out.columns[1].min_width = 9
    return out


def held(found: Decomposition) -> str:
    matched = f"{share(found.matched_share)} of the time is in steps that both sides ran"
    if found.modelled_share:
        one_sided = share(found.modelled_share)
        matched += f", {one_sided} in steps that only one side ran, whose cost on the other is estimated"
    unknown = 0.0 if found.matched_share is None else 1 - found.matched_share - (found.modelled_share or 0.0)
    if unknown > MUCH:
        one_sided = f"{share(unknown)} in steps that only one side ran, whose cost on the other cannot be estimated"
        matched += f", {one_sided}: more requests, or longer windows, would tell more"
    if found.scatter == "steps":
        return f"{matched}; the intervals cover variation within these two runs, not between runs"
    return f"{matched}; too few steps for intervals" if found.scatter is None else matched


def divided(
    title: str, rows: Mapping[str, Estimate], found: Decomposition | KernelWhy, words: Mapping[str, str] | None = None
) -> RenderableType:
    out = part_table(title, found)
    for name, part in rows.items():
        if part.value:
            cells = row_of((words or {}).get(name, name), part, found.a_s.value or 0.0, found.scatter is not None)
            out.add_row(*cells)
    return out if out.row_count else Text(f"{title}: none", style="dim")


def row_of(name: str, part: Estimate, of: float, bounded: bool, whole: bool = False) -> list[Text]:
    """Dim where the interval holds 0: such a part may be none. whole: it is no difference, and has no sign."""
    unclear = part.low is not None and part.high is not None and part.low <= 0 <= part.high
    style = "bold" if whole else "dim" if unclear else ""
    relative = NONE if of <= 0 or part.value is None else f"{part.value / of * 100:{'' if whole else '+'}.1f} %"
    cells = [name, seconds(part.value) if whole else plus(part.value)]
    cells += [interval(part)] if bounded else []
    return [Text(cell, style=style) for cell in (*cells, relative)]


def plus(of: float | None) -> str:
    return f"+{seconds(of)}" if of is not None and of > 0 else seconds(of)


def interval(of: Estimate) -> str:
    return ends(of.low, of.high, seconds)


def ratio(of: float | None) -> str:
    return NONE if of is None else f"{of:.3f}"


def changed(rows: Sequence[ChangedSteps]) -> RenderableType:
    out = table("prefill", "decode", "context", "A: steps", "B: steps", "A: cost", "B: cost", "added", left=0, gap=1)
    for row in rows:
        out.add_row(
            short(row.prefill_positions),
            short(row.decode_positions),
            short(row.context_tokens),
            number(row.steps_per_token_a * 1000),
            number(row.steps_per_token_b * 1000),
            seconds(row.cost_a_s),
            seconds(row.cost_b_s),
            plus(row.added_s),
        )
    return out
