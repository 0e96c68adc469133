"""W4A16 and MXFP4 mean the same to the libraries of those who publish such weights as to the tests' own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
from tests.harness.checkpoints.dequantize import mxfp4, packed, read
from tests.scripts import interpreter

pytestmark = pytest.mark.real
SCRIPT = Path(__file__).parent / "published_layouts.py"
SMALL = ["num_hidden_layers=1", "vocab_size=512"]


def parts(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{name}."): array for key, array in tensors.items() if key.startswith(f"{name}.")}


@pytest.mark.parametrize("model", ["llama-tiny-w4a16", "gpt-oss-tiny-mxfp4"])
def test_the_publishers_libraries_unpack_the_same_numbers(tmp_path: Path, model: str) -> None:
    path = ensure_checkpoint(load_model(model, SMALL), "bfloat16", folder=tmp_path).path
    out = tmp_path / "found"
    out.mkdir()
    interpreter("vllm").run(SCRIPT, path, out)
    found, (tensors, _) = sorted(out.glob("*.npy")), read(path)
    assert len(found) == (7 if model == "llama-tiny-w4a16" else 2)
    for file in found:
        name = file.stem
        if model == "llama-tiny-w4a16":
            meant = packed(parts(tensors, name))
        else:
            meant = mxfp4(tensors[f"{name}_blocks"], tensors[f"{name}_scales"])
        np.testing.assert_allclose(np.load(file), meant, rtol=1e-6)
