"""A verification as a person reads it: whether it passed, how far the output is off, and where it goes wrong first."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.words import NONE, number, seconds, share
from innerloop.harness.report.tables import table
from innerloop.harness.result.verification import in_words
from innerloop.harness.schema.verification import Agreement, Chosen, Divergence, Verification

WAYS = {"run": "measured run", "repeat": "repeated run", "alone": "one at a time"}


def verification(found: Verification) -> RenderableType:
    return Group(*lines(found))


def lines(found: Verification) -> Iterator[RenderableType]:
    if found.passed is None:
        why = "" if found.failure is None else f": {found.failure.message}"
        yield Text(f"could not be checked{why}", style="yellow")
        return
    assert found.run is not None
    assert found.reference is not None
    assert found.floor is not None
    yield Text("passed" if found.passed else "FAILED", style="bold green" if found.passed else "bold red").append(
        f"  {number(found.run.positions)} tokens of {number(found.run.requests)} of {number(found.requests)} requests, "
        f"against torch {found.reference.torch} in {found.reference.dtype}, in {seconds(found.seconds)}",
        style="default not bold",
    )
    yield errors(found)
    if found.experts is not None:
        yield Text(experts(found.experts))
    for one in found.missed:
        yield Text(f"! {in_words(one)}", style="yellow")
    if found.first_divergence is not None:
        yield Text(where(found.first_divergence), style="yellow")
    for note in found.notes:
        yield Text(f"note: {note}", style="dim")


def errors(found: Verification) -> RenderableType:
    """What rounding alone does, what would pass, and each way to run."""
    assert found.floor is not None
    assert found.lines is not None
    floor, allowed = found.floor, found.lines
    out = table("nats", "tokens", "RMS", "p99", "flips", "beyond", "worst", left=1)
    out.add_row("rounding alone", "", small(floor.rms_nats), small(floor.p99_nats), share(floor.flip_share), "", "")
    line = (small(allowed.rms_nats), small(allowed.p99_nats), share(allowed.flip_share))
    out.add_row("limit", "", *line, "0", small(allowed.margin_nats))
    for way, words in WAYS.items():
        one: Agreement | None = getattr(found, way)
        if one is not None:
            cells = (small(one.rms_nats), small(one.p99_nats), number(one.flips), number(one.flips_beyond))
            out.add_row(words, number(one.positions), *cells, small(one.worst_flip_nats))
    if found.batch is not None:
        batch = found.batch
        out.add_row(
            "batched vs. alone", number(batch.positions), small(batch.rms_nats), small(batch.p99_nats),
            number(batch.parted), "", "",
        )  # fmt: skip
    told = (
        f"rounding alone: {floor.formats}. RMS, p99: errors of log-probabilities. flips: tokens that are not the "
        "reference's top choice (in the last row: requests that diverge); worst: how far the worst one trails it"
    )
    return Group(out, Text(told, style="dim"))


def experts(found: Chosen) -> str:
    return (
        f"experts: a layer's most popular one was chosen for {share(found.shares[0])} of {number(found.positions)} "
        f"positions, its least popular one for {share(found.shares[-1])}; an even split would be "
        f"{share(sum(found.shares) / len(found.shares))}"
    )


def small(value: float | None) -> str:
    return NONE if value is None else "0" if value == 0 else f"{value:.2g}"


def where(first: Divergence) -> str:
    words = f"first: request {first.request}, output token {first.position} ({WAYS[first.way]})"
    if first.step is not None:
        words += f", step {first.step}"
    if first.running is not None:
        words += f", a batch of {first.running}"
    return words if first.nats is None else f"{words}, {small(first.nats)} nats"
