"""What a result says of what was made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from innerloop.harness.profiles import load_model
from innerloop.harness.result.record import Record
from innerloop.harness.result.roofline import cost_of
from innerloop.harness.result.synthetic import notes
from innerloop.harness.schema.engine import Checkpoint
from innerloop.harness.schema.roofline import Roofline
from innerloop.harness.store.tables import Tables
from tests.harness.conftest import offline_run

SYNTHETIC = Checkpoint(path="/c", bytes=1, cached=True, digest="d", seconds=0.0, synthetic=True)


def said(model: str, *changes: str, synthetic: bool = True, drafted: int = 0, **spec: Any) -> list[str]:
    made = offline_run(requests=2, output=4, prompt=4)
    steps = np.array(made["steps"])
    steps["drafted_tokens"] = drafted
    profile = load_model(model, changes).model_dump(mode="json")
    described = {"model_profile": profile, "settings": {"dtype": "float32"}, **spec}
    checkpoint = SYNTHETIC if synthetic else None
    tables = Tables(steps, made["tokens"], made["requests"], steps[:0], {})
    roofline = Roofline(None, cost=cost_of(described, {}))
    return notes(Record(spec=described, tables=tables, checkpoint=checkpoint), roofline)


def test_of_experts_it_says_how_they_were_chosen() -> None:
    [even] = said("qwen3-moe-tiny")
    assert "choose all 16 experts of a layer equally often, 4 per position" in even
    [skewed] = said("qwen3-moe-tiny", "routing_zipf=1")
    assert "choose experts with a skew (Zipf exponent 1, routing_zipf)" in skewed
    assert said("llama-tiny") == said("qwen3-moe-tiny", synthetic=False) == []


def test_of_drafts_it_says_what_their_acceptance_is_worth() -> None:
    [random] = said("llama-tiny", drafted=3)
    assert random == "how many drafts random weights accept says nothing about a trained model's acceptance"
    asked = {"speculative_config": {"method": "ngram", "rejection_sample_method": "synthetic"}}
    [given] = said("llama-tiny", drafted=3, engine_args=asked)
    assert given.startswith("acceptance is synthetic: drafts are accepted at set rates")
    assert said("llama-tiny", drafted=3, engine_args=asked, synthetic=False) == [given]
    assert said("llama-tiny", drafted=3, synthetic=False) == []
