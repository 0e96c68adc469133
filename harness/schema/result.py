"""result.json: one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.caches import Caches
from innerloop.harness.schema.common import Level, TokenTotals
from innerloop.harness.schema.engine import Checkpoint, Engine, Environment
from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.goodput import Goodput
from innerloop.harness.schema.load import ClassCount, ClassLatency, Replayed
from innerloop.harness.schema.profiling import Kernels, Profiling
from innerloop.harness.schema.reasons import Check, Failure, Reason
from innerloop.harness.schema.roofline import Roofline
from innerloop.harness.schema.spec import Spec, Status
from innerloop.harness.schema.stability import Stability
from innerloop.harness.schema.startup import Memory, Startup, Warmup
from innerloop.harness.schema.steps import Client, Overhead, StepSeconds, StepShare, TimeShare
from innerloop.harness.schema.telemetry import Telemetry
from innerloop.harness.schema.verification import Verification
from innerloop.harness.schema.window import Counts, Latency, OverTime, Steady, Throughput, Window


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests that were made of the workload's profile."""

    requests: Annotated[int, Figure("requests in the workload")]
    users: Annotated[int | None, Figure("concurrent users", null="the workload is not a closed loop")]
    duration_s: Annotated[
        float | None, Figure("of the window", unit="s", null="the window ends when all requests have finished")
    ]
    prompt_tokens: TokenTotals
    output_tokens: TokenTotals
    sessions: Annotated[int | None, Figure("conversations", null="it has none")] = None
    shared_share: Annotated[
        float | None,
        Figure("prompt tokens in a prefix shared with an earlier request: the hit share of an infinite prefix cache",
               null="an older innerloop wrote it"),
    ] = None  # fmt: skip
    classes: Annotated[tuple[ClassCount, ...] | None, Figure("requests by class", null="there is one class")] = None
    replayed: Annotated[Replayed | None, Figure("the trace that was replayed", null="no trace was replayed")] = None


@dataclass(frozen=True, slots=True)
class Process:
    """The process of a run that was one of several windows of one loaded engine."""

    id: Annotated[str, Figure("id of the run in the process's first window; runs with the same id share a process")]
    window: Annotated[int, Figure("number of this window, from 1; all windows of a process share one load time")]
    windows: Annotated[int, Figure("number of windows planned")]


@dataclass(frozen=True, slots=True)
class ExperimentPlace:
    """A run's place in an experiment."""

    id: Annotated[str, Figure("id of the experiment")]
    design: Annotated[str, Figure("kind of experiment: compare, layers, trials ...")]
    cell: Annotated[str, Figure("its cell: a side, a layer, a point of the grid")]
    block: Annotated[int, Figure("from 1; runs of one block ran back to back")]


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    created: Annotated[str, Figure("when the run ended, UTC in ISO 8601")]
    status: Annotated[Status, Figure("suspect: a reason that affects figures; failed, interrupted: see failure")]
    reasons: tuple[Reason, ...]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")]
    spec: Spec
    workload: Annotated[
        Workload | None,
        Figure(
            "the requests that were made from the workload's profile",
            null="the run was refused or died before they were made",
        ),
    ]
    workload_hash: Annotated[
        str | None, Figure("of all token ids, lengths and due times", null="the run died before they were made")
    ]
    engine: Engine
    checkpoint: Annotated[
        Checkpoint | None, Figure("the weights that were loaded", null="no weights were loaded: the server has its own")
    ]
    environment: Annotated[
        Environment | None, Figure("the engine's interpreter, and the machine", null="the run died before it was known")
    ]
    startup_s: Startup
    warmup: Annotated[
        Warmup | None, Figure("the rounds of warm-up before the window", null="the run did not get that far")
    ]
    window: Window
    counts: Counts
    throughput: Throughput
    latency_s: Latency
    step_s: StepSeconds
    step_share: StepShare
    time_share: TimeShare
    batch: Annotated[Level, Figure("requests in a step's batch")]
    waiting: Annotated[Level, Figure("requests waiting outside the batch")]
    kv_usage: Annotated[Level, Figure("share of the KV cache in use")]
    steady: Steady
    over_time: Annotated[OverTime | None, Figure("the window cut into equal bins", null="nothing was measured")]
    overhead: Overhead
    memory_bytes: Memory
    telemetry: Telemetry
    failure: Annotated[Failure | None, Figure("why the run did not finish", null="it finished")]
    caches: Annotated[Caches | None, Figure("prefix cache and compilations", null="an older innerloop wrote it")] = None
    client: Annotated[
        Client | None,
        Figure("the client of the http layer", null="another layer was driven, or a note says why it is unknown"),
    ] = None
    roofline: Annotated[
        Roofline | None, Figure("how close steps came to the machine's peaks", null="an older innerloop wrote it")
    ] = None
    profiling: Annotated[Profiling | None, Figure("the profiling pass", null="there was no profiling pass")] = None
    kernels: Annotated[Kernels | None, Figure("what the profiler saw", null="the profiler saw no kernels")] = None
    checks: Annotated[tuple[Check, ...], Figure("inconsistencies in the trace")] = ()
    stability: Annotated[
        Stability | None, Figure("drift and backlog during the window", null="an older innerloop wrote it")
    ] = None
    classes: Annotated[
        tuple[ClassLatency, ...] | None, Figure("latencies by class of requests", null="there is one class")
    ] = None
    goodput: Annotated[Goodput | None, Figure("requests within latency limits", null="no limits were given")] = None
    kind: Annotated[Literal["run"], Figure("what this document is")] = "run"
    id: Annotated[str | None, Figure("of this run: UUID version 7", null="an older innerloop wrote it")] = None
    key: Annotated[
        str | None,
        Figure(
            "hash of the resolved options: runs with the same key measure the same thing",
            null="an older innerloop wrote it",
        ),
    ] = None
    process: Annotated[Process | None, Figure("its process", null="the run had its own process")] = None
    experiment: Annotated[
        ExperimentPlace | None, Figure("its experiment", null="the run is not part of an experiment")
    ] = None
    verification: Annotated[
        Verification | None, Figure("whether its output matches the model", null="--verify was not given")
    ] = None

    @property
    def dtype(self) -> str | None:
        """The model's number format: as the engine resolved it, else as it was asked for."""
        found = self.engine.effective.get("dtype") or self.spec.settings.get("dtype")
        return found if isinstance(found, str) else None
