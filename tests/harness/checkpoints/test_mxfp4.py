"""GPT-OSS's experts in MXFP4: how they lie, what they mean, and folders of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.checkpoints import ensure_checkpoint, plan, use_weights, writer
from innerloop.harness.checkpoints.formats import Fill, Tensor
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.result.roofline import cost_of
from tests.harness.checkpoints.dequantize import E2M1, mxfp4, read

SMALL = ["hidden_size=128", "num_hidden_layers=2", "num_attention_heads=4", "num_key_value_heads=2", "head_dim=32"]
SMALL += ["intermediate_size=96", "vocab_size=512"]


def small(*changes: str) -> ModelProfile:
    return load_model("gpt-oss-tiny-mxfp4", [*SMALL, *changes])


def test_experts_lie_as_openai_publishes_them() -> None:
    planned = {tensor.name: (tensor.dtype, tensor.shape) for tensor in plan(load_model("gpt-oss-20b"), "bfloat16")}
    experts = "model.layers.0.mlp.experts"
    assert planned[f"{experts}.gate_up_proj_blocks"] == ("uint8", (32, 5760, 90, 16))
    assert planned[f"{experts}.gate_up_proj_scales"] == ("uint8", (32, 5760, 90))
    assert planned[f"{experts}.gate_up_proj_bias"] == ("bfloat16", (32, 5760))
    assert planned[f"{experts}.down_proj_blocks"] == ("uint8", (32, 2880, 90, 16))
    assert planned["model.layers.0.self_attn.q_proj.weight"] == ("bfloat16", (4096, 2880))
    assert planned["model.layers.0.mlp.router.weight"] == ("bfloat16", (32, 2880))


def test_the_numbers_have_the_deviation_of_the_unpacked_ones(tmp_path: Path) -> None:
    model = small()
    tensors, _ = read(ensure_checkpoint(model, "bfloat16", folder=tmp_path).path)
    for part, inputs in (("gate_up_proj", 128), ("down_proj", 96)):
        name = f"model.layers.1.mlp.experts.{part}"
        blocks, exponents = tensors[f"{name}_blocks"], tensors[f"{name}_scales"]
        assert len(np.unique(exponents)) == 2
        assert len(np.unique(np.concatenate([blocks & 15, blocks >> 4]))) >= 15
        values = mxfp4(blocks, exponents)
        assert values.shape == (8, inputs, 192 if part == "gate_up_proj" else 128)
        assert values.std() == pytest.approx(inputs**-0.5, rel=0.05)
        assert abs(values.mean()) < 0.02 * inputs**-0.5


def test_a_float_is_rounded_to_the_nearest_that_there_is() -> None:
    numbers = np.concatenate([E2M1[writer.e2m1_table(1.5) & 15], E2M1[writer.e2m1_table(1.5) >> 4]])
    assert set(np.abs(numbers).tolist()) == {0, 0.5, 1, 1.5, 2, 3, 4}
    assert numbers.std() == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("w", (300, 7), "uint8", Fill("e2m1", 1.5)),
        Tensor("w", (300, 7), "uint8", Fill("exponents", 121.0)),
        Tensor("w", (7, 300), "bfloat16", Fill("rows", 0.1, (1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0))),
        Tensor("w", (2,), "int64", Fill("listed", 0.0, (300.0, 7.0))),
    ],
)
def test_values_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch, tensor: Tensor) -> None:
    whole = np.concatenate([values.copy() for values in writer.chunks([tensor], 3)])
    monkeypatch.setattr(writer, "CHUNK_VALUES", 4)
    np.testing.assert_array_equal(np.concatenate([values.copy() for values in writer.chunks([tensor], 3)]), whole)
    assert (whole.size, whole.nbytes) == (tensor.count, tensor.bytes)


def test_a_made_folder_can_be_given_as_ones_own_and_is_not_taken_for_the_unpacked_model(tmp_path: Path) -> None:
    model = small()
    path = ensure_checkpoint(model, "bfloat16", folder=tmp_path).path
    assert json.loads((path / "config.json").read_text())["quantization_config"]["quant_method"] == "mxfp4"
    assert use_weights(path, load_model(str(path))).path == path
    assert load_model(str(path)).quantization == model.quantization
    with pytest.raises(Refused, match="quantization: none in the profile, mxfp4 in the folder"):
        use_weights(path, model.model_copy(update={"quantization": None}))


def test_a_step_reads_seventeen_bits_for_sixteen_numbers_of_two() -> None:
    """hidden 128, inner 96, 8 experts, 2 layers: 2 x 8 x (128 x 192 + 96 x 128) = 589 824 numbers in the stacks."""
    of = cost_of({"model_profile": small().model_dump(mode="json"), "settings": {"dtype": "bfloat16"}}, {})
    assert of.routed is not None
    assert of.routed.bytes == 589_824 * 17 / 32
    attention = 2 * (2 * 128 * 128 + 2 * 128 * 64)
    assert of.layers_bytes > 2 * attention
    assert of.dtype == of.linear_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("gpt-oss-tiny", "quantization={method: awq}", "quantization.method is awq; gpt-oss supports mxfp4"),
        ("llama-tiny", "quantization={method: mxfp4}", "quantization.method is mxfp4; llama supports awq, gptq, fp8"),
        ("gpt-oss-tiny-mxfp4", "hidden_size=520", "must be multiples of 32"),
        ("gpt-oss-tiny-mxfp4", "quantization.bits=8", "mxfp4 needs bits: 4, not 8"),
    ],
)
def test_what_mxfp4_cannot_be_is_refused(name: str, change: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        load_model(name, [change])
