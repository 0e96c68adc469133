"""The top of a run's page: what ran, how it ended, what was set, and what stands against its figures."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import assignments, number, seconds
from innerloop.harness.pages.parts import Callout, Facts, Label, Part, Tile, Tone
from innerloop.harness.pages.speed import interval, point
from innerloop.harness.report.doubts import before_traceback, ended
from innerloop.harness.report.run import RULES
from innerloop.harness.result.codes import makes_suspect
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result

TONES: dict[str, Tone] = {"ok": "good", "suspect": "warn", "partial": "warn", "failed": "bad", "interrupted": "bad"}
TILES = (("TTFT", "ttft"), ("ITL", "itl"), ("end to end", "e2e"))


def title(result: Result) -> str:
    """What ran, in a few words."""
    spec, engine = result.spec, result.engine
    layer = f" ({spec.layer})" if spec.layer != "core" else ""
    name = " ".join(word for word in (engine.name or spec.engine, engine.version) if word)
    return f"{name}{layer} · {spec.model} · {spec.workload}"


def subtitle(result: Result) -> str:
    machine = result.environment
    gpus = [gpu.name for gpu in machine.gpus] if machine is not None else []
    where = f"{len(gpus)} × {gpus[0]}" if len(gpus) > 1 else gpus[0] if gpus else (machine.cpu if machine else None)
    on = where if result.spec.device == "cuda" else (machine.cpu if machine is not None else None)
    parts = [result.spec.device, on, result.dtype, f"ended {result.created[:16].replace('T', ' ')} UTC"]
    return " · ".join(part for part in parts if part)


def verdict(result: Result) -> str:
    """What the run says, in one or two sentences."""
    if result.failure is not None:
        what = "Interrupted" if result.status == "interrupted" else "Failed"
        return f"{what}: {result.failure.message}"
    counts, window = result.counts, result.window.duration_s
    steady = result.steady.throughput
    done = f"{number(counts.finished)} requests and {number(counts.output_tokens)} output tokens in {seconds(window)}"
    if steady is not None and steady.output_tokens_per_s is not None:
        ci = steady.output_tokens_per_s_ci
        known = f" (95 % interval {interval(ci)})" if interval(ci) != "-" else ""
        rate = f"{number(steady.output_tokens_per_s)} output tokens/s{known} {RULES[result.steady.rule]}"
    else:
        rate = f"{number(result.throughput.output_tokens_per_s)} output tokens/s over the whole window"
    doubt = " Some figures are doubtful: see below." if result.status == "suspect" else ""
    return f"{rate}: {done}.{doubt}"


def tiles(result: Result) -> Iterator[Tile]:
    """The headline figures; none where nothing was measured."""
    if not result.counts.steps:
        return
    steady, whole = result.steady.throughput, result.throughput
    if steady is not None and steady.output_tokens_per_s is not None:
        ci = interval(steady.output_tokens_per_s_ci)
        detail = f"steady{f', 95 % {ci}' if ci != '-' else ''}"
        yield Tile(Label("output tokens/s", "decode_rate"), number(steady.output_tokens_per_s), detail)
    else:
        yield Tile(Label("output tokens/s", "decode_rate"), number(whole.output_tokens_per_s), "whole window")
    for name, field in TILES:
        of: Summary = getattr(result.latency_s, field)
        if of.count:
            tail = f"p99 {point(of, 'p99')}, " if point(of, "p99") != "-" else ""
            yield Tile(Label(f"{name}, p50", field), seconds(of.p50), f"{tail}n {number(of.count)}")
    counts = result.counts
    more = [f"{number(n)} {what}" for what, n in (("cut off", counts.cut), ("preempted", counts.preemptions)) if n]
    yield Tile(Label("requests finished", "finished"), number(counts.finished), ", ".join(more))


def aside(result: Result) -> Iterator[Part]:
    """What was set, what makes the figures doubtful with what to do about it, and notes."""
    if result.failure is not None:
        yield failed(result, result.failure)
    spec = result.spec
    told = {"set": assignments(spec.given), "label": assignments(spec.label), "note": spec.note or ""}
    rows = [(Label(name), words) for name, words in told.items() if words]
    if spec.substituted:
        yield Callout("warn", f"Not representative: {spec.substituted}")
    for reason in result.reasons:
        if reason.severity != "note" and (result.failure is None or reason.code != result.failure.cause):
            bad = reason.severity == "invalid"
            affects = f"Affects: {', '.join(reason.affects)}." if makes_suspect(reason) and reason.affects else ""
            lines = [as_called(line) for line in (reason.advice, affects) if line]
            yield Callout("bad" if bad else "warn", capital(reason.detail), lines)
    notes = [*(reason.detail for reason in result.reasons if reason.severity == "note"), *result.notes]
    rows += [(Label("note"), as_called(note)) for note in notes]
    if rows:
        yield Facts(rows)


def failed(result: Result, why: Failure) -> Callout:
    """What happened, what to do, and the last words of the engine."""
    advice = next((reason.advice for reason in result.reasons if reason.code == why.cause), None)
    lines = [as_called(advice)] if advice else []
    lines += [f"The worker {ended(why.exit)}."] if why.exit is not None else []
    code = [
        (title, lines_)
        for title, lines_ in (("Traceback", why.traceback), ("End of engine.log", before_traceback(why)))
        if lines_
    ]
    return Callout("bad", f"{why.cause}: {why.message}", lines, code)


def capital(text: str) -> str:
    """A sentence of a text; what begins with a name and a colon is left as it is, since the name may be somebody's."""
    return text if text.partition(" ")[0].endswith(":") else text[:1].upper() + text[1:]
