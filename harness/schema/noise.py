"""How far runs of the same thing differ on a machine: the document of `innerloop noise`, kept for later comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure

VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class FigureNoise:
    """The scatter of one figure, as standard deviations of logarithms: 0.01 is about 1 %."""

    neighbours: Annotated[float, Figure("of the ratio of two processes that ran next to each other")]
    processes: Annotated[float, Figure("of a process's value, over all blocks")]


@dataclass(frozen=True, slots=True)
class Noise:
    """Of blocks in which the same thing ran twice."""

    schema_version: str
    innerloop_version: str
    created: Annotated[str, Figure("UTC, ISO 8601")]
    machine: Annotated[Mapping[str, Any], Figure("which machine this holds for")]
    load: Annotated[Mapping[str, Any], Figure("which engine, layer, model and workload it holds for")]
    engine_version: Annotated[str | None, Figure("of the engine that ran", null="it reports none")]
    metric: Annotated[str, Figure("the figure whose noise is the margin of comparisons")]
    margin: Annotated[float, Figure("relative difference that counts as none because of it")]
    blocks: Annotated[int, Figure("of two runs each")]
    block_s: Annotated[float | None, Figure("mean time of a block", "s", null="the journal does not tell")]
    figures: Annotated[Mapping[str, FigureNoise], Figure("by dotted name")]
    runs: Annotated[tuple[str, ...], Figure("the folders")]
    notes: tuple[str, ...]
    kind: Annotated[Literal["noise"], Figure("what this document is")] = "noise"
