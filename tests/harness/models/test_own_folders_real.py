"""Folders that transformers wrote: taken as --weights, loaded by vLLM, and computed as transformers computes them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness import environments
from innerloop.harness.checkpoints import use_weights
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.engines import load_engine

pytestmark = pytest.mark.real
HERE = Path(__file__).parent
ARCHITECTURES = {
    "qwen2.5": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma-3": "Gemma3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "llama-tied": "LlamaForCausalLM",
}


def said_json(engine: str, script: Path, *arguments: object) -> Any:
    """What a script prints last in an engine's environment."""
    made = environments.create(load_engine(engine), "cpu")
    done = subprocess.run(
        [str(made.python), str(script), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **made.variables},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_folders_of_transformers_are_taken_and_load_in_vllm(tmp_path: Path) -> None:
    prompts = json.dumps(np.random.default_rng(0).integers(3, 512, (2, 160)).tolist())
    meant = said_json("torch", HERE / "own_folders.py", tmp_path, prompts)
    for name, architecture in ARCHITECTURES.items():
        folder = tmp_path / name
        model = load_model(str(folder))
        assert model.architecture == architecture
        own = use_weights(folder, model)
        assert len(list(own.path.glob("*.safetensors"))) > 1
        assert own.bytes > (model.weights_bytes("float32") or 0) > 0
    folders = os.pathsep.join(str(tmp_path / name) for name in ARCHITECTURES)
    found = said_json("vllm", HERE.parent / "checkpoints" / "prompt_logprobs.py", folders, "float32", prompts)
    for name, one in zip(ARCHITECTURES, found, strict=True):
        assert np.std(meant[name]) > 0.1, name
        assert np.abs(np.array(one) - np.array(meant[name])).max() < 0.01, name
