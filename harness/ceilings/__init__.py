"""The two ceilings of a device: what its memory moves and what its matrix units compute, measured and kept.

They are measured by torch in an engine's interpreter, in a process of its own behind the guard, and kept in the cache
folder by device, driver and version of torch. docs/metrics.md says how they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.errors import InnerloopError, Refused

if TYPE_CHECKING:
    from innerloop.harness.environments import Environment
    from innerloop.harness.machine import Machine
    from innerloop.harness.spec.resolve import RunSpec

Say = Callable[[str], None]

DISTURBED = 0.1  # of the cores: where others used more of them meanwhile, the machine can do more than was measured
DISTURBED_FOR_S = 3600.0  # after which a run measures again what was measured in such a moment
DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn")  # torch's names
QUANTIZED_DTYPE = {"fp8": "float8_e4m3fn"}  # what matrices of such weights are multiplied in, where the device can


@dataclass(frozen=True, slots=True)
class Key:
    """What a measurement is good for. `cores` and `cpu_quota` are of a CPU, `driver` and `memory_bytes` of a GPU."""

    device: str  # "cpu" or "cuda"
    name: str
    torch: str
    driver: str | None = None
    memory_bytes: int | None = None  # tells a MIG slice from its GPU
    cores: int | None = None
    cpu_quota: float | None = None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What was measured on one device. `memory` and each of `matrix` as `engines.ceilings` gives them.

    measured: UTC, ISO 8601. other_cores: CPU cores' worth of work that other processes did meanwhile, None if unknown.
    clocks: the highest SM clock (MHz) and power (W) seen meanwhile, None where no device could be asked.
    """

    key: Key
    memory: dict[str, Any]
    matrix: dict[str, dict[str, Any]]
    measured: str
    threads: int | None = None
    tf32: bool | None = None
    other_cores: float | None = None
    clocks: dict[str, float | None] | None = None

    @property
    def bytes_per_s(self) -> float:
        """The larger of copying and reading."""
        return float(max(self.memory["copy_bytes_per_s"], self.memory["read_bytes_per_s"]))

    def ops_per_s(self, dtype: str) -> float | None:
        """The matrix rate of a number format, or of a wider one that does better: numbers can always be widened, and
        engines do that where a device has no units for the narrow format. None: neither was measured."""
        wider = {"float8_e4m3fn": ("bfloat16", "float16", "float32"), "float32": ()}.get(dtype, ("float32",))
        rates = [(self.matrix.get(name) or {}).get("ops_per_s") for name in (dtype, *wider)]
        return max((float(rate) for rate in rates if rate), default=None)

    @property
    def disturbed(self) -> bool:
        """Whether others used the CPU so much that its ceilings are probably higher; a GPU's don't suffer by that."""
        cores = self.key.cores
        return self.other_cores is not None and cores is not None and self.other_cores > DISTURBED * cores

    def lacks(self, dtypes: Sequence[str]) -> list[str]:
        return [dtype for dtype in dtypes if dtype not in self.matrix]

    def describe(self) -> dict[str, Any]:
        """Plain data: what was measured, and the ceilings that follow."""
        rates = {dtype: self.ops_per_s(dtype) for dtype in self.matrix}
        return {**asdict(self), "bytes_per_s": self.bytes_per_s, "ops_per_s": rates}


def wanted(device: str, dtype: str, quantization: str | None) -> list[str]:
    """The number formats whose rates a run needs: those of its matrices, and float32 on a CPU, which may have no units
    for narrower ones."""
    formats = [dtype]
    if quantization in QUANTIZED_DTYPE and device == "cuda":
        formats.append(QUANTIZED_DTYPE[quantization])
    if device == "cpu" and dtype != "float32":
        formats.append("float32")
    return formats


def for_run(spec: RunSpec, environment: Environment, machine: Machine, say: Say) -> tuple[Ceilings | None, str | None]:
    """(the ceilings for a run, None) from the cache or measured now, or (None, why there are none); never raises for
    what cannot be measured: a run goes on without."""
    settings = spec.settings
    try:
        dtypes = wanted(spec.device, settings.dtype, settings.quantization)
        return ceilings(environment, machine, dtypes, say=say), None
    except InnerloopError as error:
        return None, str(error)


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
    from innerloop.harness.ceilings import cache, measure

    environment, torch = with_torch(environment)
    key = key_of(environment.device, machine, torch)
    found = None if remeasure else cache.read(key)
    missing = list(dtypes) if found is None else found.lacks(dtypes)
    again = found is not None and stale(found)
    if found is not None and not missing and not again:
        return found
    if say is not None:
        what = "matrix rate" if found is not None and not again else "memory bandwidth and matrix rate"
        say(f"measuring {what} of {key.name}, once for this device")
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

    def rate(one: dict[str, Any]) -> float:
        return float(one["ops_per_s"] or 0.0)

    matrix = dict(now.matrix)
    for dtype, one in before.matrix.items():
        if rate(one) > rate(matrix.get(dtype, {"ops_per_s": None})):
            matrix[dtype] = one
    return replace(now, matrix=matrix, memory=now.memory if now.bytes_per_s >= before.bytes_per_s else before.memory)


def key_of(device: str, machine: Machine, torch: str) -> Key:
    """
    Raises:
        Refused: there is no such device here.
    """
    if device == "cpu":
        return Key("cpu", machine.cpu, torch, cores=machine.logical_cores, cpu_quota=machine.cpu_quota)
    if not machine.gpus:
        raise Refused("this machine has no NVIDIA GPU that can be used")
    gpu = machine.gpus[0]
    return Key("cuda", gpu.name, torch, driver=gpu.driver, memory_bytes=gpu.memory_bytes)


def with_torch(environment: Environment) -> tuple[Environment, str]:
    """(an environment that has torch, torch's version): the given one, else another engine's for the same device.

    Raises:
        Refused: there is none.
    """
    from innerloop.harness import environments
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
        f"{environment.engine} brings no torch to measure the ceilings with, and no other environment for "
        f"{environment.device} is there (python -m harness.environments create torch)"
    )


def torch_version(environment: Environment) -> str | None:
    """The version of torch that an environment's interpreter finds; None if it finds none."""
    from innerloop.harness import environments

    if environment.folder is not None:  # ours: what lies in it is all that it finds
        found = [path.name for path in environment.folder.glob("lib/python*/site-packages/torch-*.dist-info")]
        return found[0].removeprefix("torch-").removesuffix(".dist-info") if found else None
    return environments.packages(Path(environment.python), dict(environment.variables)).get("torch")


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m harness.ceilings`; returns its exit code."""
    from innerloop.harness.ceilings.commands import main

    return main(argv)
