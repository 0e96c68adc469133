"""Every family against transformers' own classes: the tensors that it would write, and a load of ours."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import environments
from innerloop.harness.checkpoints import ensure_checkpoint, plan
from innerloop.harness.profiles.engines import load_engine
from tests.harness.models.tiny import TINY, tiny

pytestmark = pytest.mark.real
SCRIPT = Path(__file__).parent / "as_transformers.py"
BUFFERS = {"e_score_correction_bias"}  # which transformers holds, and does not count as a parameter


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What transformers says of each family's tiny checkpoint."""
    root = tmp_path_factory.mktemp("checkpoints")
    folders = {
        str(ensure_checkpoint(tiny(name), "float32", folder=root / str(i)).path): name for i, name in enumerate(TINY)
    }
    environment = environments.create(load_engine("torch"), "cpu")
    done = subprocess.run(
        [str(environment.python), str(SCRIPT), *folders],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment.variables},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {folders[folder]: one for folder, one in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.parametrize("name", TINY)
def test_the_tensors_are_those_that_transformers_would_write(found: dict[str, Any], name: str) -> None:
    assert found[name]["class"] == name.split()[0]
    assert {tensor.name: list(tensor.shape) for tensor in plan(tiny(name), "float32")} == found[name]["written"]


@pytest.mark.parametrize("name", TINY)
def test_transformers_counts_as_many_parameters(found: dict[str, Any], name: str) -> None:
    buffers = sum(t.count for t in plan(tiny(name), "float32") if t.name.rpartition(".")[2] in BUFFERS)
    assert tiny(name).parameters() == found[name]["parameters"] + buffers


@pytest.mark.parametrize("name", TINY)
def test_a_synthetic_checkpoint_loads_whole(found: dict[str, Any], name: str) -> None:
    assert [found[name][kind] for kind in ("missing", "unexpected", "mismatched")] == [[], [], []]
