"""What the vLLM adapter refuses of speculation, without the engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from innerloop.engines.contract import Probe, UnsupportedSetting
from innerloop.engines.vllm import adapter
from tests.engines.support.loads import make_load

NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}
SET = {**NGRAM, "rejection_sample_method": "synthetic", "synthetic_acceptance_rates": [0.8, 0.6, 0.4]}


def test_a_set_acceptance_of_drafts_is_refused_on_cpus_and_taken_on_gpus():
    on_cpu = replace(make_load("cpu", {"speculative_config": SET}), layer="async")
    with pytest.raises(UnsupportedSetting, match="vLLM's CPU build accepts drafts by the model only"):
        adapter.arguments(on_cpu, Probe())
    on_gpu = replace(make_load("cuda", {"speculative_config": SET}), layer="async")
    assert adapter.arguments(on_gpu, Probe())["speculative_config"] == SET
    found = replace(make_load("cpu", {"speculative_config": NGRAM}), layer="async")
    assert adapter.arguments(found, Probe())["speculative_config"] == NGRAM
