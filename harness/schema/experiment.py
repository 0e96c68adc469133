"""An experiment's folder: manifest.json says what is to be run, journal.jsonl what has been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure

VERSION = "1.3"
Order = Literal["there and back", "random"]
State = Literal["started", "done", "failed", "refused", "interrupted", "unreached"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One configuration to measure."""

    name: Annotated[str, Figure("a folder's name, unique in the experiment")]
    request: Annotated[Mapping[str, Any], Figure("the requested run, as options of `innerloop run`")]
    key: Annotated[str, Figure("hash of the resolved run: cells with the same key measure the same thing")]
    at: Annotated[Mapping[str, Any], Figure("its values of what differs between the cells, by dotted path")] = field(
        default_factory=dict
    )
    process: Annotated[
        str | None, Figure("cells of a block with the same one are windows of one process", null="it has its own")
    ] = None
    address: Annotated[
        str | None,
        Figure(
            "hash of everything that determines its figures on this machine; see docs/how-to/sweep.md",
            null="none is kept",
        ),
    ] = None
    work: Annotated[
        str | None,
        Figure("hash of the model and the requests' lengths: cells with the same hash may be ranked", null="no grid's"),
    ] = None
    devices: Annotated[int, Figure("how many devices it uses")] = 1
    substituted: Annotated[
        str | None,
        Figure("part of the engine that was replaced, so that the cell is not ranked", null="nothing was replaced"),
    ] = None
    refused: Annotated[str | None, Figure("why it is not run", null="it is")] = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Written first, and never changed."""

    schema_version: str
    innerloop_version: str
    id: Annotated[str, Figure("UUID version 7")]
    created: Annotated[str, Figure("UTC, ISO 8601")]
    design: Annotated[str, Figure("layers, trials, compare ...")]
    cells: tuple[Cell, ...]
    blocks: Annotated[int, Figure("number of blocks; a block holds one job of each cell, compared with each other")]
    order: Annotated[Order, Figure("order of the cells in a block")]
    seed: Annotated[int, Figure("seed of a random order")]
    machine: Annotated[Mapping[str, Any], Figure("what must match for figures to be comparable")]
    options: Annotated[Mapping[str, Any], Figure("options common to all runs: limits, telemetry, profiling")] = field(
        default_factory=dict
    )
    until: Annotated[
        float | None,
        Figure("relative half-width of the interval at which it may stop", null="it stops after all blocks"),
    ] = None
    together: Annotated[bool, Figure("the jobs of a block are windows of one process, which loads the engine once")] = (
        False
    )
    kept: Annotated[bool, Figure("finished runs count even if the machine has been restarted since")] = False
    kind: Literal["experiment"] = "experiment"

    @property
    def measured(self) -> tuple[Cell, ...]:
        """The cells that are run."""
        return tuple(cell for cell in self.cells if cell.refused is None)


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the journal."""

    event: State
    cell: str
    block: Annotated[int, Figure("from 1")]
    boot: Annotated[str, Figure("the machine's boot id")]
    time: Annotated[str, Figure("UTC, ISO 8601")]
    status: Annotated[str | None, Figure("status of the run's result", null="the run has no result")] = None
    figures: Annotated[Mapping[str, float | None], Figure("the run's figures, by dotted name")] = field(
        default_factory=dict
    )
    reason: Annotated[
        str | None, Figure("why it failed or was refused", null="the run did not fail and was not refused")
    ] = None
    run: Annotated[str | None, Figure("its folder", null="it is in runs/ of this experiment")] = None
    node: Annotated[str | None, Figure("machine of a cluster, and a hash of its description", null="this machine")] = (
        None
    )
    values: Annotated[
        Mapping[str, int], Figure("number of values behind the quantiles among its figures: `latency_s.itl`")
    ] = field(default_factory=dict)
    doubts: Annotated[tuple[str, ...], Figure("codes of the reasons that make the run suspect")] = ()

    @property
    def job(self) -> str:
        """The name of the run's folder below runs/."""
        return f"{self.cell}-{self.block}"
