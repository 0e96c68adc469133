"""What `harness.steps` found, as a person reads it: 80 columns or more, or plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, assignments, counted, ends, number, seconds, share, visible
from innerloop.harness.report.quantiles import footnote, points
from innerloop.harness.report.tables import section, table
from innerloop.harness.schema.investigation import (
    Bin,
    FittedCosts,
    Interference,
    Investigation,
    PhaseCost,
    Preemptions,
    SlowStep,
)

COSTS = {
    "fixed": "fixed, per step",
    "prefill_token": "per prefill token",
    "decode_token": "per decode token",
    "context_token": "per context token",
    "running": "per running request",
}
KINDS = {"decode_only": "decode only", "with_prefill": "with prefill"}
MISFITS = {
    "negative_cost": "it gives a negative cost",
    "low_r2": "it explains too little of the variance",
}


def print_steps(found: Investigation, console: Console | None = None) -> None:
    console = console or PlainConsole()
    for part in parts(found):
        console.print(part)


def parts(found: Investigation) -> Iterator[RenderableType]:
    named = [name for name in (found.engine, found.model, found.workload) if name]
    told = [assignments(values) for values in (found.given, found.label) if values]
    yield Text(" · ".join([visible(found.run), *named, *told]), style="bold")
    if not found.steps:
        yield Text("no steps were recorded")
        return
    yield Text(f"{counted(found.steps, 'step')} in {seconds(found.duration_s)}")
    yield section("Slowest steps", slowest(found.slowest))
    yield section("Step time by composition", fits(found.fit_s))
    yield section("Preemptions", preemptions(found.preemptions))
    yield section("How prefill delays other requests", interference(found.interference_s))
    yield section("Host phases by number of running requests", host(found.host_s))


def slowest(rows: Sequence[SlowStep]) -> RenderableType:
    if not rows:
        return Text("none requested", style="dim")
    out = table("step", "at", "wall", "fit", "bound", "prefill", "decode", "context", "longest phase", left=0, gap=1)
    out.columns[-1].justify, out.columns[-1].no_wrap = "left", False  # words give way to figures
    for row in rows:
        marks = f", preempted {row.preempted}" if row.preempted else ""
        out.add_row(
            str(row.step),
            seconds(row.at_s),
            seconds(row.wall_s),
            seconds(row.expected_s),
            seconds(row.bound_s),
            number(row.prefill_positions),
            number(row.decode_positions),
            short(row.context_tokens),
            longest_phase(row) + marks,
        )
    note = "fit: step time from the fit below; bound: minimum time at the machine's peaks"
    return Group(out, Text(note, style="dim"))


def short(value: float | None) -> str:
    """A count of context tokens: 1 234, 123 k, 4.56 M."""
    if value is None:
        return NONE
    for scale, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 100 * scale or (scale > 1e3 and value >= scale):
            return f"{number(value / scale)} {letter}"
    return number(round(value))


def longest_phase(row: SlowStep) -> str:
    known = {phase: time for phase, time in row.phases_s.items() if time is not None}
    if not known or row.wall_s <= 0:
        return NONE
    phase = max(known, key=lambda name: known[name])
    return f"{phase} {known[phase] / row.wall_s:.0%}".replace("%", " %")


def fits(by_kind: Mapping[str, FittedCosts]) -> RenderableType:
    """Both kinds below each other: a row a cost, with its 95 % interval."""
    lines: list[RenderableType] = []
    for kind, fit in by_kind.items():
        if fit.reason is not None:
            lines.append(Text(f"{KINDS[kind]}: {fit.reason}", style="dim"))
            continue
        out = table(KINDS[kind], "cost", "std. err.", "95 % interval", left=1)
        for name, cost in fit.costs.items():
            doubtful = fit.misfit is not None or cost.low <= 0 <= cost.high
            interval = ends(cost.low, cost.high, seconds)
            style = "dim" if doubtful else ""
            out.add_row(COSTS[name], seconds(cost.estimate), seconds(cost.error), interval, style=style)
        lines += [out, Text(explained(fit), style="dim")]
        if fit.misfit is not None:
            lines.append(Text(f"the fit does not describe these steps: {MISFITS[fit.misfit]}", style="yellow"))
        lines += [
            Text(f"the costs {COSTS[a]} and {COSTS[b]} cannot be separated (r = {r:.3f})", style="dim")
            for a, b, r in fit.together
        ]
        lines += [Text(f"{COSTS[name]}: not estimated, {why}", style="dim") for name, why in fit.dropped.items()]
    if any(fit.costs and fit.misfit is None for fit in by_kind.values()):
        lines.append(Text("dim: the interval contains 0, so this cost may be zero", style="dim"))
    return Group(*lines)


def explained(fit: FittedCosts) -> str:
    if fit.r2 is None:
        return f"{counted(fit.rows, 'step')}, all with the same composition"
    return f"{counted(fit.rows, 'step')}; explains {share(fit.r2)} of the variance, RMS error {seconds(fit.rmse)}"


def preemptions(found: Preemptions | None) -> RenderableType:
    if found is None:
        return Text("the engine does not report them", style="dim")
    if not found.count:
        return Text("none")
    storms = f"{counted(found.storm_count, 'storm')} of 3 or more close together"
    line = Text(f"{number(found.count)} in {counted(found.steps, 'step')}, {storms}")
    if not found.storms:
        return line
    out = table("at", "lasted", "steps", "preempted", "KV cache", "of all prefill", left=0)
    for storm in found.storms:
        out.add_row(
            f"{storm.at_s:.2f} s",
            seconds(storm.duration_s),
            f"{storm.first_step} to {storm.last_step}",
            number(storm.preempted),
            share(storm.kv_usage),
            share(storm.share_of_prefill),
        )
    return Group(line, out)


def interference(found: Interference | None) -> RenderableType:
    if found is None:
        return Text("the engine does not report prefill per step", style="dim")
    names = ("p50", "p90", "p99", "max")
    out = table("inter-token latency", "tokens", *names)
    for label, one in {
        "after decode-only steps": found.decode_only,
        "waited for prefill": found.with_prefill,
    }.items():
        if one.count:
            out.add_row(label, number(one.count), *points(one, names))
    if not out.row_count:
        return Text("no requests had a second token", style="dim")
    line = f"{share(found.stalled_share)} of the tokens waited for other requests' prefill"
    if found.lost_share is not None:
        line += f"; that wait was {share(found.lost_share)} of the total time between tokens"
    few = footnote((found.decode_only, found.with_prefill), "tokens", names)
    return Group(out, *few, Text(line, style="dim"))


def host(phases: Mapping[str, PhaseCost]) -> RenderableType:
    if not phases:
        return Text("the engine does not report these phases or its batch", style="dim")
    out = table("phase", "fixed", "per request", "explained", "median by running requests", left=1)
    out.columns[-1].justify, out.columns[-1].no_wrap = "left", False
    for phase in (name for name in PHASES if name in phases):
        fit, bins = phases[phase].fit, phases[phase].bins
        costs = {} if fit.misfit is not None else fit.costs
        if len(bins) > 3:
            bins = (bins[0], bins[len(bins) // 2], bins[-1])
        out.add_row(
            phase,
            seconds(costs["fixed"].estimate) if "fixed" in costs else NONE,
            seconds(costs["running"].estimate) if "running" in costs else NONE,
            share(fit.r2),
            ", ".join(f"{span(each)}: {seconds(each.median_s)}" for each in bins),
        )
    without = [phase for phase in PHASES if phase in phases and phases[phase].fit.misfit is not None]
    if not without:
        return out
    fits = "its fit does" if len(without) == 1 else "their fits do"
    return Group(out, Text(f"no costs for {', '.join(without)}: {fits} not describe the steps", style="dim"))


def span(one: Bin) -> str:
    return str(one.least) if one.least == one.most else f"{one.least}-{one.most}"
