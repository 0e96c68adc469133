"""The adapter contract: what the loop may ask of an engine, and what an engine may answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


class UnsupportedSetting(ValueError):
    """A setting that this engine cannot honour; raised by `Engine.load` before the model is read."""


class WrongTokenCount(RuntimeError):
    """A request ended with another number of tokens than was asked for."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: every engine must produce exactly `output_tokens` tokens, greedy, end-of-sequence ignored."""

    index: int
    prompt: list[int]
    output_tokens: int


@dataclass(slots=True)
class StepReport:
    """What one iteration of the engine did. `None` means that the engine cannot say, never zero.

    Times are `time.monotonic_ns`. `tokens` holds (request index, token ids) for every request that received tokens.
    `prefill_tokens` and `decode_tokens` count the input positions that the step computed: prefill is every prompt
    position and every position computed again after a preemption; decode is the newest known token of a request
    that already has output. The `*_ns` phases are durations inside [start_ns, end_ns]. `running` counts the
    requests in this step's batch, `waiting` those queued behind it, `preempted` those thrown out by this step.
    `kv_usage` is the used share of the KV cache, 0 to 1. `finished` names the requests that the engine holds for
    done, so that one cut short is found at once; a request appears at most once in `tokens`.
    """

    start_ns: int
    end_ns: int
    tokens: Sequence[tuple[int, Sequence[int]]]
    finished: Sequence[int] = ()
    prefill_tokens: int | None = None
    decode_tokens: int | None = None
    running: int | None = None
    waiting: int | None = None
    preempted: int | None = None
    kv_usage: float | None = None
    schedule_ns: int | None = None
    prepare_ns: int | None = None
    execute_ns: int | None = None
    wait_ns: int | None = None
    sample_ns: int | None = None
    update_ns: int | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What was loaded. `effective` holds the settings as the engine resolved them, by their common names; sizes are
    those of all devices together, None where the engine does not say."""

    version: str
    effective: dict[str, Any] = field(default_factory=dict)
    native: dict[str, Any] = field(default_factory=dict)  # what the common settings became in the engine's own words
    kv_cache_tokens: int | None = None
    kv_cache_bytes: int | None = None
    weights_bytes: int | None = None
    notes: tuple[str, ...] = ()
    client: dict[str, Any] | None = None  # of layer http: what its client was measured to be able to (http/null.py)


@dataclass(frozen=True, slots=True)
class Load:
    """What to load and how. `config` is the checkpoint's config.json; `settings` holds the common settings by name,
    `None` = the engine's own choice."""

    checkpoint: str
    config: dict[str, Any]
    device: str  # "cpu" or "cuda"
    layer: str
    settings: dict[str, Any]
    engine_args: dict[str, Any]
    trust_remote_code: bool = False


class Engine(ABC):
    """One inference engine, driven from the outside one step at a time, in one thread."""

    name: ClassVar[str]
    layers: ClassVar[tuple[str, ...]]  # entry points offered, innermost first
    cannot_report: ClassVar[tuple[str, ...]] = ()  # StepReport fields that it leaves None
    layer: str = "core"  # set before `imports`: a layer whose engine is another process's needs none of it in this one
    # Set by the loop before each step: when the next request is due or the window ends, in absolute monotonic ns. An
    # engine whose step only waits for what others compute returns None by then, so that a due request is sent on time.
    due_ns: int | None = None

    @abstractmethod
    def imports(self) -> str:
        """Imports the engine's packages and returns its version; apart from `load` so that each is timed."""

    @abstractmethod
    def load(self, load: Load) -> EngineInfo:
        """Blocks until the engine can step.

        Raises:
            UnsupportedSetting: a setting that this engine cannot honour.
        """

    @abstractmethod
    def submit(self, request: Request) -> None:
        """Queues a request; it may join the next step."""

    @abstractmethod
    def step(self) -> StepReport | None:
        """Runs one iteration. `None`: nothing was computed (a flush, a pipeline only filled, or `due_ns` came)."""

    @abstractmethod
    def has_work(self) -> bool:
        """Whether any submitted request is unfinished or any result is still in flight."""

    @abstractmethod
    def close(self) -> None:
        """Releases everything. Called once, also after a failure."""
