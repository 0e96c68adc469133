"""What `harness.steps` found, as a person reads it: 80 columns or more, or plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.cli.words import assignments, number, seconds, share, visible
from innerloop.harness.report.tables import section, table

COSTS = {
    "fixed": "fixed cost a step",
    "prefill_token": "a prefill token",
    "decode_token": "a decode token",
    "context_token": "a context token",
    "running": "a running request",
}
KINDS = {"decode_only": "decode only", "with_prefill": "with prefill"}


def print_steps(found: Mapping[str, Any], console: Console | None = None) -> None:
    console = console or Console(highlight=False)
    for part in parts(found):
        console.print(part)


def parts(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    named = [found[name] for name in ("engine", "model", "workload") if found[name]]
    told = [assignments(found[name]) for name in ("given", "label") if found[name]]
    yield Text(" · ".join([visible(found["run"]), *named, *told]), style="bold")
    if not found["steps"]:
        yield Text("no step was recorded")
        return
    yield Text(f"{number(found['steps'])} steps in {seconds(found['duration_s'])}")
    yield section("Slowest steps", slowest(found["slowest"]))
    yield section("Step time against what was in it", fits(found["fit_s"]))
    yield section("Preemptions", preemptions(found["preemptions"]))
    yield section("What prefill does to the tokens of others", interference(found["interference_s"]))
    yield section("The host's phases against the requests that run", host(found["host_s"]))


def slowest(rows: list[dict[str, Any]]) -> RenderableType:
    if not rows:
        return Text("none asked for", style="dim")
    out = table("step", "at", "wall", "fit", "limit", "prefill", "decode", "context", "mostly", left=0, gap=1)
    out.columns[-1].justify, out.columns[-1].no_wrap = "left", False  # words give way to figures
    for row in rows:
        marks = f", preempted {row['preempted']}" if row["preempted"] else ""
        out.add_row(
            str(row["step"]),
            seconds(row["at_s"]),
            seconds(row["wall_s"]),
            seconds(row["expected_s"]),
            seconds(row["floor_s"]),
            number(row["prefill_tokens"]),
            number(row["decode_tokens"]),
            short(row["context_tokens"]),
            longest_phase(row) + marks,
        )
    note = "fit: what a step of this make-up takes by the line below; limit: the least that the machine allows"
    return Group(out, Text(note, style="dim"))


def short(value: float | None) -> str:
    """A count of context tokens: 1 234, 123 k, 4.56 M."""
    if value is None:
        return "-"
    for scale, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 100 * scale or (scale > 1e3 and value >= scale):
            return f"{number(value / scale)} {letter}"
    return number(round(value))


def longest_phase(row: Mapping[str, Any]) -> str:
    known = {phase: time for phase, time in row["phases_s"].items() if time is not None}
    if not known or row["wall_s"] <= 0:
        return "-"
    phase = max(known, key=lambda name: known[name])
    return f"{phase} {known[phase] / row['wall_s']:.0%}".replace("%", " %")


def fits(found: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """Both kinds below each other: a row a cost, with its 95 % interval."""
    lines: list[RenderableType] = []
    for kind, fit in found.items():
        if fit["reason"] is not None:
            lines.append(Text(f"{KINDS[kind]}: {fit['reason']}", style="dim"))
            continue
        out = table(KINDS[kind], "cost", "±", "95 % interval", left=1)
        for name, (value, error, low, high) in fit["costs"].items():
            doubtful = low <= 0 <= high
            interval = f"{seconds(low)} to {seconds(high)}"
            out.add_row(COSTS[name], seconds(value), seconds(error), interval, style="dim" if doubtful else "")
        lines += [out, Text(explained(fit), style="dim")]
        lines += [
            Text(f"{COSTS[a]} and {COSTS[b]} rise together (correlation {r:.3f}): badly told apart", style="dim")
            for a, b, r in fit["together"]
        ]
        lines += [Text(f"{COSTS[name]}: not to be told, {why}", style="dim") for name, why in fit["dropped"].items()]
    if any(fit["costs"] for fit in found.values()):
        lines.append(Text("dim: the interval holds 0, so nothing is known of this cost", style="dim"))
    return Group(*lines)


def explained(fit: Mapping[str, Any]) -> str:
    if fit["r2"] is None:
        return f"{number(fit['rows'])} steps, all alike"
    return f"{number(fit['rows'])} steps; explains {share(fit['r2'])} of the variance, is off by {seconds(fit['rmse'])}"


def preemptions(found: Mapping[str, Any] | None) -> RenderableType:
    if found is None:
        return Text("the engine does not report them", style="dim")
    if not found["count"]:
        return Text("none")
    line = Text(
        f"{number(found['count'])} in {number(found['steps'])} steps, {number(found['storm_count'])} storms "
        "of 3 or more close together"
    )
    if not found["storms"]:
        return line
    out = table("at", "lasted", "steps", "preempted", "KV cache", "of all prefill", left=0)
    for storm in found["storms"]:
        steps = f"{storm['first_step']} to {storm['last_step']}"
        out.add_row(
            f"{storm['at_s']:.2f} s",
            seconds(storm["duration_s"]),
            steps,
            number(storm["preempted"]),
            share(storm["kv_usage"]),
            share(storm["share_of_prefill"]),
        )
    return Group(line, out)


def interference(found: Mapping[str, Any] | None) -> RenderableType:
    if found is None:
        return Text("the engine does not report its steps' prefill", style="dim")
    out = table("inter-token latency", "tokens", "p50", "p90", "p99", "max")
    for kind, label in (("decode_only", "after decode-only steps"), ("with_prefill", "waited for prefill")):
        one = found[kind]
        if one["count"]:
            out.add_row(label, number(one["count"]), *(seconds(one[point]) for point in ("p50", "p90", "p99", "max")))
    if not out.row_count:
        return Text("no request had a second token", style="dim")
    line = f"{share(found['stalled_share'])} of the tokens waited for others' prefill"
    if found["lost_share"] is not None:
        line += f", which took {share(found['lost_share'])} of the time between tokens"
    return Group(out, Text(line, style="dim"))


def host(found: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    if not found:
        return Text("the engine reports no such phases, or not its batch", style="dim")
    out = table("phase", "fixed", "a request", "explained", "median by requests running", left=1)
    out.columns[-1].justify, out.columns[-1].no_wrap = "left", False
    for phase in (name for name in PHASES if name in found):
        one = found[phase]
        costs = one["costs"]
        bins = one["bins"] if len(one["bins"]) <= 3 else [one["bins"][i] for i in (0, len(one["bins"]) // 2, -1)]
        words = ", ".join(f"{span(each)}: {seconds(each['median_s'])}" for each in bins)
        out.add_row(
            phase,
            seconds(costs["fixed"][0]) if costs else "-",
            seconds(costs["running"][0]) if "running" in costs else "-",
            share(one["r2"]),
            words,
        )
    return out


def span(one: Mapping[str, Any]) -> str:
    return str(one["from"]) if one["from"] == one["to"] else f"{one['from']}-{one['to']}"
