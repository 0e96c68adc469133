"""Whether an engine computed what its model says: the section of `innerloop run --verify`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.reasons import Failure

Way = Literal["run", "repeat", "alone"]
NO_LOGS = "the engine returns no log-probabilities"
NOT_CHECKED = "it could not be checked"


@dataclass(frozen=True, slots=True)
class Floor:
    """What rounding alone does: how far the reference in the engine's number formats is from the precise one, in
    log-probabilities of the run's own tokens."""

    formats: Annotated[str, Figure("the number formats, as far as they are emulated")]
    rms_nats: Annotated[float, Figure("root mean square of the differences", unit="nats")]
    p99_nats: Annotated[float, Figure("99 % of them are at most this large", unit="nats")]
    worst_nats: Annotated[float, Figure("the largest of them", unit="nats")]
    flip_share: Annotated[float, Figure("share of positions at which the two have different top choices")]


@dataclass(frozen=True, slots=True)
class Lines:
    """The limits."""

    rms_nats: Annotated[float, Figure("of log-probabilities", unit="nats", formula="3 x floor.rms_nats")]
    p99_nats: Annotated[float, Figure("of log-probabilities", unit="nats", formula="3 x floor.p99_nats")]
    margin_nats: Annotated[
        float,
        Figure(
            "how far the top choice may be ahead of the token that was returned",
            unit="nats",
            formula="6 x floor.worst_nats",
        ),
    ]
    flip_share: Annotated[
        float,
        Figure(
            "share of the checked tokens that may be flips; three more are allowed",
            formula="3 x floor.flip_share",
        ),
    ]
    batch_rms_nats: Annotated[float, Figure("batched vs. alone", unit="nats", formula="sqrt(2) x rms_nats")]
    batch_p99_nats: Annotated[float, Figure("batched vs. alone", unit="nats", formula="sqrt(2) x p99_nats")]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The tokens of one way to run, against the reference, which is given the same tokens before each of them."""

    requests: Annotated[int, Figure("requests that were checked")]
    positions: Annotated[int, Figure("output tokens that were checked")]
    rms_nats: Annotated[
        float | None,
        Figure("root mean square of the engine's log-probability - the reference's", unit="nats", null=NO_LOGS),
    ]
    p99_nats: Annotated[
        float | None, Figure("99 % of the differences are at most this large", unit="nats", null=NO_LOGS)
    ]
    worst_nats: Annotated[float | None, Figure("the largest difference", unit="nats", null=NO_LOGS)]
    not_finite: Annotated[int, Figure("log-probabilities that are not finite; no figure here includes them")]
    flips: Annotated[int, Figure("tokens that are not the reference's top choice")]
    flips_beyond: Annotated[
        int, Figure("how many of these the reference ranks below its own choice by more than the margin")
    ]
    worst_flip_nats: Annotated[
        float, Figure("how far the worst one trails the top choice; 0: there are no flips", unit="nats")
    ]


@dataclass(frozen=True, slots=True)
class BatchEffect:
    """The engine in its batches vs. the same engine with one request at a time, up to where their tokens diverge."""

    requests: Annotated[int, Figure("requests that were run both ways")]
    positions: Annotated[int, Figure("tokens up to where the two diverge")]
    rms_nats: Annotated[float | None, Figure("root mean square of the differences", unit="nats", null=NO_LOGS)]
    p99_nats: Annotated[
        float | None, Figure("99 % of the differences are at most this large", unit="nats", null=NO_LOGS)
    ]
    parted: Annotated[int, Figure("requests whose tokens diverge")]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first token that is wrong by more than the limits allow."""

    way: Annotated[Way, Figure("run: measured; repeat: again, with log-probabilities; alone: one at a time")]
    request: Annotated[int, Figure("as in requests.parquet")]
    position: Annotated[int, Figure("in its output, zero-based")]
    nats: Annotated[float | None, Figure("how far it is off", unit="nats", null="not finite")]
    step: Annotated[int | None, Figure("as in steps.parquet", null="not part of the measured run")]
    running: Annotated[int | None, Figure("requests in that step's batch", null="not reported")]


@dataclass(frozen=True, slots=True)
class Missed:
    """A limit that was not met."""

    way: Annotated[Literal["run", "repeat", "alone", "batch"], Figure("which comparison; batch: batched vs. alone")]
    figure: Annotated[Literal["rms_nats", "p99_nats", "flips", "flips_beyond", "not_finite"], Figure("its name there")]
    value: Annotated[float, Figure("what was found")]
    line: Annotated[float, Figure("the largest value that would have passed")]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the tokens were compared with."""

    dtype: Annotated[str, Figure("in which it computes; quantized weights are used with the values they represent")]
    torch: Annotated[str, Figure("version of torch")]
    transformers: Annotated[str, Figure("version of transformers")]


@dataclass(frozen=True, slots=True)
class Chosen:
    """How often the routers chose each expert for the checked sequences, counted in the reference's pass over them."""

    layers: Annotated[int, Figure("layers with routed experts")]
    positions: Annotated[int, Figure("prompts and outputs that went through each of them, excluding the last tokens")]
    shares: Annotated[
        tuple[float, ...],
        Figure(
            "share of positions for which a layer's most popular expert was chosen, its second most popular, and so on",
            formula="mean over the layers; verify/scores.npz has the counts of each, in `experts`",
        ),
    ]


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the run's tokens match the model."""

    passed: Annotated[bool | None, Figure("every limit was met", null="it could not be checked: see failure")]
    seconds: Annotated[float, Figure("how long it took, after the measured run", unit="s")]
    folder: Annotated[str, Figure("its folder, inside the run's folder")]
    missed: tuple[Missed, ...] = ()
    first_divergence: Annotated[
        Divergence | None, Figure("where it first goes wrong", null="it passed, or no single token is beyond a limit")
    ] = None
    reference: Annotated[Reference | None, Figure("what the tokens were compared with", null=NOT_CHECKED)] = None
    floor: Annotated[Floor | None, Figure("what rounding alone does", null=NOT_CHECKED)] = None
    lines: Annotated[Lines | None, Figure("the limits", null=NOT_CHECKED)] = None
    run: Annotated[Agreement | None, Figure("the measured run's tokens", null=NOT_CHECKED)] = None
    repeat: Annotated[Agreement | None, Figure("the same requests again, with log-probabilities", null=NOT_CHECKED)] = (
        None
    )
    alone: Annotated[Agreement | None, Figure("some of the requests, one at a time", null=NOT_CHECKED)] = None
    batch: Annotated[BatchEffect | None, Figure("`repeat` against `alone`", null=NOT_CHECKED)] = None
    repeat_differs: Annotated[
        int | None, Figure("checked requests for which the repeat returned different tokens", null=NOT_CHECKED)
    ] = None
    experts: Annotated[
        Chosen | None,
        Figure("for a mixture of experts: how often each expert was chosen", null="a dense model, or not checked"),
    ] = None
    requests: Annotated[
        int | None,
        Figure("requests of the run that have output; `run.requests` of them were checked", null=NOT_CHECKED),
    ] = None
    failure: Annotated[Failure | None, Figure("why it could not be checked", null="it was checked")] = None
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")] = ()
