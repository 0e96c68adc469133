"""What a profiling pass found, as a person reads it: classes and top kernels, prefill and decode apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from innerloop.harness.analysis.kernel_classes import TITLES
from innerloop.harness.cli.words import NONE, number, seconds, share
from innerloop.harness.report.tables import ALIGNED, table

KINDS = {"with_prefill": "with prefill", "decode_only": "decode only"}
SHOWN = 8  # of the top kernels
NAME = 64  # letters of a kernel's name, where the terminal is wide enough
AT_WHOLE = "all"


def profile(result: Mapping[str, Any]) -> RenderableType:
    """The section on the pass: which steps, what it cost, what the device did in them."""
    about, found = result["profiling"], result["kernels"]
    parts: list[RenderableType] = [Text(line, style="dim") for line in _about(about)]
    parts += [Text(f"note: {note}", style="dim") for note in about["notes"]]
    if about["failure"] is not None:
        why = about["failure"]
        parts.append(Text(f"the pass failed ({why['cause']}): {why['message']}", style="yellow"))
    if found is not None:
        parts += [classes(found), *tops(found)]
        parts += [Text(line) for line in _estimate(result, found)]
    if about["host"] is not None:
        parts += host(about["host"])
    return Group(*parts)


def _about(about: Mapping[str, Any]) -> Iterator[str]:
    captured = about["captured"]
    if captured is None:
        return
    spans = ", ".join(f"{first}:{end}" for first, end in captured["ranges"])
    steps = captured["steps"]
    kinds = ", ".join(f"{steps[kind]} {words}" for kind, words in KINDS.items() if steps[kind])
    lasted = f"a second run of {number(about['seconds'])} s, in {about['folder']}"
    yield f"steps {spans} of {lasted}{f': {kinds}' if kinds else ''}"
    slower = [
        f"{about['slowdown'][kind]:.2f} times {words}" for kind, words in KINDS.items() if about["slowdown"][kind]
    ]
    if slower:
        yield f"with the profiler like steps took, against the measured run: {', '.join(slower)}"


def _kinds(found: Mapping[str, Any]) -> dict[str, str]:
    """The kinds of steps to show; where the engine tells nothing of prefill, all together."""
    there = {kind: words for kind, words in KINDS.items() if found["steps"][kind]}
    return there or {AT_WHOLE: "all steps"}


def classes(found: Mapping[str, Any]) -> RenderableType:
    """Time a step by class, as time and as a share of all; then how busy the device was."""
    kinds = _kinds(found)
    unit = "kernel time" if found["device"] == "cuda" else "operator time"
    titles = [title for words in kinds.values() for title in (words, "share")]
    rows = table(f"{unit} a step", *titles, least=ALIGNED)

    def row(label: str, cells: Iterator[tuple[str, str]], style: str = "") -> None:
        rows.add_row(label, *(cell for pair in cells for cell in pair), style=style)

    steps = found["steps"]
    row(
        "in all",
        ((seconds(found["total_ns"][kind] * 1e-9 / steps[kind]), "100.0 %") for kind in kinds),
        style="bold",
    )
    for name, title in TITLES.items():
        if any(found["classes"][kind][name]["ns"] for kind in kinds):
            of = {kind: found["classes"][kind][name] for kind in kinds}
            row(
                f"  {title}",
                ((seconds(of[kind]["ns"] * 1e-9 / steps[kind]), share(of[kind]["share"])) for kind in kinds),
            )
    row("busy", ((seconds(found["busy_s_per_step"][kind]), "") for kind in kinds))
    row("idle in the step", ((NONE, share(found["idle_share"][kind])) for kind in kinds))
    what = "launches" if found["device"] == "cuda" else "operators"
    row(f"{what} a step", ((number(found["launches_per_step"][kind]), "") for kind in kinds))
    return rows


def tops(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The kernels that take most, for each kind of step."""
    for kind, words in _kinds(found).items():
        rows = table()
        rows.add_column(f"top, {words}", max_width=NAME)  # the one column that gives way
        rows.add_column("class", no_wrap=True, min_width=16)
        for title, width in {"share": 6, "mean": 7, "calls": 6}.items():
            rows.add_column(title, justify="right", no_wrap=True, min_width=width)
        for one in found["top"].get(kind, [])[:SHOWN]:
            rows.add_row(
                one_line(one["name"]),
                TITLES[one["kernel_class"]],
                share(one["share"]),
                seconds(one["mean_s"]),
                number(one["launches"]),
            )
        yield Padding(rows, (1, 0, 0, 0), expand=False)


def _estimate(result: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    gaps = found["idle_gaps_s"]
    if gaps["count"]:
        yield (
            f"idle in all {share(found['idle_share']['all'])}, in {number(gaps['count'])} gaps: "
            f"p50 {seconds(gaps['p50'])}, p99 {seconds(gaps['p99'])}, longest {seconds(gaps['max'])}"
        )
    if found.get("launches_lost"):
        yield (
            f"of {number(found['launches_lost'])} launches the profiler has no record on the device; their"
            f" {number(found['steps_left_out'])} steps are left out"
        )
    estimate = found["estimate"]
    if estimate["output_tokens_per_s"] is None:
        yield f"no kernel throughput: {estimate['reason']}"
        return
    now = result["throughput"]["output_tokens_per_s"]
    yield (
        f"kernel throughput {number(estimate['output_tokens_per_s'])} output tokens/s if the device never waited"
        + (f", measured {number(now)}" if now else "")
        + f"; {share(estimate['covered_share'])} of the steps are like captured ones"
    )
    if found["unknown_names"]:
        names = (one if len(one) <= NAME else one[: NAME - 1] + "…" for one in found["unknown_names"])
        yield f'in "other": {", ".join(names)}'


def host(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Where the host's time went, by function."""
    behind = f", up to {seconds(found['behind_s'])} late" if found["behind_s"] else ", never late"
    yield Text(
        f"{number(found['samples'])} samples, {found['rate_hz']} a second{behind}; {number(found['errors'])} errors; "
        "flame.svg in its folder",
        style="dim",
    )
    rows = table()
    rows.add_column("function", max_width=58)
    for title in ("itself", "with calls"):
        rows.add_column(title, justify="right", no_wrap=True)
    for one in found["top"][:SHOWN]:
        rows.add_row(one_line(one["name"]), share(one["self_share"]), share(one["total_share"]))
    yield rows


def one_line(text: str) -> Text:
    """A name in a column that may give way, on one line however long it is."""
    return Text(text, no_wrap=True, overflow="ellipsis")
