"""How to repeat a run: the command, from its spec."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.pages.parts import Command, Facts, Label, Section
from innerloop.harness.schema.engine import HostState
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.roofline import NOT_ASKED
from innerloop.harness.schema.spec import Spec


def repeat(result: Result) -> Section:
    """The command, and what else must be the same for the same figures."""
    rows = [(Label("workload hash"), result.workload_hash or "unknown")]
    if result.key:
        rows.append((Label("request key"), result.key))
    if result.environment is not None and result.environment.lock_hash:
        rows.append((Label("environment lock"), result.environment.lock_hash))
    if result.environment is not None and result.environment.commit:
        rows.append((Label("innerloop commit"), result.environment.commit))
    if result.id:
        rows.append((Label("run id"), result.id))
    note = "The same command on the same machine, engine version and workload hash repeats this run."
    return Section("repeat", "How to repeat this", [Command([command(result)], note), Facts(rows)])


def command(result: Result) -> str:
    """`innerloop run` with what was asked for, as a shell reads it."""
    host = result.environment.host if result.environment is not None else None
    found = [*words(result.spec), *placing(host), *passes(result)]
    return as_called(" ".join(["innerloop run", *map(shlex.quote, found)]))


def placing(host: HostState | None) -> Iterator[str]:
    """The CPUs that processes were pinned to."""
    for flag, cpus in (("--cpus", host.worker_cpus), ("--harness-cpus", host.harness_cpus)) if host is not None else ():
        if cpus:
            yield from (flag, ",".join(map(str, cpus)))


def passes(result: Result) -> Iterator[str]:
    """What was left out, and what followed the measured run."""
    if result.roofline is not None and result.roofline.reason == NOT_ASKED:
        yield from ("--ceilings", "off")
    if result.profiling is not None:
        yield from ("--profiler", result.profiling.kind)
    if result.verification is not None:
        yield "--verify"


def words(spec: Spec) -> Iterator[str]:
    named = {
        "--engine": spec.plugin or spec.engine,
        "--model": spec.model,
        "--workload": spec.workload,
        "--layer": spec.layer if spec.layer != "core" else None,
        "--device": spec.device,
        "--weights": spec.weights,
        "--environment": spec.environment,
        "--engine-python": spec.engine_python,
    }
    for flag, value in named.items():
        if value:
            yield from (flag, value)
    if spec.trust_remote_code:
        yield "--trust-remote-code"
    repeated: dict[str, Mapping[str, Any]] = {
        "--set": spec.settings_given,
        "--engine-arg": spec.engine_args,
        "--workload-arg": spec.workload_args,
        "--model-arg": spec.model_args,
        "--label": spec.label,
    }
    for flag, values in repeated.items():
        for name, value in values.items():
            yield from (flag, f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    if spec.slo:
        yield from ("--slo", ",".join(f"{one.name}={one.limit_s:g}s" for one in spec.slo))
    given = ",".join(f"{name}={seed}" for name, seed in spec.seeds.items() if seed)
    if given:
        yield from ("--seed", given)
