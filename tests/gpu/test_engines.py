"""Real engines on a real GPU."""

from __future__ import annotations

import pytest

from benchmarks.gpu.agree import alike, outputs, same_from_the_start
from tests.gpu.conftest import Run

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("engine", ["vllm", "lmdeploy", "torch"])
def test_every_request_gets_exactly_its_tokens_and_the_device_is_seen(run: Run, engine: str) -> None:
    result, folder = run(engine, "--keep-token-ids")
    assert result["counts"]["finished"] == 8
    lengths = [len(ids) for ids in outputs(folder).values()]
    assert sum(lengths) == result["counts"]["output_tokens"]
    [device] = result["telemetry"]["devices"]
    assert device["energy_j"]
    assert device["memory_bytes"]["peak"] > 0


def test_vllm_and_torch_begin_alike(run: Run) -> None:
    """bfloat16 kernels round differently, so that requests part sooner or later; another model would agree in none."""
    one, other = (outputs(run(engine, "--keep-token-ids")[1]) for engine in ("vllm", "torch"))
    assert alike([same_from_the_start(one[index], other[index]) for index in one])


def test_the_kernel_pass_sees_the_devices_kernels(run: Run) -> None:
    result, _ = run("vllm", "--profile", "kernels")
    kernels = result["kernels"]
    assert kernels is not None
    assert 0 < kernels["idle_share"]["all"] < 1
    assert kernels["classes"]
    assert kernels["top"]
