"""vLLM computes of each family's synthetic weights what transformers does, prompts longer than the windows included."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from innerloop.harness import environments
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model, names
from innerloop.harness.profiles.engines import load_engine

pytestmark = pytest.mark.real
SCRIPTS = {
    "vllm": Path(__file__).parents[1] / "checkpoints" / "prompt_logprobs.py",
    "torch": Path(__file__).parent / "forward_logprobs.py",
}
NAMES = [name for name in names("models") if name.endswith("-tiny") and name != "llama-tiny"]


def logprobs(engine: str, checkpoint: Path, *arguments: str) -> np.ndarray:
    made = environments.create(load_engine(engine), "cpu")
    done = subprocess.run(
        [str(made.python), str(SCRIPTS[engine]), str(checkpoint), *arguments],
        cwd=checkpoint,
        env={**os.environ, "OMP_NUM_THREADS": "1", **made.variables},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return np.array(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", NAMES)
def test_vllm_and_transformers_agree(tmp_path: Path, name: str) -> None:
    model = load_model(name)
    path = ensure_checkpoint(model, "float32", folder=tmp_path).path
    prompts = json.dumps(np.random.default_rng(0).integers(3, model.vocab_size, (2, 160)).tolist())
    meant, found = logprobs("torch", path, prompts), logprobs("vllm", path, "float32", prompts)
    assert np.abs(found - meant).max() < 0.01
    assert np.std(meant) > 0.1
