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

    name: str
    probability: Annotated[float, Figure("posterior probability that it is the culprit; of the first: that none is")]
    trials: Annotated[int, Figure("in which it was compared with the first version")]
    ratio: Annotated[Estimate | None, Figure("of its figure to the first version's, over the trials", null="no trial")]
    untestable: Annotated[str | None, Figure("why it cannot be tested", null="it can, as far as is known")]


@dataclass(frozen=True, slots=True)
class Bisect:
    """What was found."""

    schema_version: str
    innerloop_version: str
    created: Annotated[str, Figure("when the last run ended, UTC in ISO 8601")]
    status: Literal["ok", "partial", "interrupted"]
    what: Annotated[str, Figure("the engine, or the checkout")]
    metric: str
    better: Literal["higher", "lower"]
    effect: Annotated[float, Figure("the smallest relative loss that was looked for")]
    certainty: Annotated[float, Figure("posterior probability at which it is decided")]
    verdict: Literal["culprit", "no culprit", "undecided"]
    culprit: Annotated[str | None, Figure("the first version that is slow", null="see verdict")]
    before: Annotated[str | None, Figure("the last version that was tested and is not slow", null="see verdict")]
    probability: Annotated[float, Figure("of the likeliest answer")]
    loss: Annotated[
        Estimate | None, Figure("relative loss of the metric: posterior mean, 95 % credible bounds", null="no culprit")
    ]
    noise: Annotated[float, Figure("posterior mean of one comparison's standard deviation, relative")]
    trials: Annotated[int, Figure("pairs of runs that were compared")]
    most: Annotated[int, Figure("trials at most")]
    versions: tuple[VersionProbed, ...]
    why: Annotated[Comparison | None, Figure("the culprit against the version before it", null="not run yet, or none")]
    notes: tuple[str, ...]
    kind: Annotated[Literal["bisect"], Figure("what this document is")] = "bisect"
