"""Whether a comparison meets the conditions of a gate: the document of `innerloop gate` and `compare --fail-if`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.comparison import Comparison, Estimate
from innerloop.harness.schema.figure import Figure

VERSION = "1.0"
DOUBT = "a side is suspect in a way that concerns this figure"  # a reason
Outcome = Literal["passed", "failed", "cannot tell"]


@dataclass(frozen=True, slots=True)
class CheckedCondition:
    """One thing that must not be so, and whether it is."""

    text: Annotated[str, Figure("as it was given")]
    figure: Annotated[str, Figure("dotted, as in the result")]
    fails: Annotated[Literal["below", "above"], Figure("on which side of the limit it fails")]
    limit: Annotated[float, Figure("in the figure's unit or, where `relative`, as B / A")]
    relative: Annotated[bool, Figure("the limit is a part of the baseline, which is A")]
    value: Annotated[Estimate | None, Figure("B / A or B's own value", null="it is not known on both sides")]
    outcome: Annotated[Outcome, Figure("by where the interval lies to the limit")]
    reason: Annotated[str | None, Figure("why it cannot be told or is doubtful", null="nothing speaks against it")]
    waived: Annotated[bool, Figure("it cannot be told or is doubtful, and was asked to pass nevertheless")]


@dataclass(frozen=True, slots=True)
class Gate:
    """All conditions together."""

    schema_version: str
    innerloop_version: str
    outcome: Annotated[Outcome, Figure("failed: a condition is; cannot tell: one is, and none failed")]
    conditions: tuple[CheckedCondition, ...]
    comparison: Comparison
    kind: Annotated[Literal["gate"], Figure("what this document is")] = "gate"
