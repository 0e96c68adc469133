"""A waterfall as a person reads it, on a terminal of 80 columns or more, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.words import NONE, number, seconds, share
from innerloop.harness.report.tables import table

STYLE = {"ok": "bold green", "suspect": "bold yellow"}
BAR = 18  # columns
WHAT = {
    "limit": "limit: the machine's",
    "kernels": "kernels: device busy",
    "core": "core: scheduler and model",
    "engine": "engine: + input, output, text",
    "async": "async: + front end, process hop",
    "http": "http: + server and client",
}


def print_waterfall(document: Mapping[str, Any], folder: Path | None = None, console: Console | None = None) -> None:
    (console or Console(highlight=False)).print(waterfall(document, folder))


def waterfall(document: Mapping[str, Any], folder: Path | None = None) -> RenderableType:
    """What ran, the rungs, and what to keep in mind about them."""
    parts: list[RenderableType] = [header(document), Text(""), rungs(document), Text("")]
    parts += [Text(line, style="dim") for line in remarks(document)]
    parts += [Text(f"! {line}", style="yellow") for rung in document["rungs"] for line in doubts(rung)]
    if folder is not None:
        parts += [Text(""), Text(str(folder), style="bold")]
        names = [one["folder"] for rung in document["rungs"] for one in rung["runs"]]
        parts.append(Text("  " + "  ".join(["waterfall.json", *names]), style="dim"))
    return Group(*parts)


def header(document: Mapping[str, Any]) -> RenderableType:
    engine = document["engine"]
    words = [
        f"innerloop {document['innerloop_version']}",
        " ".join(str(word) for word in (engine["name"], engine["version"]) if word),
        " ".join(str(word) for word in (document["model"], document["dtype"]) if word),
        document["device"],
        document["workload"],
    ]
    line = Text(" · ".join(str(word) for word in words if word), style="bold")
    status = Text(document["status"].upper(), style=STYLE.get(document["status"], "bold red"))
    trials = document["trials"]
    of = "1 trial" if trials == 1 else f"{trials} trials"
    told = f"  the same requests on {len(document['layers'])} layers, {of} each"
    status.append(told, style="default not bold")
    if document["workload_hash"]:
        status.append(f" · workload {document['workload_hash'][:12]}", style="default not bold")
    return Group(line, status)


def rungs(document: Mapping[str, Any]) -> RenderableType:
    """One line a rung: its speed, and what it adds to the time of a step (or of a token, where there are no steps)."""
    by_step = document["tokens_per_step"] is not None
    time_key, added_key = (
        ("ms_per_step", "added_ms_per_step") if by_step else ("s_per_output_token", "added_s_per_output_token")
    )
    rows = table("layer", "tokens/s", "a step" if by_step else "a token", "added")
    rows.add_column("", no_wrap=True, min_width=BAR)
    for name in ("TTFT", "TPOT"):
        rows.add_column(name, justify="right", no_wrap=True)
    scale = 1e-3 if by_step else 1.0
    most = max((rung[time_key] or 0.0 for rung in document["rungs"]), default=0.0)
    for rung in document["rungs"]:
        spent, added = rung[time_key], rung[added_key]
        if spent is None:
            rows.add_row(rung["name"], NONE, NONE, NONE, "", NONE, NONE, style="red")
            continue
        rows.add_row(
            Text(rung["name"], style="bold" if rung["kind"] == "layer" else "dim"),
            number(round(rung["tokens_per_s"])),
            seconds(spent * scale),
            signed(added * scale) + ("?" if rung["within_scatter"] else ""),
            Text(bar(spent - added, spent, most), style="cyan" if added >= 0 else "green"),
            seconds((rung["ttft_s"] or {}).get("p50")),
            seconds((rung["tpot_s"] or {}).get("p50")),
        )
    return rows


def doubts(rung: Mapping[str, Any]) -> Iterator[str]:
    """What makes a rung's runs suspect: each kind of reason once, in the words of the first run that has it."""
    found: dict[str, list[str]] = {}
    for one in rung["runs"]:
        told = one["status"] == "failed" and rung["reason"] is not None  # among the remarks
        for reason in () if told else one["reasons"]:
            found.setdefault(reason["code"], []).append(reason["detail"])
    for details in found.values():
        more = f" (one of {len(details)} such runs)" if len(details) > 1 else ""
        yield f"{rung['name']}: {details[0]}{more}"


def bar(start: float, end: float, most: float) -> str:
    """A bar from `start` to `end` (in either order) on a scale that ends at `most`; at least a thin mark."""
    low, high = sorted((start, end))
    first, last = round(low / most * BAR), round(high / most * BAR)
    if last > first:
        return " " * first + "█" * (last - first)
    return " " * min(first, BAR - 1) + ("▏" if end >= start else "▕")


def signed(value: float) -> str:
    return ("+" if value >= 0 else "-") + seconds(abs(value))


def remarks(document: Mapping[str, Any]) -> Iterator[str]:
    """How to read the table, and what is not as one would think."""
    tokens = document["tokens_per_step"]
    known = [rung for rung in document["rungs"] if rung["s_per_output_token"] is not None]
    if known:
        basis = f"a step: {number(tokens)} output tokens, layer core's mean; " if tokens is not None else ""
        yield f"{basis}the added times are all of {known[-1]['name']}'s; TTFT and TPOT: p50"
        yield "; ".join(WHAT.get(rung["name"], rung["name"]) for rung in known)
    if document["trials"] == 1:
        yield "one trial each: differences below a machine's run-to-run scatter mean nothing; see --trials"
    else:
        for rung in known:
            low, high = rung["s_per_output_token_range"]
            if rung["kind"] == "layer" and rung["trials"] > 1:
                yield f"{rung['name']}: {number(round(1 / high))} to {number(round(1 / low))} tokens/s in its trials"
        if any(rung["within_scatter"] for rung in known):
            yield "?: in some trials this layer was the faster one, in others the one below: it may be chance"
    for rung in document["rungs"]:
        if rung["reason"]:
            yield f"{rung['name']}: {rung['reason']}"
    for name, values in document["differences"].items():
        same: dict[str, list[str]] = {}
        for layer, value in values.items():
            same.setdefault(str(value), []).append(layer)
        told = "; ".join(f"{value} on {', '.join(layers)}" for value, layers in same.items())
        yield f"not alike: {name} is {told}"
    if document["paced_by_load"]:
        yield "the engine waited for requests: the load set the pace, and the layers' speeds say little"
    client = document["client"]
    if client is not None:
        most = number(round(client["capacity_tokens_per_s"]))
        yield f"the HTTP client received {share(client['share_of_capacity'])} of the {most} tokens/s that it can take"
