"""What ran: the engine as it was loaded, its weights, its environment and the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure

NOT_LOADED = "the engine was not loaded"
NOT_SAID = "the engine does not say"


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine, and its settings as it resolved them."""

    name: Annotated[str | None, Figure("as in --engine")]
    layer: Annotated[str | None, Figure("the entry point that was driven: core, engine, async or http")]
    version: Annotated[str | None, Figure("of the engine's package", null=NOT_LOADED)] = None
    stepping: Annotated[
        Literal["driven", "observed"] | None,
        Figure(
            "driven: the worker calls each step; observed: the engine's own thread or process does", null=NOT_LOADED
        ),
    ] = None
    effective: Annotated[Mapping[str, Any], Figure("common settings as the engine resolved them")] = field(
        default_factory=dict
    )
    native: Annotated[Mapping[str, Any], Figure("what the common settings became in the engine's own words")] = field(
        default_factory=dict
    )
    kv_cache_tokens: Annotated[int | None, Figure("size of the KV cache", unit="tokens", null=NOT_SAID)] = None
    kv_cache_bytes: Annotated[int | None, Figure("size of the KV cache", unit="bytes", null=NOT_SAID)] = None
    weights_bytes: Annotated[int | None, Figure("size of the weights in memory", unit="bytes", null=NOT_SAID)] = None
    notes: Annotated[tuple[str, ...], Figure("what the adapter says of this load")] = ()
    unreported: Annotated[tuple[str, ...], Figure("fields of a step that this engine does not report")] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights that were loaded."""

    path: Annotated[str, Figure("their folder")]
    bytes: Annotated[int, Figure("size of the files", unit="bytes")]
    cached: Annotated[bool, Figure("they had been written before")]
    digest: Annotated[str | None, Figure("hash of the files, or of what they were made from", null="not computed")]
    seconds: Annotated[float, Figure("time to write or find them", unit="s")]
    synthetic: Annotated[bool, Figure("random weights of the model's shape, made by innerloop")]


@dataclass(frozen=True, slots=True)
class Torch:
    """The engine's PyTorch."""

    version: str | None = None
    cuda: Annotated[str | None, Figure("the CUDA that it was built for", null="it is a CPU build")] = None
    threads: Annotated[int | None, Figure("threads that an operator may use", null="unknown")] = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that this process may use."""

    index: int
    uuid: str
    name: str
    memory_bytes: Annotated[int | None, Figure("its memory", unit="bytes", null="the driver does not say")]
    compute_capability: str | None
    driver: str | None
    cuda: str | None
    mig: Annotated[str | None, Figure("the MIG slice", null="it is a whole GPU")] = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The engine's interpreter, and the machine."""

    lock_hash: Annotated[str | None, Figure("of the environment's lock", null="it was brought by the user")] = None
    python: str | None = None
    packages: Annotated[Mapping[str, str] | None, Figure("every distribution's version", null=NOT_LOADED)] = None
    torch: Torch | None = None
    interpreter: str | None = None
    registered: Annotated[str | None, Figure("name of a registered environment", null="it is innerloop's own")] = None
    sites: Annotated[tuple[str, ...] | None, Figure("folders that lend packages to it")] = None
    variables: Annotated[
        Mapping[str, str] | None, Figure("the worker's variables that can change what is measured")
    ] = None
    os: str | None = None
    os_name: str | None = None
    kernel: str | None = None
    libc: str | None = None
    arch: str | None = None
    cpu: str | None = None
    cpu_flags: tuple[str, ...] = ()
    physical_cores: Annotated[int | None, Figure("cores that this process may run on")] = None
    logical_cores: Annotated[int | None, Figure("hardware threads that this process may run on")] = None
    machine_logical_cores: Annotated[int | None, Figure("hardware threads of the machine")] = None
    cpu_quota: Annotated[float | None, Figure("CPUs' worth of time that a control group allows", null="no limit")] = (
        None
    )
    memory_bytes: Annotated[int | None, Figure("memory that this process may use", unit="bytes")] = None
    memory_available_bytes: Annotated[int | None, Figure("free of it at the start", unit="bytes")] = None
    gpus: tuple[Mapping[str, Any], ...] = ()
    host: Annotated[Mapping[str, Any] | None, Figure("the machine's state before the run", null=NOT_LOADED)] = None
    commit: Annotated[str | None, Figure("innerloop's commit", null="it is unknown")] = None
