"""A waterfall as a person reads it, on a terminal of 80 columns or more, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, number, seconds, share, visible
from innerloop.harness.report.doubts import kinds
from innerloop.harness.report.tables import table
from innerloop.harness.schema.waterfall import LayerRow, Waterfall

STYLE = {"ok": "bold green", "suspect": "bold yellow"}
BAR = 18  # columns
ADDED, TAKEN = "█", "░"  # what a layer adds, and by how much it is faster than the one below
WHAT = {
    "bound": "bound: the machine's peaks",
    "kernels": "kernels: time the device is busy",
    "core": "core: scheduler and model",
    "engine": "engine: + input and output processing",
    "async": "async: + front end, process boundary",
    "http": "http: + server and client",
}


def print_waterfall(found: Waterfall, folder: Path | None = None, console: Console | None = None) -> None:
    (console or PlainConsole()).print(waterfall(found, folder))


def waterfall(found: Waterfall, folder: Path | None = None) -> RenderableType:
    """What ran, the rungs, and what to keep in mind about them."""
    parts: list[RenderableType] = [header(found), Text(""), rungs(found), Text("")]
    parts += [Text(line, style="dim") for line in remarks(found)]
    parts += [Text(f"! {line}", style="yellow") for rung in found.rungs for line in doubts(rung)]
    if folder is not None:
        parts += [Text(""), Text(visible(str(folder)), style="bold")]
        names = [run.folder for rung in found.rungs for run in rung.runs]
        file = "document.json" if any("/" in name for name in names) else "waterfall.json"
        parts.append(Padding(Text("  ".join([file, *names]), style="dim"), (0, 0, 0, 2), expand=False))
    return Group(*parts)


def header(found: Waterfall) -> RenderableType:
    words = [
        f"innerloop {found.innerloop_version}",
        " ".join(word for word in (found.engine.name, found.engine.version) if word),
        " ".join(word for word in (found.model, found.dtype) if word),
        found.device,
        found.workload,
    ]
    line = Text(" · ".join(word for word in words if word), style="bold")
    status = Text(found.status.upper(), style=STYLE.get(found.status, "bold red"))
    of = "1 trial" if found.trials == 1 else f"{found.trials} trials"
    told = f"  same requests on {len(found.layers)} layers, {of} each"
    status.append(told, style="default not bold")
    if found.workload_hash:
        status.append(f" · workload {found.workload_hash[:12]}", style="default not bold")
    return Group(line, status)


def rungs(found: Waterfall) -> RenderableType:
    """One line a rung: its speed, and what it adds to the time of a step (or of a token, where there are no steps)."""
    by_step = found.tokens_per_step is not None
    rows = table("layer", "tokens/s", "per step" if by_step else "per token", "added")
    rows.add_column("", no_wrap=True, min_width=BAR)
    for name in ("TTFT", "TPOT"):
        rows.add_column(name, justify="right", no_wrap=True)
    most = max((rung_s(rung, by_step)[0] or 0.0 for rung in found.rungs), default=0.0)
    doubtful = {rung.name for rung in by_chance(found)}
    for rung in found.rungs:
        spent, added = rung_s(rung, by_step)
        if spent is None:
            rows.add_row(rung.name, NONE, NONE, NONE, "", NONE, NONE, style="red")
            continue
        rows.add_row(
            Text(rung.name, style="bold" if rung.kind == "layer" else "dim"),
            NONE if rung.tokens_per_s is None else number(round(rung.tokens_per_s)),
            seconds(spent),
            signed(added) + ("?" if added is not None and rung.name in doubtful else ""),
            Text("") if added is None else Text(bar(spent - added, spent, most), "cyan" if added >= 0 else "green"),
            seconds(None if rung.ttft_s is None else rung.ttft_s.p50),
            seconds(None if rung.tpot_s is None else rung.tpot_s.p50),
        )
    return rows


def rung_s(rung: LayerRow, by_step: bool) -> tuple[float | None, float | None]:
    """A rung's time and what it adds, in seconds a step or a token."""
    if by_step:
        spent, added = rung.ms_per_step, rung.added_ms_per_step
        return None if spent is None else spent * 1e-3, None if added is None else added * 1e-3
    return rung.s_per_output_token, rung.added_s_per_output_token


def by_chance(found: Waterfall) -> Iterator[LayerRow]:
    """The rungs whose difference to the one below may be chance: their ratio's interval holds 1, or there is none."""
    known = [rung for rung in found.rungs if rung.s_per_output_token is not None]
    yield from (rung for rung in known[1:] if rung.within_scatter is not False)


def doubts(rung: LayerRow) -> Iterator[str]:
    """What makes a rung's runs suspect: each kind of reason once, in the words of the first run that has it."""
    told = rung.reason is not None  # among the remarks
    runs = [() if told and run.status == "failed" else run.reasons for run in rung.runs]
    yield from (f"{rung.name}: {line}" for line in kinds(runs))


def bar(start: float, end: float, most: float) -> str:
    """A bar from `start` to `end` on a scale that ends at `most`, hatched where it goes back; at least a thin mark."""
    low, high = sorted((start, end))
    first, last = round(low / most * BAR), round(high / most * BAR)
    if last > first:
        return " " * first + (ADDED if end >= start else TAKEN) * (last - first)
    return " " * min(first, BAR - 1) + ("▏" if end >= start else "▕")


def signed(value: float | None) -> str:
    return NONE if value is None else ("+" if value >= 0 else "-") + seconds(abs(value))


def remarks(found: Waterfall) -> Iterator[str]:
    """How to read the table, and what is not as one would think."""
    tokens = found.tokens_per_step
    known = [rung for rung in found.rungs if rung.s_per_output_token is not None]
    if known:
        unit = "token" if tokens is None else "step"
        basis = (
            f"one step = {number(tokens)} output tokens, the mean for the core layer; " if tokens is not None else ""
        )
        yield f"{basis}the 'added' column sums to {known[-1].name}'s time per {unit}; TTFT and TPOT are p50"
        yield "; ".join(WHAT.get(rung.name, rung.name) for rung in known)
    if any((rung.added_s_per_output_token or 0.0) < 0 for rung in known):
        yield f"{TAKEN}: this layer was faster than the one below"
    if found.trials > 1:
        for rung in known:
            if rung.kind == "layer" and rung.trials > 1 and rung.s_per_output_token_range is not None:
                low, high = rung.s_per_output_token_range
                yield f"{rung.name}: {number(round(1 / high))} to {number(round(1 / low))} tokens/s across trials"
    doubtful = list(by_chance(found))
    if any(rung.within_scatter is None for rung in doubtful):
        yield "?: may be due to chance; both layers need at least three trials (--trials)"
    if any(rung.within_scatter for rung in doubtful):
        yield "?: may be due to chance; the 95 % interval of the ratio to the layer below contains 1"
    for rung in found.rungs:
        if rung.reason:
            yield f"{rung.name}: {rung.reason}"
    for name, values in found.differences.items():
        same: dict[str, list[str]] = {}
        for layer, value in values.items():
            same.setdefault(str(value).lower() if isinstance(value, bool) else str(value), []).append(layer)
        told = "; ".join(f"{value} on {', '.join(layers)}" for value, layers in same.items())
        yield f"differs between layers: {name} is {told}"
    if found.paced_by_load:
        yield "the engine waited for requests: the arrivals set the pace, so the layers' speeds mean little"
    client = found.client
    if client is not None:
        most = NONE if client.capacity_tokens_per_s is None else number(round(client.capacity_tokens_per_s))
        yield f"the HTTP client received {share(client.share_of_capacity)} of the {most} tokens/s that it can handle"
