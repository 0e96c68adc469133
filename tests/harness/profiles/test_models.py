"""Model profiles: published sizes, and architectures that cannot exist."""

from __future__ import annotations

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.models.sizes import Sizes
from innerloop.harness.profiles import load_model, names
from innerloop.harness.profiles.models import ModelProfile


def sizes_of(model: ModelProfile) -> Sizes:
    found = model.sizes()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-1b", 1_235_814_400),
        ("llama3-8b", 8_030_261_248),
        ("llama3-70b", 70_553_706_496),
        ("llama3-8b-awq", 8_030_261_248),
        ("llama3-70b-awq", 70_553_706_496),
    ],
)
def test_parameters_are_those_published(name: str, parameters: int) -> None:
    assert load_model(name).parameters() == parameters


@pytest.mark.parametrize(
    ("name", "billions", "active"),  # as their model cards say
    [
        ("qwen3-0.6b", 0.6, 0.6),
        ("qwen3-8b", 8.2, 8.2),
        ("qwen3-32b", 32.8, 32.8),
        ("qwen3-30b-a3b", 30.5, 3.3),
        ("qwen3-30b-a3b-fp8", 30.5, 3.3),
        ("qwen3-235b-a22b", 235, 22),
        ("mixtral-8x7b", 46.7, 12.9),
        ("llama3.1-405b", 405, 405),
        ("deepseek-v3", 671, 37),
        ("llama3.2-3b", 3.21, 3.21),
        ("llama3.3-70b", 70.6, 70.6),
        ("qwen2.5-0.5b", 0.49, 0.49),
        ("qwen2.5-7b", 7.61, 7.61),
        ("qwen2.5-72b", 72.7, 72.7),
        ("mistral-7b", 7.24, 7.24),
        ("phi4", 14.7, 14.7),
        ("gemma3-1b", 1.0, 1.0),
    ],
)
def test_total_and_active_parameters_are_those_published(name: str, billions: float, active: float) -> None:
    found = sizes_of(load_model(name))
    assert found.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert found.active / 1e9 == pytest.approx(active, rel=0.02)


def test_llama_tiny_has_the_parameters_worked_out_by_hand() -> None:
    attention = 512 * 512 + 2 * 512 * 256 + 512 * 512
    layer = attention + 3 * 512 * 1536 + 2 * 512
    assert load_model("llama-tiny").parameters() == 8 * layer + 2 * 8192 * 512 + 512 == 33_563_136


def test_a_kv_token_takes_two_vectors_a_layer() -> None:
    assert load_model("llama3-8b").kv_bytes_per_token() == 2 * 32 * 8 * 128 * 2 == 131_072
    assert load_model("llama3-8b").kv_bytes_per_token("float32") == 262_144
    assert load_model("llama-tiny").kv_bytes_per_token() == 2 * 8 * 4 * 64 * 4


def test_dense_weights_take_the_dtype_times_the_parameters() -> None:
    assert load_model("llama3-8b").weights_bytes() == 16_060_522_496
    assert load_model("llama3-8b").weights_bytes("float32") == 32_121_044_992


def test_awq_weights_follow_the_gemm_layout() -> None:
    def matrix(rows: int, columns: int) -> int:
        return 4 * rows * columns // 8 + 4 * (rows // 128) * columns // 8 + 2 * (rows // 128) * columns

    layer = 2 * matrix(4096, 4096) + 2 * matrix(4096, 1024) + 2 * matrix(4096, 14336) + matrix(14336, 4096)
    unquantized = 2 * (2 * 128256 * 4096 + 32 * 2 * 4096 + 4096)
    assert load_model("llama3-8b-awq").weights_bytes() == 32 * layer + unquantized == 5_727_854_592


def test_gptq_weights_also_hold_an_index_of_the_rows() -> None:
    awq = load_model("llama3-8b-awq")
    gptq = load_model("llama3-8b-awq", ["quantization.method=gptq"])
    assert gptq.weights_bytes() == (awq.weights_bytes() or 0) + 32 * 4 * (6 * 4096 + 14336)


def test_fp8_weights_take_a_byte_each() -> None:
    fp8 = load_model("llama3-8b", ["quantization={method: fp8, bits: 8}"])
    outputs = 3 * 4096 + 2 * 1024 + 2 * 14336  # each with a scale in the model's dtype
    assert fp8.weights_bytes() == sizes_of(fp8).linear + 32 * 2 * outputs + 2 * sizes_of(fp8).other


def test_fp8_weights_in_blocks_have_a_scale_a_block_even_where_the_last_is_not_full() -> None:
    fp8 = load_model("llama3-8b-fp8")
    blocks = 2 * 32 * 32 + 2 * 8 * 32 + 3 * 112 * 32
    assert fp8.weights_bytes() == sizes_of(fp8).linear + 32 * 4 * blocks + 2 * sizes_of(fp8).other
    assert fp8.quantization is not None
    assert fp8.quantization.matrix_bytes(129, 256) == 129 * 256 + 4 * 2 * 2


def test_tied_embeddings_are_counted_once() -> None:
    tied, untied = load_model("llama-1b"), load_model("llama-1b", ["tie_word_embeddings=false"])
    assert sizes_of(untied).parameters - sizes_of(tied).parameters == 128256 * 2048


def test_llama_3_2_keeps_its_published_rope() -> None:
    model = load_model("llama-1b")
    assert model.max_position_embeddings == 131072
    assert model.rope_scaling == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_fields_that_config_files_leave_out_are_filled_in() -> None:
    given = load_model("llama3-8b").model_dump()
    del given["head_dim"], given["num_key_value_heads"]
    model = type(load_model("llama3-8b")).model_validate(given)
    assert (model.head_dim, model.num_key_value_heads) == (128, 32)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("deepseek-v3", "n_routed_experts"),
        ("mixtral-8x7b", "num_local_experts"),
        ("qwen3-30b-a3b", "num_experts"),
        ("gpt-oss-20b", "num_local_experts"),
        ("glm4-moe-tiny", "n_routed_experts"),
    ],
)
def test_more_experts_than_can_be_planned_are_refused(name: str, field: str) -> None:
    with pytest.raises(Refused, match=r"9223372036854775808 experts in each of .* layers are too many"):
        load_model(name, [f"config.{field}=9223372036854775808"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_key_value_heads=7", "num_attention_heads (32) must be a multiple of num_key_value_heads (7)"),
        ("head_dim=127", "head_dim (127) must be even"),
        ("eos_token_id=128256", "eos_token_id (128256) must be less than vocab_size (128256)"),
        ("rope_scaling={rope_type: lama3}", "rope_scaling.rope_type is lama3; did you mean 'llama3'"),
        ("quantization.group_size=96", "quantization.group_size (96) must divide"),
        ("quantization.bits=8", "quantization: awq needs bits: 4, not 8"),
        ("quantization.block_size=128", "quantization: block_size is for fp8; awq uses group_size"),
        ("num_hidden_layers=0", "num_hidden_layers is 0; it must be at least 1"),
        ("rms_norm_eps=0", "rms_norm_eps is 0; it must be more than 0"),
    ],
)
def test_an_architecture_that_cannot_exist_is_refused(override: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        load_model("llama3-8b-awq", [override])
    assert message in str(refused.value)


def test_every_shipped_model_is_named_as_its_file_and_says_its_source() -> None:
    assert {"llama-tiny", "llama-1b", "llama3-8b", "llama3-70b", "llama3-8b-awq", "llama3-70b-awq"} <= {
        *names("models")
    }
    for name in names("models"):
        model = load_model(name)
        assert (model.name, bool(model.source), bool(model.title)) == (name, True, True)
