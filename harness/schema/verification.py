"""Whether an engine computed what its model says: the section of `innerloop run --verify`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.reasons import Failure

Way = Literal["run", "repeat", "alone"]
NO_LOGS = "the engine gives no log-probabilities"
NOT_CHECKED = "it could not be checked"


@dataclass(frozen=True, slots=True)
class Floor:
    """What rounding alone does: how far the reference in the engine's number formats is from the precise one, in
    log-probabilities of the run's own tokens."""

    formats: Annotated[str, Figure("the number formats, as far as they are imitated")]
    rms_nats: Annotated[float, Figure("root mean square of the differences", unit="nats")]
    p99_nats: Annotated[float, Figure("99 % of them are at most that large", unit="nats")]
    worst_nats: Annotated[float, Figure("the largest of them", unit="nats")]
    flip_share: Annotated[float, Figure("positions at which the two have other most likely tokens")]


@dataclass(frozen=True, slots=True)
class Lines:
    """What passes."""

    rms_nats: Annotated[float, Figure("of log-probabilities", unit="nats", formula="3 x floor.rms_nats")]
    p99_nats: Annotated[float, Figure("of log-probabilities", unit="nats", formula="3 x floor.p99_nats")]
    margin_nats: Annotated[
        float,
        Figure(
            "by which the most likely token may be ahead of the one that was given",
            unit="nats",
            formula="6 x floor.worst_nats",
        ),
    ]
    flip_share: Annotated[
        float,
        Figure(
            "tokens that may be flips, of those that were checked, and three more",
            formula="3 x floor.flip_share",
        ),
    ]
    batch_rms_nats: Annotated[float, Figure("in batches against alone", unit="nats", formula="sqrt(2) x rms_nats")]
    batch_p99_nats: Annotated[float, Figure("in batches against alone", unit="nats", formula="sqrt(2) x p99_nats")]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The tokens of one way to run, against the reference, which is given the same tokens before each of them."""

    requests: Annotated[int, Figure("requests that were checked")]
    positions: Annotated[int, Figure("output tokens that were checked")]
    rms_nats: Annotated[
        float | None, Figure("root mean square of engine's - reference's log-probability", unit="nats", null=NO_LOGS)
    ]
    p99_nats: Annotated[float | None, Figure("99 % of the differences are at most that", unit="nats", null=NO_LOGS)]
    worst_nats: Annotated[float | None, Figure("the largest difference", unit="nats", null=NO_LOGS)]
    not_finite: Annotated[int, Figure("log-probabilities that are no finite number, which are in no figure here")]
    flips: Annotated[int, Figure("tokens that are not the reference's most likely one")]
    flips_beyond: Annotated[int, Figure("of them, those that the reference puts back by more than the margin")]
    worst_flip_nats: Annotated[float, Figure("how far the reference puts the worst one back; 0: none is", unit="nats")]


@dataclass(frozen=True, slots=True)
class BatchEffect:
    """The engine in its batches against the same engine with one request at a time, up to where their tokens part."""

    requests: Annotated[int, Figure("requests that were run both ways")]
    positions: Annotated[int, Figure("tokens up to where theirs part")]
    rms_nats: Annotated[float | None, Figure("root mean square of the differences", unit="nats", null=NO_LOGS)]
    p99_nats: Annotated[float | None, Figure("99 % of the differences are at most that", unit="nats", null=NO_LOGS)]
    parted: Annotated[int, Figure("requests whose tokens part")]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first token that is wrong beyond the lines."""

    way: Annotated[Way, Figure("run: measured; repeat: once more, with log-probabilities; alone: one at a time")]
    request: Annotated[int, Figure("as in requests.parquet")]
    position: Annotated[int, Figure("of its output, from 0")]
    nats: Annotated[float | None, Figure("how far it is off", unit="nats", null="no finite number")]
    step: Annotated[int | None, Figure("as in steps.parquet", null="not of the measured run")]
    running: Annotated[int | None, Figure("requests in that step's batch", null="not reported")]


@dataclass(frozen=True, slots=True)
class Missed:
    """A line that was not met."""

    way: Annotated[Literal["run", "repeat", "alone", "batch"], Figure("of what; batch: in batches against alone")]
    figure: Annotated[Literal["rms_nats", "p99_nats", "flips", "flips_beyond", "not_finite"], Figure("its name there")]
    value: Annotated[float, Figure("what was found")]
    line: Annotated[float, Figure("the most that would have passed")]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the tokens were held against."""

    dtype: Annotated[str, Figure("of its computation; stored weights of few bits are taken for what they stand for")]
    torch: Annotated[str, Figure("version of torch")]
    transformers: Annotated[str, Figure("version of transformers")]


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the run's tokens are the model's."""

    passed: Annotated[bool | None, Figure("every line was met", null="it could not be checked: see failure")]
    seconds: Annotated[float, Figure("what it took, after the measured run", unit="s")]
    folder: Annotated[str, Figure("its folder, inside the run's folder")]
    missed: tuple[Missed, ...] = ()
    first_divergence: Annotated[
        Divergence | None, Figure("where it goes wrong first", null="it passed, or no single token is beyond a line")
    ] = None
    reference: Annotated[Reference | None, Figure("what the tokens were held against", null=NOT_CHECKED)] = None
    floor: Annotated[Floor | None, Figure("what rounding alone does", null=NOT_CHECKED)] = None
    lines: Annotated[Lines | None, Figure("what passes", null=NOT_CHECKED)] = None
    run: Annotated[Agreement | None, Figure("the measured run's tokens", null=NOT_CHECKED)] = None
    repeat: Annotated[
        Agreement | None, Figure("the same requests once more, with log-probabilities", null=NOT_CHECKED)
    ] = None
    alone: Annotated[Agreement | None, Figure("some of the requests, one at a time", null=NOT_CHECKED)] = None
    batch: Annotated[BatchEffect | None, Figure("`repeat` against `alone`", null=NOT_CHECKED)] = None
    repeat_differs: Annotated[
        int | None, Figure("checked requests of which the repeat has other tokens", null=NOT_CHECKED)
    ] = None
    requests: Annotated[
        int | None, Figure("of the run that have output; `run.requests` of them were checked", null=NOT_CHECKED)
    ] = None
    failure: Annotated[Failure | None, Figure("why it could not be checked", null="it could")] = None
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")] = ()
