"""What a run makes of its model: a folder's own description, families that are not known, layers that need more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.result.roofline import cost_of
from innerloop.harness.session.plan import plan
from innerloop.harness.spec.adapter_settings import native_settings
from innerloop.harness.spec.model import RunRequest, RunSpec
from innerloop.harness.spec.resolve import resolve
from tests.harness.machines import CPU

SMALL = ["hidden_size=64", "num_hidden_layers=2", "intermediate_size=96", "vocab_size=300", "num_attention_heads=4"]
SMALL += ["num_key_value_heads=2", "head_dim=16"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = ensure_checkpoint(load_model("llama-tiny", SMALL), "float32", folder=tmp_path / "cache")
    return Path(shutil.move(made.path, tmp_path / "own"))


def rename(folder: Path, architecture: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture], "model_type": "other"}))


def spec_of(**request: object) -> RunSpec:
    return resolve(RunRequest(**request), CPU)  # type: ignore[arg-type]


def refusal(**request: object) -> str:
    with pytest.raises(Refused) as refused:
        spec_of(**request)
    return " ".join([str(refused.value), *refused.value.details])


def test_a_folder_of_weights_says_itself_what_the_model_is(folder: Path) -> None:
    by_weights, by_model = spec_of(engine="torch", weights=folder), spec_of(engine="torch", model=str(folder))
    assert by_weights.model == by_model.model
    assert by_weights.weights == by_model.weights == folder
    assert (by_weights.model.name, by_weights.model.vocab_size) == ("own", 300)


def test_without_its_weights_a_folders_model_is_made_up(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert spec_of(engine="torch", model=str(folder)).weights is None


def test_a_family_that_is_not_known_runs_with_weights_and_has_no_limit(folder: Path) -> None:
    rename(folder, "OtherForCausalLM")
    spec = spec_of(engine="torch", weights=folder)
    assert plan(spec, CPU).kv_bytes_per_token is None
    with pytest.raises(Refused, match="innerloop does not know any model family with architecture OtherForCausalLM"):
        cost_of(spec.describe(), {})


def test_an_engine_that_takes_llamas_only_is_refused_with_those_that_take_more() -> None:
    spec = spec_of(engine="openvino", model="qwen3-tiny")
    with pytest.raises(Refused, match="OpenVINO GenAI on cpu runs only LlamaForCausalLM") as refused:
        native_settings(spec)
    assert set(refused.value.details[0].partition("this run: ")[2].split(", ")) == {"vllm", "torch", "tgi"}


def test_a_layer_that_reads_a_tokenizer_is_refused_without_one(folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    assert spec_of(engine="vllm", weights=folder).layer == "core"
    assert "the engine layer of vllm needs one" in refusal(engine="vllm", weights=folder, layer="engine")
