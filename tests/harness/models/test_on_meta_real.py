"""Every shipped model at its full size against transformers' class on the meta device: names, shapes, parameters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.checkpoints import plan
from innerloop.harness.checkpoints.tensors import config_json
from innerloop.harness.profiles import load_model, names
from innerloop.harness.profiles.models import ModelProfile
from tests.scripts import said_json

pytestmark = pytest.mark.real
SCRIPT = Path(__file__).parent / "on_meta.py"


def unpacked(name: str) -> ModelProfile:
    return load_model(name).model_copy(update={"quantization": None})


def different() -> list[str]:
    """One name for each model that is shipped in several weight formats or under several names; with
    INNERLOOP_LONG_TESTS=1 all of them (a minute), else the published one of fewest tensors
    of each architecture (test_transformers_real.py has the small ones)."""
    longest_first = sorted(names("models"), key=len, reverse=True)
    found = {json.dumps(config_json(unpacked(name), "bfloat16"), sort_keys=True): name for name in longest_first}
    if "INNERLOOP_LONG_TESTS" in os.environ:
        return sorted(found.values())
    smallest: dict[str, str] = {}
    for name in sorted(found.values(), key=lambda name: len(plan(unpacked(name), "bfloat16"))):
        if "-tiny" not in name:
            smallest.setdefault(unpacked(name).architecture, name)
    return sorted(smallest.values())


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    configs = tmp_path_factory.mktemp("meta") / "configs.json"
    configs.write_text(json.dumps({name: config_json(unpacked(name), "bfloat16") for name in different()}))
    return said_json("torch", SCRIPT, configs)


@pytest.mark.parametrize("name", different())
def test_a_shipped_model_is_stored_as_transformers_would_write_it(said: dict[str, Any], name: str) -> None:
    model, one = unpacked(name), said[name]
    planned = plan(model, "bfloat16")
    assert one["class"] == model.architecture
    assert {tensor.name: list(tensor.shape) for tensor in planned} == one["tensors"]
    corrections = sum(t.count for t in planned if t.name.endswith("e_score_correction_bias"))  # buffers there
    assert model.parameters() == one["parameters"] + corrections
