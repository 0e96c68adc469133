"""Folders that transformers wrote: taken as --weights, loaded by vLLM, and computed as transformers computes them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.checkpoints import use_weights
from innerloop.harness.profiles import load_model
from tests.scripts import MODELS, PROMPT_LOGPROBS, said_json

pytestmark = pytest.mark.real
ARCHITECTURES = {
    "qwen2.5": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma-3": "Gemma3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "llama-tied": "LlamaForCausalLM",
}


def test_folders_of_transformers_are_taken_and_load_in_vllm(tmp_path: Path) -> None:
    prompts = json.dumps(np.random.default_rng(0).integers(3, 512, (2, 160)).tolist())
    meant = said_json("torch", MODELS / "own_folders.py", tmp_path, prompts)
    for name, architecture in ARCHITECTURES.items():
        folder = tmp_path / name
        model = load_model(str(folder))
        assert model.architecture == architecture
        own = use_weights(folder, model)
        assert len(list(own.path.glob("*.safetensors"))) > 1
        assert own.bytes > (model.weights_bytes("float32") or 0) > 0
    folders = os.pathsep.join(str(tmp_path / name) for name in ARCHITECTURES)
    found = said_json("vllm", PROMPT_LOGPROBS, folders, "float32", prompts)
    for name, one in zip(ARCHITECTURES, found, strict=True):
        assert np.std(meant[name]) > 0.1, name
        assert np.abs(np.array(one) - np.array(meant[name])).max() < 0.01, name
