"""vLLM's CPU build through the adapter: drafts, experts, preemptions, a prefix cache, FP8. stepped.py steps it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker import trace
from innerloop.harness.analysis.run import Figures, analyse
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
from tests.scripts import interpreter

pytestmark = pytest.mark.real
REFERENCES = {"ngram core": "repeating reference", "ngram engine": "repeating reference", "moe": "moe reference"}
SMALL = [  # products of FP8 are slow loops on CPUs
    "num_hidden_layers=1", "hidden_size=128", "intermediate_size=256", "num_attention_heads=4", "head_dim=32",
]  # fmt: skip
DRAFTING = ("ngram core", "ngram engine")
CASES = (*REFERENCES, "fp8 cache", "fp8 weights")


@dataclass(frozen=True)
class Window:
    """A driven window: the trace's records, what they come to, the token ids of each request, and what was told."""

    steps: np.ndarray
    requests: np.ndarray
    figures: Figures
    ids: list[list[int]]
    said: dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where stepped.py has left what it saw."""
    models = {
        name: str(ensure_checkpoint(load_model(name), "float32").path) for name in ("llama-tiny", "qwen3-moe-tiny")
    }
    fp8 = load_model("llama-tiny-fp8", SMALL)
    models["llama-tiny-fp8"] = str(ensure_checkpoint(fp8, fp8.dtype).path)
    models["bfloat16"] = str(ensure_checkpoint(load_model("llama-tiny"), "bfloat16").path)
    place = tmp_path_factory.mktemp("stepped")
    interpreter("vllm").run("-m", "tests.engines.vllm.stepped", place, json.dumps(models), cwd=place)
    return place


def read(folder: Path, case: str) -> Window:
    place = folder / case
    if case == "fp8 cache" and not place.exists():
        pytest.skip("vLLM's CPU build keeps an FP8 cache only with AVX-512 or AMX")
    with np.load(place / "output_ids.npz", allow_pickle=False) as kept:
        ids = [part.tolist() for part in np.split(kept["ids"], kept["offsets"][1:-1])]
    head = trace.header(place / "steps.bin")
    header = {field: int(head[field]) for field in (trace.HEADER.names or ()) if field != "magic"}
    steps, tokens, requests = (trace.records(place, kind) for kind in ("steps", "tokens", "requests"))
    said = json.loads((folder / case.partition("/")[0] / "said.json").read_text())
    figures = analyse(steps, tokens, requests, header, prefix_caching=case in ("alike", "alike/again"))
    return Window(steps, requests, figures, ids, said)


@pytest.fixture(params=CASES)
def window(folder, request) -> Window:
    return read(folder, request.param)


@pytest.fixture(params=DRAFTING)
def drafting(folder, request) -> Window:
    return read(folder, request.param)


@pytest.mark.parametrize("case", REFERENCES)
def test_every_request_gets_the_tokens_that_the_torch_engine_gives_it(folder, case):
    found = read(folder, case).ids
    assert found == read(folder, REFERENCES[case]).ids
    assert len({token for ids in found for token in ids}) >= 8


def test_the_trace_adds_up(window):
    assert window.figures.checks == ()
    assert window.requests["output_tokens"].tolist() == window.requests["asked_tokens"].tolist()
    prompts, outputs = (int(window.requests[name].sum()) for name in ("prompt_tokens", "output_tokens"))
    accepted = int(window.steps["accepted_tokens"].sum())
    assert window.steps["prefill_tokens"].sum() == prompts
    assert window.steps["decode_tokens"].sum() + accepted == outputs - len(window.requests)


def test_all_that_a_step_can_tell_is_told_and_phases_fit_into_it(window):
    assert window.said["info"]["unreported"] == window.said["beforehand"] == []
    steps = window.steps
    for name in steps.dtype.names or ():
        assert (steps[name] >= 0).all(), name
    phases = sum(steps[f"{phase}_ns"] for phase in trace.PHASES)
    assert (phases <= wall_ns(steps)).all()
    assert window.said["bare"]


def test_what_is_preempted_is_prefilled_again_and_every_request_gets_its_tokens(folder):
    found = read(folder, "preempting")
    assert found.figures.checks == ()
    assert found.figures.counts.preemptions == found.steps["preempted"].sum() > 0
    assert found.requests["output_tokens"].tolist() == found.requests["asked_tokens"].tolist() == [60] * 8
    assert found.steps["prefill_tokens"].sum() > 8 * 40
    assert found.steps["decode_tokens"].sum() == 8 * 59


def test_what_a_prefix_cache_holds_is_not_computed_until_it_is_emptied(folder):
    first, again = read(folder, "alike"), read(folder, "alike/again")
    assert first.said["info"]["effective"]["kv_block_tokens"] == 32
    assert first.said["emptied"] is True
    for found in (first, again):
        assert found.figures.checks == ()
        assert found.steps["cached_tokens"].sum() == 5 * 64  # of all requests but the first, which come one by one
        assert found.steps["prefill_tokens"].sum() == 6 * 80 - 5 * 64
        assert found.ids == read(folder, "alike reference").ids


def test_drafts_are_counted_apart_and_those_accepted_came_out(drafting):
    steps = drafting.steps
    assert 0 < steps["accepted_tokens"].sum() < steps["drafted_tokens"].sum()
    assert (steps["accepted_tokens"] <= steps["drafted_tokens"]).all()
    assert (steps["drafted_tokens"] <= 3 * steps["decode_tokens"]).all()
    decoding = steps["prefill_tokens"] == 0
    assert (steps["output_tokens"] == steps["decode_tokens"] + steps["accepted_tokens"])[decoding].all()
    assert (steps["running"] == steps["decode_tokens"])[decoding].all()
    assert drafting.figures.counts.drafted_tokens == steps["drafted_tokens"].sum()
    assert drafting.figures.counts.accepted_tokens == steps["accepted_tokens"].sum()
    assert drafting.said["info"]["effective"]["speculation"] == "ngram, 3 tokens"


def test_drafting_takes_fewer_steps(folder, drafting):
    assert len(drafting.steps) < len(read(folder, "repeating reference").steps)


def test_where_nothing_is_drafted_that_is_0(folder):
    found = read(folder, "moe")
    assert not found.steps["drafted_tokens"].any()
    assert found.said["info"]["effective"]["speculation"] is None


def test_an_fp8_cache_takes_a_byte_a_number(folder):
    info = read(folder, "fp8 cache").said["info"]
    assert info["effective"]["kv_cache_dtype"].startswith("fp8")
    assert (
        info["kv_cache_bytes"] == info["kv_cache_tokens"] * load_model("llama-tiny").kv_bytes_per_token("bfloat16") // 2
    )
