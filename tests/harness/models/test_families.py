"""Families by hand-worked figures: parameters, the cache, a step's bytes and operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.context import Work, work
from innerloop.harness.analysis.roofline import bounds, experts_touched
from innerloop.harness.analysis.sight import Seen, capped, seen
from innerloop.harness.models.families import BY_ARCHITECTURE, BY_MODEL_TYPE, FAMILIES
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.result.roofline import cost_of
from innerloop.harness.schema.roofline import Cost, Peaks, Routed
from tests.harness.conftest import offline_run
from tests.harness.models.tiny import TINY, tiny

PEAKS = Peaks(bytes_per_s=1e6, ops_per_s=1e8, linear_ops_per_s=1e8)


def cost(model: ModelProfile, **effective: Any) -> Cost:
    return cost_of({"model_profile": model.model_dump(mode="json"), "settings": {"dtype": "bfloat16"}}, effective)


def one_step(**values: float) -> Work:
    names = ("prefill", "prefill_context", "decode", "decode_context", "kv_read", "outputs")
    return Work(**{name: np.array([values.get(name, 0.0)]) for name in names}, unattributed=0.0)


def test_each_architecture_and_model_type_is_of_one_family() -> None:
    assert len(BY_ARCHITECTURE) == sum(len(family.architectures) for family in FAMILIES)
    assert len(BY_MODEL_TYPE) == len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert {name.split()[0] for name in TINY} == set(BY_ARCHITECTURE)


@pytest.mark.parametrize("name", TINY)
def test_what_a_profile_says_of_itself_is_read_back(name: str) -> None:
    model = tiny(name)
    assert ModelProfile.model_validate(model.model_dump(mode="json")) == model
    assert ModelProfile.model_validate_json(model.model_dump_json()) == model


def test_a_mixture_of_experts_worked_out_by_hand() -> None:
    """Two layers of 4 experts, each position takes 2. hidden 8, 2 heads of 4, one KV head, expert width 16, vocab 32.

    Attention of a layer: 8x8 + 2 x 8x4 + 8x8 = 192. An expert: 3 x 8x16 = 384. Router 8x4 = 32. Two norms of 8.
    Layer: 192 + 4 x 384 + 32 + 16 = 1776; two: 3552; last norm 8; two tables of 256: 4072 in all.
    Active: 4072 - 2 layers x 2 experts x 384 = 2536.
    A decode step of one position (context 10): layers (192 + 32 + 16) x 2 + 8 = 488 numbers; experts touched
        1 - (1 - 2/4)^1 = 1/2 of 2 x 4 x 384 = 3072: 1536; lm_head 256; embedding 8; KV of a token 2 x 2 x 4 = 16,
        10 tokens: 160. Together 2448 numbers of 2 bytes: 4896.
    Operations: 2 x 2 x (192 + 32 + 2 x 384) = 3968; lm_head 512; attention 10 x 2 layers x 2 heads x 16 = 640: 5120.
    Two positions touch 1 - 1/4 = 3/4 of the experts.
    """
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    model = tiny("MixtralForCausalLM", **shape, intermediate_size=16, vocab_size=32)
    sizes = model.sizes()
    assert sizes is not None
    assert (sizes.parameters, sizes.active) == (4072, 2536)
    found = bounds(one_step(decode=1, decode_context=10, kv_read=9, outputs=1), cost(model), PEAKS)
    assert (found.bytes[0], found.ops[0]) == (4896, 5120)
    two = bounds(one_step(decode=2, decode_context=20, kv_read=18, outputs=2), cost(model), PEAKS)
    assert two.bytes[0] - found.bytes[0] == 2 * (3072 / 4 + 8 + 160)


@pytest.mark.slow
@pytest.mark.parametrize(("experts", "taken", "positions"), [(8, 2, 3), (128, 8, 16), (256, 8, 64), (4, 4, 1)])
def test_experts_touched_are_those_of_a_simulated_router(experts: int, taken: int, positions: int) -> None:
    random, trials = np.random.default_rng(7), 25_000 // positions
    chosen = random.random((trials, positions, experts)).argpartition(taken - 1, axis=-1)[..., :taken]
    touched = np.mean([len(np.unique(one)) for one in chosen]) / experts
    expected = experts_touched(np.array([float(positions)]), Routed(1.0, experts, taken))[0]
    assert expected == pytest.approx(touched, rel=0.01)


def test_latent_attention_worked_out_by_hand() -> None:
    """DeepSeek V3, tiny: 2 layers of 4 heads; latent 16 and rotary 8; a head has 16 + 8 for scores, 12 for values.

    A token keeps 2 x (16 + 8) = 48 numbers. A pair of a prompt's positions: 2 layers x 2 x 4 heads x (24 + 12) = 576;
    of a decode position, in the latent space: 2 x 2 x 4 x (24 + 16) = 640.
    Attention's matrices of a layer: q_a 64x24, q_b 24 x 4x24, kv_a 64 x 24, kv_b 16 x 4x(16+12), o 4x12 x 64
        = 1536 + 2304 + 1536 + 1792 + 3072 = 10240. Dense layer: 3 x 64x96 = 18432. Mixture: router 64x4 = 256, shared
        3 x 64x32 = 6144, an expert 6144; each position: 2 x 10240 + 18432 + 256 + 6144 + 2 x 6144 = 57600.
    """
    model = tiny("DeepseekV3ForCausalLM")
    of = cost(model)
    assert model.kv_bytes_per_token("bfloat16") == 2 * 48 == of.kv_bytes
    assert (of.attention_ops, of.decode_attention_ops, of.linear_ops) == (576, 640, 2 * 57600)
    assert of.routed == Routed(2.0 * 4 * 6144, 4, 2)
    prefill = bounds(one_step(prefill=3, prefill_context=6), of, PEAKS).ops[0]
    decode = bounds(one_step(decode=1, decode_context=6, kv_read=5), of, PEAKS).ops[0]
    assert (prefill, decode) == (3 * 115200 + 6 * 576, 115200 + 6 * 640)
    assert cost(model, tensor_parallel=4).kv_bytes == 4 * of.kv_bytes  # each device keeps the latents


def test_a_window_worked_out_by_hand() -> None:
    """Gemma 3, 6 layers: five see 32 positions, one all. KV of a token and layer: 2 x 2 x 24 = 96 numbers, 192 bytes.

    A decode step at context 100 reads 99 tokens in one layer and 31 in five, and writes one in six:
        192 x (99 + 5 x 31 + 6) = 49 920 bytes. Pairs: 100 in one layer, 32 in five, 4 heads x 96 operations each.
    """
    of = cost(tiny("Gemma3ForCausalLM"))
    [some] = of.windowed
    assert (some.window, some.kv_bytes, of.kv_bytes) == (32, 5 * 192, 6 * 192)
    windows = {32: Seen(pairs=np.array([32.0]), kv_read=np.array([31.0]))}
    step = one_step(decode=1, decode_context=100, kv_read=99)
    found = bounds(step, of, PEAKS, windows)
    assert found.bytes[0] == of.layers_bytes + of.embedding_bytes + 49_920
    assert found.ops[0] == of.linear_ops + 4 * 96 * (100 + 5 * 32)


def test_what_a_window_sees_is_counted_a_position_at_a_time() -> None:
    firsts, counts = np.array([1, 5, 30, 40]), np.array([3, 0, 6, 2])
    by_hand = [sum(min(first + i, 32) for i in range(count)) for first, count in zip(firsts, counts, strict=True)]
    assert capped(firsts, counts, 32).tolist() == by_hand


def test_a_run_in_windows_sees_no_more_than_the_window_and_all_in_a_wide_one() -> None:
    made = offline_run(requests=4, output=20, prompt=16)
    steps, tokens, requests = made["steps"], made["tokens"], made["requests"]
    whole, saw = work(steps, tokens, requests), seen(steps, tokens, requests, (8, 10_000))
    assert np.array_equal(saw[10_000].pairs, whole.pairs)
    assert np.array_equal(saw[10_000].kv_read, whole.kv_read)
    assert saw[8].pairs[0] == 4 * (sum(range(1, 8)) + 9 * 8)  # four prompts of 16
    assert saw[8].pairs[5] == 4 * 8
    assert saw[8].kv_read[5] == 4 * 7


def test_bfloat16_checkpoints_keep_the_routers_correction_in_float32() -> None:
    model = tiny("DeepseekV3ForCausalLM")
    parameters = model.parameters()
    assert parameters is not None
    assert model.weights_bytes("bfloat16") == 2 * parameters + 4 * 2  # four experts in one layer


def test_an_unknown_family_has_no_sizes() -> None:
    model = ModelProfile.model_validate({**tiny("LlamaForCausalLM").model_dump(), "architecture": "OtherForCausalLM"})
    assert (model.parameters(), model.weights_bytes(), model.kv_bytes_per_token()) == (None, None, None)
