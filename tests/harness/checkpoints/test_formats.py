from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from innerloop.harness.checkpoints import ensure_checkpoint, plan, writer
from innerloop.harness.checkpoints.formats import Fill, Tensor, quantization_config
from innerloop.harness.checkpoints.quantization_config import CompressedTensorsConfig, Fp8BlockConfig, GptqConfig
from innerloop.harness.checkpoints.weights import use_weights
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.profiles.published import quantization_method
from tests.harness.checkpoints.dequantize import dequantized, e4m3, read, unpacked
from tests.harness.checkpoints.test_synthetic_weights import forward

NAMES = ["llama-tiny-awq", "llama-tiny-gptq", "llama-tiny-w4a16", "llama-tiny-fp8", "llama3-8b-fp8"]  # last in blocks
SMALL = ["hidden_size=256", "num_hidden_layers=2", "num_attention_heads=4", "num_key_value_heads=2", "head_dim=64"]
SMALL += ["intermediate_size=768", "vocab_size=512", "bos_token_id=1", "eos_token_id=2"]


def small(name: str, *changes: str) -> ModelProfile:
    return load_model(name, [*SMALL, *changes])


def made(model: ModelProfile, folder: Path, seed: int = 0) -> Path:
    return ensure_checkpoint(model, model.dtype, seed, folder=folder).path


@pytest.mark.parametrize("name", NAMES)
def test_dequantized_weights_are_normal_with_the_deviation_of_the_dense_ones(tmp_path: Path, name: str) -> None:
    model = small(name, *(["quantization.block_size=16"] if name == "llama3-8b-fp8" else []))  # many scales
    meant = {t.name: t for t in plan(model.model_copy(update={"quantization": None}), model.dtype)}
    weights = dequantized(made(model, tmp_path))
    assert {name: array.shape for name, array in weights.items()} == {name: t.shape for name, t in meant.items()}
    for matrix, tensor in meant.items():
        if "_proj" in matrix:
            values, deviation = weights[matrix].astype(np.float64), tensor.fill.value
            assert np.isfinite(values).all()
            assert abs(values.mean()) < 4 * deviation * (8 / values.size) ** 0.5  # 8: zero points are shared
            assert values.std() == pytest.approx(deviation, rel=0.03)
            assert np.abs(values).max() < 8 * deviation
            assert np.mean(np.abs(values) < deviation) == pytest.approx(0.68, abs=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_quantized_weights_is_finite_varied_and_clear_in_its_choice(tmp_path: Path, name: str) -> None:
    model = small(name)
    weights = dequantized(made(model, tmp_path))
    prompts = np.random.default_rng(0).integers(3, model.vocab_size, (4, 48))
    results = [forward(model, weights, prompt) for prompt in prompts]
    logits = np.concatenate([logits for logits, _ in results])
    assert np.isfinite(logits).all()
    assert max(largest for _, largest in results) < 200  # float16 ends at 65504
    assert logits.std() == pytest.approx(1, rel=0.1)
    assert len(np.unique(logits.argmax(-1))) > 100  # of 192 positions
    second, first = np.sort(logits, axis=-1)[:, -2:].T
    assert np.median(first - second) > 0.1


def test_the_reference_reads_what_autoawq_packs() -> None:
    """AutoAWQ's WQLinear_GEMM.from_linear: column 8c + order[i] goes to the four bits from 4i on."""
    from tests.harness.checkpoints import dequantize

    rng = np.random.default_rng(0)
    levels, zeros = rng.integers(0, 16, (256, 16)), rng.integers(0, 16, (2, 16))
    scales = rng.uniform(0.5, 1, (2, 16)).astype(np.float16)

    def packed(numbers: np.ndarray) -> np.ndarray:
        words = np.zeros((len(numbers), 2), np.uint32)
        for column in range(2):
            for i, place in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
                words[:, column] |= numbers[:, 8 * column + place].astype(np.uint32) << np.uint32(4 * i)
        return words

    part = {"qweight": packed(levels), "qzeros": packed(zeros), "scales": scales}
    meant = np.concatenate([(levels[128 * g : 128 * g + 128] - zeros[g]) * scales[g].astype(float) for g in (0, 1)])
    np.testing.assert_array_equal(dequantize.awq(part, 128), meant.T)


def test_four_bit_levels_zero_points_and_scales_differ_from_place_to_place(tmp_path: Path) -> None:
    tensors, _ = read(made(small("llama-tiny-awq"), tmp_path))
    layer = "model.layers.1.mlp.up_proj"
    assert np.unique(unpacked(tensors[f"{layer}.qweight"])).tolist() == list(range(1, 16))
    assert np.unique(unpacked(tensors[f"{layer}.qzeros"])).tolist() == [6, 7, 8, 9, 10]
    scales = tensors[f"{layer}.scales"].astype(float)
    assert scales.min() > 0
    assert scales.std() / scales.mean() == pytest.approx(1 / 8, rel=0.1)
    numbers = unpacked(tensors[f"{layer}.qweight"]).reshape(-1, 8).astype(float)
    correlated = np.corrcoef(numbers.T) - np.eye(8)
    assert np.abs(correlated).max() < 5 / len(numbers) ** 0.5


def test_gptq_stores_one_less_than_its_zero_point_and_rows_in_order(tmp_path: Path) -> None:
    tensors, types = read(made(small("llama-tiny-gptq"), tmp_path))
    layer = "model.layers.0.mlp.down_proj"
    assert (unpacked(tensors[f"{layer}.qzeros"]) == 7).all()
    assert tensors[f"{layer}.g_idx"].tolist() == [row // 128 for row in range(768)]
    assert {part: types[f"{layer}.{part}"] for part in ("qweight", "qzeros", "scales", "g_idx")} == {
        "qweight": "I32", "qzeros": "I32", "scales": "F16", "g_idx": "I32",
    }  # fmt: skip


def shapes(name: str, layer: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    model = load_model(name)
    start = f"model.layers.{layer}."
    held = [t for t in plan(model, model.dtype) if t.name.startswith(start)]
    return {t.name.removeprefix(start): (t.dtype, t.shape) for t in held}


def test_the_70b_awq_plan_has_the_published_names_shapes_and_types() -> None:
    inputs = {"q": 8192, "k": 8192, "v": 8192, "o": 8192, "gate": 8192, "up": 8192, "down": 28672}
    outputs = {"q": 8192, "k": 1024, "v": 1024, "o": 8192, "gate": 28672, "up": 28672, "down": 8192}
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "input_layernorm.weight": ("float16", (8192,)),
        "post_attention_layernorm.weight": ("float16", (8192,)),
    }
    for short, n in inputs.items():
        name, m = f"{'self_attn' if short in 'qkvo' else 'mlp'}.{short}_proj", outputs[short]
        expected[f"{name}.qweight"] = ("int32", (n, m // 8))
        expected[f"{name}.qzeros"] = ("int32", (n // 128, m // 8))
        expected[f"{name}.scales"] = ("float16", (n // 128, m))
    for layer in ("0", "79"):
        assert shapes("llama3-70b-awq", layer) == expected


def test_the_70b_awq_plan_is_right_to_the_byte() -> None:
    model = load_model("llama3-70b-awq")
    tensors = plan(model, model.dtype)
    weights = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672)
    rest = 2 * 128256 * 8192 + 80 * 2 * 8192 + 8192
    assert len(tensors) == 80 * (7 * 3 + 2) + 3
    assert sum(t.bytes for t in tensors) == weights // 2 + weights // 128 // 2 + weights // 128 * 2 + 2 * rest
    assert sum(t.bytes for t in tensors) == model.weights_bytes() == 39_767_785_472
    assert sum(t.count for t in tensors) == 11_260_665_856
    assert {t.name for t in tensors if t.name.startswith(("model.embed", "model.norm", "lm_head"))} == {
        "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
    }  # fmt: skip
    assert len({t.shard for t in tensors}) == tensors[-1].shard > 19


@pytest.mark.parametrize("name", [*NAMES, "llama3-8b-awq", "llama3-8b-gptq", "llama3-70b-awq"])
def test_planned_bytes_are_those_of_the_profile(name: str) -> None:
    model = load_model(name)
    assert sum(t.bytes for t in plan(model, model.dtype)) == model.weights_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_files_hold_what_was_planned(tmp_path: Path, name: str) -> None:
    model = small(name)
    tensors, types = read(made(model, tmp_path))
    spelled = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "int32": "I32", "int64": "I64"}
    spelled["float8_e4m3"] = "F8_E4M3"
    assert {name: (a.shape, types[name]) for name, a in tensors.items()} == {
        t.name: (t.shape, spelled[t.dtype]) for t in plan(model, model.dtype)
    }
    assert sum(a.nbytes for a in tensors.values()) == model.weights_bytes()


def test_each_config_is_what_the_publishing_tool_writes() -> None:
    assert quantization_config(load_model("llama-tiny")) is None
    assert quantization_config(load_model("llama3-70b-awq")) == {
        "quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm",
        "modules_to_not_convert": None,
    }  # fmt: skip
    gptq = cast(GptqConfig, quantization_config(load_model("llama3-8b-gptq")))
    wanted = {"bits": 4, "group_size": 128, "desc_act": False, "sym": True, "checkpoint_format": "gptq"}
    assert gptq["quant_method"] == "gptq"
    assert gptq.items() >= wanted.items()
    blocks = cast(Fp8BlockConfig, quantization_config(load_model("llama3-8b-fp8")))
    assert (blocks["quant_method"], blocks["weight_block_size"]) == ("fp8", [128, 128])
    assert (blocks["activation_scheme"], blocks["ignored_layers"]) == ("dynamic", ["lm_head"])
    outputs = cast(CompressedTensorsConfig, quantization_config(load_model("llama-tiny-fp8")))
    assert outputs["quant_method"] == "compressed-tensors"
    weights = outputs["config_groups"]["group_0"]["weights"]
    assert (weights["type"], weights["num_bits"], weights["strategy"]) == ("float", 8, "channel")


@pytest.mark.parametrize("name", NAMES)
def test_config_json_names_the_quantization_and_a_made_folder_can_be_given_as_ones_own(
    tmp_path: Path, name: str
) -> None:
    model = small(name)
    path = made(model, tmp_path)
    assert json.loads((path / "config.json").read_text())["quantization_config"] == quantization_config(model)
    assert use_weights(path, model).path == path
    other = small("llama-tiny-gptq" if name == "llama-tiny-awq" else "llama-tiny-awq")
    with pytest.raises(Refused, match="quantization"):
        use_weights(path, other)


def test_fp8_in_blocks_is_not_taken_for_fp8_without(tmp_path: Path) -> None:
    path = made(small("llama3-8b-fp8", "rope_theta=10000"), tmp_path)
    blocks = small("llama3-8b-fp8", "quantization.block_size=64")
    with pytest.raises(Refused, match=r"block_size: 64 in the profile, \[128, 128\] in the folder's config.json"):
        use_weights(path, blocks)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("llama-tiny-awq", {"version": "gemv"}, "version: gemm in the profile, gemv in the folder's config.json"),
        ("llama-tiny-awq", {"zero_point": False}, "zero_point: true in the profile"),
        ("llama-tiny-gptq", {"desc_act": True}, "desc_act: false in the profile"),
        ("llama-tiny-gptq", {"checkpoint_format": "gptq_v2"}, "checkpoint_format: gptq in the profile"),
        ("llama-tiny-w4a16", {"format": "nvfp4-pack-quantized"}, "format: pack-quantized in the profile"),
    ],
)
def test_another_layout_of_the_same_method_is_refused(tmp_path: Path, name: str, change: Any, words: str) -> None:
    model = small(name)
    path = made(model, tmp_path)
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] |= change
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused, match=words):
        use_weights(path, model)


def test_blocks_of_compressed_tensors_are_not_taken_for_a_scale_an_output(tmp_path: Path) -> None:
    model = small("llama-tiny-fp8")
    path = made(model, tmp_path)
    config = json.loads((path / "config.json").read_text())
    for group in config["quantization_config"]["config_groups"].values():
        group["weights"]["block_structure"] = [128, 128]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused, match=r"block_size: none in the profile, \[128, 128\] in the folder's config.json"):
        use_weights(path, model)


@pytest.mark.parametrize("place", ["hf_quant_config.json", "quantize_config.json", "compression_config"])
def test_weights_that_are_quantized_by_what_only_some_engines_read_are_refused(tmp_path: Path, place: str) -> None:
    model = small("llama-tiny")
    path = made(model, tmp_path)
    if place.endswith(".json"):
        (path / place).write_text("{}")
    else:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, place: {"quant_method": "fp8"}}))
    with pytest.raises(Refused, match=f"{place} says that the weights are quantized"):
        use_weights(path, model)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (None, None),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 3}}, "compressed-tensors"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"type": "int", "num_bits": 4}}}},
            "compressed-tensors",
        ),
    ],
)
def test_only_eight_bit_floats_of_compressed_tensors_are_fp8(config: Any, method: str | None) -> None:
    assert quantization_method(config) == method
    assert quantization_method(quantization_config(load_model("llama-tiny-fp8"))) == "fp8"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("llama3-70b-awq", "quantization.version=gemv", "version=gemm"),
        ("llama3-70b-awq", "quantization.zero_point=false", "zero_point=true"),
        ("llama3-8b-gptq", "quantization.zero_point=true", "zero_point=false"),
        ("llama3-8b-gptq", "quantization.bits=8", "bits=4"),
    ],
)
def test_a_format_that_engines_do_not_read_is_refused_with_the_way_out(name: str, change: str, words: str) -> None:
    model = load_model(name, [change])
    with pytest.raises(Refused, match=f"cannot create a synthetic checkpoint for {model.name}") as refused:
        plan(model, model.dtype)
    assert words in refused.value.details[0]
    assert "--weights" in refused.value.details[1]


def test_e4m3_is_rounded_to_nearest_with_ties_to_even() -> None:
    codes = np.array([code for code in range(256) if code & 127 != 127], np.uint8)
    np.testing.assert_array_equal(writer.encode(e4m3(codes), "float8_e4m3"), codes)
    ties = np.array([1.0625, 1.1875, -1.0625, 2.0**-10, 3 * 2.0**-10, 447.9, 1e9, -1e9])
    assert e4m3(writer.encode(ties, "float8_e4m3")).tolist() == [1, 1.25, -1, 0, 2.0**-8, 448, 448, -448]


@pytest.mark.parametrize("chunk", [4, 1000, 65536])
@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("w", (300, 7), "int32", Fill("nibbles", 2.4)),
        Tensor("w", (300, 7), "float16", Fill("scales", 0.01)),
        Tensor("w", (2100,), "int32", Fill("groups", 128)),
        Tensor("w", (300, 7), "float8_e4m3", Fill("normal", 100.0)),
    ],
)
def test_values_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch, chunk: int, tensor: Tensor) -> None:
    whole = np.concatenate([values.copy() for values in writer.chunks([tensor], 3)])
    monkeypatch.setattr(writer, "CHUNK_VALUES", chunk)
    np.testing.assert_array_equal(np.concatenate([values.copy() for values in writer.chunks([tensor], 3)]), whole)
    assert whole.size == tensor.count
    assert whole.nbytes == tensor.bytes


@pytest.mark.parametrize("name", NAMES)
def test_weights_depend_on_the_seed(tmp_path: Path, name: str) -> None:
    first, second = (dequantized(made(small(name), tmp_path, seed)) for seed in (0, 1))
    matrix = "model.layers.0.self_attn.o_proj.weight"
    assert np.mean(first[matrix] == second[matrix]) < 0.1
    assert abs(np.corrcoef(first[matrix].ravel(), second[matrix].ravel())[0, 1]) < 0.05


def test_routers_stay_as_they_are_and_the_configuration_says_so() -> None:
    model = load_model("qwen3-30b-a3b-fp8")
    stored: Any = quantization_config(model)
    routers = [f"model.layers.{i}.mlp.gate" for i in range(48)]
    assert stored["modules_to_not_convert"] == stored["ignored_layers"] == ["lm_head", *routers]
    kinds = {tensor.name: tensor.dtype for tensor in plan(model, "bfloat16")}
    assert kinds["model.layers.0.mlp.gate.weight"] == "bfloat16"
    assert kinds["model.layers.0.mlp.experts.127.down_proj.weight"] == "float8_e4m3"
    assert kinds["model.layers.0.mlp.experts.127.down_proj.weight_scale_inv"] == "bfloat16"  # DeepSeek's: float32


@pytest.mark.parametrize("name", ["qwen3-moe-tiny-gptq", "qwen3-moe-tiny-fp8"])
def test_quantized_experts_can_be_given_as_ones_own(tmp_path: Path, name: str) -> None:
    shape = ["hidden_size=256", "num_hidden_layers=1", "vocab_size=512", "config.moe_intermediate_size=128"]
    model = load_model(name, [*shape, "config.num_experts=4", "config.num_experts_per_tok=2"])
    path = made(model, tmp_path)
    own = load_model(str(path))
    assert use_weights(path, own).bytes > (model.weights_bytes() or 0) > 0
    weights = dequantized(path)
    experts = [weights[f"model.layers.0.mlp.experts.{i}.up_proj.weight"] for i in range(4)]
    assert [expert.shape for expert in experts] == [(128, 256)] * 4
    assert np.std(experts) == pytest.approx(256**-0.5, rel=0.1)  # two blocks a matrix
    assert abs(np.corrcoef(experts[0].ravel(), experts[1].ravel())[0, 1]) < 0.05
    assert weights["model.layers.0.mlp.gate.weight"].std() == pytest.approx(256**-0.5, rel=0.1)
