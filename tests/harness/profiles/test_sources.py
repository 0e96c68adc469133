"""A model's description from a config.json, from a folder of one, and from a profile that changes another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.checkpoints.tensors import config_json, plan
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.sources import weights_folder

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 300,
    "max_position_embeddings": 256,
    "rope_theta": 500000,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "torch_dtype": "bfloat16",
    "pad_token_id": 0,
}
LINEAR = {"type": "linear", "factor": 2.0}
EIGHT_BITS = {"type": "float", "num_bits": 8}


def folder(place: Path, config: dict[str, Any], name: str = "my-model") -> Path:
    (place / name).mkdir(parents=True)
    (place / name / "config.json").write_text(json.dumps(config))
    return place / name


def refusal(name: object) -> str:
    with pytest.raises(Refused) as refused:
        load_model(str(name))
    return " ".join([str(refused.value), *refused.value.details])


def test_a_config_and_the_folder_of_one_are_the_same_model(tmp_path: Path) -> None:
    made = folder(tmp_path, LLAMA)
    model = load_model(str(made))
    assert model == load_model(str(made / "config.json"))
    assert (model.name, model.source) == ("my-model", str(made / "config.json"))
    assert (model.hidden_size, model.head_dim, model.rope_theta, model.dtype) == (64, 16, 500000.0, "bfloat16")
    assert (model.ends, model.tie_word_embeddings, model.config["pad_token_id"]) == ([2, 3], True, 0)


def test_what_is_written_of_it_says_the_same_again(tmp_path: Path) -> None:
    model = load_model(str(folder(tmp_path, LLAMA)))
    written = config_json(model, "bfloat16")
    assert {key: written[key] for key in LLAMA} == LLAMA
    again = load_model(str(folder(tmp_path, written, "again")))
    assert plan(again, "bfloat16") == plan(model, "bfloat16")


def test_a_download_caches_snapshot_is_named_after_its_model(tmp_path: Path) -> None:
    made = folder(tmp_path / "models--Qwen--Qwen3-8B" / "snapshots", LLAMA, "b968826d9c46")
    assert load_model(str(made)).name == "Qwen3-8B"


def test_fields_of_a_config_can_be_changed(tmp_path: Path) -> None:
    made = str(folder(tmp_path, LLAMA))
    assert load_model(made, ["num_hidden_layers=1", "config.attention_bias=true"]).num_hidden_layers == 1
    names = {tensor.name for tensor in plan(load_model(made, ["config.attention_bias=true"]), "float32")}
    assert "model.layers.0.self_attn.q_proj.bias" in names


@pytest.mark.parametrize(
    ("spelling", "theta", "scaling"),
    [
        (
            {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}},
            1e6,
            {"type": "linear", "factor": 2.0},
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 1e6, None),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}},
            1e6,
            {"rope_type": "yarn", "factor": 4.0},
        ),
        ({}, 10000.0, None),
    ],
)
def test_the_rotary_embedding_is_read_in_both_spellings(
    tmp_path: Path, spelling: dict[str, Any], theta: float, scaling: dict[str, Any] | None
) -> None:
    config = {key: value for key, value in LLAMA.items() if key != "rope_theta"}
    model = load_model(str(folder(tmp_path, {**config, **spelling})))
    assert (model.rope_theta, model.rope_scaling) == (theta, scaling)


def test_of_a_multimodal_model_the_text_part_is_taken(tmp_path: Path) -> None:
    text = {**LLAMA, "model_type": "gemma3_text", "sliding_window": 32, "head_dim": 32}
    del text["architectures"], text["eos_token_id"], text["tie_word_embeddings"]
    whole = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "eos_token_id": [1, 106],
        "text_config": text,
        "vision_config": {"hidden_size": 999},
    }
    model = load_model(str(folder(tmp_path, whole)))
    assert (model.architecture, model.hidden_size, model.head_dim) == ("Gemma3ForCausalLM", 64, 32)
    assert (model.ends, model.tie_word_embeddings) == ([1, 106], True)
    assert "vision_config" not in config_json(model, "float32")


def test_what_gemma_3_leaves_to_transformers_is_filled_in(tmp_path: Path) -> None:
    """Heads, vocabulary and rotary embedding are in no field of the multimodal ones' config.json."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    whole = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    model = load_model(str(folder(tmp_path, {**whole, "eos_token_id": [1, 106], "torch_dtype": "bfloat16"})))
    heads = (model.num_attention_heads, model.num_key_value_heads, model.head_dim)
    assert heads == (8, 4, 256)
    assert (model.vocab_size, model.tie_word_embeddings, model.rms_norm_eps) == (262208, True, 1e-6)
    written = config_json(model, "bfloat16")["rope_parameters"]
    assert written["full_attention"] == {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    assert written["sliding_attention"] == {"rope_type": "default", "rope_theta": 1e4}


def test_an_older_rope_scaling_is_written_with_its_kind(tmp_path: Path) -> None:
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    model = load_model(str(folder(tmp_path, {**LLAMA, "rope_scaling": scaling})))
    assert model.rope_scaling == scaling
    written = config_json(model, "float32")
    assert written["rope_scaling"] == {**scaling, "rope_type": "yarn"}
    assert written["rope_parameters"] == {**scaling, "rope_type": "yarn", "rope_theta": model.rope_theta}


def test_four_bit_weights_of_compressed_tensors_are_read_and_other_layouts_named(tmp_path: Path) -> None:
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 32, "strategy": "group"}
    stored = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"g": {"weights": weights}},
    }
    config = {**LLAMA, "quantization_config": stored}
    found = load_model(str(folder(tmp_path, config))).quantization
    assert found is not None
    assert (found.method, found.bits, found.group_size, found.zero_point) == ("compressed-tensors", 4, 32, False)
    stored["format"] = "nvfp4-pack-quantized"
    with pytest.raises(Refused, match=r"compressed-tensors \(nvfp4-pack-quantized, 4-bit int\)"):
        load_model(str(folder(tmp_path / "other", config)))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "zero_point": True}, ("awq", 4, 64, True, None)),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}, ("gptq", 4, 32, False, None)),
        ({"quant_method": "fp8", "weight_block_size": [32, 32]}, ("fp8", 8, 128, True, 32)),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, ("fp8", 8, 128, True, None)),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"type": "float", "num_bits": 8}}},
            },
            ("fp8", 8, 128, True, None),
        ),
    ],
)
def test_how_weights_are_quantized_is_read(
    tmp_path: Path, stored: dict[str, Any], expected: tuple[object, ...]
) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 128, "num_key_value_heads": 4}
    model = load_model(str(folder(tmp_path, {**LLAMA, **sizes, "quantization_config": stored})))
    found = model.quantization
    assert found is not None
    assert (found.method, found.bits, found.group_size, found.zero_point, found.block_size) == expected


def test_a_profile_changes_its_base(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("base: llama-tiny\nintermediate_size: 2048\n")
    model, base = load_model(str(tmp_path / "wide.yaml")), load_model("llama-tiny")
    assert (model.name, model.intermediate_size, model.hidden_size) == ("wide", 2048, base.hidden_size)


def test_a_base_may_be_a_config_beside_the_profile(tmp_path: Path) -> None:
    folder(tmp_path, LLAMA)
    (tmp_path / "one.yaml").write_text("base: my-model/config.json\nnum_hidden_layers: 1\nconfig: {mlp_bias: true}\n")
    model = load_model(str(tmp_path / "one.yaml"))
    assert (model.num_hidden_layers, model.config["mlp_bias"], model.config["pad_token_id"]) == (1, True, 0)


def test_a_config_may_stand_in_a_profile_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "whole.yaml").write_text(json.dumps({"source": "a test", "config": LLAMA, "num_hidden_layers": 1}))
    model = load_model(str(tmp_path / "whole.yaml"))
    assert (model.num_hidden_layers, model.vocab_size, model.source) == (1, 300, "a test")


def test_bases_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "round.yaml").write_text("base: round.yaml\n")
    assert "nested more than 8 levels deep" in refusal(tmp_path / "round.yaml")


def test_what_is_no_models_description_is_refused(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "gone.json")
    (tmp_path / "empty").mkdir()
    assert "there is no config.json in the folder" in refusal(tmp_path / "empty")
    (tmp_path / "list.json").write_text("[1]")
    assert "should contain a JSON object" in refusal(tmp_path / "list.json")
    (tmp_path / "bare.json").write_text(json.dumps({"hidden_size": 64}))
    assert "names neither an architecture" in refusal(tmp_path / "bare.json")
    (tmp_path / "half.json").write_text(json.dumps({key: LLAMA[key] for key in ("architectures", "hidden_size")}))
    assert "vocab_size is missing" in refusal(tmp_path / "half.json")


def test_an_unknown_family_is_read_under_its_older_names_and_cannot_be_made(tmp_path: Path) -> None:
    config = {"architectures": ["OtherLMHeadModel"], "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
    model = load_model(str(folder(tmp_path, {**config, "vocab_size": 300, "eos_token_id": 2})))
    assert (model.hidden_size, model.num_hidden_layers, model.max_position_embeddings) == (64, 2, 256)
    assert (model.parameters(), model.bos_token_id) == (None, None)
    with pytest.raises(Refused, match="cannot create a synthetic checkpoint for architecture 'OtherLMHeadModel'"):
        plan(model, "float32")


def test_a_folder_with_weights_is_known_by_its_files(tmp_path: Path) -> None:
    made = folder(tmp_path, LLAMA)
    assert weights_folder(str(made)) is None
    (made / "model.safetensors").touch()
    assert weights_folder(str(made)) == made
    assert weights_folder(str(made / "config.json")) is None
    assert weights_folder(None) is None
