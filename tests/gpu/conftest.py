"""What needs a real GPU: skipped, with the reason, where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import environments
from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments import registered
from innerloop.harness.machine.gpus import Gpu, visible_gpus
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.telemetry.samplers import why_none
from tests import real

Run = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture(autouse=True)
def gpu() -> Gpu:
    """The first GPU that is visible here."""
    found = visible_gpus()
    if not found:
        pytest.skip(f"needs an NVIDIA GPU: {why_none()}")
    return found[0]


def how_to_start(name: str) -> list[str]:
    """The arguments that choose the engine's environment for GPUs: the first registered one, else innerloop's own."""
    for one in registered.everything():
        if (one.engine, one.device) == (name, "cuda") and registered.missing(one) is None:
            return ["--engine", name, "--environment", one.name]
    try:
        if environments.existing(environments.plan(load_engine(name), "cuda")) is not None:
            return ["--engine", name, "--device", "cuda"]
    except Refused as refusal:
        pytest.skip(str(refusal))
    pytest.skip(f"needs {name} for GPUs: harness.environments create {name}, or register one")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(engine, *arguments): the result of 8 requests of llama-tiny in bfloat16, and the run's folder."""

    def start(name: str, *arguments: str) -> tuple[dict[str, Any], Path]:
        folder = tmp_path / f"run-{name}"
        # A share of a large GPU would be a cache for which torch before 2.13 is refused (engines/torch/attention.py).
        room = "kv_cache_tokens=32768" if name == "torch" else "kv_memory_fraction=0.3"
        small = ["--model", "llama-tiny", "--set", "dtype=bfloat16", "--set", room]
        small += ["--workload", "quick", "--workload-arg", "load.requests=8"]
        done = real.run(*how_to_start(name), *small, *arguments, "--out", folder, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((folder / "result.json").read_text()), folder

    return start
