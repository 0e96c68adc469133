"""The outcome of a gate's conditions on a comparison: the document of `innerloop gate` and `compare --fail-if`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.comparison import Comparison, Estimate
from innerloop.harness.schema.figure import Figure

VERSION = "2.0"
DOUBT = "a suspect run makes this metric doubtful"  # a reason
Outcome = Literal["passed", "failed", "cannot tell"]


@dataclass(frozen=True, slots=True)
class CheckedCondition:
    """One --fail-if condition, and its outcome."""

    text: Annotated[str, Figure("the condition as it was given")]
    figure: Annotated[str, Figure("the metric, dotted as in the result")]
    fails: Annotated[Literal["below", "above"], Figure("on which side of the threshold it fails")]
    limit: Annotated[float, Figure("the threshold, in the metric's unit or, where `relative`, as B / A")]
    relative: Annotated[bool, Figure("the threshold is a fraction of the baseline (A)")]
    value: Annotated[Estimate | None, Figure("B / A or B's own value", null="it is unknown on at least one side")]
    outcome: Annotated[Outcome, Figure("by where the interval lies relative to the threshold; cannot tell: undecided")]
    reason: Annotated[str | None, Figure("why it is undecided or doubtful", null="it is neither")]
    waived: Annotated[
        bool, Figure("it is undecided or doubtful, and --allow-undecided or --allow-suspect lets it pass")
    ]


@dataclass(frozen=True, slots=True)
class Gate:
    """All conditions together."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    outcome: Annotated[
        Outcome,
        Figure("failed: a condition failed; cannot tell: none failed, and at least one is undecided"),
    ]
    conditions: tuple[CheckedCondition, ...]
    comparison: Comparison
    kind: Annotated[Literal["gate"], Figure("what this document is")] = "gate"
