"""Whether a run stayed stable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure


@dataclass(frozen=True, slots=True)
class Drift:
    """How step time changed for steps of the same composition. Shares are of the window's mean."""

    kind: Annotated[
        Literal["drift", "level_shift"] | None,
        Figure("drift: gradual; level_shift: sudden", null="the change is below 5 %, or may be due to chance"),
    ]
    per_minute: Annotated[float, Figure("slope, as a share per minute", better="lower")]
    low: Annotated[float, Figure("lower end of its 95 % interval")]
    high: Annotated[float, Figure("upper end of its 95 % interval")]
    change: Annotated[float, Figure("from beginning to end, or from one level to the other", better="lower")]
    p: Annotated[float, Figure("p-value: probability of such a change by chance")]
    shift_ns: Annotated[
        int | None, Figure("when the level changed, monotonic", "ns", null="kind is not level_shift")
    ] = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """The requests in the system of an open loop, over the second half of the time to the last arrival."""

    overloaded: Annotated[bool, Figure("their number grew: the 99 % interval of the slope lies above 0")]
    per_minute: Annotated[float, Figure("slope", "requests/min", better="lower")]
    low: Annotated[float, Figure("lower end of its interval", "requests/min")]
    high: Annotated[float, Figure("upper end of its interval", "requests/min")]
    mean: Annotated[float, Figure("mean number of requests", "requests")]


@dataclass(frozen=True, slots=True)
class Stability:
    """Tests of what must not change while a run is measured."""

    drift: Annotated[
        Drift | None, Figure("of the steps' time", null="there are too few steps, or their composition is unknown")
    ] = None
    backlog: Annotated[
        Backlog | None, Figure("of an open loop", null="the workload is not an open loop, or too few requests arrived")
    ] = None
