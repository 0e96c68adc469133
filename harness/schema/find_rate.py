"""The highest load within latency limits: the document of `innerloop find-rate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.goodput import Limit
from innerloop.harness.schema.waterfall import EngineName

VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class LoadProbed:
    """All probes at one load."""

    load: Annotated[float, Figure("requests/s of an open load, users of a closed one")]
    holds: Annotated[bool | None, Figure("every limit holds at its quantile", null="the requests do not decide it")]
    kept: Annotated[Mapping[str, Estimate], Figure("share of the requests that kept a limit, with its 95 % interval")]
    overloaded: Annotated[bool, Figure("requests piled up until the last arrival")]
    goodput: Annotated[float | None, Figure("requests that kept all limits", "requests/s", null="no probe ended")]
    output_tokens_per_s: Annotated[float | None, Figure("mean of the probes", "tokens/s", null="no probe ended")]
    runs: Annotated[tuple[str, ...], Figure("folders, from the experiment's")]
    aborted: Annotated[tuple[str, ...], Figure("why probes did not come to their end")]


@dataclass(frozen=True, slots=True)
class FindRate:
    """What was found."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    created: Annotated[str, Figure("when the last probe ended, UTC in ISO 8601")]
    status: Annotated[Literal["ok", "suspect", "partial", "interrupted"], Figure("ok: the search came to an end")]
    engine: EngineName
    model: Annotated[str | None, Figure("the model's profile, or its path", null="no run has ended yet")]
    workload: Annotated[str | None, Figure("the workload's profile, or its path", null="no run has ended yet")]
    over: Annotated[Literal["rate_per_s", "users"], Figure("what is searched: requests/s, or concurrent users")]
    limits: tuple[Limit, ...]
    state: Annotated[
        Literal["searching", "found", "unresolved", "above", "below"],
        Figure(
            "found: the answer holds, 1.05 times as much does not; unresolved: the probes were used up; above: all "
            "that was tried held; below: nothing did"
        ),
    ]
    answer: Annotated[float | None, Figure("the highest load that holds", null="none did")]
    fails: Annotated[float | None, Figure("the lowest load that fails", null="none did")]
    confirmed: Annotated[bool | None, Figure("it holds at 0.95 of the answer", null="not probed, or undecided")]
    refuted: Annotated[bool | None, Figure("it fails at 1.1 of the answer", null="not probed, or undecided")]
    probes: Annotated[int, Figure("that have ended")]
    most: Annotated[int, Figure("probes at most")]
    loads: Annotated[tuple[LoadProbed, ...], Figure("in the order in which they were first tried")]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")]
    kind: Annotated[Literal["find_rate"], Figure("what this document is")] = "find_rate"
