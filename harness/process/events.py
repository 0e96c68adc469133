"""What a worker says on its control channel, a line of JSON each (`engines.worker.control`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from typing_extensions import Required


class Account(TypedDict, total=False):
    """What the worker has told of itself so far, and of its engine: what it has not come to is not there.

    not_preloaded: of LD_PRELOAD. info: the engine's `EngineInfo`, of which a plug-in decides what it holds;
    versions: of Python, torch and packages. Seconds are of parts of its start, bytes of resident memory at the ends
    of phases.
    """

    interpreter_s: float
    not_preloaded: Sequence[str]
    import_s: float
    load_s: float
    info: Mapping[str, Any]
    versions: Mapping[str, Any]
    warmup: Mapping[str, Any]
    warmup_shapes: Sequence[str]
    step_pairs: Sequence[Sequence[int]]
    clock_ns_per_call: float
    caches_reset: bool | None
    spread_over_s: float | None
    memory_bytes: Mapping[str, int | None]
    process_cpu_s: float
    compiled_in_window: Mapping[str, int] | None
    evicted_blocks: int | None
    interruptions: Sequence[Sequence[Any]]  # what (garbage, capture), monotonic ns at which it began, ns or None


class Event(Account, total=False):
    """One message; `event` says which. `time_ns`: monotonic, of its sending. The last, `exit`, is the guard's."""

    event: Required[str]
    time_ns: int
    pid: int  # started
    phase: str  # phase
    window: int  # phase: from here on all is about this one, counted from 0
    cause: str  # error
    message: str
    traceback: Sequence[str]
    text: str  # note
    round: Round  # round
    open: bool  # capture
    step: int
    code: int  # exit
    leftover: int
    name: str  # checking, checked
    wrong: Sequence[str]


OF_A_WINDOW = (  # what each of the windows of one engine has of its own
    "warmup", "warmup_shapes", "step_pairs", "clock_ns_per_call", "caches_reset", "spread_over_s",
    "process_cpu_s", "compiled_in_window", "evicted_blocks", "interruptions", "memory_bytes",
)  # fmt: skip


class Round(TypedDict):
    """A round of the warm-up that is over. deviation: of the last ones' speeds from their median, None where there are
    too few; tolerance: what it may be. left_s: in which another round may begin."""

    rounds: int
    max_rounds: int
    deviation: float | None
    tolerance: float
    left_s: float


class Capture(TypedDict):
    """A window of a profiling pass opened before a step, or closed before it."""

    open: bool
    step: int
    time_ns: int


def account(event: Event) -> Account:
    """What a message says of the worker itself."""
    return cast(Account, {name: value for name, value in event.items() if name in Account.__annotations__})


def of_all_windows(told: Account) -> Account:
    """What a worker has told that holds for all its windows."""
    return cast(Account, {name: value for name, value in told.items() if name not in OF_A_WINDOW})
