"""OpenVINO GenAI itself, in its environment, through the commands that a user types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
from tests import preloaded
from tests.real import ONE_MORE, ONE_THREAD, run, variables
from tests.scripts import said_json

pytestmark = pytest.mark.real
HERE = Path(__file__).parent
WARMUP = "warmup: {requests: 2, output_tokens: 4, max_rounds: 1}\n"
SIXTEEN = f"""\
prompt: {{tokens: {{kind: uniform, min: 5, max: 40}}}}
output: {{tokens: {{kind: uniform, min: 2, max: 12}}}}
load: {{kind: offline, requests: 16}}
{WARMUP}"""
TIGHT = f"prompt: {{tokens: 100}}\noutput: {{tokens: 100}}\nload: {{kind: offline, requests: 4}}\n{WARMUP}"
SHARED = f"""\
prompt: {{shared_prefix_tokens: 192, tokens: 8}}
output: {{tokens: 2}}
load: {{kind: offline, requests: 4}}
{WARMUP}"""


class Ran:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        self.steps: dict[str, list[Any]] = pq.read_table(folder / "steps.parquet").to_pydict()
        self.requests: dict[str, list[Any]] = pq.read_table(folder / "requests.parquet").to_pydict()
        with np.load(folder / "output_ids.npz", allow_pickle=False) as kept:
            self.ids = [part.tolist() for part in np.split(kept["ids"], kept["offsets"][1:-1])]


def openvino(folder: Path, workload: str, *settings: str, shape: tuple[str, ...] = ()) -> Ran:
    folder.mkdir()
    (folder / "workload.yaml").write_text(workload)
    done = run(
        "--engine", "openvino", "--model", "llama-tiny", "--device", "cpu", "--workload", folder / "workload.yaml",
        "--keep-token-ids", "--ceilings", "off", "--out", folder / "run", *ONE_THREAD,
        *(f"--set={one}" for one in settings), *(f"--model-arg={one}" for one in shape), cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Ran(folder / "run")


def by_transformers(run: Path, *shape: str) -> list[list[int]]:
    """The tokens that the run's requests should have."""
    checkpoint = ensure_checkpoint(load_model("llama-tiny", [*shape]), "float32").path
    found: list[list[int]] = said_json("torch", HERE / "plain_tokens.py", checkpoint, run / "workload.npz")
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Sixteen requests as everything is by default, with the tokens that they should have."""
    found = openvino(tmp_path_factory.mktemp("plain") / "sixteen", SIXTEEN)
    assert found.ids == by_transformers(found.folder)
    assert len({token for ids in found.ids for token in ids}) > 16  # a model that always says the same would agree too
    return found


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """TIGHT with all the cache that it wants."""
    return openvino(tmp_path_factory.mktemp("wide") / "wide", TIGHT)


@pytest.mark.parametrize(
    "settings",
    [(), ("chunked_prefill=false", "max_batch_size=4"), ("max_tokens_per_step=48", "max_batch_size=4")],
    ids=["default", "whole prompts", "split prompts"],
)
def test_it_decodes_transformers_tokens_in_fp32_and_positions_add_up(plain, settings, tmp_path):
    mine = openvino(tmp_path / "one", SIXTEEN, *settings) if settings else plain
    assert mine.ids == plain.ids
    assert mine.requests["output_tokens"] == mine.requests["asked_tokens"]
    assert sum(mine.steps["prefill_positions"]) == sum(mine.requests["prompt_tokens"])
    assert sum(mine.steps["decode_positions"]) == sum(mine.requests["output_tokens"]) - 16
    assert mine.result["checks"] == []
    most = mine.result["engine"]["effective"]["max_batch_size"]
    assert max(mine.steps["running"]) == min(most, 16)
    limit = mine.result["engine"]["effective"]["max_tokens_per_step"]
    assert max(map(sum, zip(mine.steps["prefill_positions"], mine.steps["decode_positions"], strict=True))) <= limit


def test_scaled_rotary_embeddings_and_tied_weights_are_converted(plain, tmp_path):
    scaling = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 256}  # fmt: skip
    shape = ("tie_word_embeddings=true", f"rope_scaling={json.dumps(scaling)}")
    mine = openvino(tmp_path / "mine", SIXTEEN, shape=shape)
    assert mine.ids == by_transformers(mine.folder, *shape)
    assert mine.ids != plain.ids


@pytest.mark.parametrize("split", ["true", pytest.param("false", marks=ONE_MORE)])
def test_preempted_requests_are_prefilled_again_and_still_get_their_tokens(wide, split, tmp_path):
    tight = openvino(tmp_path / "tight", TIGHT, f"chunked_prefill={split}", "kv_cache_tokens=448", "context_length=256")
    assert sum(wide.steps["preempted"]) == 0
    assert tight.result["counts"]["preemptions"] == sum(tight.steps["preempted"]) > 0
    assert None not in tight.steps["prefill_positions"]  # what was worked out is what the engine told
    assert sum(tight.steps["prefill_positions"]) > 4 * 100
    assert sum(tight.steps["decode_positions"]) == 4 * 99
    assert max(tight.steps["kv_usage"]) > 0.9
    assert tight.ids == wide.ids


def test_a_shared_prefix_is_computed_once_with_a_prefix_cache(tmp_path):
    """Prompts of 200 tokens, one at a time, 64 positions a step: 4 steps a prompt, 1 where 192 are there already."""
    settings = ("max_batch_size=1", "max_tokens_per_step=64")
    cold = openvino(tmp_path / "cold", SHARED, *settings)
    warm = openvino(tmp_path / "warm", SHARED, *settings, "prefix_caching=true")
    assert len(cold.steps["running"]) == 4 * (4 + 1)
    assert len(warm.steps["running"]) in (4 * (1 + 1), (4 + 1) + 3 * (1 + 1))  # the warm-up may have left it there
    assert warm.ids == cold.ids
    assert set(warm.result["engine"]["unreported"]) >= {"prefill_tokens", "cached_tokens", "preempted"}
    assert set(warm.steps["prefill_positions"]) == {None}
    assert sum(warm.steps["decode_positions"]) == 4


def test_a_type_that_this_cpu_cannot_compute_in_is_refused_and_any_other_is_held_to(tmp_path):
    (tmp_path / "w.yaml").write_text(SHARED)
    asked = ("--workload", "w.yaml", "--set", "dtype=float16", "--ceilings", "off", "--out", "run", "--json")
    done = run("--engine", "openvino", *asked, *ONE_THREAD, cwd=tmp_path)
    result = json.loads(done.stdout)
    if done.returncode == 3:
        assert result["failure"]["cause"] == "unsupported_setting"
        assert "does not support it on this CPU" in result["failure"]["message"]
    else:
        assert done.returncode == 0, done.stderr
        assert result["engine"]["effective"]["kv_cache_dtype"] == "float16"


def test_an_argument_that_neither_scheduler_nor_plugin_has_is_named(tmp_path):
    (tmp_path / "w.yaml").write_text(TIGHT)
    asked = ("--workload", "w.yaml", "--ceilings", "off", "--json")
    for given, nearest in (("INFERENCE_NUM_THREAD=1", "INFERENCE_NUM_THREADS"), ("max_num_seq=1", "max_num_seqs")):
        done = run("--engine", "openvino", *asked, "--engine-arg", given, "--out", f"run-{nearest}", cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        failure = json.loads(done.stdout)["failure"]
        assert failure["cause"] == "unsupported_setting"
        assert f"'{nearest}'" in failure["message"]


@pytest.mark.parametrize("caching", [pytest.param("false", marks=ONE_MORE), "true"])
def test_the_adapter_keeps_the_contract(caching, tmp_path):
    done = preloaded.run(
        "harness.check_engine", "openvino", "--json", *ONE_THREAD, "--set", f"prefix_caching={caching}",
        cwd=tmp_path, env=variables(), timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    checked = {one["name"] for one in json.loads(done.stdout)["checks"]}
    assert {"burst", "repeated", "joining", "waiting", "full_cache", "cut_short", "close"} <= checked
