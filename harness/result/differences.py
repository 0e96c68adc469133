"""What was not alike in two runs: what was asked for, what ran, and the machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from innerloop.harness.schema.compared_run import ComparedRun
from innerloop.harness.schema.comparison import Difference
from innerloop.harness.schema.engine import Environment

ASKED = (
    "engine", "layer", "model", "workload", "device", "engine_args", "seeds", "weights", "plugin", "model_args",
    "workload_args", "trust_remote_code",
)  # fmt: skip
PATHS = ("weights", "plugin")  # of which the last part is what was asked
SYSTEM = (
    "python",
    "packages",
    "variables",
    "os_name",
    "kernel",
    "libc",
    "cpu_quota",
    "physical_cores",
    "logical_cores",
)
STATE = (
    "governor", "turbo", "clock_limits", "smt", "huge_pages", "affinity", "niceness", "worker_cpus", "harness_cpus",
)  # fmt: skip
MACHINE = ("arch", "cpu", "cpu_flags", "machine_logical_cores")


def differences(a: ComparedRun, b: ComparedRun) -> tuple[Difference, ...]:
    """What was asked for first, then what the engine made of it, then what is around it; nothing that is alike."""
    one, two = (dict(_facts(result)) for result in (a, b))
    names = [*one, *(name for name in two if name not in one)]
    return tuple(Difference(name, one.get(name), two.get(name)) for name in names if one.get(name) != two.get(name))


def _facts(result: ComparedRun) -> Iterator[tuple[str, Any]]:
    for name in ASKED:
        value = getattr(result.spec, name)
        yield from _dotted(name, PurePath(value).name if name in PATHS and value else value)
    yield "engine version", result.engine.version
    yield from _dotted("settings", result.engine.effective or result.spec.settings)
    yield "kv_cache_tokens", result.engine.kv_cache_tokens
    yield "innerloop", result.innerloop_version
    environment = result.environment
    if environment is None:
        return
    for name in SYSTEM:
        yield from _dotted(name, getattr(environment, name))
    for name in STATE if environment.host is not None else ():
        yield name, getattr(environment.host, name)
    yield "GPU driver", _together(gpu.driver for gpu in environment.gpus)
    yield "CUDA of the driver", _together(gpu.cuda for gpu in environment.gpus)
    yield "GPU memory, bytes", _together(str(gpu.memory_bytes or "unknown") for gpu in environment.gpus)
    yield "GPU power limit, W", _together(None if one is None else f"{one:g}" for one in result.power_limits_w)
    yield "innerloop commit", environment.commit


def _together(values: Iterable[str | None]) -> str | None:
    """What several devices have: each value once."""
    return ", ".join(dict.fromkeys(value for value in values if value is not None)) or None


def _dotted(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, inner in value.items():
        yield from _dotted(f"{name}.{key}", inner)


def other_machine(a: ComparedRun, b: ComparedRun) -> str | None:
    """In which way the machines are not the same kind, or that it is unknown; None: nothing says so."""
    one, two = a.environment, b.environment
    if one is None or two is None:
        return f"the machine of {'A' if one is None else 'B'} is unknown"
    for name in MACHINE:
        if getattr(one, name) != getattr(two, name):
            return (
                f"the machines differ: {name} is {_said(getattr(one, name))} for A, {_said(getattr(two, name))} for B"
            )
    if a.spec.device == "cuda" and _gpus(one) != _gpus(two):
        return f"the GPUs differ: {_said(_gpus(one))} for A, {_said(_gpus(two))} for B"
    return None


def same_boot(a: ComparedRun, b: ComparedRun) -> bool:
    """Whether both ran on one machine that was not started anew between them."""
    boots = [run.environment.host.boot_id for run in (a, b) if run.environment and run.environment.host]
    return len(boots) == 2 and boots[0] is not None and boots[0] == boots[1]


def _gpus(environment: Environment) -> list[str]:
    return [f"{gpu.name} {gpu.uuid}" for gpu in environment.gpus]


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
