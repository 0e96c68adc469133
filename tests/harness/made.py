"""Results for tests of comparisons: runs of 8 requests whose figures are made other ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop.harness.schema.engine import Environment, HostState
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.result import Result
from tests.harness.filled import filled

HOST: dict[str, Any] = {"boot_id": "one start", "governor": "performance", "affinity": (0, 1)}
MACHINE: dict[str, Any] = {"arch": "x86_64", "cpu": "a CPU", "cpu_flags": ("avx2",), "machine_logical_cores": 2}
Make = Callable[..., Path]
SPEEDS = (1.000, 1.002, 0.998, 1.000)  # of the same thing, by block


def environment(**changes: Any) -> Environment:
    whole: dict[str, Any] = {"host": filled(HostState, HOST), "gpus": (), **changes}
    return replace(filled(Environment, {**MACHINE, "packages": {}}), **whole)


def faster(result: Result, by: float = 1.1) -> Result:
    speed = result.throughput.output_tokens_per_s
    assert speed is not None
    return replace(result, throughput=replace(result.throughput, output_tokens_per_s=by * speed))


def suspect(result: Result) -> Result:
    reason = Reason("cpu_stolen", "suspect", ("throughput",), "the hypervisor took 9 %", None)
    return replace(result, status="suspect", reasons=(reason,))
