"""LMDeploy's adapter on its real PyTorch engine: loop, scheduler, inputs maker and prefix cache, on a played device.

stepped.py does the stepping, in SGLang's environment for CPUs: LMDeploy's own needs a GPU, and its PyTorch engine can
be imported there. What this does not show: kernels, graphs, more than one device, and how long anything takes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker import trace
from innerloop.harness import environments
from innerloop.harness.analysis.run import analyse
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.process.launcher import environment
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.engines import load_engine
from tests.engines.contracts.locked import locked_version
from tests.engines.contracts.wheels import source_of
from tests.real import LONG_TESTS, ROOT, SMALLER, variables

pytestmark = pytest.mark.real
LOADS = 400 if LONG_TESTS else 200
Said = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where stepped.py has left what it saw."""
    made = environments.create(load_engine("sglang"), "cpu")
    source = source_of("lmdeploy", locked_version("lmdeploy-cuda.txt", "lmdeploy")).folder
    checkpoint = ensure_checkpoint(load_model("llama-tiny", [SMALLER]), "bfloat16").path
    place = tmp_path_factory.mktemp("stepped")
    own = load_engine("lmdeploy").environments["cuda"].env
    done = subprocess.run(
        [made.python, "-m", "tests.engines.lmdeploy.stepped", source, checkpoint, place, str(LOADS)],
        cwd=place,
        env={**variables(), **environment(dict(own)), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return place


@pytest.fixture
def said(folder):
    """What was seen of a case, by its name."""
    return lambda case: json.loads((folder / f"{case}.json").read_text())


def loads(folder: Path) -> Iterator[Said]:
    with open(folder / "loads.jsonl") as f:
        yield from map(json.loads, f)


def own_account(said: Said) -> list[Said]:
    """The steps that a report should tell, from what the engine's loop and the device say of each iteration.

    Who has ended or lost its cache while a pass was under way gets nothing of it. An iteration of such requests alone
    is no step. Of a request that is computed again, the newest token counts as decode.
    """
    steps, seen = [], set()
    for one in said["iterations"]:
        rows, alive = one["rows"], [row for row in one["rows"] if row["runs"]]
        positions = sum(row["positions"] for row in rows)
        newest = len([row for row in alive if row["made"]]) if one["kind"] != "chunk" else 0
        decode = one["kind"] == "decode"
        first = [row for row in rows if row["request"] not in seen]
        seen |= {row["request"] for row in rows}
        if decode and not alive:
            continue
        steps.append(
            {
                "prefill": 0 if decode else positions - newest,
                "decode": newest,
                "cached": sum(row["cached"] for row in first),
                "running": len(alive if decode else rows),
                "waiting": one["waiting"],
                "used": one["used"],
                "tokens": {str(row["request"]): row["tokens"] for row in alive if row["tokens"]},
                "finished": [row["request"] for row in alive if row["ends"]],
            }
        )
    return steps


def outputs(said: Said) -> list[list[int]]:
    """The tokens that each request got, as the adapter told them."""
    found: list[list[int]] = [[] for _ in said["expected"]]
    for report in said["reports"]:
        for request, ids in report["tokens"].items():
            found[int(request)] += ids
    return found


def column(said: Said, name: str) -> list[Any]:
    return [report[name] for report in said["reports"]]


def test_in_random_loads_the_steps_are_the_engines_own_iterations(folder):
    met = dict.fromkeys(("chunks", "came back", "computed again", "hits", "dropped", "joined", "waited"), 0)
    count = 0
    for load in loads(folder):
        assert load["reports"] == own_account(load), f"seed {load['seed']}"
        assert outputs(load) == load["expected"], f"seed {load['seed']}"
        decoded = sum(column(load, "decode"))
        assert decoded == sum(len(ids) - 1 for ids in load["expected"]), f"seed {load['seed']}"
        prompts, computed = sum(load["prompts"]), sum(column(load, "prefill")) + sum(column(load, "cached"))
        assert computed >= prompts, f"seed {load['seed']}"
        rows = [row for one in load["iterations"] for row in one["rows"]]
        kinds = [one["kind"] for one in load["iterations"]]
        met["chunks"] += "chunk" in kinds
        met["came back"] += any(
            row["made"] for one in load["iterations"] if one["kind"] != "decode" for row in one["rows"]
        )
        met["computed again"] += computed > prompts
        met["hits"] += any(column(load, "cached"))
        met["dropped"] += any(not row["runs"] for row in rows)
        met["joined"] += "prefill" in kinds[kinds.index("decode") :] if "decode" in kinds else False
        met["waited"] += any(column(load, "waiting"))
        count += 1
    assert count == LOADS
    assert min(met.values()) >= LOADS / 40, met


@pytest.mark.parametrize("case", ["burst", "chunked", "preempted"])
def test_the_trace_of_a_driven_window_adds_up(folder, said, case):
    place = folder / case
    head = trace.header(place / "steps.bin")
    header = {field: int(head[field]) for field in (trace.HEADER.names or ()) if field != "magic"}
    steps, tokens, requests = (trace.records(place, kind) for kind in ("steps", "tokens", "requests"))
    figures = analyse(steps, tokens, requests, header)
    assert figures.checks == ()
    assert len(steps) == len(own_account(said(case)))
    with np.load(place / "output_ids.npz", allow_pickle=False) as kept:
        ids = [part.tolist() for part in np.split(kept["ids"], kept["offsets"][1:-1])]
    assert ids == said(case)["expected"]
    for name in said("burst")["info"]["unreported"]:
        assert (steps[name] == -1).all(), name
    for name in ("prefill_tokens", "decode_tokens", "running", "waiting", "kv_usage"):
        assert (steps[name] >= 0).all(), name
    for name in ("cached_tokens", "drafted_tokens", "accepted_tokens"):
        assert (steps[name] == 0).all(), name


def test_who_has_ended_is_in_no_step_though_the_engine_has_them_in_one_more_batch(folder):
    steps = trace.records(folder / "burst", "steps")
    assert steps["prefill_tokens"].tolist() == [25, 0, 0, 0, 0, 0, 0, 0, 0]
    assert steps["decode_tokens"].tolist() == [0, 3, 3, 3, 2, 2, 1, 1, 1]
    assert steps["running"].tolist() == [4, 3, 3, 3, 2, 2, 1, 1, 1]


def test_a_batch_of_ended_requests_alone_is_no_step_of_the_next_burst(said):
    found = said("two bursts")
    assert [one["kind"] for one in found["iterations"]] == ["prefill", *["decode"] * 4, "prefill", *["decode"] * 3]
    assert not any(row["runs"] for row in found["iterations"][4]["rows"])
    assert column(found, "prefill") == [12, 0, 0, 0, 4, 0, 0, 0]
    assert column(found, "decode") == [0, 2, 2, 2, 0, 1, 1, 1]


def test_a_prompt_in_chunks_has_iterations_without_tokens(folder):
    steps = trace.records(folder / "chunked", "steps")
    assert steps["prefill_tokens"].tolist() == [16, 16, 8, 0]
    assert steps["output_tokens"].tolist() == [0, 0, 1, 1]


def test_a_request_that_was_preempted_comes_back_in_a_prefill_in_which_its_newest_token_is_decode(folder, said):
    """Its cache is still there unless others took the blocks: then the newest token is all that is computed."""
    steps = trace.records(folder / "preempted", "steps")
    prefills = [one["rows"] for one in said("preempted")["iterations"] if one["kind"] == "prefill"]
    assert [[(row["request"], row["positions"]) for row in rows] for rows in prefills] == [
        [(0, 40)], [(1, 40)], [(0, 1), (2, 40)],
    ]  # fmt: skip
    assert steps["prefill_tokens"].sum() == 3 * 40
    assert steps["decode_tokens"].sum() == 3 * 29
    assert steps["kv_usage"].max() > 0.8


def test_what_a_prompt_finds_in_the_cache_is_told_when_it_is_first_computed(said):
    found = said("cached")  # prompts of 49, 50 and 88 tokens with 48 in common, in blocks of 16 and chunks of 32
    assert sum(column(found, "cached")) == 48 + 48
    assert column(found, "prefill") == [32, 17, 0, 2, 0, 32, 8, 0]
    assert [i for i, hit in enumerate(column(found, "cached")) if hit] == [3, 5]
    assert outputs(found) == found["expected"]


def test_a_finished_request_gives_its_cache_back(said):
    assert said("burst")["sessions"] == 0


def test_a_step_waits_no_longer_than_it_may_and_no_shorter(said):
    assert said("burst")["idle"] == "Nothing.TIMED_OUT"
    assert said("burst")["waited"]


def test_an_error_in_the_engines_loop_ends_the_run_as_it_is(said):
    found = said("failing")
    assert found["steps"] == 3
    assert found["raised"] == "RuntimeError: CUDA error: an illegal memory access was encountered"


def test_an_engine_that_cannot_be_watched_is_closed(said):
    assert "block_trie" in said("unwatchable")["raised"]
    assert said("unwatchable")["released"]


def test_an_engine_that_is_closed_at_work_releases_its_device(said):
    assert (said("closed at work")["before"], said("closed at work")["released"]) == (False, True)


def test_a_cache_that_shortens_the_context_is_refused(said):
    assert said("too small")["raised"].startswith(
        "UnsupportedSetting: context_length=100000: a sequence of that length"
    )
    assert said("too small")["released"]


def test_the_smallest_cache_that_is_not_refused_holds_the_longest_request(said):
    found = said("smallest")
    assert found["info"]["kv_cache_tokens"] == 144
    assert found["info"]["effective"]["context_length"] == 128
    assert [len(ids) for ids in outputs(found)] == [120]


def test_what_was_loaded_is_told_as_the_engine_has_it(said):
    info = said("burst")["info"]
    assert info["unreported"] == said("burst")["beforehand"]
    assert info["stepping"] == "observed"
    assert info["native"]["backend"] == "pytorch"
    effective = info["effective"]
    assert (effective["dtype"], effective["quantization"], effective["tensor_parallel"]) == ("bfloat16", None, 1)
    assert (effective["max_batch_size"], effective["max_tokens_per_step"]) == (8, 64)
    assert (effective["kv_block_tokens"], info["kv_cache_tokens"]) == (16, 4096)
    assert (effective["prefix_caching"], effective["cuda_graphs"]) == (False, True)
