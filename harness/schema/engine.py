"""What ran: the engine as it was loaded, its weights, its environment and the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure

SYSTEM_SILENT = "the system does not report it"
NOT_LOADED = "the engine was not loaded"
NOT_SAID = "the engine does not report it"


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine, and its settings as it resolved them."""

    name: Annotated[str | None, Figure("as in --engine", null="an older innerloop wrote it")]
    layer: Annotated[
        str | None,
        Figure("the entry point that was driven: core, engine, async or http", null="an older innerloop wrote it"),
    ]
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
    native: Annotated[Mapping[str, Any], Figure("the engine arguments that the common settings map to")] = field(
        default_factory=dict
    )
    kv_cache_tokens: Annotated[int | None, Figure("size of the KV cache", unit="tokens", null=NOT_SAID)] = None
    kv_cache_bytes: Annotated[int | None, Figure("size of the KV cache", unit="bytes", null=NOT_SAID)] = None
    weights_bytes: Annotated[int | None, Figure("size of the weights in memory", unit="bytes", null=NOT_SAID)] = None
    notes: Annotated[tuple[str, ...], Figure("the adapter's notes on this load")] = ()
    unreported: Annotated[tuple[str, ...], Figure("fields of a step that this engine does not report")] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights that were loaded."""

    path: Annotated[str, Figure("folder of the weights")]
    bytes: Annotated[int, Figure("size of the files", unit="bytes")]
    cached: Annotated[bool, Figure("the files already existed")]
    digest: Annotated[
        str | None, Figure("hash of the files, or of what they were made from", null="the hash was not computed")
    ]
    seconds: Annotated[float, Figure("time to write or find them", unit="s")]
    synthetic: Annotated[bool, Figure("random weights of the model's shape, made by innerloop")]


@dataclass(frozen=True, slots=True)
class Torch:
    """The engine's PyTorch."""

    version: Annotated[str | None, Figure("of the package torch", null="it is not installed there")] = None
    cuda: Annotated[str | None, Figure("the CUDA that it was built for", null="torch is a CPU build")] = None
    threads: Annotated[int | None, Figure("threads that an operator may use", null="it is unknown")] = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that this process may use."""

    index: Annotated[int, Figure("its number, in the order of PCI bus ids")]
    uuid: Annotated[str, Figure("NVML's UUID")]
    name: Annotated[str, Figure("the product's name")]
    memory_bytes: Annotated[int | None, Figure("its memory", unit="bytes", null="the driver does not report it")]
    compute_capability: Annotated[str | None, Figure("such as 9.0", null="it is not reported")]
    driver: Annotated[str | None, Figure("the driver's version", null="it is not reported")]
    cuda: Annotated[
        str | None, Figure("the newest version of CUDA that the driver supports", null="it is not reported")
    ]
    numa_node: Annotated[int | None, Figure("NUMA node of the host memory closest to it", null=SYSTEM_SILENT)] = None


@dataclass(frozen=True, slots=True)
class HostState:
    """The state of the machine just before the worker started."""

    governor: Annotated[str | None, Figure("distinct frequency governors of the CPUs", null=SYSTEM_SILENT)]
    turbo: Annotated[bool | None, Figure("clocks above the nominal frequency are allowed", null=SYSTEM_SILENT)]
    smt: Annotated[bool | None, Figure("a core runs several threads (SMT)", null=SYSTEM_SILENT)]
    frequency_mhz: Annotated[
        tuple[float, float] | None, Figure("lowest and highest frequency of the CPUs", "MHz", null=SYSTEM_SILENT)
    ]
    isolated_cpus: Annotated[str | None, Figure("CPUs isolated from the scheduler", null="no CPU is isolated")]
    affinity: Annotated[tuple[int, ...], Figure("CPUs that the harness may run on")]
    worker_cpus: Annotated[tuple[int, ...] | None, Figure("--cpus", null="--cpus was not given")]
    harness_cpus: Annotated[tuple[int, ...] | None, Figure("--harness-cpus", null="--harness-cpus was not given")]
    load_average: Annotated[
        tuple[float, float, float] | None, Figure("over the last 1, 5 and 15 minutes", null=SYSTEM_SILENT)
    ]
    boot_id: Annotated[str | None, Figure("id of this boot of the system", null=SYSTEM_SILENT)]
    niceness: Annotated[
        int | None,
        Figure(
            "of innerloop and an engine that it starts: -20 gets most CPU time, 19 least",
            null="an older innerloop wrote it",
        ),
    ] = None
    clock_limits: Annotated[
        str | None,
        Figure(
            "highest clocks that the CPUs may have, in MHz: `4x3800 8x2600`, cores times clock",
            null=f"{SYSTEM_SILENT}, or an older innerloop wrote it",
        ),
    ] = None
    huge_pages: Annotated[
        str | None,
        Figure(
            "who gets transparent huge pages: `always`, `madvise`, `never`",
            null=f"{SYSTEM_SILENT}, or an older innerloop wrote it",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The engine's interpreter, and the machine."""

    lock_hash: Annotated[str | None, Figure("of the environment's lock", null="the environment is the user's own")] = (
        None
    )
    python: Annotated[str | None, Figure("version of the engine's Python", null="the engine was not loaded")] = None
    packages: Annotated[Mapping[str, str] | None, Figure("every distribution's version", null=NOT_LOADED)] = None
    torch: Annotated[
        Torch | None, Figure("the package torch, as the worker found it", null="it is not installed there")
    ] = None
    interpreter: Annotated[str | None, Figure("path of the engine's Python", null="it is unknown")] = None
    registered: Annotated[
        str | None, Figure("name of a registered environment", null="the environment is innerloop's own")
    ] = None
    sites: Annotated[
        tuple[str, ...] | None, Figure("package folders on its PYTHONPATH", null="the environment is not registered")
    ] = None
    variables: Annotated[
        Mapping[str, str] | None,
        Figure("the worker's variables that can change what is measured", null="an older innerloop wrote it"),
    ] = None
    os: Annotated[str | None, Figure("kind of operating system, such as Linux", null="it is unknown")] = None
    os_name: Annotated[str | None, Figure("name and version of the distribution", null="it is unknown")] = None
    kernel: Annotated[str | None, Figure("the kernel's release", null="it is unknown")] = None
    libc: Annotated[str | None, Figure("the C library and its version", null="it is unknown")] = None
    arch: Annotated[str | None, Figure("the processor's architecture, such as x86_64", null="it is unknown")] = None
    cpu: Annotated[str | None, Figure("the processor's name", null="it is unknown")] = None
    cpu_flags: Annotated[tuple[str, ...], Figure("instruction sets that matter for speed")] = ()
    physical_cores: Annotated[int | None, Figure("cores that this process may run on", null="it is unknown")] = None
    logical_cores: Annotated[
        int | None, Figure("hardware threads that this process may run on", null="it is unknown")
    ] = None
    machine_logical_cores: Annotated[int | None, Figure("hardware threads of the machine", null="it is unknown")] = None
    cpu_quota: Annotated[
        float | None, Figure("CPU time limit of the control group, in CPUs", null="there is no limit")
    ] = None
    memory_bytes: Annotated[
        int | None, Figure("memory that this process may use", unit="bytes", null="it is unknown")
    ] = None
    memory_available_bytes: Annotated[
        int | None, Figure("free memory at the start", unit="bytes", null="it is unknown")
    ] = None
    gpus: tuple[Gpu, ...] = ()
    host: Annotated[HostState | None, Figure("the machine's state", null="the worker was not started")] = None
    commit: Annotated[str | None, Figure("innerloop's commit", null="it is unknown")] = None
