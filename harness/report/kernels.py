"""What a profiling pass found, as a person reads it: classes and top kernels, prefill and decode apart."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from innerloop.harness.analysis.kernel_classes import TITLES
from innerloop.harness.analysis.steps import IDLE_SHARE
from innerloop.harness.cli.words import NONE, number, seconds, share
from innerloop.harness.report.tables import ALIGNED, table
from innerloop.harness.schema.profiling import HostProfile, Kernels, Profiling
from innerloop.harness.schema.quantiles import quantile_of
from innerloop.harness.schema.result import Result

KINDS = {"with_prefill": "with prefill", "decode_only": "decode only"}
SHOWN = 8  # of the top kernels
NAME = 64  # letters of a kernel's name
FUNCTION = 58
CUT = "…: a longer name; result.json has all of it"
AT_WHOLE = "all"


def profile(result: Result, about: Profiling) -> RenderableType:
    """The section on the pass: which steps, what it cost, what the device did in them."""
    found = result.kernels
    parts: list[RenderableType] = [Text(line, style="dim") for line in _about(about)]
    parts += [Text(f"note: {note}", style="dim") for note in about.notes]
    if about.failure is not None:
        parts.append(
            Text(f"the profiling pass failed ({about.failure.cause}): {about.failure.message}", style="yellow")
        )
    if found is not None:
        parts += [classes(found), *tops(found)]
        parts += [Text(line) for line in _estimate(found, measured(result))]
    if about.host is not None:
        parts += host(about.host, about.folder)
    return Group(*parts)


def _about(about: Profiling) -> Iterator[str]:
    if about.captured is None:
        return
    spans = ", ".join(f"{first}:{end}" for first, end in about.captured.ranges)
    counts = {words: getattr(about.captured.steps, kind) for kind, words in KINDS.items()}
    kinds = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    lasted = f"a second run ({number(about.seconds)} s), in {about.folder}"
    yield f"steps {spans} of {lasted}{f': {kinds}' if kinds else ''}"
    factors = {words: getattr(about.slowdown, kind, None) for kind, words in KINDS.items()}
    slower = [f"{factor:.2f} x {words}" for words, factor in factors.items() if factor]
    if slower:
        yield f"profiler slowdown of similar steps: {', '.join(slower)}"


def measured(result: Result) -> float | None:
    """The measured rate, where it is the engine's own: not the load's, which set the pace where the engine waited.

    None in an open loop too, and where the window's idle time is not known.
    """
    kind = (result.spec.workload_profile.get("load") or {}).get("kind")
    idle = result.time_share.idle
    if kind == "open" or idle is None or idle > IDLE_SHARE:
        return None
    return result.throughput.output_tokens_per_s


def _kinds(found: Kernels) -> dict[str, str]:
    """The kinds of steps to show; where the engine does not report prefill, all together."""
    there = {kind: words for kind, words in KINDS.items() if getattr(found.steps, kind)}
    return there or {AT_WHOLE: "all steps"}


def classes(found: Kernels) -> RenderableType:
    """Time a step by class, as time and as a share of all; then how busy the device was."""
    kinds = _kinds(found)
    unit = "kernel time" if found.device == "cuda" else "operator time"
    titles = [title for words in kinds.values() for title in (words, "share")]
    rows = table(f"{unit} per step", *titles, least=ALIGNED)

    def row(label: str, cells: Iterator[tuple[str, str]], style: str = "") -> None:
        rows.add_row(label, *(cell for pair in cells for cell in pair), style=style)

    def a_step(ns: int, kind: str) -> str:
        return seconds(ns * 1e-9 / getattr(found.steps, kind))

    row("total", ((a_step(getattr(found.total_ns, kind), kind), "100.0 %") for kind in kinds), style="bold")
    for name, title in TITLES.items():
        of = {kind: found.classes[kind][name] for kind in kinds if name in found.classes[kind]}  # older ones lack some
        if any(one.ns for one in of.values()):
            row(f"  {title}", ((a_step(one.ns, kind), share(one.share)) for kind, one in of.items()))
    row("busy", ((seconds(getattr(found.busy_s_per_step, kind)), "") for kind in kinds))
    row("idle within steps", ((NONE, share(getattr(found.idle_share, kind))) for kind in kinds))
    what = "launches" if found.device == "cuda" else "operators"
    row(f"{what} per step", ((number(getattr(found.launches_per_step, kind)), "") for kind in kinds))
    return rows


def tops(found: Kernels) -> Iterator[RenderableType]:
    """The kernels that take most, for each kind of step."""
    for kind, words in _kinds(found).items():
        rows = table()
        rows.add_column(f"top, {words}")
        rows.add_column("class", no_wrap=True, min_width=16)
        for title, width in {"share": 6, "mean": 7, "calls": 6}.items():
            rows.add_column(title, justify="right", no_wrap=True, min_width=width)
        for kernel in found.top.get(kind, ())[:SHOWN]:
            rows.add_row(
                cut(kernel.name, NAME),
                TITLES[kernel.kernel_class],
                share(kernel.share),
                seconds(kernel.mean_s),
                number(kernel.launches),
            )
        yield Padding(rows, (1, 0, 0, 0), expand=False)
    if any(len(kernel.name) > NAME for kind in _kinds(found) for kernel in found.top.get(kind, ())[:SHOWN]):
        yield Text(CUT, style="dim")


def _estimate(found: Kernels, measured: float | None) -> Iterator[str]:
    yield ""
    gaps = found.idle_gaps_s
    if gaps.count:
        yield (
            f"device idle {share(found.idle_share.all)} of the captured time ({number(gaps.count)} gaps): "
            f"p50 {seconds(gaps.p50)}, p99 {seconds(quantile_of(gaps, 'p99'))}, longest {seconds(gaps.max)}"
        )
    if found.launches_lost:
        yield (
            f"the profiler lost the device records of {number(found.launches_lost)} launches; their"
            f" {number(found.steps_left_out)} steps are excluded"
        )
    estimate = found.estimate
    if estimate.output_tokens_per_s is None:
        yield f"no kernel throughput: {estimate.reason}"
        return
    yield (
        f"kernel throughput: {number(estimate.output_tokens_per_s)} output tokens/s if the device were never idle"
        + (f" (measured: {number(measured)})" if measured else "")
        + f"; captured steps cover {share(estimate.covered_share)} of the run"
    )
    if found.unknown_names:
        yield f'in "other": {", ".join(cut(name, NAME) for name in found.unknown_names)}'


def host(found: HostProfile, folder: str) -> Iterator[RenderableType]:
    """Where the host's time went, by function."""
    behind = f", up to {seconds(found.behind_s)} late" if found.behind_s else ", on time"
    yield Text(
        f"{number(found.samples)} samples at {found.rate_hz} Hz{behind}; {number(found.errors)} errors; "
        f"flame graph: {folder}/flame.svg",
        style="dim",
    )
    rows = table()
    rows.add_column("function")
    for title in ("self", "total"):
        rows.add_column(title, justify="right", no_wrap=True)
    for function in found.top[:SHOWN]:
        rows.add_row(cut(function.name, FUNCTION), share(function.self_share), share(function.total_share))
    yield rows
    if any(len(function.name) > FUNCTION for function in found.top[:SHOWN]):
        yield Text(CUT, style="dim")


def cut(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
