"""A real run of SGLang on the CPU, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from innerloop.engines.sglang import cpu_platform
from tests.real import FEW_LAYERS, ONE_MORE, run

pytestmark = pytest.mark.real
WORKLOAD = """\
prompt: {tokens: 24}
output: {tokens: 8}
load: {kind: offline, requests: 8}
warmup: {requests: 2, output_tokens: 4, max_rounds: 1}
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The command as it ended, and its result."""
    folder = tmp_path_factory.mktemp("sglang")
    (folder / "short.yaml").write_text(WORKLOAD)
    done = run(
        "--engine", "sglang", "--device", "cpu", "--model", "llama-tiny", *FEW_LAYERS, "--workload",
        folder / "short.yaml", "--ceilings", "off", "--keep-token-ids", "--out", folder / "run", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, json.loads((folder / "run" / "result.json").read_text())


@pytest.fixture(scope="module")
def served(ended, tmp_path_factory):
    """The result of the same requests through SGLang's own server, and its folder."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "short.yaml").write_text(WORKLOAD)
    done = run(
        "--engine", "sglang", "--layer", "http", "--device", "cpu", "--model", "llama-tiny", *FEW_LAYERS,
        "--workload", folder / "short.yaml", "--ceilings", "off", "--keep-token-ids", "--out", folder / "run",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "run" / "result.json").read_text()), folder / "run"


def test_it_comes_to_its_end_and_its_sums_are_right(ended):
    _, result = ended
    assert result["status"] in ("ok", "suspect")
    assert result["checks"] == []
    assert result["counts"]["output_tokens"] == 8 * 8
    assert result["counts"]["prefill_positions"] == 8 * 24
    assert result["counts"]["decode_positions"] == 8 * 7


@ONE_MORE
def test_its_own_server_returns_the_same_tokens_as_its_scheduler(ended, served):
    result, folder = served
    assert result["workload_hash"] == ended[1]["workload_hash"]
    assert result["checks"] == []
    assert result["counts"]["finished"] == 8
    assert result["engine"]["effective"]["tokens_counted_by"] == "token ids"
    assert result["engine"]["effective"]["context_length"] == ended[1]["engine"]["effective"]["context_length"]
    assert result["engine"]["kv_cache_tokens"] == ended[1]["engine"]["kv_cache_tokens"]
    assert cpu_platform.SUBSTITUTED in result["engine"]["notes"]
    [here] = ended[0].args[-1:]
    one, two = (np.load(path / "output_ids.npz") for path in (Path(here), folder))
    assert (one["offsets"] == two["offsets"]).all()
    assert (one["ids"] == two["ids"]).all()


def test_it_says_that_its_speed_is_not_sglangs(ended):
    done, result = ended
    assert result["spec"]["substituted"] == "it runs on PyTorch's operators"
    assert cpu_platform.SUBSTITUTED in result["engine"]["notes"]
    assert f"note: {cpu_platform.SUBSTITUTED}" in done.stdout
    assert result["environment"]["packages"]["innerloop-sglang-cpu"] == "1"
