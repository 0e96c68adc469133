"""Weights to the byte: what the index of the published model, or the headers of its files, add up to."""

from __future__ import annotations

import pytest

from innerloop.harness.checkpoints import plan
from innerloop.harness.checkpoints.tensors import shards
from innerloop.harness.checkpoints.writer import header
from innerloop.harness.profiles import load_model

TOTAL_SIZES = {  # metadata.total_size of model.safetensors.index.json, but where said
    "llama3.1-8b": 16_060_522_496,
    "llama3.1-70b": 141_107_412_992,
    "llama3.1-405b": 811_706_777_600,
    "llama3.2-3b": 6_425_499_648,
    "llama3.3-70b": 141_107_412_992,
    "qwen2.5-7b": 15_231_233_024,
    "qwen2.5-72b": 145_412_407_296,
    "qwen3-8b": 16_381_470_720,
    "qwen3-30b-a3b": 61_064_245_248,
    "qwen3-235b-a22b": 470_187_269_120,
    "qwen3-32b-fp8": 34_322_434_048,  # 31 205 621 760 in FP8, 1 558 406 144 numbers of 2 bytes
    "mistral-7b": 14_483_464_192,
    "phi4": 29_319_014_400,
    "gemma3-1b": 2 * 999_885_952,  # its one file
    "gpt-oss-20b": 13_761_264_768,
    "gpt-oss-120b": 65_248_815_744,
}
PARAMETERS = {  # `safetensors.total` of the published repository, or what transformers counts of its model
    "llama-1b": 1_235_814_400,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "llama3.2-3b": 3_212_749_824,
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mixtral-8x7b": 46_702_792_704,
}
DEEPSEEK_V3_FILES = (688_586_727_753, 163)  # bytes of all safetensors files, and their number
LLAMA_3_1_8B_FP8_DYNAMIC = 9_083_953_152  # RedHatAI's, by its headers
LLAMA_3_3_70B_W4A16 = 39_525_311_232  # RedHatAI's, by its headers


@pytest.mark.parametrize(("name", "total"), TOTAL_SIZES.items(), ids=TOTAL_SIZES)
def test_weights_are_as_large_as_those_published(name: str, total: int) -> None:
    assert load_model(name).weights_bytes() == total


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items(), ids=PARAMETERS)
def test_parameters_are_as_many_as_published(name: str, count: int) -> None:
    assert load_model(name).parameters() == count


@pytest.mark.parametrize(("name", "tensors"), [("qwen3-235b-a22b", 36_945), ("gpt-oss-20b", 459)])
def test_a_plan_has_as_many_tensors_and_bytes_as_the_published_index(name: str, tensors: int) -> None:
    planned = plan(load_model(name), "bfloat16")
    assert (len(planned), sum(tensor.bytes for tensor in planned)) == (tensors, TOTAL_SIZES[name])


@pytest.mark.slow
def test_deepseek_v3_with_its_extra_layer_fills_the_published_files() -> None:
    """Layer 61 predicts a second token: a layer of experts, an embedding, a head, two norms, one for the head, and a
    matrix of 7168 x 14336. What is left of the files' bytes are their headers: as long as those that the writer here
    makes for as many files, to 1 %, which is 2 in 10 million of the whole.
    """
    total, files = DEEPSEEK_V3_FILES
    planned = plan(load_model("deepseek-v3"), "bfloat16", total // files)
    last = [tensor for tensor in planned if tensor.name.startswith("model.layers.60.")]
    extra = sum(tensor.bytes for tensor in last) + 2 * (2 * 129280 * 7168 + 3 * 7168 + 7168 * 14336)
    assert len(planned) + len(last) + 6 == 91_991  # of the published index
    headers = total - sum(tensor.bytes for tensor in planned) - extra
    mine = sum(len(header(held)) for held in shards(planned).values())
    assert headers == pytest.approx(mine * 91_991 / len(planned), rel=0.01)


def test_fp8_with_a_scale_an_output_is_stored_as_llm_compressor_does() -> None:
    """Of Llama 3.1 8B to the byte; of 405B 410 GB by the same rule, worked out by hand."""
    small = load_model("llama3.1-8b", ["quantization={method: fp8, bits: 8}"])
    assert small.weights_bytes() == LLAMA_3_1_8B_FP8_DYNAMIC
    layer = 2 * 16384 * 16384 + 2 * 16384 * 1024 + 3 * 16384 * 53248
    outputs = 3 * 16384 + 2 * 1024 + 2 * 53248
    rest = 2 * 128256 * 16384 + 126 * 2 * 16384 + 16384
    large = load_model("llama3.1-405b-fp8")
    assert large.weights_bytes() == 126 * (layer + 2 * outputs) + 2 * rest == 410_099_965_952
    assert sum(tensor.bytes for tensor in plan(large, "bfloat16")) == large.weights_bytes()


def test_four_bits_are_packed_as_llm_compressor_does() -> None:
    """The published file also holds an int32 for each input of each matrix, the order of its activations."""
    model = load_model("llama3.3-70b-w4a16")
    order = 80 * 4 * (6 * 8192 + 28672)
    assert model.weights_bytes() == LLAMA_3_3_70B_W4A16 - order
    assert sum(tensor.bytes for tensor in plan(model, "bfloat16")) == model.weights_bytes()


def test_gemma_3_27b_is_what_the_published_model_has_beside_its_vision_tower() -> None:
    """The technical report (arXiv 2503.19786, table 1): 1416 M of embeddings, 25 600 M beside them."""
    model = load_model("gemma3-27b")
    embedding = 262208 * 5376
    parameters = model.parameters()
    assert parameters is not None
    assert embedding / 1e6 == pytest.approx(1416, rel=0.005)
    assert (parameters - embedding) / 1e6 == pytest.approx(25_600, rel=0.005)


def test_active_parameters_of_gpt_oss_are_those_of_its_card_without_the_embedding() -> None:
    for name, total, active in (("gpt-oss-20b", 20.91, 3.61), ("gpt-oss-120b", 116.83, 5.13)):
        sizes = load_model(name).sizes()
        assert sizes is not None
        assert sizes.parameters / 1e9 == pytest.approx(total, abs=0.005)
        assert (sizes.active - 201088 * 2880) / 1e9 == pytest.approx(active, abs=0.05)
