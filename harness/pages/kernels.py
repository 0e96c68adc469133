"""What the profiling pass saw: classes of kernels, the longest of them, and the host's functions."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.analysis.kernel_classes import TITLES
from innerloop.harness.cli.words import number, seconds, share
from innerloop.harness.pages import specs
from innerloop.harness.pages.parts import Callout, Chart, Facts, Label, Part, Row, Section, Series, Table
from innerloop.harness.pages.thin import plain
from innerloop.harness.report.kernels import KINDS, measured
from innerloop.harness.schema.profiling import HostProfile, Kernels, Profiling
from innerloop.harness.schema.result import Result

ALL = "all"
SHOWN = 12  # of the longest kernels


def kernels(result: Result) -> Section | None:
    """None where there was no profiling pass."""
    about, found = result.profiling, result.kernels
    if about is None and found is None:
        return None
    parts: list[Part] = [] if about is None else [*described(about)]
    if found is not None:
        parts += [classes(found), *tops(found), estimate(found, result)]
    if about is not None and about.host is not None:
        parts.append(functions(about.host))
    intro = "From a second, shorter run under a profiler; its figures are never mixed with the measured ones."
    return Section("kernels", "Kernels" if found is not None else "Profile", parts, intro)


def described(about: Profiling) -> Iterator[Part]:
    rows = [(Label("profiler"), about.kind)]
    if about.captured is not None:
        spans = ", ".join(f"{first}:{end}" for first, end in about.captured.ranges)
        rows.append((Label("captured steps"), spans))
    if about.slowdown is not None:
        factors = {words: getattr(about.slowdown, kind) for kind, words in KINDS.items()}
        slower = ", ".join(f"{factor:.2f} × {words}" for words, factor in factors.items() if factor)
        if slower:
            rows.append((Label("profiler slowdown"), slower))
    rows.append((Label("files"), about.folder))
    yield Facts(rows)
    if about.failure is not None:
        yield Callout("warn", f"The profiling pass failed ({about.failure.cause}): {about.failure.message}")
    yield from (Callout("", note) for note in about.notes)


def kinds_of(found: Kernels) -> dict[str, str]:
    """The kinds of steps that were captured; all together where the engine does not report prefill."""
    there = {kind: words for kind, words in KINDS.items() if getattr(found.steps, kind)}
    return there or {ALL: "all steps"}


def classes(found: Kernels) -> Chart:
    """Mean time per step by class, a bar for each kind of step."""
    columns: dict[str, list[object]] = {"series": [], "class": [], "v": [], "share": [], "launches": []}
    kinds = kinds_of(found)
    for kind, words in kinds.items():
        steps = getattr(found.steps, kind)
        for name, title in TITLES.items():
            one = found.classes[kind].get(name)
            if one is not None and one.ns:
                columns["series"].append(words)
                columns["class"].append(title)
                columns["v"] += plain([one.ns * 1e-9 / steps])
                columns["share"].append(share(one.share))
                columns["launches"] += plain([one.launches / steps])
    series = tuple(
        Series(words, number, kind if kind != ALL else None) for number, (kind, words) in enumerate(kinds.items())
    )
    order = [title for title in TITLES.values() if title in columns["class"]]
    spec = specs.single(
        {"type": "bar", "tooltip": True},
        {
            "y": {"field": "class", "type": "nominal", "sort": order, "axis": specs.axis(None)},
            "x": specs.quantitative("v", None, specs.DURATION_LABELS)
            | {"axis": specs.across("mean per step", specs.DURATION_LABELS, grid=True)},
            "yOffset": {"field": "series", "sort": list(kinds.values())},
            "color": specs.colour(series),
            "tooltip": specs.tips(
                **{"class": "class"},
                series="steps",
                v_text="mean per step",
                share="share",
                launches="launches per step",
            ),
        },
        [specs.duration_text("v", "v_text")],
        series=series,
    )
    what = "Kernel time" if found.device == "cuda" else "Operator time"
    return Chart(
        "kernel-classes",
        Label(f"{what} per step, by class", "kernel_time"),
        spec,
        columns,
        {
            "class": "class",
            "series": "steps",
            "v": "mean per step, s",
            "share": "share",
            "launches": "launches per step",
        },
        f"{what} per step by class of kernel",
        series=series,
        height=40 + (14 * len(kinds) + 8) * max(len(order), 1),
    )


def tops(found: Kernels) -> Iterator[Table]:
    """The kernels that take most, for each kind of step."""
    for kind, words in kinds_of(found).items():
        rows = [
            Row(
                Label(kernel.name),
                [TITLES.get(kernel.kernel_class, kernel.kernel_class), share(kernel.share), seconds(kernel.mean_s),
                 number(kernel.launches)],
            )
            for kernel in found.top.get(kind, ())[:SHOWN]
        ]  # fmt: skip
        if rows:
            columns = [
                Label(f"Longest, {words}"),
                Label("class"),
                Label("share"),
                Label("mean"),
                Label("launches", "launches"),
            ]
            yield Table(columns, rows, left=2)


def estimate(found: Kernels, result: Result) -> Facts:
    """How busy the device was, and what the run would take if it never waited."""
    gaps, rate = found.idle_gaps_s, found.estimate.output_tokens_per_s
    rows = [
        (Label("idle within captured steps", "kernel_idle"), share(found.idle_share.all)),
        (Label("idle gaps"), f"{number(gaps.count)}, p50 {seconds(gaps.p50)}, longest {seconds(gaps.max)}"),
    ]
    if rate is None:
        rows.append((Label("if the device were never idle"), f"unknown: {found.estimate.reason}"))
    else:
        of = measured(result)
        beside = "" if of is None else f" (measured: {number(of)})"
        rows.append((Label("if the device were never idle"), f"{number(rate)} output tokens/s{beside}"))
    return Facts(rows)


def functions(found: HostProfile) -> Table:
    """Where the host's time went, by function."""
    rows = [Row(Label(one.name), [share(one.self_share), share(one.total_share)]) for one in found.top[:SHOWN]]
    at = f"{number(found.samples)} samples at {found.rate_hz} Hz"
    note = f"{at}; flame.svg in the profiling pass's folder shows the stacks."
    return Table([Label("Function"), Label("Self"), Label("Total")], rows, note=note)
