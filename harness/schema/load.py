"""What the requests of a run were made of, where that is more than lengths and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from innerloop.harness.schema.common import NO_VALUES, Summary
from innerloop.harness.schema.figure import Figure


@dataclass(frozen=True, slots=True)
class Replayed:
    """A trace, and what became of its rows."""

    format: Annotated[str, Figure("the trace's format, as recognised or named")]
    rows: Annotated[int, Figure("rows of the file, or turns of its conversations")]
    replayed: Annotated[int, Figure("requests made from them")]
    empty: Annotated[int, Figure("left out: no prompt or no output tokens")] = 0
    out_of_range: Annotated[int, Figure("left out: outside start_s, end_s or max_requests")] = 0
    too_long: Annotated[int, Figure("left out or cut: longer than the context (see fit)")] = 0
    out_of_order: Annotated[int, Figure("earlier than the row before; rows are replayed in order of time")] = 0
    estimated: Annotated[int, Figure("lengths estimated from the text, by chars_per_token")] = 0
    fit: Annotated[str, Figure("what was done about requests that are too long")] = "refuse"
    length_scale: Annotated[float, Figure("lengths were multiplied by this, including what fit: scale needed")] = 1.0
    time_scale: Annotated[float, Figure("times were multiplied by this")] = 1.0


@dataclass(frozen=True, slots=True)
class ClassCount:
    """A class of requests in a mix."""

    name: Annotated[str, Figure("the class")]
    requests: Annotated[int, Figure("requests of the class")]


@dataclass(frozen=True, slots=True)
class ClassLatency:
    """What the senders of one class of requests saw."""

    name: Annotated[str, Figure("the class")]
    requests: Annotated[int, Figure("due in the window")]
    finished: Annotated[int, Figure("requests that got all their tokens")]
    ttft: Annotated[Summary, Figure("time to first token", "s", "first token - due", NO_VALUES, "lower")]
    tpot: Annotated[Summary, Figure("time per output token after the first arrival", "s", better="lower")]
    e2e: Annotated[
        Summary, Figure("from when a request was due to its last token", "s", "last token - due", NO_VALUES, "lower")
    ]
