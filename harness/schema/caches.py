"""What an engine had kept when the window opened, and what it still had to make in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

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
    made_in_window: Annotated[
        Mapping[str, int] | None,
        Figure("captures and compilations during the window, by kind", null="the engine runs in another process"),
    ] = None
    warmup_shapes: Annotated[tuple[str, ...], Figure("shapes that the warm-up ran in addition to its rounds")] = field(
        default_factory=tuple
    )
