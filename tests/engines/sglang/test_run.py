"""A real run of SGLang on the CPU, end to end."""

from __future__ import annotations

import json

import pytest

from innerloop.engines.sglang import cpu_platform
from tests.real import run

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
        "--engine", "sglang", "--device", "cpu", "--model", "llama-tiny", "--workload", folder / "short.yaml",
        "--ceilings", "off", "--out", folder / "run", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, json.loads((folder / "run" / "result.json").read_text())


def test_it_comes_to_its_end_and_its_sums_are_right(ended):
    _, result = ended
    assert result["status"] in ("ok", "suspect")
    assert result["checks"] == []
    assert result["counts"]["output_tokens"] == 8 * 8
    assert result["counts"]["prefill_positions"] == 8 * 24
    assert result["counts"]["decode_positions"] == 8 * 7


def test_it_says_that_its_speed_is_not_sglangs(ended):
    done, result = ended
    assert result["spec"]["substituted"] == "it runs on PyTorch's operators"
    assert cpu_platform.SUBSTITUTED in result["engine"]["notes"]
    assert f"note: {cpu_platform.SUBSTITUTED}" in done.stdout
    assert result["environment"]["packages"]["innerloop-sglang-cpu"] == "1"
