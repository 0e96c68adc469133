"""What a run's requests were, and what a prefix cache and speculation made of them, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType

from innerloop.harness.cli.words import counted, number, seconds, share
from innerloop.harness.report.quantiles import footnote
from innerloop.harness.report.tables import ALIGNED, section, table
from innerloop.harness.result.load import replay_changes
from innerloop.harness.schema.caches import Caches
from innerloop.harness.schema.load import ClassLatency
from innerloop.harness.schema.quantiles import quantile_of
from innerloop.harness.schema.result import Workload
from innerloop.harness.schema.window import Counts


def load_facts(workload: Workload | None) -> Iterator[tuple[str, str]]:
    """Lines on a trace and on sessions."""
    if workload is None:
        return
    if workload.replayed is not None:
        of = workload.replayed
        yield "trace", f"{of.format}, {counted(of.replayed, 'request')} from {counted(of.rows, 'row')}"
    if workload.sessions is not None:
        yield "sessions", f"{number(workload.sessions)}, {number(workload.requests)} turns"


def load_words(described: Workload) -> Iterator[str]:
    """What is shared, how many conversations and classes there are, and what became of a trace's rows."""
    if described.shared_share:
        yield f"an infinite prefix cache would hit {share(described.shared_share)} of the prompt tokens"
    if described.sessions is not None:
        yield f"{number(described.sessions)} sessions"
    if described.classes is not None:
        yield "classes: " + ", ".join(f"{one.name} {number(one.requests)}" for one in described.classes)
    if described.replayed is not None:
        changes = replay_changes(described.replayed)
        yield f"trace of format {described.replayed.format}" + (f": {changes}" if changes else "")


def cache_facts(caches: Caches | None) -> Iterator[tuple[str, str]]:
    """Lines on the prefix cache; none where the engine has none."""
    if caches is None or caches.start is None:
        return
    measured = "hits are not reported" if caches.prefix_hit_share is None else f"{share(caches.prefix_hit_share)} hit"
    possible = ""
    if caches.possible_hit_share is not None:
        possible = f"; an infinite cache: {share(caches.possible_hit_share)}"
        if caches.possible_hit_share_in_blocks is not None:
            possible += f", {share(caches.possible_hit_share_in_blocks)} in blocks of {caches.block_tokens}"
    yield "prefix cache", f"{measured}{possible}; {caches.start} at the start"
    lost = {"lost to evictions or timing": caches.lost_hit_tokens, "recomputed": caches.recomputed_positions}
    told = [f"{number(tokens)} tokens {what}" for what, tokens in lost.items() if tokens]
    if caches.evicted_blocks is not None:
        told.append(f"{number(caches.evicted_blocks)} blocks evicted")
    if told:
        yield "", ", ".join(told)


def speculation_facts(counts: Counts) -> Iterator[tuple[str, str]]:
    """A line on drafted tokens; none where nothing was drafted."""
    if counts.drafted_tokens and counts.accepted_tokens is not None:
        accepted = share(counts.accepted_tokens / counts.drafted_tokens)
        yield "speculation", f"{accepted} of {number(counts.drafted_tokens)} drafted tokens were accepted"


def by_class(classes: tuple[ClassLatency, ...]) -> RenderableType:
    """Latencies of each class of requests."""
    rows = table("class", "finished", "TTFT p50", "p99", "TPOT p50", "e2e p50", least=ALIGNED)
    for one in classes:
        tail = quantile_of(one.ttft, "p99")
        rows.add_row(one.name, number(one.finished), *map(seconds, (one.ttft.p50, tail, one.tpot.p50, one.e2e.p50)))
    few = footnote((one.ttft for one in classes), "requests", ("p99",))
    return section("Latency by class", Group(rows, *few))
