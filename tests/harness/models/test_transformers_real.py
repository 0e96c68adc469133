"""Every family against transformers' own classes: the tensors that it would write, and a load of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.checkpoints import ensure_checkpoint, plan, use_weights
from innerloop.harness.profiles import load_model
from tests.harness.models.tiny import TINY, tiny
from tests.scripts import said_json

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
    said = said_json("torch", SCRIPT, *folders)
    return {folders[folder]: {**one, "folder": f"{folder}-written"} for folder, one in said.items()}


@pytest.mark.parametrize("name", TINY)
def test_the_tensors_are_those_that_transformers_would_write(found: dict[str, Any], name: str) -> None:
    assert found[name]["class"] == name.split()[0]
    assert {tensor.name: list(tensor.shape) for tensor in plan(tiny(name), "float32")} == found[name]["written"]


@pytest.mark.parametrize("name", TINY)
def test_transformers_counts_as_many_parameters(found: dict[str, Any], name: str) -> None:
    buffers = sum(t.count for t in plan(tiny(name), "float32") if t.name.rpartition(".")[2] in BUFFERS)
    assert tiny(name).parameters() == found[name]["parameters"] + buffers


@pytest.mark.parametrize("name", TINY)
def test_a_folder_that_transformers_wrote_is_the_same_model_and_its_weights_are_taken(
    found: dict[str, Any], name: str
) -> None:
    folder = found[name]["folder"]
    model, meant = load_model(folder), tiny(name)
    assert plan(model, "float32") == plan(meant, "float32")
    assert meant.family is not None
    assert meant.family.attention(model.shape()) == meant.family.attention(meant.shape())
    own = use_weights(folder, model)
    assert own.bytes > meant.weights_bytes("float32")  # type: ignore[operator]
    assert len(list(own.path.glob("*.safetensors"))) > 1
    use_weights(folder, meant)


@pytest.mark.parametrize("name", TINY)
def test_a_synthetic_checkpoint_loads_whole(found: dict[str, Any], name: str) -> None:
    assert [found[name][kind] for kind in ("missing", "unexpected", "mismatched")] == [[], [], []]
