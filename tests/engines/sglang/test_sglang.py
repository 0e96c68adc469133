"""SGLang's adapter on a double of its scheduler, through the loop, the recorder and the analysis."""

from __future__ import annotations

import sys

import pytest

from innerloop.engines.contract import Request, UnsupportedSetting, WrongTokenCount
from innerloop.engines.sglang import CONTEXT_MARGIN, Adapter, native_arguments
from innerloop.engines.support import marks
from innerloop.engines.support.versions import UnknownVersion
from tests.engines.sglang.double import Scheduler, modules
from tests.engines.support.driving import driven, work
from tests.engines.support.loads import make_load

LENGTHS = [(5, 4), (11, 3), (2, 1), (17, 6)]
PROMPTS, DECODES = sum(p for p, _ in LENGTHS), sum(n - 1 for _, n in LENGTHS)


@pytest.fixture
def engine(monkeypatch):
    def make(overlap=True, **behaviour):
        made: list[Scheduler] = []
        for name, module in modules(made, **behaviour).items():
            monkeypatch.setitem(sys.modules, name, module)
        adapter = Adapter()
        info = adapter.load(
            make_load(engine_args={} if overlap else {"disable_overlap_schedule": True}, context_length=128)
        )
        return adapter, made[-1], info

    return make


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("never_overlaps_prefills", [True, False])
def test_every_request_gets_its_tokens_and_the_trace_adds_up(engine, tmp_path, overlap, mixed, never_overlaps_prefills):
    adapter, double, _ = engine(overlap, mixed=mixed, never_overlaps_prefills=never_overlaps_prefills)
    run = driven(adapter, work(LENGTHS), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [4, 3, 1, 6]
    assert run.figures["counts"]["prefill_positions"] == PROMPTS
    assert run.figures["counts"]["decode_positions"] == DECODES
    assert run.figures["checks"] == []
    assert len(run.steps) == double.batches
    assert not adapter.has_work()


def test_a_report_carries_the_make_up_of_the_batch_whose_tokens_it_returns(engine):
    adapter, _, _ = engine()
    adapter.submit(Request(3, [1] * 6, 3))
    reports = []
    while adapter.has_work():
        reports.append(adapter.step())
    assert [(r.prefill_tokens, r.decode_tokens, len(r.tokens)) for r in reports] == [(6, 0, 1), (0, 1, 1), (0, 1, 1)]
    assert [list(r.finished) for r in reports] == [[], [], [3]]


def test_a_batch_is_marked_with_how_many_steps_after_its_launch_it_comes_out(engine):
    seen: list[str] = []
    marks.turn_on(seen.append, lambda: None)
    try:
        adapter, _, _ = engine()
        adapter.submit(Request(0, [1] * 6, 4))
        by_step = []
        while adapter.has_work():
            adapter.step()
            by_step.append(list(seen))
            seen.clear()
    finally:
        marks.turn_off()
    # Each launch is a run and a sampling; the last pass launches nothing.
    assert by_step == [["ahead 0"] * 2 + ["ahead 1"] * 2, ["ahead 1"] * 2, ["ahead 1"] * 2, ["ahead 0"]]


def test_the_first_step_spans_the_pass_that_only_fills_the_pipeline(engine):
    adapter, double, _ = engine()
    adapter.submit(Request(0, [1] * 6, 3))
    first = adapter.step()
    assert first.tokens
    assert double.batches == 2
    assert first.end_ns - first.start_ns >= first.schedule_ns + first.execute_ns + first.wait_ns + first.update_ns


def test_a_prompt_in_chunks_has_steps_without_tokens(engine, tmp_path):
    adapter, _, _ = engine()
    run = driven(adapter, work([(20, 2)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [8, 8, 4, 0]
    assert run.steps["output_tokens"].tolist() == [0, 0, 1, 1]


def test_what_a_retraction_computes_again_is_prefill_but_for_the_newest_token(engine, tmp_path):
    adapter, _, _ = engine(overlap=False, retracts_at=3)
    run = driven(adapter, work([(3, 6), (3, 6)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [6, 0, 0, 0, 5, 0, 0]
    assert run.steps["decode_tokens"].tolist() == [0, 2, 2, 1, 1, 2, 2]
    assert run.requests["output_tokens"].tolist() == [6, 6]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("at", [2, 3, 4, 5])
def test_with_a_retraction_the_trace_still_adds_up(engine, tmp_path, overlap, mixed, at):
    adapter, _, _ = engine(overlap, mixed=mixed, retracts_at=at)
    run = driven(adapter, work([(5, 7), (3, 9), (6, 5)]), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [7, 9, 5]
    assert run.figures["checks"] == []
    assert run.steps["preempted"].sum() <= 1


def test_a_request_that_the_scheduler_would_never_admit_is_refused(engine):
    adapter, double, _ = engine()
    double.max_total_num_tokens = 386
    with pytest.raises(ValueError, match="KV cache of 387 tokens for request 7, and has 386"):
        adapter.submit(Request(7, [1] * 256, 128))
    double.max_total_num_tokens = 387
    adapter.submit(Request(7, [1] * 256, 128))


def test_without_overlap_the_wait_is_part_of_other_phases_and_missing(engine, tmp_path):
    adapter, _, _ = engine(overlap=False)
    run = driven(adapter, work(LENGTHS), tmp_path / "t")
    assert (run.steps["wait_ns"] == -1).all()
    assert "wait_ns" in adapter.cannot_report
    assert "wait_ns" not in Adapter.cannot_report


def test_an_output_cut_short_is_found_out(engine, tmp_path):
    adapter, _, _ = engine(short="1")
    with pytest.raises(WrongTokenCount, match="request 1 was to produce 3 tokens and ended with 2"):
        driven(adapter, work(LENGTHS), tmp_path / "t")


def test_a_request_that_is_ended_while_it_waits_ends_the_run(engine, tmp_path):
    adapter, _, _ = engine(refuses="2")
    with pytest.raises(RuntimeError, match="too long"):
        driven(adapter, work(LENGTHS), tmp_path / "t")


def test_after_a_failure_the_device_is_not_asked_to_finish(engine, tmp_path):
    adapter, double, _ = engine(fails_at=2)
    with pytest.raises(RuntimeError, match="out of memory"):
        driven(adapter, work(LENGTHS), tmp_path / "t")
    adapter.close()
    assert not double.released


def test_a_sound_scheduler_is_released_and_leaves_nothing_in_shared_memory(engine, tmp_path):
    snapshot = tmp_path / "sglang_loads.shm"
    snapshot.touch()
    adapter, double, _ = engine(snapshot=str(snapshot))
    driven(adapter, work(LENGTHS), tmp_path / "t")
    adapter.close()
    assert double.released
    assert not snapshot.exists()


def test_the_effective_settings_are_the_engines_own(engine):
    _, double, info = engine()
    assert double.prepared == 1
    assert info.effective["context_length"] == 128
    assert info.effective["cuda_graphs"] is True
    assert info.effective["async_scheduling"] is True
    assert info.kv_cache_tokens == 4096
    assert info.weights_bytes == 2**29
    assert info.notes == ()


def test_an_unknown_version_is_noted(engine):
    _, _, info = engine(version="0.6.0")
    assert any("0.6.0 is not among the versions" in note for note in info.notes)


def test_an_unknown_version_that_behaves_otherwise_is_said_to_be_one(monkeypatch):
    made: list[Scheduler] = []
    found = modules(made, version="0.6.0")
    del found["sglang.srt.runtime_context"].spawn_world_rank
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(UnknownVersion, match=r"SGLang 0\.6\.0 is not among .*ImportError.*spawn_world_rank"):
        Adapter().load(make_load(context_length=128))


def test_sglang_gets_every_common_setting_by_its_own_name():
    found = native_arguments(make_load(prefix_caching=True, kv_memory_fraction=0.8, cuda_graphs=False))
    assert found["dtype"] == "bfloat16"
    assert found["context_length"] == 4096 + CONTEXT_MARGIN
    assert found["max_running_requests"] == 64
    assert found["chunked_prefill_size"] == found["max_prefill_tokens"] == 2048
    assert found["disable_radix_cache"] is False
    assert found["mem_fraction_static"] == 0.8
    assert found["cuda_graph_backend_decode"] == found["cuda_graph_backend_prefill"] == "disabled"
    assert found["random_seed"] == 3
    assert native_arguments(make_load(kv_cache_tokens=99))["max_total_tokens"] == 99


def test_whole_prompts_need_steps_that_hold_them():
    assert native_arguments(make_load(chunked_prefill=False, max_tokens_per_step=4096))["chunked_prefill_size"] == -1
    with pytest.raises(UnsupportedSetting, match=r"chunked_prefill=False: .*max_tokens_per_step=2048"):
        native_arguments(make_load(chunked_prefill=False))


def test_a_stored_quantization_is_left_to_the_engine():
    stored = {"quant_method": "awq"}
    assert native_arguments(make_load(stored=stored, quantization="awq"))["quantization"] is None
    assert native_arguments(make_load(quantization="fp8"))["quantization"] == "fp8"


def test_a_llamas_fp8_in_blocks_is_refused_since_its_scales_would_be_lost():
    blocks = make_load(quantization="fp8", stored={"quant_method": "fp8", "weight_block_size": [128, 128]})
    blocks.config["architectures"] = ["LlamaForCausalLM"]
    with pytest.raises(UnsupportedSetting, match=r"^quantization=fp8: SGLang loses the scales"):
        native_arguments(blocks)
    blocks.config["architectures"] = ["DeepseekV3ForCausalLM"]
    assert native_arguments(blocks)["quantization"] is None


@pytest.mark.parametrize("given", [{"dtype": "float32"}, {"tensor_parallel": 2}])
def test_what_sglang_cannot_honour_is_refused_by_name(given):
    with pytest.raises(UnsupportedSetting, match=f"^{next(iter(given))}="):
        native_arguments(make_load(**given))
