"""LMDeploy's adapter on a double of its PyTorch engine, through the loop, the recorder and the analysis."""

from __future__ import annotations

import sys

import pytest

from engines.lmdeploy import Adapter

from .driving import driven, work
from .lmdeploy_pytorch_double import Engine, modules
from .loads import make_load

LENGTHS = [(5, 4), (11, 9), (2, 1), (7, 6)]


@pytest.fixture
def engine(monkeypatch):
    made: list[Engine] = []
    adapters: list[Adapter] = []

    def make(max_tokens_per_step=16, **faults):
        for name, module in modules(made, **faults).items():
            monkeypatch.setitem(sys.modules, name, module)
        adapter = Adapter()
        adapters.append(adapter)
        info = adapter.load(
            make_load(
                engine_args={"backend": "pytorch"}, context_length=128, max_batch_size=8,
                max_tokens_per_step=max_tokens_per_step, cuda_graphs=False,
            )
        )  # fmt: skip
        return adapter, made[-1], info

    yield make
    for adapter in adapters:
        adapter.close()


def test_every_request_gets_its_tokens_and_the_trace_adds_up(engine, tmp_path):
    adapter, double, _ = engine()
    run = driven(adapter, work(LENGTHS), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [4, 9, 1, 6]
    assert run.figures["counts"]["prefill_positions"] == 25
    assert run.figures["counts"]["decode_positions"] == 3 + 8 + 0 + 5
    assert run.figures["checks"] == []
    assert len(run.steps) == double.iterations


def test_prefill_and_decode_are_iterations_of_their_own(engine, tmp_path):
    adapter, _, _ = engine()
    run = driven(adapter, work(LENGTHS), tmp_path / "t")
    assert not ((run.steps["prefill_tokens"] > 0) & (run.steps["decode_tokens"] > 0)).any()


def test_a_prompt_in_chunks_has_iterations_without_tokens(engine, tmp_path):
    adapter, _, _ = engine()
    run = driven(adapter, work([(40, 2)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [16, 16, 8, 0]
    assert run.steps["output_tokens"].tolist() == [0, 0, 1, 1]


def test_what_a_lost_cache_computes_again_is_prefill_but_for_the_newest_token(engine, tmp_path):
    adapter, _, _ = engine(evicts_at=3)
    run = driven(adapter, work([(5, 6)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [5, 0, 0, 7, 0, 0]
    assert run.steps["decode_tokens"].tolist() == [0, 1, 1, 1, 1, 1]
    assert run.requests["output_tokens"].tolist() == [6]


def test_a_finished_request_gives_its_cache_back(engine, tmp_path):
    adapter, double, _ = engine()
    driven(adapter, work(LENGTHS), tmp_path / "t")
    adapter.step()
    assert double.sessions == {}


def test_an_error_in_the_engines_loop_ends_the_run_as_it_is(engine, tmp_path):
    adapter, _, _ = engine(fails_after=3)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        driven(adapter, work(LENGTHS), tmp_path / "t")


def test_a_request_that_comes_later_joins(engine, tmp_path):
    adapter, _, _ = engine()
    run = driven(adapter, work([(4, 30), (4, 3)], due_ns=[0, 2_000_000]), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [30, 3]
    assert run.figures["checks"] == []


def test_a_step_waits_no_longer_than_until_a_request_is_due(engine, monkeypatch):
    asked = []

    def no_time(due_ns):
        asked.append(due_ns)
        return 0.0

    monkeypatch.setattr("engines.lmdeploy_pytorch.seconds_left", no_time)
    adapter, _, _ = engine()
    adapter.due_ns = 5_000
    assert adapter.step() is None
    assert asked == [5_000]


def test_what_it_does_not_tell_is_missing_and_the_rest_is_not(engine, tmp_path):
    adapter, _, _ = engine()
    run = driven(adapter, work(LENGTHS), tmp_path / "t")
    for name in adapter.cannot_report:
        assert (run.steps[name] == -1).all(), name
    for name in {"prefill_tokens", "decode_tokens", "running", "waiting"}:
        assert (run.steps[name] >= 0).all(), name


def test_the_effective_settings_are_the_engines_own(engine):
    _, double, info = engine()
    assert double.engine_config.eager_mode is True
    assert info.effective["cuda_graphs"] is False
    assert info.kv_cache_tokens == 6400
    assert info.effective["quantization"] is None
    assert info.native["backend"] == "pytorch"
