"""The adapter contract, version 2: what the harness asks of an engine, and what an engine may answer."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

CONTRACT = 2


class UnsupportedSetting(ValueError):
    """A setting that this engine does not support; raised before the model is read."""


class WrongTokenCount(RuntimeError):
    """A request ended with a different number of tokens than requested."""


class Nothing(enum.Enum):
    """A step that returned no batch."""

    FLUSHED = "flushed"  # nothing was computed: leftovers, or no work at all (`has_work` is called then)
    FILLED = "filled"  # a batch went into the engine's pipeline, and none came out
    TIMED_OUT = "timed out"  # `until_ns` came first; the next call continues the step


@dataclass(frozen=True, slots=True)
class Request:
    """One request: every engine must produce exactly `output_tokens` tokens, greedy, end-of-sequence ignored.

    `id` is unique over the warm-up and all windows of one loaded engine: `str(id)` can be the engine's own name for it.
    """

    id: int
    prompt: list[int]
    output_tokens: int


@dataclass(slots=True)
class StepReport:
    """What one iteration of the engine did. `None` means that the engine cannot say, never zero.

    Times are `time.monotonic_ns`; a step starts when or after the last one ended. `tokens` holds (request id, token
    ids) for every request that received tokens, each request at most once; `token_ns`, where the engine knows it, the
    time at which each entry of `tokens` arrived (else that is `end_ns`). `finished` names the requests that the engine
    considers finished, so that one cut short is noticed at once.

    `prefill_tokens` and `decode_tokens` count the input positions that the step computed: prefill is every prompt
    position and every position computed again after a preemption; decode is the newest known token of a request
    that already has output. `cached_tokens` counts the prompt positions that requests scheduled for the first time in
    this step took from a prefix cache instead of computing them. `drafted_tokens` are the positions computed for
    speculative decoding beside those, `accepted_tokens` those of them that became output. `running` counts the requests
    in this step's batch, `waiting` those queued behind it, `preempted` those evicted by this step. `kv_usage` is the
    used share of the KV cache, 0 to 1. The `*_ns` phases are durations inside [start_ns, end_ns].

    `observer_ns` is what the adapter itself spent on this report: on counting the batch, on asking the engine for
    statistics. It is part of no phase.

    `log_probabilities`, where the load asked for them, belong to `tokens`: for each entry the natural logarithm of the
    probability that the model gave each of its token ids.
    """

    start_ns: int
    end_ns: int
    tokens: Sequence[tuple[int, Sequence[int]]]
    finished: Sequence[int] = ()
    token_ns: Sequence[int] | None = None
    prefill_tokens: int | None = None
    decode_tokens: int | None = None
    cached_tokens: int | None = None
    drafted_tokens: int | None = None
    accepted_tokens: int | None = None
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
    observer_ns: int = 0
    log_probabilities: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What was loaded. `effective` holds the settings as the engine resolved them, by their common names; sizes are
    those of all devices together, None where the engine does not say.

    `stepping` says who runs the engine's loop: "driven", this process's main thread calls each iteration; "observed",
    a thread or process of the engine's own, whose steps are only observed (they have no gaps).
    """

    version: str | None  # None: it does not say
    stepping: Literal["driven", "observed"] = "driven"
    effective: dict[str, Any] = field(default_factory=dict)
    native: dict[str, Any] = field(default_factory=dict)  # the engine's own arguments for the common settings
    kv_cache_tokens: int | None = None
    kv_cache_bytes: int | None = None
    weights_bytes: int | None = None
    notes: tuple[str, ...] = ()
    unreported: tuple[str, ...] = ()  # StepReport fields that this loaded engine leaves None
    client: dict[str, Any] | None = None  # of layer http: the measured capacity of its client (http/null.py)


@dataclass(frozen=True, slots=True)
class Load:
    """What to load and how. `config` is the checkpoint's config.json; `settings` holds the common settings by name,
    `None`: the engine chooses; `prepared` the folder of each of the adapter's preparations, by its name.
    `log_probabilities`: reports carry them; never in a run that measures, since they cost time."""

    checkpoint: str
    config: dict[str, Any]
    device: str  # "cpu" or "cuda"
    layer: str
    settings: dict[str, Any]
    engine_args: dict[str, Any]
    trust_remote_code: bool = False
    prepared: Mapping[str, str] = field(default_factory=dict)
    log_probabilities: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known of the environment that the engine is installed in, as data; empty where there is none yet."""

    version: str | None = None  # the engine's
    packages: Mapping[str, str] = field(default_factory=dict)  # every distribution's version, by its normalised name
    arguments: Collection[str] | None = None  # the names of the engine's own, where `Adapter.parameters` says them


@dataclass(frozen=True, slots=True)
class Preparation:
    """A folder that an engine needs for a model and that takes long to create: converted weights, a compiled library.

    The harness runs `command` in the engine's interpreter (`command` are the arguments behind it), with progress, apart
    from the load, and keeps the folder. In `command`, `{checkpoint}`, `{output}` (the folder to fill) and `{NAME}` (an
    earlier preparation's folder) stand for paths. What is in `inputs`, with the engine's version and the checkpoint,
    decides the content: it is the key under which the folder is kept. `shown` is what people read, one line per
    command that it runs; empty: the command itself.
    """

    name: str
    command: tuple[str, ...]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bare:
    """The engine's own step, for measuring the cost of observing it: what to call, who got which token ids in its
    output and who is finished, and a context in which no wrapper of the adapter's is in place."""

    step: Callable[[], Any]
    collect: Callable[[Any], tuple[Sequence[tuple[int, Sequence[int]]], Sequence[int]]]
    unwrapped: Callable[[], AbstractContextManager[None]]


class Session(ABC):
    """One loaded engine at one layer, driven from one thread."""

    info: EngineInfo

    def prepare(self, request: Request) -> Any:
        """Prepares a request for `submit`, before it is due and off the critical path. Default: the request itself."""
        return request

    @abstractmethod
    def submit(self, prepared: Any) -> None:
        """Queues a request; it may join the next step."""

    @abstractmethod
    def step(self, until_ns: int | None) -> StepReport | Nothing:
        """Runs one iteration. If it only waits for other threads or processes, it returns by `until_ns` (monotonic ns;
        None: no limit), when the next request is due or the window ends, or at once if that has passed."""

    @abstractmethod
    def has_work(self) -> bool:
        """Whether any submitted request is unfinished or any result is still in flight. Once all requests are finished
        it becomes False within some steps, in which no tokens come."""

    def reset_caches(self) -> bool:
        """Empties the prefix cache; called while nothing runs. False: the engine does not support it."""
        return False

    def evicted_blocks(self) -> int | None:
        """Blocks that the prefix cache gave up for new ones since the engine was loaded. None: it does not say."""
        return None

    def bare(self) -> Bare | None:
        """The engine's step without the adapter. None: the two cannot alternate. Only called while all running
        requests decode, and must not affect later reports."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Releases everything, in bounded time. Called once, also after a failure or while requests are unfinished.

        Python's garbage that is older than the call is not collected, not even by `gc.collect`: what refers to itself
        has to be closed, not only dropped.
        """


class Adapter(ABC):
    """What can be asked about an engine without loading it. Importable without the engine, by both interpreters."""

    name: str  # as in --engine NAME
    title: str  # as its authors spell it
    layers: tuple[str, ...] = ("core",)  # entry points offered, innermost first
    versions: tuple[str, str]  # oldest and newest that the adapter was written against, both included
    reserved: Mapping[str, str] = {}  # engine arguments that may not be given, each with what to do instead or why
    out_of_memory: tuple[str, ...] = ()  # lower-case fragments of its out-of-memory errors
    variables: tuple[str, ...] = ()  # prefixes of environment variables that change what it does: kept with a result
    parameters: str | None = None  # "vllm/engine/arg_utils.py:EngineArgs": whose fields are all the engine's arguments
    with_tokenizer: tuple[str, ...] = ()  # layers that read the tokenizer in the model's folder
    log_probabilities: tuple[str, ...] = ()  # layers whose reports can carry them

    def architectures(self, device: str) -> tuple[str, ...] | None:
        """Architectures that it supports on a device, by their names in config.json; None: whatever the engine itself
        can load."""
        return None

    @abstractmethod
    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        """The engine's own arguments for the common settings, plus the user's `engine_args`.

        Raises:
            UnsupportedSetting: this engine does not support a setting.
        """

    def unreported(self, load: Load) -> tuple[str, ...]:
        """The StepReport fields that stay None for this load, as far as known in advance."""
        return ()

    def preparation(self, load: Load) -> Sequence[Preparation]:
        """What has to be created from the model before loading, in order. Most engines need nothing."""
        return ()

    def devices(self, load: Load) -> int:
        """How many devices it uses: the first ones that are visible."""
        return int(load.settings["tensor_parallel"])

    def elsewhere(self, load: Load) -> bool:
        """Whether some of its devices may be other machines', so that this one need not have all of them."""
        return False

    def processes(self, load: Load) -> Sequence[int]:
        """Processes that are the engine's although the worker has not started them: their memory and CPU time count
        as the worker's, each with all below it."""
        return ()

    def imports(self, load: Load) -> None:  # noqa: B027
        """Imports the engine's packages, so that importing is timed separately from `open`. Python's garbage collection
        is paused meanwhile, and what is imported is frozen (`gc.freeze`) until the window."""

    @abstractmethod
    def open(self, load: Load) -> Session:
        """Loads the model; blocks until the engine can step. On failure it releases what it holds.

        Raises:
            UnsupportedSetting: this engine does not support a setting.
        """
