"""Every shipped model at its full size against transformers' class on the meta device: names, shapes, parameters."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from innerloop.harness.checkpoints import plan
from innerloop.harness.checkpoints.tensors import config_json
from innerloop.harness.profiles import load_model, names
from innerloop.harness.profiles.models import ModelProfile
from tests.harness.models.in_engine import HERE, said_json

pytestmark = pytest.mark.real
MANY = {"deepseek-v3", "qwen3-235b-a22b", "qwen3-30b-a3b"}  # tensors: most of a minute; with INNERLOOP_LONG_TESTS=1


def unpacked(name: str) -> ModelProfile:
    return load_model(name).model_copy(update={"quantization": None})


def different() -> list[str]:
    """One name for each model that is shipped in several weight formats or under several names."""
    longest_first = sorted(names("models"), key=len, reverse=True)
    found = {json.dumps(config_json(unpacked(name), "bfloat16"), sort_keys=True): name for name in longest_first}
    return sorted({*found.values()} - (set() if "INNERLOOP_LONG_TESTS" in os.environ else MANY))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    configs = tmp_path_factory.mktemp("meta") / "configs.json"
    configs.write_text(json.dumps({name: config_json(unpacked(name), "bfloat16") for name in different()}))
    return said_json("torch", HERE / "on_meta.py", configs)


@pytest.mark.parametrize("name", different())
def test_a_shipped_model_is_stored_as_transformers_would_write_it(said: dict[str, Any], name: str) -> None:
    model, one = unpacked(name), said[name]
    planned = plan(model, "bfloat16")
    assert one["class"] == model.architecture
    assert {tensor.name: list(tensor.shape) for tensor in planned} == one["tensors"]
    corrections = sum(t.count for t in planned if t.name.endswith("e_score_correction_bias"))  # buffers there
    assert model.parameters() == one["parameters"] + corrections
