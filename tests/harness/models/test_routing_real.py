"""How often the routers of synthetic weights choose each expert, counted in transformers' forward pass."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.models.routing import shares
from innerloop.harness.profiles import load_model
from tests.scripts import MODELS, said_json

pytestmark = pytest.mark.real


def test_routing_is_even_or_as_the_profile_skews_it(tmp_path: Path) -> None:
    """16 experts, 4 taken, over 192 prompts of 12 tokens: each expert for 25 % of the positions, or for its share."""
    folders = [
        str(ensure_checkpoint(load_model("qwen3-moe-tiny", changes), "float32", folder=tmp_path).path)
        for changes in ([], ["routing_zipf=1"])
    ]
    prompts = json.dumps(np.random.default_rng(0).integers(3, 8000, (192, 12)).tolist())
    found = said_json("torch", MODELS / "router_shares.py", os.pathsep.join(folders), 4, prompts)
    even, skewed = (np.array(found[folder]) for folder in folders)
    assert even.shape == skewed.shape == (4, 16)
    assert np.abs(even - 0.25).max() < 0.12
    assert np.abs(even - 0.25).mean() < 0.03
    meant = shares(16, 4, 1.0)
    assert np.abs(-np.sort(-skewed, axis=1) - meant).mean() < 0.03
    assert len({tuple(np.argsort(-layer)[:3]) for layer in skewed}) > 1
