"""The bound of a step, against a step whose bytes and operations are worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.context import Work
from innerloop.harness.analysis.roofline import bounds, roofline
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.result.roofline import above, cost_of
from innerloop.harness.schema.roofline import Peaks, Roofline
from tests.harness.conftest import offline_run

TOY = ModelProfile(
    name="toy",
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=4,
    intermediate_size=16,
    vocab_size=32,
    max_position_embeddings=64,
    bos_token_id=0,
    eos_token_id=1,
    dtype="bfloat16",
)
PEAKS = Peaks(bytes_per_s=1e6, ops_per_s=1e8, linear_ops_per_s=1e8)


def spec(**settings):
    return {"model_profile": TOY.model_dump(mode="json"), "settings": {"dtype": "bfloat16", **settings}}


def one_step(prefill=0.0, prefill_context=0.0, decode=0.0, decode_context=0.0, kv_read=0.0, outputs=0.0):
    names = {
        "prefill": prefill,
        "prefill_context": prefill_context,
        "decode": decode,
        "decode_context": decode_context,
        "kv_read": kv_read,
        "outputs": outputs,
    }
    return Work(**{name: np.array([value]) for name, value in names.items()}, unattributed=0.0)


def test_a_mixed_step_worked_out_by_hand():
    """Two requests decode, with 10 and 20 tokens so far (the new one included); a prompt of 3 is computed whole.

    Matrices of a layer: q 8x8, k 8x4, v 8x4, o 8x8, gate 8x16, up 8x16, down 16x8
        = 64 + 32 + 32 + 64 + 128 + 128 + 128 = 576 parameters; two layers: 1152.
    Norms: 2 a layer and the last one, 8 each: 5 x 8 = 40. lm_head: 8 x 32 = 256. All at 2 bytes.
    Positions: 2 decode + 3 prefill = 5. Tokens that come out: 2 + 1 = 3.
    KV of a token: keys and values, 2 layers, 1 head, 4 numbers: 2 x 2 x 1 x 4 = 16 numbers = 32 bytes.

    Bytes: layers (1152 + 40) x 2 = 2384; lm_head 256 x 2 = 512; embedding rows 5 x 8 x 2 = 80;
        KV written 5 x 32 = 160; KV read (9 + 19) x 32 = 896. Together 4032.
    Operations: matrices 2 x 1152 x 5 = 11520; lm_head 2 x 256 x 3 = 1536;
        attention: pairs 10 + 20 + (1 + 2 + 3) = 36, each 2 layers x 2 heads x (2 x 4 + 2 x 4) = 64: 2304.
        Together 15360.
    """
    cost = cost_of(spec(), {})
    done = one_step(prefill=3, prefill_context=6, decode=2, decode_context=30, kv_read=28, outputs=3)
    found = bounds(done, cost, PEAKS)
    assert found.bytes[0] == 4032
    assert found.ops[0] == 15360
    assert found.memory_s[0] == pytest.approx(4032e-6)
    assert found.matrix_s[0] == pytest.approx(15360e-8)
    assert found.bound_s[0] == pytest.approx(4032e-6)  # memory: 4.03 ms against 0.15 ms


def test_a_long_prompt_is_bound_by_the_matrix_rate():
    cost = cost_of(spec(), {})
    done = one_step(prefill=1000, prefill_context=500500, outputs=1)
    found = bounds(done, cost, Peaks(bytes_per_s=1e9, ops_per_s=1e8, linear_ops_per_s=1e8))
    assert found.bound_s[0] == found.matrix_s[0] == pytest.approx((2 * 1152 * 1000 + 512 + 64 * 500500) / 1e8)


def test_matrices_in_another_format_have_a_rate_of_their_own():
    done = one_step(decode=1, decode_context=1, outputs=1)
    cost = cost_of(spec(), {})
    found = bounds(done, cost, Peaks(1e30, ops_per_s=1e3, linear_ops_per_s=2e3))
    assert found.bound_s[0] == pytest.approx(2 * 1152 / 2e3 + (512 + 64) / 1e3)


def test_a_step_that_gives_no_token_reads_no_lm_head():
    cost = cost_of(spec(), {})
    with_head, without = (
        bounds(one_step(prefill=4, prefill_context=10, outputs=n), cost, PEAKS).bytes[0] for n in (1, 0)
    )
    assert with_head - without == 512


def run(**changes):
    made = offline_run(requests=4, output=20, prompt=16)
    for name, values in changes.items():
        made["steps"][name] = values
    return made["steps"], made["tokens"], made["requests"]


def test_shares_are_time_weighted_over_the_steps_of_a_kind():
    steps, tokens, requests = run()
    found: Any = roofline(steps, tokens, requests, cost_of(spec(), {}), PEAKS)
    wall = float(wall_ns(steps).sum()) / 1e9
    assert found.bound_share.all == pytest.approx(found.bound_s / wall)
    assert found.output_tokens_per_s_at_bound == pytest.approx(80 / found.bound_s)
    assert 0 < found.mfu.all < found.mbu.all <= found.bound_share.all < 1
    per_step = found.per_step
    parts = per_step.decode_only.bound_s * 19 + per_step.with_prefill.bound_s
    assert parts == pytest.approx(found.bound_s)
    assert found.memory_bound_share.decode_only == 1
    assert above(found.bound_share) is None
    assert found.bound_share.steady is None  # 0.8 s is too short for one


def test_less_than_the_bound_is_said_and_not_clipped():
    steps, tokens, requests = run()
    slow = Peaks(bytes_per_s=1e4, ops_per_s=1e9, linear_ops_per_s=1e9)
    found: Any = roofline(steps, tokens, requests, cost_of(spec(), {}), slow)
    assert found.bound_share.all > 1
    assert found.mbu.all == found.bound_share.all
    assert "a measured peak is too low" in str(above(found.bound_share))


def test_an_engine_that_does_not_report_prefill_has_no_bound_but_a_reason():
    steps, tokens, requests = run(prefill_tokens=-1)
    found: Any = roofline(steps, tokens, requests, cost_of(spec(), {}), PEAKS)
    assert "does not report the prompt positions computed in any step" in str(found.reason)
    assert found == Roofline(reason=found.reason)


def test_one_silent_step_is_enough_for_no_figures():
    steps, tokens, requests = run()
    steps["prefill_tokens"][3] = -1
    assert "1 of 20 steps" in str(roofline(steps, tokens, requests, cost_of(spec(), {}), PEAKS).reason)


def test_an_empty_run_has_a_reason():
    steps, tokens, requests = run()
    found: Any = roofline(steps[:0], tokens[:0], requests, cost_of(spec(), {}), PEAKS)
    assert found.reason == "no steps were recorded"


def test_one_step_is_enough():
    steps, tokens, requests = run()
    found: Any = roofline(steps[:1], tokens[:4], requests, cost_of(spec(), {}), PEAKS)
    assert found.bound_share.with_prefill == found.bound_share.all > 0
    assert found.bound_share.decode_only is None
