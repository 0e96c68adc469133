"""Why vLLM's CPU build computes other tokens of latent attention without YaRN: its kernel, shown by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from innerloop.engines.vllm.cpu import wrong_rotation
from innerloop.harness.checkpoints.tensors import config_json
from innerloop.harness.profiles import load_model
from tests.engines.support.loads import make_load
from tests.scripts import said_json


@pytest.mark.real
def test_vllms_cpu_kernel_turns_views_wrongly_and_flat_tensors_rightly() -> None:
    """When this fails, vLLM has repaired it: then the note of engines/vllm/settings.py can go."""
    found = said_json("vllm", Path(__file__).parent / "rotary_views.py")
    assert np.max(found["flat"]) < 1e-5
    assert np.max(found["views"][0][0]) < 1e-5  # position 0 is not turned
    assert np.max(found["views"][1:]) > 0.5


def test_a_run_says_so_where_it_concerns_the_model() -> None:
    model = load_model("deepseek-v3-tiny")
    load = make_load("cpu")
    load.config.update(config_json(model, "float32"))
    assert wrong_rotation(load) == ()
    load.config.update(config_json(load_model("deepseek-v3-tiny", ["rope_scaling=null"]), "float32"))
    [note] = wrong_rotation(load)
    assert "its speed is valid, its tokens are not" in note
    assert wrong_rotation(make_load("cpu")) == ()
