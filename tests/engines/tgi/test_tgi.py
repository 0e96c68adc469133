"""TGI's session on a double of its model server, through the real loop, recorder and analysis."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from typing import Any

import numpy as np
import pytest

from innerloop.engines.contract import Nothing, Request, UnsupportedSetting, WrongTokenCount
from innerloop.engines.support import marks
from innerloop.engines.support.refusals import refuse_reserved
from innerloop.engines.tgi import adapter
from innerloop.engines.tgi.batches import Pool, Prompts, pool_tokens, warm
from innerloop.engines.tgi.session import ModelSession
from innerloop.engines.tgi.settings import native_arguments
from tests.engines.support.driving import driven, work
from tests.engines.support.loads import make_load
from tests.engines.tgi.double import Model, PagedModel, install


@pytest.fixture
def session_on(monkeypatch):
    """session_on(model, places, step tokens, KV tokens): the session in charge of a double."""
    install(monkeypatch)

    def make(model: Model, places: int = 8, step_tokens: int = 64, kv_tokens: int = 1024) -> ModelSession:
        return ModelSession(model, places, step_tokens, kv_tokens)

    return make


LENGTHS = [(5, 4), (11, 3), (2, 6), (17, 1)]


@pytest.mark.parametrize("kind", [Model, PagedModel])
def test_every_position_and_token_is_counted_once(session_on, tmp_path, kind):
    out = driven(session_on(kind()), work(LENGTHS), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [output for _, output in LENGTHS]
    assert out.steps["prefill_tokens"].sum() == sum(prompt for prompt, _ in LENGTHS)
    assert out.steps["decode_tokens"].sum() == sum(output - 1 for _, output in LENGTHS)
    assert out.figures.checks == ()
    assert (out.steps["execute_ns"] >= 1_000_000).all()
    assert not any(out.steps[name].any() for name in ("cached_tokens", "drafted_tokens", "accepted_tokens"))


@pytest.mark.parametrize("kind", [Model, PagedModel])
def test_each_token_is_handed_out_in_the_step_that_made_it(session_on, tmp_path, kind):
    out = driven(session_on(kind()), work([(4, 9)]), tmp_path / "t")
    assert out.steps["output_tokens"].tolist() == [1] * 9


def test_a_request_is_made_before_it_is_due_and_bears_our_id(session_on):
    model = PagedModel()
    session = session_on(model)
    prepared = session.prepare(Request(70, [1, 2, 3], 2))
    assert (prepared.message.id, prepared.message.blocks) == (70, [])
    assert session.step(None) is Nothing.FLUSHED
    session.submit(prepared)
    assert [session.step(None).tokens for _ in range(2)] == [[(70, [7])]] * 2
    assert model.blocks_held == [[prepared.message.blocks]] * 2
    assert not session.has_work()


def test_a_profiler_sees_each_phase(session_on, tmp_path):
    seen: list[str] = []
    marks.turn_on(seen.append, lambda: None)
    try:
        session = session_on(Model())
    finally:
        marks.turn_off()
    driven(session, work([(4, 2)]), tmp_path / "t")
    assert seen == ["schedule", "prepare", "execute", "update"] * 2


def test_a_closed_session_holds_its_model_no_longer(session_on):
    model = PagedModel()
    seen = weakref.ref(model)
    session = session_on(model)
    del model
    session.close()
    gc.collect()
    assert seen() is None


def test_prompts_that_do_not_fit_into_a_step_come_in_the_next(session_on, tmp_path):
    out = driven(session_on(Model(), step_tokens=20), work(LENGTHS), tmp_path / "t")
    assert out.steps["prefill_tokens"].tolist()[:2] == [18, 17]
    assert out.steps["waiting"].tolist()[:2] == [1, 0]


def test_no_more_run_than_there_are_places(session_on, tmp_path):
    out = driven(session_on(Model(), places=2), work([(4, 5)] * 5), tmp_path / "t")
    assert out.steps["running"].max() == 2
    assert out.requests["output_tokens"].tolist() == [5] * 5


def test_prefilled_requests_join_those_that_run(session_on, tmp_path):
    out = driven(session_on(Model()), work([(4, 30), (4, 4)], due_ns=[0, 8_000_000]), tmp_path / "t")
    assert out.steps["running"].max() == 2
    assert out.figures.checks == ()


def test_a_request_gets_its_whole_kv_cache_at_once_and_gives_it_back(session_on, tmp_path):
    model = PagedModel()
    out = driven(session_on(model, kv_tokens=32), work([(8, 5)] * 4), tmp_path / "t")  # 3 blocks each, 8 in all
    assert out.steps["running"].max() == 2
    assert out.steps["kv_usage"].max() == pytest.approx(6 / 8)
    for batch in model.blocks_held:
        held = [block for blocks in batch for block in blocks]
        assert len(held) == len(set(held))
        assert all(1 <= block <= 8 for block in held)  # the first block is TGI's own


def test_the_plain_path_has_no_kv_cache_to_tell_the_use_of(session_on, tmp_path):
    out = driven(session_on(Model()), work([(4, 2)]), tmp_path / "t")
    assert np.isnan(out.steps["kv_usage"]).all()


def test_an_output_cut_short_is_found_at_its_end(session_on, tmp_path):
    with pytest.raises(WrongTokenCount, match="should have produced 5 tokens but ended with 4"):
        driven(session_on(Model(cut=1)), work([(4, 5)]), tmp_path / "t")


def test_an_error_in_the_middle_is_the_engines_own(session_on, tmp_path):
    with pytest.raises(RuntimeError, match="illegal memory access"):
        driven(session_on(Model(fails_at=3)), work([(4, 9)]), tmp_path / "t")


@pytest.mark.parametrize("limits", [{"step_tokens": 8}, {"kv_tokens": 8}])
def test_a_request_that_can_never_be_admitted_is_refused(session_on, limits):
    with pytest.raises(UnsupportedSetting, match="can never be admitted"):
        session_on(PagedModel(), **limits).prepare(Request(0, [1] * 12, 2))


def test_warming_up_takes_the_largest_prefill_and_the_caches_size(session_on):
    session_on(model := PagedModel())
    assert warm(model, step_tokens=100, context=64) == 640
    batch, longest_input, longest = model.warmed
    assert [len(prompt) for prompt in batch.prompts] == [63, 37]
    assert (longest_input, longest) == (63, 64)


@pytest.mark.parametrize(("quantize", "made"), [("gptq", ["cpu", 100]), ("awq", [])])
def test_gptq_gets_the_scratch_space_of_its_kernels(session_on, monkeypatch, quantize, made):
    session_on(model := PagedModel())
    model.quantize = quantize
    calls: list[Any] = []
    for name in ("text_generation_server.layers", "text_generation_server.layers.gptq"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name in ("set_device", "create_exllama_buffers"):
        monkeypatch.setattr(sys.modules["text_generation_server.layers.gptq"], name, calls.append, raising=False)
    warm(model, step_tokens=100, context=64)
    assert calls == made


def test_more_cache_than_there_is_cannot_be_had():
    assert pool_tokens(None, 640) == 640
    assert pool_tokens(512, 640) == 512
    with pytest.raises(RuntimeError, match="room for 640"):
        pool_tokens(1024, 640)


def test_blocks_hold_all_tokens_but_the_last():
    pool = Pool(tokens=16, block=4)
    assert pool.needs(Request(0, [1] * 8, 1)) == 2
    assert pool.needs(Request(0, [1] * 8, 2)) == 3
    assert pool.take(Request(5, [1] * 8, 2))
    assert not pool.take(Request(6, [1] * 8, 1))
    blocks, slots = pool.places(5)
    assert slots == [slot for b in blocks for slot in range(4 * b, 4 * b + 4)]
    pool.give_back(5)
    assert pool.usage == 0


def test_prompts_stand_in_for_the_tokenizer_padded_on_the_left(monkeypatch):
    for name, part, value in (("torch", "tensor", list), ("transformers", "BatchEncoding", dict)):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setattr(sys.modules[name], part, value, raising=False)
    found = Prompts(Model.tokenizer).holding([[5, 6, 7], [8]])(["", ""], padding=True, max_length=3)
    assert found["input_ids"] == [[5, 6, 7], [2, 2, 8]]
    assert found["attention_mask"] == [[1, 1, 1], [0, 0, 1]]


def test_common_settings_become_arguments_of_get_model_and_limits_of_the_batching():
    found = native_arguments(make_load(kv_cache_tokens=1000, quantization="gptq", stored={"quant_method": "gptq"}))
    assert found["dtype"] == "bfloat16"
    assert found["quantize"] is None  # found in the checkpoint
    assert (found["max_batch_size"], found["max_tokens_per_step"], found["kv_cache_tokens"]) == (64, 2048, 1000)
    assert native_arguments(make_load(device="cpu", dtype="float32"))["dtype"] is None


RESERVED = {
    "quantize": "use --set quantization instead",
    "dtype": "use --set dtype instead",
    "max_input_tokens": "use --set max_tokens_per_step instead",
    "max_batch_size": "use --set max_batch_size instead",
    "max_tokens_per_step": "use --set max_tokens_per_step instead",
    "kv_cache_tokens": "use --set kv_cache_tokens instead",
    "model_id": "use --model or --weights DIR instead",
    "trust_remote_code": "use --trust-remote-code instead",
    "kv_cache_dtype": "use --set kv_cache_dtype instead",
    "sharded": "the adapter steps one process, on one device",
    "speculate": "the adapter cannot track how it changes a step",
    "lora_adapter_ids": "TGI loads adapters in its server, which does not run here",
}


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_reserved_argument_is_refused_with_what_to_do_instead(name):
    with pytest.raises(UnsupportedSetting) as refused:
        refuse_reserved(adapter, make_load(engine_args={name: 1}))
    assert str(refused.value) == f"engine argument {name}: {RESERVED[name]}"


def test_no_other_argument_is_reserved():
    assert set(adapter.reserved) == set(RESERVED)


@pytest.mark.parametrize(
    "settings",
    [
        {"tensor_parallel": 2},
        {"prefix_caching": True},
        {"chunked_prefill": True},
        {"dtype": "float32"},
        {"quantization": "awq", "device": "cpu"},
        {"cuda_graphs": True, "device": "cpu"},
        {"kv_memory_fraction": 0.9, "device": "cpu"},
    ],
)
def test_what_it_cannot_honour_is_refused_by_name(settings):
    with pytest.raises(UnsupportedSetting, match=f"^{next(iter(settings))}=.*: TGI "):
        native_arguments(make_load(**settings))


def test_fp8_in_blocks_has_no_kernels_on_nvidias_gpus_and_is_refused():
    stored = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    with pytest.raises(UnsupportedSetting, match=r"^quantization=fp8: TGI has kernels .* AMD"):
        native_arguments(make_load(quantization="fp8", stored=stored))
