"""Which version made it slow: the document of `innerloop bisect`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.comparison import Comparison, Estimate
from innerloop.harness.schema.figure import Figure

VERSION = "2.0"


@dataclass(frozen=True, slots=True)
class VersionProbed:
    """One of the versions, in their order."""

    name: Annotated[str, Figure("the version or commit")]
    probability: Annotated[
        float, Figure("posterior probability that it is the culprit; for the first: that there is no culprit")
    ]
    trials: Annotated[int, Figure("trials in which it was compared with the first version")]
    ratio: Annotated[
        Estimate | None,
        Figure("its figure relative to the first version's, over the trials", null="there are no trials"),
    ]
    untestable: Annotated[str | None, Figure("why it cannot be tested", null="it can be tested, as far as is known")]


@dataclass(frozen=True, slots=True)
class Bisect:
    """What was found."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    created: Annotated[str, Figure("when the last run ended, UTC in ISO 8601")]
    status: Annotated[
        Literal["ok", "suspect", "failed", "partial", "interrupted"],
        Figure("ok: the search finished; suspect: one of its runs is; failed: no run finished"),
    ]
    what: Annotated[str, Figure("the engine, or the checkout")]
    metric: Annotated[str, Figure("the metric that decides")]
    better: Annotated[Literal["higher", "lower"], Figure("which direction is better")]
    effect: Annotated[float, Figure("the smallest relative loss that was looked for")]
    certainty: Annotated[float, Figure("posterior probability at which the search ends")]
    verdict: Annotated[Literal["culprit", "no culprit", "undecided"], Figure("whether one version is to blame")]
    culprit: Annotated[str | None, Figure("the first version that is slow", null="see verdict")]
    before: Annotated[str | None, Figure("the last version that was tested and is not slow", null="see verdict")]
    probability: Annotated[float, Figure("of the most likely answer")]
    loss: Annotated[
        Estimate | None, Figure("relative loss of the metric: posterior mean, 95 % credible bounds", null="no culprit")
    ]
    noise: Annotated[float, Figure("posterior mean of one comparison's standard deviation, relative")]
    trials: Annotated[int, Figure("pairs of runs that were compared")]
    most: Annotated[int, Figure("maximum number of trials")]
    versions: tuple[VersionProbed, ...]
    why: Annotated[Comparison | None, Figure("the culprit vs. the version before it", null="not run yet, or none")]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")]
    kind: Annotated[Literal["bisect"], Figure("what this document is")] = "bisect"
