"""What is told of a loaded vLLM, of its configuration as an object of this process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.vllm.settings import effective


def config(device: str, eager: bool, mode: str | None) -> Any:
    compiled = SimpleNamespace() if mode is None else SimpleNamespace(cudagraph_mode=SimpleNamespace(name=mode))
    return SimpleNamespace(
        model_config=SimpleNamespace(
            dtype="torch.bfloat16", quantization=None, max_model_len=1, enforce_eager=eager, seed=0
        ),
        cache_config=SimpleNamespace(num_gpu_blocks=2, block_size=16, cache_dtype="auto", enable_prefix_caching=False),
        scheduler_config=SimpleNamespace(max_num_seqs=1, max_num_batched_tokens=1, enable_chunked_prefill=True),
        parallel_config=SimpleNamespace(tensor_parallel_size=1, distributed_executor_backend="uni"),
        compilation_config=compiled,
        device_config=SimpleNamespace(device_type=device),
        speculative_config=None,
    )


@pytest.mark.parametrize(
    ("device", "eager", "mode", "graphs"),
    [
        ("cuda", False, "FULL_AND_PIECEWISE", True),
        ("cuda", False, "NONE", False),  # an attention backend without graphs, or one that the user turned off
        ("cuda", True, "NONE", False),
        ("cuda", False, None, True),  # an earlier version
        ("cpu", True, "NONE", None),
    ],
)
def test_graphs_are_there_where_some_are_captured(
    device: str, eager: bool, mode: str | None, graphs: bool | None
) -> None:
    found = effective(config(device, eager, mode))
    assert (found["cuda_graphs"], found["cuda_graph_mode"]) == (graphs, mode)
