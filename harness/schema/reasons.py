"""Why a run failed, or what makes which of its figures doubtful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure

Severity = Literal["invalid", "suspect", "note"]
Affected = Literal["throughput", "latency", "energy", "memory", "comparison"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason to doubt some of a run's figures."""

    code: Annotated[str, Figure("machine-readable code")]
    severity: Annotated[
        Severity,
        Figure(
            "invalid: the affected figures are wrong; suspect: they may be; note: worth knowing, does not make a run "
            "suspect"
        ),
    ]
    affects: Annotated[tuple[Affected, ...], Figure("the kinds of figures that it casts doubt on")]
    detail: Annotated[str, Figure("what was observed, with figures")]
    advice: Annotated[str | None, Figure("what to do about it", null="there is no advice")]


@dataclass(frozen=True, slots=True)
class Check:
    """Two places in the trace that should agree and do not."""

    code: Annotated[str, Figure("which check failed")]
    detail: Annotated[str, Figure("the two numbers that disagree")]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run, or a profiling pass, did not finish."""

    cause: Annotated[str, Figure("machine-readable kind of failure")]
    message: Annotated[str, Figure("what happened, in one sentence")]
    exit: Annotated[int | None, Figure("the worker's exit code; negative: the signal", null="it is unknown")] = None
    traceback: Annotated[tuple[str, ...], Figure("lines of the traceback")] = ()
    log_tail: Annotated[tuple[str, ...], Figure("last lines of engine.log")] = ()
