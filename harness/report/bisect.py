"""Which version made it slow, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, counted, ends, number, share, visible
from innerloop.harness.report import comparison
from innerloop.harness.report.layers import STYLE
from innerloop.harness.report.tables import section, table
from innerloop.harness.schema.bisect import Bisect


def print_bisect(found: Bisect, folder: Path | None = None, console: Console | None = None) -> None:
    (console or PlainConsole()).print(Group(*parts(found, folder)))


def parts(found: Bisect, folder: Path | None) -> Iterator[RenderableType]:
    yield Text(f"innerloop {found.innerloop_version} · bisect {found.what} · {found.metric}", style="bold")
    status = Text(found.status.upper(), style=STYLE.get(found.status, "bold red"))
    yield status.append(f"  {counted(found.trials, 'trial')} of two runs", style="default not bold")
    yield Text(verdict(found), style="bold")
    yield section("versions", versions(found))
    yield Text("")
    yield Text("ratio: relative to the first version, measured in the same trials, with its 95 % interval", style="dim")
    yield Text(f"standard deviation of one comparison: {share(found.noise)}", style="dim")
    yield Text(f"slowdowns below {share(found.effect)} were not searched for", style="dim")
    for note in found.notes:
        yield Text(f"! {note}", style="yellow")
    if found.why is not None:
        yield section(f"{found.culprit} (B) vs. {found.before} (A)", Group(*comparison.parts(found.why)))
    if folder is not None:
        yield Text("")
        yield Text(visible(str(folder)), style="bold")


def verdict(found: Bisect) -> str:
    """One sentence."""
    sure = share(found.probability)
    if found.verdict == "culprit":
        loss = ""
        if found.loss is not None:
            bounds = ends(found.loss.low, found.loss.high, share)
            loss = f"{share(found.loss.value)} slower{'' if bounds == NONE else f' ({bounds})'}, "
        return f"{found.culprit}: {loss}with probability {sure}"
    if found.verdict == "no culprit":
        return f"no culprit: no version is {share(found.effect)} or more slower than the first, with probability {sure}"
    return f"undecided after {counted(found.trials, 'trial')}: the most likely answer has probability {sure}"


def versions(found: Bisect) -> RenderableType:
    """A line a version."""
    rows = table("", "culprit", "ratio", "trials")
    for k, one in enumerate(found.versions):
        likely = f"none: {share(one.probability)}" if k == 0 else share(one.probability)
        ratio = NONE
        if one.ratio is not None:
            bounds = ends(one.ratio.low, one.ratio.high)
            ratio = number(one.ratio.value) + ("" if bounds == NONE else f" ({bounds})")
        told = "cannot be tested" if one.untestable else likely
        style = "bold" if one.name == found.culprit else None
        rows.add_row(one.name, told, ratio, str(one.trials), style=style)
    return rows
