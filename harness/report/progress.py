"""How far an experiment is, for a person who watches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, seconds
from innerloop.harness.report.tables import table

STYLE = {"failed": "red", "refused": "yellow", "suspect": "yellow"}


def draw_progress(found: Iterable[Mapping[str, Any]]) -> None:
    """Redraws it in place on a terminal, prints one after the other elsewhere. Each as `following.Progress` says."""
    console = PlainConsole()
    if not console.is_terminal:
        for one in found:
            console.print(picture(one))
        return
    with Live(console=console, auto_refresh=False) as live:
        for one in found:
            live.update(picture(one), refresh=True)


def picture(one: Mapping[str, Any]) -> RenderableType:
    counts = [f"{one[name]} {name}" for name in ("done", "failed", "refused") if one[name] or name == "done"]
    known = [f"{one[name]} {name}" for name in ("suspect", "reused") if one[name]]
    if known:
        counts[0] += f" ({', '.join(known)})"
    counts += [f"{len(one['running'])} running", f"{one['to_come']} pending"]
    line = f"{one['folder']}: {one['design']}, {one['state']}: {', '.join(counts)} of {one['jobs']}"
    times = [f"{clock(one['elapsed_s'])} since the first one started"] if one["elapsed_s"] is not None else []
    times += [f"about {clock(one['left_s'])} left"] if one["left_s"] is not None else []
    rows = table("", "", "", left=2)
    rows.show_header = False
    for job in (*one["last"], *one["running"]):
        rows.add_row(job["name"], job["state"], seconds(job["seconds"]) if job["seconds"] is not None else NONE,
                     style=STYLE.get(job["state"]))  # fmt: skip
    reasons = [Text(f"{job['name']}: {job['reason']}", style="dim") for job in one["last"] if job["reason"]]
    return Group(Text(line, style="bold"), *([Text(", ".join(times), style="dim")] if times else []), rows, *reasons)


def clock(whole_s: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(max(round(whole_s), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
