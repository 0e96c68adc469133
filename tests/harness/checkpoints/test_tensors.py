from __future__ import annotations

import itertools

import pytest

from innerloop.harness.checkpoints.tensors import config_json, plan, shards
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.models import ModelProfile

SMALL = ["hidden_size=64", "num_hidden_layers=3", "intermediate_size=96", "vocab_size=300", "num_attention_heads=4"]
SMALL += ["num_key_value_heads=2", "head_dim=16"]


def small(*changes: str) -> ModelProfile:
    return load_model("llama-tiny", [*SMALL, *changes])


def total(model: ModelProfile, dtype: str) -> int:
    return sum(tensor.bytes for tensor in plan(model, dtype))


@pytest.mark.parametrize(
    ("name", "size"),  # metadata.total_size of the published model.safetensors.index.json, or 2 bytes a parameter
    [("llama3-8b", 16_060_522_496), ("llama3-70b", 141_107_412_992), ("llama-1b", 2 * 1_235_814_400)],
)
def test_planned_bytes_are_those_of_the_published_weights(name: str, size: int) -> None:
    assert total(load_model(name), "bfloat16") == size


@pytest.mark.parametrize("name", ["llama-tiny", "llama-1b", "llama3-8b", "llama3-70b"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_planned_bytes_are_those_of_the_profile(name: str, dtype: str) -> None:
    model = load_model(name)
    assert total(model, dtype) == model.weights_bytes(dtype)


def test_shapes_are_outputs_by_inputs_as_torch_stores_them() -> None:
    shapes = {tensor.name: tensor.shape for tensor in plan(load_model("llama3-8b"), "bfloat16")}
    assert len(shapes) == 291
    layer = "model.layers.31"
    assert shapes["model.embed_tokens.weight"] == shapes["lm_head.weight"] == (128256, 4096)
    assert shapes[f"{layer}.self_attn.q_proj.weight"] == shapes[f"{layer}.self_attn.o_proj.weight"] == (4096, 4096)
    assert shapes[f"{layer}.self_attn.k_proj.weight"] == shapes[f"{layer}.self_attn.v_proj.weight"] == (1024, 4096)
    assert shapes[f"{layer}.mlp.gate_proj.weight"] == shapes[f"{layer}.mlp.up_proj.weight"] == (14336, 4096)
    assert shapes[f"{layer}.mlp.down_proj.weight"] == (4096, 14336)
    assert shapes[f"{layer}.input_layernorm.weight"] == shapes["model.norm.weight"] == (4096,)


def test_head_size_may_differ_from_hidden_size_by_heads() -> None:
    shapes = {tensor.name: tensor.shape for tensor in plan(small("head_dim=48"), "float32")}
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == (192, 64)
    assert shapes["model.layers.0.self_attn.k_proj.weight"] == (96, 64)
    assert shapes["model.layers.0.self_attn.o_proj.weight"] == (64, 192)


def test_tied_embeddings_have_no_output_matrix_of_their_own() -> None:
    names = {tensor.name for tensor in plan(small(), "float32")}
    tied = {tensor.name for tensor in plan(small("tie_word_embeddings=true"), "float32")}
    assert names - tied == {"lm_head.weight"}


def test_linear_layers_keep_unit_variance_and_norms_are_one() -> None:
    fills = {tensor.name: tensor.fill for tensor in plan(small(), "float32")}
    assert fills["model.layers.2.mlp.down_proj.weight"].value == pytest.approx(96**-0.5)
    assert fills["model.layers.2.mlp.up_proj.weight"].value == pytest.approx(64**-0.5)
    norms = [fill for name, fill in fills.items() if "norm" in name]
    assert len(norms) == 7
    assert all((fill.kind, fill.value) == ("constant", 1.0) for fill in norms)


@pytest.mark.parametrize("limit", [1, 10_000, 40_000, 10**9])
def test_no_shard_is_larger_than_the_limit_unless_one_tensor_is(limit: int) -> None:
    tensors = plan(small(), "float32", limit)
    held: dict[int, list[int]] = {}
    for tensor in tensors:
        held.setdefault(tensor.shard, []).append(tensor.bytes)
    assert list(held) == list(range(1, len(held) + 1))
    assert all(sum(sizes) <= limit or len(sizes) == 1 for sizes in held.values())
    assert [t.name for t in tensors] == [t.name for t in plan(small(), "float32")]


def test_a_next_shard_begins_only_when_the_tensor_does_not_fit() -> None:
    tensors = plan(small(), "float32", 40_000)
    for before, after in itertools.pairwise(tensors):
        if after.shard != before.shard:
            filled = sum(t.bytes for t in tensors if t.shard == before.shard)
            assert filled + after.bytes > 40_000


def test_files_are_named_as_hugging_face_names_them() -> None:
    assert list(shards(plan(small(), "float32"))) == ["model.safetensors"]
    names = list(shards(plan(small(), "float32", 80_000)))
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    assert names[-1] == f"model-{len(names):05d}-of-{len(names):05d}.safetensors"
    assert len(names) > 2


def test_unknown_architectures_and_dtypes_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(Refused, match="did you mean 'LlamaForCausalLM'"):
        plan(small().model_copy(update={"architecture": "LamaForCausalLM"}), "float32")
    with pytest.raises(Refused, match="did you mean 'bfloat16'"):
        plan(small(), "bfloat")


def test_config_says_the_rotary_embedding_and_the_dtype_in_both_spellings() -> None:
    config = config_json(load_model("llama-1b"), "float16")
    assert config["dtype"] == config["torch_dtype"] == "float16"
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 500000.0
    assert config["rope_scaling"]["rope_type"] == config["rope_parameters"]["rope_type"] == "llama3"
    assert {**config["rope_scaling"], "rope_theta": 500000.0} == config["rope_parameters"]
    plainly = config_json(small(), "float32")
    assert plainly["rope_scaling"] is None
    assert plainly["rope_parameters"] == {"rope_type": "default", "rope_theta": 500000.0}
