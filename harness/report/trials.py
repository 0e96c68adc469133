"""What several processes say together, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, number, seconds, share, visible
from innerloop.harness.report.comparison import SHORTER, footnotes
from innerloop.harness.report.doubts import kinds
from innerloop.harness.report.layers import STYLE
from innerloop.harness.report.tables import section, table
from innerloop.harness.schema.trials import Load, TrialFigure, Trials

MOST_RUNS = 12  # that are named by their folders


def print_trials(found: Trials, folder: Path | None = None, console: Console | None = None) -> None:
    (console or PlainConsole()).print(Group(*parts(found, folder)))


def parts(found: Trials, folder: Path | None) -> Iterator[RenderableType]:
    yield header(found)
    for load in found.loads:
        yield section(title(load), figures(load, found))
    yield Text("")
    for line in remarks(found):
        yield Text(line, style="dim")
    for line in (*found.notes, *doubts(found)):
        yield Text(f"! {line}", style="yellow")
    if folder is not None:
        runs = [run.folder for load in found.loads for run in load.runs]
        shown = runs if len(runs) <= MOST_RUNS else [*runs[: MOST_RUNS - 1], f"... ({len(runs)})"]
        yield Text("")
        yield Text(visible(str(folder)), style="bold")
        yield Padding(Text("  ".join(["document.json", *shown]), style="dim"), (0, 0, 0, 2), expand=False)


def header(found: Trials) -> RenderableType:
    words = [
        f"innerloop {found.innerloop_version}",
        " ".join(word for word in (found.engine.name, found.engine.version) if word),
        " ".join(word for word in (found.model, found.dtype) if word),
        found.device,
        found.layer,
    ]
    status = Text(found.status.upper(), style=STYLE.get(found.status, "bold red"))
    status.append(f"  {processes(found)}", style="default not bold")
    return Group(Text(" · ".join(word for word in words if word), style="bold"), status)


def processes(found: Trials) -> str:
    """How many trials, and how long each took to load its engine."""
    count = len(found.load_s)
    known = [one for one in found.load_s if one is not None]
    told = "1 trial" if count == 1 else f"{count} trials"
    if count < found.trials and not found.reached:
        told = f"{count} of {found.trials} trials"
    windows = sum(load.windows for load in found.loads)
    told += f", {windows} windows each" if windows > 1 else ""
    if known:
        low, high = seconds(min(known)), seconds(max(known))
        told += f"; engine loaded in {low}" if low == high else f"; engine loaded in {low} to {high}"
    return told


def title(load: Load) -> str:
    of = f", {load.windows} windows per trial" if load.windows > 1 else ""
    return f"{load.workload}{of}"


def figures(load: Load, found: Trials) -> RenderableType:
    """One line a figure: its mean, how well it is known, and how much the trials differ."""
    several = load.processes > 1
    windows = any(one.window_scatter is not None for one in load.figures)
    columns = ["", "mean", "±", "lowest", "highest", "between trials"] if several else ["", "value"]
    rows = table(*columns, *(["within trials"] if windows else []))
    for one in load.figures:
        name = shortened(one.name) + (" *" if one.doubtful else "")
        cells = [value(one, one.mean.value)]
        if several:
            cells += [share(one.half_width), value(one, one.low), value(one, one.high), share(one.scatter)]
        if windows:
            cells.append(share(one.window_scatter))
        rows.add_row(name, *cells, style="bold" if one.name == found.metric else None)
    for name in load.too_few:
        rows.add_row(shortened(name), *[NONE] * (len(rows.columns) - 1), style="dim")
    return rows


def shortened(name: str) -> str:
    for long, short in SHORTER.items():
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


def value(one: TrialFigure, given: float | None) -> str:
    if one.unit == "s":
        return seconds(given)
    return NONE if given is None else f"{number(given)} {one.unit}"


def remarks(found: Trials) -> Iterator[str]:
    """How to read the table, and what it would take to know more."""
    several = any(load.processes > 1 for load in found.loads)
    if several:
        how = "" if found.until is None else ", corrected for checking it after each trial"
        yield f"±: half-width of the 95 % interval of the mean{how}"
        within = any(one.window_scatter is not None for load in found.loads for one in load.figures)
        yield f"between{', within' if within else ''} trials: standard deviation / mean"
    if any(one.doubtful for load in found.loads for one in load.figures):
        yield "*: doubtful, because a run is suspect"
    if found.reached:
        yield f"stopped: ±{share(found.until)} was reached after {len(found.load_s)} of {found.trials} trials"
    if found.until is None:
        for load in found.loads:
            if load.needed is not None:
                metric = shortened(found.metric)
                yield f"{load.workload}: about {number(load.needed)} trials would give {metric} to within ±1 %"
    for load in found.loads:
        of = f"{load.workload}, " if len(found.loads) > 1 else ""
        yield from (of + line for line in footnotes(load.too_few, found.metric))
        if load.missing:
            yield f"{load.workload}: missing in some runs: {', '.join(map(shortened, load.missing))}"


def doubts(found: Trials) -> Iterator[str]:
    """What makes runs suspect: each kind of reason once, in the words of the first run that has it."""
    runs = [run.reasons if run.status == "suspect" else () for load in found.loads for run in load.runs]
    yield from (f"suspect: {line}" for line in kinds(runs))
