"""Start-up before the window, and the memory in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from innerloop.harness.schema.figure import Figure

NOT_REACHED = "the run ended before this point"
NOT_SAID = f"{NOT_REACHED}, or the system does not say"


@dataclass(frozen=True, slots=True)
class Startup:
    """Parts of the start-up."""

    interpreter: Annotated[float | None, Figure("start of the engine's interpreter", "s", null=NOT_REACHED)] = None
    imports: Annotated[
        float | None,
        Figure(
            "import of the engine's packages, with Python's garbage collection paused in the worker",
            "s",
            null=NOT_REACHED,
            better="lower",
        ),
    ] = None
    load: Annotated[
        float | None,
        Figure("loading the engine, until it can step", "s", null=NOT_REACHED, better="lower"),
    ] = None
    warmup: Annotated[float | None, Figure("all rounds of warm-up", "s", null=NOT_REACHED)] = None
    total: Annotated[float | None, Figure("sum of these", "s", null="one of these is unknown", better="lower")] = None
    preparation: Annotated[
        float | None,
        Figure(
            "conversion of the model to the engine's own format, which is kept; not in the total",
            "s",
            null="the engine needs no conversion",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Warmup:
    """The rounds of warm-up before the window."""

    seconds: Annotated[float, Figure("of all rounds", unit="s")]
    rounds: Annotated[int, Figure("how many were run")]
    settled: Annotated[bool, Figure("the last rounds' speeds lie within the tolerance of each other")]
    tolerance: Annotated[float, Figure("largest relative difference of settled rounds")]
    window: Annotated[int, Figure("rounds that are compared")]
    round_tokens_per_s: Annotated[tuple[float, ...], Figure("each round's speed", unit="tokens/s")]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the worker's processes, and what the engine reports; of all devices together."""

    before_load: Annotated[int | None, Figure("when the load began", unit="bytes", null=NOT_SAID)] = None
    after_load: Annotated[int | None, Figure("when the warm-up began", unit="bytes", null=NOT_SAID)] = None
    after_warmup: Annotated[int | None, Figure("when the window opened", unit="bytes", null=NOT_SAID)] = None
    after_measure: Annotated[int | None, Figure("when the window had closed", unit="bytes", null=NOT_SAID)] = None
    peak: Annotated[
        int | None,
        Figure("largest sample", unit="bytes", null="nothing says how much it was", better="lower"),
    ] = None
    weights: Annotated[int | None, Figure("weights", unit="bytes", null="the engine does not report it")] = None
    kv_cache: Annotated[int | None, Figure("KV cache", unit="bytes", null="the engine does not report it")] = None
