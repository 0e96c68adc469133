"""Every shipped model at its full size against transformers' class on the meta device: names, shapes, parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.checkpoints import plan
from innerloop.harness.checkpoints.tensors import config_json
from innerloop.harness.profiles import load_model, names
from innerloop.harness.profiles.models import ModelProfile
from tests.real import LONG_TESTS
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
    if LONG_TESTS:
        return sorted(found.values())
    smallest: dict[str, str] = {}
    for name in sorted(found.values(), key=lambda name: len(plan(unpacked(name), "bfloat16"))):
        if "-tiny" not in name:
            smallest.setdefault(unpacked(name).architecture, name)
    return sorted(smallest.values())


def test_each_shipped_model_is_stored_as_transformers_would_write_it(tmp_path: Path) -> None:
    configs, chosen = tmp_path / "configs.json", different()
    configs.write_text(json.dumps({name: config_json(unpacked(name), "bfloat16") for name in chosen}))
    said = said_json("torch", SCRIPT, configs)
    assert len(chosen) >= 10  # architectures
    for name in chosen:
        check(name, said[name])


def check(name: str, one: dict[str, Any]) -> None:
    model = unpacked(name)
    planned = plan(model, "bfloat16")
    assert one["class"] == model.architecture, name
    assert {tensor.name: list(tensor.shape) for tensor in planned} == one["tensors"], name
    corrections = sum(t.count for t in planned if t.name.endswith("e_score_correction_bias"))  # buffers there
    assert model.parameters() == one["parameters"] + corrections, name
