"""vLLM computes of each family's synthetic weights what transformers does, prompts longer than the windows included."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model, names
from tests.scripts import FORWARD_LOGPROBS, PROMPT_LOGPROBS, said_json

pytestmark = pytest.mark.real
NAMES = [name for name in names("models") if name.endswith("-tiny") and name != "llama-tiny"]


@pytest.fixture(scope="module")
def logprobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each model transformers' and vLLM's, [prompts, tokens]; a process of each loads them one after the other."""
    root = tmp_path_factory.mktemp("checkpoints")
    folders = os.pathsep.join(str(ensure_checkpoint(load_model(name), "float32", folder=root).path) for name in NAMES)
    prompts = json.dumps(np.random.default_rng(0).integers(3, 8000, (2, 160)).tolist())
    meant = said_json("torch", FORWARD_LOGPROBS, folders, prompts)
    found = said_json("vllm", PROMPT_LOGPROBS, folders, "float32", prompts)
    return {name: (np.array(one), np.array(other)) for name, one, other in zip(NAMES, meant, found, strict=True)}


@pytest.mark.parametrize("name", NAMES)
def test_vllm_and_transformers_agree(logprobs: dict[str, tuple[np.ndarray, np.ndarray]], name: str) -> None:
    meant, found = logprobs[name]
    assert np.abs(found - meant).max() < 0.01
    assert np.std(meant) > 0.1
