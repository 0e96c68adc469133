"""What `harness.steps` found, as a person reads it: 80 columns or more, or plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, assignments, number, seconds, share, visible
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
    "fixed": "fixed cost a step",
    "prefill_token": "a prefill token",
    "decode_token": "a decode token",
    "context_token": "a context token",
    "running": "a running request",
}
KINDS = {"decode_only": "decode only", "with_prefill": "with prefill"}
MISFITS = {
    "negative_cost": "by it something would cost less than no time",
    "low_r2": "it explains too little of their time",
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
        yield Text("no step was recorded")
        return
    yield Text(f"{number(found.steps)} steps in {seconds(found.duration_s)}")
    yield section("Slowest steps", slowest(found.slowest))
    yield section("Step time against what was in it", fits(found.fit_s))
    yield section("Preemptions", preemptions(found.preemptions))
    yield section("What prefill does to the tokens of others", interference(found.interference_s))
    yield section("The host's phases against the requests that run", host(found.host_s))


def slowest(rows: Sequence[SlowStep]) -> RenderableType:
    if not rows:
        return Text("none asked for", style="dim")
    out = table("step", "at", "wall", "fit", "bound", "prefill", "decode", "context", "mostly", left=0, gap=1)
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
    note = "fit: a step of this composition by the line below; bound: the least that the machine allows"
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
        out = table(KINDS[kind], "cost", "±", "95 % interval", left=1)
        for name, cost in fit.costs.items():
            doubtful = fit.misfit is not None or cost.low <= 0 <= cost.high
            interval = f"{seconds(cost.low)} to {seconds(cost.high)}"
            style = "dim" if doubtful else ""
            out.add_row(COSTS[name], seconds(cost.estimate), seconds(cost.error), interval, style=style)
        lines += [out, Text(explained(fit), style="dim")]
        if fit.misfit is not None:
            lines.append(Text(f"this line does not describe these steps: {MISFITS[fit.misfit]}", style="yellow"))
        lines += [
            Text(f"{COSTS[a]} and {COSTS[b]} rise together (correlation {r:.3f}): badly told apart", style="dim")
            for a, b, r in fit.together
        ]
        lines += [Text(f"{COSTS[name]}: not to be told, {why}", style="dim") for name, why in fit.dropped.items()]
    if any(fit.costs and fit.misfit is None for fit in by_kind.values()):
        lines.append(Text("dim: the interval holds 0, so nothing is known of this cost", style="dim"))
    return Group(*lines)


def explained(fit: FittedCosts) -> str:
    if fit.r2 is None:
        return f"{number(fit.rows)} steps, all alike"
    return f"{number(fit.rows)} steps; explains {share(fit.r2)} of the variance, is off by {seconds(fit.rmse)}"


def preemptions(found: Preemptions | None) -> RenderableType:
    if found is None:
        return Text("the engine does not report them", style="dim")
    if not found.count:
        return Text("none")
    line = Text(
        f"{number(found.count)} in {number(found.steps)} steps, {number(found.storm_count)} storms "
        "of 3 or more close together"
    )
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
        return Text("the engine does not report its steps' prefill", style="dim")
    out = table("inter-token latency", "tokens", "p50", "p90", "p99", "max")
    for label, one in {
        "after decode-only steps": found.decode_only,
        "waited for prefill": found.with_prefill,
    }.items():
        if one.count:
            out.add_row(label, number(one.count), *map(seconds, (one.p50, one.p90, one.p99, one.max)))
    if not out.row_count:
        return Text("no request had a second token", style="dim")
    line = f"{share(found.stalled_share)} of the tokens waited for others' prefill"
    if found.lost_share is not None:
        line += f", which took {share(found.lost_share)} of the time between tokens"
    return Group(out, Text(line, style="dim"))


def host(phases: Mapping[str, PhaseCost]) -> RenderableType:
    if not phases:
        return Text("the engine reports no such phases, or not its batch", style="dim")
    out = table("phase", "fixed", "a request", "explained", "median by requests running", left=1)
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
    return Group(out, Text(f"no costs where a line does not describe the steps: {', '.join(without)}", style="dim"))


def span(one: Bin) -> str:
    return str(one.least) if one.least == one.most else f"{one.least}-{one.most}"
