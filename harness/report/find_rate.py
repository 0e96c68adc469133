"""The highest load within latency limits, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, ends, number, seconds, share, visible
from innerloop.harness.report.layers import STYLE as RUN_STYLE
from innerloop.harness.report.tables import section, table
from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.find_rate import FindRate, LoadProbed

STYLE = {**RUN_STYLE, "unresolved": "bold yellow"}
UNIT = {"rate_per_s": "requests/s", "users": "users"}
VERDICT = {True: "met", False: "not met", None: "undecided"}


def amount(load: float, over: str) -> str:
    """A load with its unit: 2 users, 1 user, 3.7 requests/s."""
    return f"{load:g} {UNIT[over] if (load, over) != (1, 'users') else 'user'}"


def print_found_rate(found: FindRate, folder: Path | None = None, console: Console | None = None) -> None:
    (console or PlainConsole()).print(Group(*parts(found, folder)))


def parts(found: FindRate, folder: Path | None) -> Iterator[RenderableType]:
    words = [
        f"innerloop {found.innerloop_version}",
        " ".join(filter(None, [found.engine.name, found.engine.version])),
        found.model,
        found.workload,
    ]
    yield Text(" · ".join(word for word in words if word), style="bold")
    limits = ", ".join(f"{limit.name} {seconds(limit.limit_s)}" for limit in found.limits)
    status = Text(standing(found).upper(), style=STYLE.get(standing(found), "bold red"))
    yield status.append(f"  highest load within {limits}", style="default not bold")
    yield Text(answer(found), style="bold")
    yield section("probes", probes(found))
    yield Text("")
    for line in remarks(found):
        yield Text(line, style="dim")
    for note in found.notes:
        yield Text(f"! {note}", style="yellow")
    if folder is not None:
        yield Text("")
        yield Text(visible(str(folder)), style="bold")


def standing(found: FindRate) -> str:
    """The status, or that there is no answer."""
    return found.state if (found.status, found.state) == ("ok", "unresolved") else found.status


def answer(found: FindRate) -> str:
    """One sentence."""
    unit, value = UNIT[found.over], number(found.answer)
    if found.state == "found":
        return f"{value} {unit}: limits met; not met at {number(found.fails)}"
    if found.state == "above":
        return f"at least {value} {unit}: every load tried met the limits"
    if found.state == "below":
        return f"none: the lowest load tried, {number(found.fails)} {unit}, does not meet the limits"
    so_far = "no load has met the limits" if found.answer is None else f"limits met at {value} {unit}"
    return f"unresolved after {found.probes} of {found.most} probes: {so_far} so far"


def probes(found: FindRate) -> RenderableType:
    """A line a load, the lowest first."""
    names = [limit.name for limit in found.limits]
    rows = table(
        UNIT[found.over], "limits", *(f"within {name}" for name in names), "goodput", "tokens/s", "probes", left=2
    )
    for one in sorted(found.loads, key=lambda load: load.load):
        shares = [kept(one.kept.get(name)) for name in names]
        cells = (number(one.goodput), number(one.output_tokens_per_s), str(len(one.runs)))
        style = "bold" if one.load == found.answer else None
        rows.add_row(marked(one), verdict(one), *shares, *cells, style=style)
    return rows


def marked(one: LoadProbed) -> str:
    """The load, with the mark of those of which a probe is suspect."""
    return f"{one.load:g}{' *' if one.suspect else ''}"


def verdict(one: LoadProbed) -> str:
    """Whether its requests met the limits."""
    return VERDICT[one.holds] + (", backlog grows" if one.overloaded else "")


def kept(one: Estimate | None) -> str:
    if one is None or one.value is None:
        return NONE
    bounds = ends(one.low, one.high, percent, "-")
    return share(one.value) if bounds == NONE else f"{share(one.value)} ({bounds})"


def percent(of: float | None) -> str:
    return NONE if of is None else f"{100 * of:.1f}"


def remarks(found: FindRate) -> Iterator[str]:
    yield "within: share of requests within the limit, with its 95 % interval"
    yield "goodput: requests/s that met all limits"
    yield "a limit is met if that interval lies at or above its quantile"
    suspect = sum(one.suspect for one in found.loads)
    if suspect:
        yield f"*: suspect probes: {suspect} of {found.probes}; innerloop show gives the reasons of each run"
    for place, known, met in ((0.95, found.confirmed, True), (1.1, found.refuted, False)):
        if found.answer is not None and known is not None:
            yield f"at {place:g}x the answer, the limits are {VERDICT[known is met]}"
