"""The ceilings of a device: those that were measured before, else measured now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness import environments
from innerloop.harness.ceilings import cache, measure
from innerloop.harness.ceilings.model import Ceilings, Key, MatrixRate, wanted
from innerloop.harness.cli.errors import InnerloopError, Refused, told
from innerloop.harness.environments import Environment
from innerloop.harness.machine.state import clock_limits, host_state, numa_nodes

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.spec.model import RunSpec
    from innerloop.harness.telemetry.device import DeviceTold

Say = Callable[[str], None]

DISTURBED_FOR_S = 3600.0  # after which a run measures again what was measured in such a moment
_settled: set[Key] = set()  # what this process has used: the runs of one experiment are held against the same peaks


def for_run(spec: RunSpec, environment: Environment, machine: Machine, say: Say) -> tuple[Ceilings | None, str | None]:
    """(the ceilings for a run, None) from the cache or measured now, or (None, why there are none); never raises for
    what cannot be measured: a run goes on without."""
    settings = spec.settings
    try:
        dtypes = wanted(spec.device, settings.dtype, settings.quantization)
        return ceilings(environment, machine, dtypes, say=say), None
    except (InnerloopError, OSError) as error:  # of the system: a full disk for temporary files, say
        return None, told(error)


def ceilings(
    environment: Environment,
    machine: Machine,
    dtypes: Sequence[str],
    *,
    say: Say | None = None,
    remeasure: bool = False,
) -> Ceilings:
    """The ceilings of the device that an engine's environment is for, as far as they are known measured before.

    Where the engine brings no torch, that of another engine's environment for the same kind of device measures.

    Raises:
        InnerloopError: no interpreter with torch, or the measurement failed.
    """
    environment, torch = with_torch(environment)
    key = key_of(environment.device, machine, torch)
    found = None if remeasure else cache.read(key)
    missing = list(dtypes) if found is None else found.lacks(dtypes)
    again = found is not None and key not in _settled and stale(found)
    _settled.add(key)
    if found is not None and not missing and not again:
        return found
    if say is not None:
        what = "matmul throughput" if found is not None and not again else "memory bandwidth and matmul throughput"
        say(f"measuring the {what} of {key.name}")
    if found is None or again:
        made = measure.measure(environment, machine, key, list({*dtypes, *(found.matrix if found else ())}), None)
        made = made if found is None else better(found, made)
    else:
        made = measure.measure(environment, machine, key, missing, found)
    cache.write(made)
    return made


def stale(found: Ceilings) -> bool:
    """Whether it was measured on a busy machine, and not just now."""
    age_s = (datetime.now(timezone.utc) - datetime.fromisoformat(found.measured)).total_seconds()
    return found.disturbed and not 0 <= age_s < DISTURBED_FOR_S


def better(before: Ceilings, now: Ceilings) -> Ceilings:
    """`now`, with the figures of `before` that are higher: no disturbance makes a machine faster than it is."""

    def rate(one: MatrixRate | None) -> float:
        return 0.0 if one is None else float(one["ops_per_s"] or 0.0)

    matrix = dict(now.matrix)
    for dtype, one in before.matrix.items():
        if rate(one) > rate(matrix.get(dtype)):
            matrix[dtype] = one
    return replace(now, matrix=matrix, memory=now.memory if now.bytes_per_s >= before.bytes_per_s else before.memory)


def key_of(device: str, machine: Machine, torch: str) -> Key:
    """
    Raises:
        Refused: there is no such device here.
    """
    if device == "cpu":
        return Key(
            "cpu",
            machine.cpu,
            torch,
            cores=machine.logical_cores,
            cpu_quota=machine.cpu_quota,
            physical_cores=machine.physical_cores,
            governor=host_state().governor,
            numa_nodes=numa_nodes(),
            turbo=host_state().turbo,
            clock_limits=clock_limits(),
        )
    if not machine.gpus:
        raise Refused("this machine has no usable NVIDIA GPU")
    gpu = machine.gpus[0]
    told_of = told_by(gpu.uuid)
    limit_w = None if told_of is None else told_of["power_limit_w"]  # nvidia-smi --power-limit
    return Key("cuda", gpu.name, torch, driver=gpu.driver, memory_bytes=gpu.memory_bytes, power_limit_w=limit_w)


def told_by(uuid: str) -> DeviceTold | None:
    """What the driver says of a GPU now; None where it does not answer."""
    from innerloop.harness.telemetry.device import DeviceLost
    from innerloop.harness.telemetry.nvml import NoDriver, NvmlDevice

    try:
        with closing(NvmlDevice(uuid)) as device:
            return device.facts()
    except (NoDriver, DeviceLost):
        return None


def with_torch(environment: Environment) -> tuple[Environment, str]:
    """(an environment that has torch, torch's version): the given one, else another engine's for the same device.

    Raises:
        Refused: there is none.
    """
    from innerloop.harness.profiles.engines import all_engines

    version = torch_version(environment)
    if version is not None:
        return environment, version
    for engine in all_engines():
        recipe = engine.environments.get(environment.device)
        if engine.name == environment.engine or recipe is None or recipe.lock is None:
            continue
        try:
            other = environments.existing(environments.plan(engine, environment.device))
        except Refused:
            continue
        if other is not None and (version := torch_version(other)) is not None:
            return other, version
    raise Refused(
        f"{environment.engine}'s environment has no PyTorch to measure the peaks with, and no other environment for "
        f"{environment.device} exists; create one with innerloop environments create torch"
    )


def torch_version(environment: Environment) -> str | None:
    """The version of torch that an environment's interpreter finds; None if it finds none."""
    if environment.folder is not None:  # ours: what lies in it is all that it finds
        found = [path.name for path in environment.folder.glob("lib/python*/site-packages/torch-*.dist-info")]
        return found[0].removeprefix("torch-").removesuffix(".dist-info") if found else None
    return environments.packages(Path(environment.python), dict(environment.variables)).get("torch")
