"""The result's section on caches, and the doubts that follow from it."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.analysis.columns import total
from innerloop.harness.result.codes import doubt
from innerloop.harness.result.record import Record
from innerloop.harness.schema.caches import Caches
from innerloop.harness.schema.reasons import Reason


def section(record: Record, prompt_tokens: int) -> Caches:
    """`prompt_tokens`: of the requests that had a first token in the window."""
    cached = total(record.tables.steps["cached_tokens"])
    return Caches(
        reset=record.reported.get("caches_reset"),
        prefix_hit_share=cached / prompt_tokens if cached is not None and prompt_tokens else None,
        made_in_window=record.reported.get("compiled_in_window"),
        warmup_shapes=tuple(record.reported.get("warmup_shapes") or ()),
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
    if prefix_caching and caches.reset is False:
        yield doubt(
            "cache_not_reset",
            "the prefix cache could not be emptied before the window",
            "The first requests reused blocks from the warm-up: compare runs with prefix_caching=false.",
        )
