"""The result's section on caches, and the doubts that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from innerloop.harness.analysis.columns import total
from innerloop.harness.analysis.prefixes import hit_share_over_time, hit_tokens, recomputed, theoretical
from innerloop.harness.result.codes import doubt
from innerloop.harness.result.record import Record
from innerloop.harness.schema.caches import Caches
from innerloop.harness.schema.reasons import Reason


def section(record: Record, prompt_tokens: int) -> Caches:
    """`prompt_tokens`: of the requests that had a first token in the window."""
    steps, requests = record.tables.steps, record.tables.requests
    cached = total(steps["cached_tokens"])
    found = Caches(
        reset=record.reported.get("caches_reset"),
        prefix_hit_share=cached / prompt_tokens if cached is not None and prompt_tokens else None,
        made_in_window=record.reported.get("compiled_in_window"),
        warmup_shapes=tuple(record.reported.get("warmup_shapes") or ()),
    )
    if not record.effective.get("prefix_caching"):
        return found
    block = record.effective.get("kv_block_tokens")
    found = replace(
        found,
        start=record.caches,
        block_tokens=block,
        recomputed_positions=recomputed(steps, requests),
        evicted_blocks=record.reported.get("evicted_blocks"),
        hit_share_over_time=hit_share_over_time(steps, *record.window),
    )
    if record.known_lens is None or len(record.known_lens) != len(requests):
        return found
    began = requests["first_token_ns"] >= 0
    known, prompts = record.known_lens[began], requests["prompt_tokens"][began]
    in_blocks = None if block is None else int(hit_tokens(known, prompts, block).sum())
    return replace(
        found,
        possible_hit_share=theoretical(known, prompts),
        possible_hit_share_in_blocks=None if block is None else theoretical(known, prompts, block),
        lost_hit_tokens=None if in_blocks is None or cached is None else max(in_blocks - cached, 0),
    )


def doubts(record: Record, caches: Caches, prefix_caching: bool) -> Iterator[Reason]:
    """What was made in the window although it should have been before, and a cache that was not empty; nothing of a
    run that failed."""
    if record.failure is not None:
        return
    made = {name: count for name, count in (caches.made_in_window or {}).items() if count}
    if made:
        shown = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in made.items())
        yield doubt(
            "compiled_in_window",
            f"the engine captured or compiled during the window: {shown}",
            "Give the warm-up more time (--workload-arg warmup.max_s=...), so that it covers the window's shapes.",
        )
    if prefix_caching and caches.reset is False and caches.start != "warm":
        yield doubt(
            "cache_not_reset",
            "the prefix cache could not be emptied before the window",
            "The first requests reused blocks from the warm-up: compare runs with prefix_caching=false.",
        )
