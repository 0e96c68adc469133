"""The highest load within latency limits: the document of `innerloop find-rate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.goodput import Limit
from innerloop.harness.schema.waterfall import EngineName

VERSION = "1.1"


@dataclass(frozen=True, slots=True)
class LoadProbed:
    """All probes at one load."""

    load: Annotated[float, Figure("requests/s of an open load, users of a closed one")]
    holds: Annotated[bool | None, Figure("every limit is met at its quantile", null="the requests are inconclusive")]
    kept: Annotated[Mapping[str, Estimate], Figure("share of requests within a limit, with its 95 % interval")]
    overloaded: Annotated[bool, Figure("the backlog grew until the last arrival")]
    goodput: Annotated[float | None, Figure("requests that met all limits", "requests/s", null="no probe ended")]
    output_tokens_per_s: Annotated[float | None, Figure("mean of the probes", "tokens/s", null="no probe ended")]
    runs: Annotated[tuple[str, ...], Figure("folders, relative to the experiment's")]
    aborted: Annotated[tuple[str, ...], Figure("why probes did not finish")]
    disturbed: Annotated[
        int, Figure("probes that something other than the engine slowed, and that therefore do not count")
    ] = 0
    suspect: Annotated[int, Figure("how many of the probes are suspect")] = 0


@dataclass(frozen=True, slots=True)
class FindRate:
    """What was found."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    created: Annotated[str, Figure("when the last probe ended, UTC in ISO 8601")]
    status: Annotated[
        Literal["ok", "suspect", "failed", "partial", "interrupted"],
        Figure("ok: the search finished; suspect: one of its probes is; failed: no probe finished"),
    ]
    engine: EngineName
    model: Annotated[str | None, Figure("the model's profile, or its path", null="no run has ended yet")]
    workload: Annotated[str | None, Figure("the workload's profile, or its path", null="no run has ended yet")]
    over: Annotated[Literal["rate_per_s", "users"], Figure("what is searched: requests/s, or concurrent users")]
    limits: tuple[Limit, ...]
    state: Annotated[
        Literal["searching", "found", "unresolved", "above", "below"],
        Figure(
            "found: the limits are met at the answer, and not at 1.05 times it; unresolved: the probes were used up, "
            "or none decided anything; above: every load tried met the limits; below: none did, and one failed"
        ),
    ]
    answer: Annotated[float | None, Figure("the highest load that meets the limits", null="none did")]
    fails: Annotated[float | None, Figure("the lowest load that does not meet the limits", null="none did")]
    confirmed: Annotated[bool | None, Figure("the limits are met at 0.95x the answer", null="not probed, or undecided")]
    refuted: Annotated[
        bool | None, Figure("the limits are not met at 1.1x the answer", null="not probed, or undecided")
    ]
    probes: Annotated[int, Figure("probes that have ended")]
    most: Annotated[int, Figure("maximum number of probes")]
    loads: Annotated[tuple[LoadProbed, ...], Figure("in the order in which they were first tried")]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")]
    kind: Annotated[Literal["find_rate"], Figure("what this document is")] = "find_rate"
