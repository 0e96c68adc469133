"""SGLang's adapter on SGLang itself: its scheduler, radix cache and event loop, with PyTorch's operators on the CPU.

stepped.py does the stepping, in SGLang's interpreter. What a CPU cannot show of it: CUDA graphs, and a device that the
host really waits for (`wait` is shown with an event that sleeps).
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.engines.sglang import cpu_platform
from innerloop.engines.worker import trace
from innerloop.harness import environments
from innerloop.harness.analysis.run import analyse
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.process.launcher import environment
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.engines import load_engine
from tests.real import ROOT, SMALLER, variables

pytestmark = pytest.mark.real
CACHED = {("overlap", "again"), ("overlap", "again, retracted"), ("overlap", "long")}  # windows that find prompts again
RETRACTED = {("overlap", "again, retracted"), ("mixed", "retracted"), ("retracting", "burst"),
             ("retracting in order", "burst")}  # fmt: skip
WINDOWS = [
    ("overlap", "burst"), ("overlap", "again"), ("overlap", "again, retracted"), ("overlap", "after a reset"),
    ("overlap", "long"), ("in order", "burst"), ("in order", "long"), ("mixed", "burst"), ("mixed", "retracted"),
    ("mixed", "prefills in order"), ("retracting", "burst"), ("retracting in order", "burst"),
]  # fmt: skip
MODEL = load_model("llama-tiny", [SMALLER])
CASES = sorted({case for case, _ in WINDOWS})


@dataclass(frozen=True)
class Window:
    """A driven window: the trace's records, the token ids of each request, and what the model was given."""

    case: str
    name: str
    steps: np.ndarray
    tokens: np.ndarray
    requests: np.ndarray
    header: dict[str, int]
    ids: list[list[int]]
    passes: list[dict[str, int]]

    def given(self, name: str) -> list[int]:
        """A figure of each forward pass, in order."""
        return [one[name] for one in self.passes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where stepped.py has left what it saw."""
    made = environments.create(load_engine("sglang"), "cpu")
    checkpoint = ensure_checkpoint(MODEL, "float32").path
    place = tmp_path_factory.mktemp("stepped")
    done = subprocess.run(
        [made.python, "-m", "tests.engines.sglang.stepped", checkpoint, place],
        cwd=place,
        env={**variables(), **environment(dict(made.variables)), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return place


@pytest.fixture
def said(folder):
    """What was seen of a case, by its name."""
    return lambda case: json.loads((folder / case / "said.json").read_text())


def read(folder: Path, case: str, name: str, passes: list[dict[str, int]]) -> Window:
    place = folder / case / name
    with np.load(place / "output_ids.npz", allow_pickle=False) as kept:
        ids = [part.tolist() for part in np.split(kept["ids"], kept["offsets"][1:-1])]
    head = trace.header(place / "steps.bin")
    header = {field: int(head[field]) for field in (trace.HEADER.names or ()) if field != "magic"}
    steps, tokens, requests = (trace.records(place, kind) for kind in ("steps", "tokens", "requests"))
    return Window(case, name, steps, tokens, requests, header, ids, passes)


@pytest.fixture(params=WINDOWS, ids=": ".join)
def window(folder, said, request) -> Window:
    case, name = request.param
    return read(folder, case, name, said(case)[name])


def test_every_request_gets_the_tokens_that_the_torch_engine_gives_it(folder, window):
    right = read(folder, "reference", "long" if window.name == "long" else "burst", [])
    assert window.ids == right.ids
    assert len(window.ids) == (2 if window.name == "long" else 16)


def test_a_step_is_a_forward_pass_and_carries_its_composition(window):
    steps = window.steps
    assert (steps["prefill_tokens"] + steps["decode_tokens"]).tolist() == window.given("positions")
    assert steps["running"].tolist() == window.given("requests")
    assert ((steps["prefill_tokens"] > 0) <= np.array(window.given("extends"), bool)).all()


def test_the_trace_adds_up(window):
    figures = analyse(
        window.steps,
        window.tokens,
        window.requests,
        window.header,
        prefix_caching=(window.case, window.name) in CACHED,
        max_batch_size=16,
    )
    assert figures.checks == ()
    prompts, outputs = (int(window.requests[name].sum()) for name in ("prompt_tokens", "output_tokens"))
    assert window.steps["decode_tokens"].sum() == outputs - len(window.requests)
    again = window.steps["prefill_tokens"].sum() + window.steps["cached_tokens"].sum() - prompts
    assert (again > 0) == ((window.case, window.name) in RETRACTED)


def test_only_what_is_retracted_is_told_as_preempted(window):
    assert (window.steps["preempted"].sum() > 0) == ((window.case, window.name) in RETRACTED)


def test_every_request_of_a_step_gets_a_token_but_one_whose_prompt_goes_on(window):
    """And but one that is retracted while its token is in flight."""
    without = window.steps["running"] - window.steps["output_tokens"]
    goes_on = window.steps["prefill_tokens"] > 0
    retracted = int((window.case, window.name) in RETRACTED)
    assert set(without[goes_on].tolist()) <= set(range(2 + retracted))
    assert set(without[~goes_on].tolist()) <= set(range(1 + retracted))


def test_decoding_requests_join_prefills_only_where_chunks_are_mixed(window):
    steps = window.steps
    both = (steps["prefill_tokens"] > 0) & (steps["decode_tokens"] > 0)
    if window.case == "mixed":
        assert both.sum() >= 8
    elif (window.case, window.name) not in RETRACTED:  # whose newest token is decode, in a prefill
        assert not both.any()


def test_a_cache_too_small_for_all_leaves_requests_waiting(folder, said):
    window = read(folder, "in order", "burst", said("in order")["burst"])
    assert window.steps["running"].max() < 16
    assert window.steps["kv_usage"].max() > 0.7
    assert window.steps["waiting"].max() > 0
    assert (window.steps["kv_usage"] <= 1).all()


def test_what_a_prompt_finds_in_the_cache_is_told_once_and_a_retraction_finds_no_hit(folder, said):
    cached = {
        name: int(read(folder, "overlap", name, []).steps["cached_tokens"].sum())
        for case, name in WINDOWS
        if case == "overlap"
    }
    hits = sum(17 + 3 * i - 1 for i in range(16))  # the last position of a prompt is always computed
    assert cached == {"burst": 0, "again": hits, "again, retracted": hits, "after a reset": 0, "long": 2}  # of 3
    assert said("overlap")["reset while running"] is False
    assert said("overlap")["reset"] is True


def test_a_step_with_nothing_to_do_is_flushed(said):
    assert said("overlap")["idle"] == "Nothing.FLUSHED"


@pytest.mark.parametrize("case", CASES)
def test_what_it_does_not_tell_is_missing_and_the_rest_is_not(folder, said, case):
    unreported = said(case)["info"]["unreported"]
    assert unreported == said(case)["said beforehand"]
    assert ("wait_ns" in unreported) == ("in order" in case)
    steps = read(folder, case, "burst", []).steps
    for name in steps.dtype.names or ():
        assert (steps[name] == -1).all() == (name in unreported), name
    phases = sum(steps[f"{phase}_ns"].clip(0) for phase in trace.PHASES)
    assert (phases <= wall_ns(steps)).all()


def test_what_a_step_waits_for_its_tokens_is_told_as_that(folder):
    steps = read(folder, "mixed", "burst", []).steps
    assert (steps["wait_ns"] >= 2_000_000).all()  # WAIT_S
    assert (read(folder, "overlap", "burst", []).steps["wait_ns"] < 2_000_000).any()


def test_a_batch_is_marked_with_how_many_steps_after_its_launch_it_comes_out(said):
    found = said("retracting")
    # Each launch is a run and a sampling; the first step also launches the batch after it, the last one nothing.
    assert found["ahead"] == [["ahead 0"] * 2 + ["ahead 1"] * 2, ["ahead 1"] * 2, ["ahead 1"] * 2, ["ahead 0"]]
    assert {"schedule", "execute", "wait", "update"} <= set(found["marked"])


def test_what_was_loaded_is_told_and_that_its_speed_is_not_sglangs(said):
    found = {case: said(case)["info"] for case in CASES}
    for case, info in found.items():
        effective = info["effective"]
        assert info["notes"] == [cpu_platform.SUBSTITUTED]
        assert info["weights_bytes"] == MODEL.weights_bytes("float32")
        assert info["kv_cache_bytes"] == info["kv_cache_tokens"] * MODEL.kv_bytes_per_token("float32")
        assert effective["attention_backend"] == "torch_native"
        assert effective["dtype"] == effective["kv_cache_dtype"] == "float32"
        assert effective["cuda_graphs"] is False
        assert effective["context_length"] == 320
        assert effective["max_batch_size"] == 16
        assert effective["max_tokens_per_step"] == 64
        assert effective["async_scheduling"] == ("in order" not in case)
    assert found["overlap"]["effective"]["prefix_caching"] is True
    assert found["in order"]["effective"]["prefix_caching"] is False
    assert found["in order"]["kv_cache_tokens"] == 300
    assert found["mixed"]["effective"]["kv_block_tokens"] == 16


def test_a_request_that_did_not_stream_would_be_heard_of_every_fiftieth_token(said):
    assert said("in order")["not streamed"] == [50, 5]


def test_a_request_that_the_scheduler_would_never_admit_is_refused(said):
    found = said("in order")  # of 300 tokens it keeps two and a page of one
    assert found["just fits"] == 97
    assert found["too large"].endswith("ValueError: SGLang needs a KV cache of 301 tokens for request 22, but has 300")
    assert set(found["all the same"]) == {"Nothing.FLUSHED"}


def test_a_request_that_fills_the_whole_context_gets_all_its_tokens(said):
    assert said("overlap")["whole context"] == 10


def test_an_output_cut_short_is_found_out(said):
    assert "request 1 should have produced 3 tokens but ended with 2" in said("in order")["short"]


def test_a_request_that_sglang_ends_ends_the_run_with_its_words(said):
    assert said("retracting")["too long"].startswith("RuntimeError: SGLang ended request 17: Input length (330 tokens)")
    assert said("mixed")["queue full"].startswith("RuntimeError: SGLang ended a request: AbortReq(rid='49'")
    assert "The request queue is full." in said("mixed")["queue full"]


def test_after_a_failure_the_device_is_not_asked_to_finish(said):
    assert said("retracting in order")["failed"] == "RuntimeError: the device is gone"
    assert said("retracting in order")["released"] == []


@pytest.mark.parametrize("case", CASES)
def test_a_closed_session_leaves_nothing_in_shared_memory(said, case):
    assert len(said(case)["files"]) == 1
    assert said(case)["left"] == []


def test_a_scheduler_that_cannot_be_made_leaves_no_sockets_and_a_full_memory_is_known(said):
    found: dict[str, Any] = said("no room")
    assert "leave no GPU memory for the KV cache" in found["raised"]
    assert found["cause"] == "out_of_memory_device"
    assert len(found["sockets"]) > 0
    assert found["left"] == []


def test_a_scheduler_that_is_not_as_expected_is_released(said):
    assert said("not as expected") == {
        "raised": "AttributeError: random_seed", "released": [True], "there": [True], "left": [],
    }  # fmt: skip


def test_an_unknown_version_that_behaves_otherwise_is_said_to_be_one(said):
    assert "this is 0.6.0, and it behaves differently" in said("other version")["raised"]
    assert "spawn_world_rank" in said("other version")["raised"]
