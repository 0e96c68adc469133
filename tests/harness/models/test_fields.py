"""Keys of a configuration that families compute with are of their kind, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.checkpoints.tensors import config_json
from innerloop.harness.cli.errors import Refused
from innerloop.harness.models.fields import wrong_fields
from innerloop.harness.profiles import load_model, names

SMALL = {
    **{"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 128},
}


@pytest.mark.parametrize(
    ("model", "override", "message"),
    [
        ("qwen3-moe-tiny", "config.num_experts=null", "num_experts or num_local_experts is missing"),
        ("qwen3-moe-tiny", "config.num_local_experts=x", "config.num_local_experts is 'x'; it must be a whole number"),
        (
            "qwen3-moe-tiny",
            "config.mlp_only_layers=2",
            "config.mlp_only_layers is 2; it must be a list of whole numbers",
        ),
        (
            "qwen3-moe-tiny",
            "config.decoder_sparse_step=0",
            "config.decoder_sparse_step is 0; it must be a whole number",
        ),
        ("deepseek-v3-tiny", "config.first_k_dense_replace=0o17", "config.first_k_dense_replace is '0o17'; it must be"),
        (
            "deepseek-v3-tiny",
            "config.n_shared_experts=true",
            "config.n_shared_experts is True; it must be a whole number",
        ),
        ("gemma2-tiny", "config.attn_logit_softcapping=x", "config.attn_logit_softcapping is 'x'; it must be a number"),
        ("gemma3-tiny", "config.sliding_window=[1]", "config.sliding_window is [1]; it must be a whole number"),
        ("gpt-oss-tiny", "config.layer_types=full", "config.layer_types is 'full'; it must be a list of names"),
        ("qwen3-moe-tiny", "config.decoder_sparse_step=null", "config.decoder_sparse_step is None; it must be a whole"),
        ("gpt-oss-tiny", "config.layer_types=[full_attention]", "config.layer_types has 1 of 4 layers"),
        (
            "deepseek-v3-tiny",
            "config.q_lora_rank=0",
            "config.q_lora_rank is 0; it must be a whole number of at least 1",
        ),
    ],
)
def test_a_key_of_another_kind_is_refused(model: str, override: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        load_model(model, [override])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "other",
    [
        {"architectures": ["Exaone4ForCausalLM"], "sliding_window": 32, "sliding_window_pattern": "LLLG"},
        {"architectures": ["HunYuanMoEV1ForCausalLM"], "num_experts": 4, "moe_intermediate_size": [32, 32]},
    ],
)
def test_other_architectures_may_have_keys_of_another_kind(tmp_path: Path, other: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SMALL, **other}))
    assert load_model(str(tmp_path)).family is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"rope_parameters": [1]}, "rope_parameters is [1]; it must be a mapping"),
        ({"quantization_config": "awq"}, "quantization_config is 'awq'; it must be a mapping"),
        ({"text_config": {"rope_parameters": "x"}}, "text_config.rope_parameters is 'x'; it must be a mapping"),
        ({"model_type": []}, "model_type is []; it must be a name"),
        ({"architectures": ["x", 1]}, "architectures is ['x', 1]; it must be a list of names"),
        ({"rope_theta": "x"}, "rope_theta is the string 'x'; it must be a number"),
    ],
)
def test_a_part_of_another_kind_is_refused(tmp_path: Path, part: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **SMALL, **part}))
    with pytest.raises(Refused) as refused:
        load_model(str(tmp_path))
    assert str(refused.value) == f"{tmp_path / 'config.json'}: {message}"


def test_without_a_first_layer_that_sees_a_window_none_does() -> None:
    model = load_model("qwen2-tiny", ["config.use_sliding_window=true", "config.max_window_layers=null"])
    assert model.family is not None
    assert {layer.window for layer in model.family.attention(model.shape())} == {None}


def test_of_a_list_for_more_layers_the_first_ones_count() -> None:
    types = ["full_attention", *["sliding_attention"] * 3]
    model = load_model("gpt-oss-tiny", [f"config.layer_types={json.dumps(types)}", "num_hidden_layers=2"])
    assert model.family is not None
    assert [layer.window is None for layer in model.family.attention(model.shape())] == [True, False]
    assert config_json(model, "float32")["layer_types"] == types[:2]


@pytest.mark.parametrize("name", names("models"))
def test_published_configurations_have_none(name: str) -> None:
    assert list(wrong_fields(load_model(name).config)) == []
