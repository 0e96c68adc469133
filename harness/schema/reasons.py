"""Why a run failed, or what makes which of its figures doubtful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure

Severity = Literal["invalid", "suspect", "note"]
Affected = Literal["throughput", "latency", "energy", "memory", "comparison"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is known against a run's figures."""

    code: Annotated[str, Figure("what it is, in one word for programs")]
    severity: Annotated[
        Severity,
        Figure(
            "invalid: the affected figures are wrong; suspect: they may be; note: worth knowing, does not make a run "
            "suspect"
        ),
    ]
    affects: Annotated[tuple[Affected, ...], Figure("the kinds of figures that it makes doubtful")]
    detail: Annotated[str, Figure("what was seen, with its numbers")]
    advice: Annotated[str | None, Figure("what to do about it", null="there is nothing to advise")]


@dataclass(frozen=True, slots=True)
class Check:
    """Two places in the trace that should agree and do not."""

    code: Annotated[str, Figure("which check failed")]
    detail: Annotated[str, Figure("both sides' numbers")]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run, or a profiling pass, did not come to its end."""

    cause: Annotated[str, Figure("the kind of failure, in one word for programs")]
    message: Annotated[str, Figure("what happened, in one sentence")]
    exit: Annotated[int | None, Figure("the worker's exit code; negative: the signal", null="it is unknown")] = None
    traceback: Annotated[tuple[str, ...], Figure("lines of the traceback")] = ()
    log_tail: Annotated[tuple[str, ...], Figure("last lines of engine.log")] = ()
