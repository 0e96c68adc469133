"""What an engine had kept when the window opened, and what it still had to make in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure


@dataclass(frozen=True, slots=True)
class Caches:
    """The prefix cache and compiled kernels."""

    reset: Annotated[
        bool | None, Figure("the prefix cache was emptied before the window", null="the window never opened")
    ] = None
    prefix_hit_share: Annotated[
        float | None,
        Figure(
            "prompt tokens of the window taken from the prefix cache",
            formula="cached tokens / prompt tokens of the requests that had a first token",
            null="the engine does not report it",
        ),
    ] = None
    start: Annotated[
        Literal["cold", "warm"] | None,
        Figure("when the window opened; cold: empty; warm: it had seen the window's prompts",
               null="the engine caches no prefixes"),
    ] = None  # fmt: skip
    possible_hit_share: Annotated[
        float | None,
        Figure("hit share of an infinite prefix cache on the same requests",
               formula="prompt tokens in a prefix shared with an earlier request / prompt tokens",
               null="an older innerloop drew the requests"),
    ] = None  # fmt: skip
    possible_hit_share_in_blocks: Annotated[
        float | None,
        Figure("the same in whole blocks of the engine; the last token of a prompt is always computed",
               null="the engine's block size is unknown"),
    ] = None  # fmt: skip
    block_tokens: Annotated[
        int | None, Figure("the engine's KV-cache block", unit="tokens", null="the engine does not report it")
    ] = None
    lost_hit_tokens: Annotated[
        int | None,
        Figure("prompt tokens computed although an infinite cache would have had them: evicted before they were needed "
               "again, or not yet computed by the request that had them first", "tokens",
               "possible in blocks - cached", "the engine does not report it", "lower"),
    ] = None  # fmt: skip
    recomputed_positions: Annotated[
        int | None,
        Figure("prompt positions computed again after preemptions", "positions",
               "prefill positions + cached tokens - prompt tokens",
               "the engine does not report it, or requests had not finished their prompts", "lower"),
    ] = None  # fmt: skip
    evicted_blocks: Annotated[
        int | None,
        Figure("blocks evicted from the prefix cache during the window", "blocks",
               null="the engine caches no prefixes, or does not report it", better="lower"),
    ] = None  # fmt: skip
    hit_share_over_time: Annotated[
        tuple[float | None, ...] | None,
        Figure("cached / (cached + computed) prompt positions in each bin of over_time",
               null="the engine does not report it"),
    ] = None  # fmt: skip
    made_in_window: Annotated[
        Mapping[str, int] | None,
        Figure("captures and compilations during the window, by kind", null="the engine runs in another process"),
    ] = None
    warmup_shapes: Annotated[tuple[str, ...], Figure("shapes that the warm-up ran in addition to its rounds")] = field(
        default_factory=tuple
    )
