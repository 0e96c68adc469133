"""LMDeploy's adapter on a double of its PyTorch engine, through the loop, the recorder and the analysis."""

from __future__ import annotations

import sys
import time

import pytest

from innerloop.engines.contract import Nothing, Request, Session, UnsupportedSetting
from innerloop.engines.lmdeploy import adapter
from tests.engines.lmdeploy.pytorch_double import Engine, modules
from tests.engines.support.driving import driven, work
from tests.engines.support.loads import make_load

LENGTHS = [(5, 4), (11, 9), (2, 1), (7, 6)]


@pytest.fixture
def made() -> list[Engine]:
    """The engines that have been made."""
    return []


@pytest.fixture
def engine(monkeypatch, made):
    sessions: list[Session] = []

    def make(max_tokens_per_step=16, context_length=128, kv_cache_tokens=None, prefix_caching=False, **faults):
        for name, module in modules(made, **faults).items():
            monkeypatch.setitem(sys.modules, name, module)
        load = make_load(
            engine_args={"backend": "pytorch"}, context_length=context_length, max_batch_size=8, cuda_graphs=False,
            max_tokens_per_step=max_tokens_per_step, kv_cache_tokens=kv_cache_tokens, prefix_caching=prefix_caching,
        )  # fmt: skip
        sessions.append(adapter.open(load))
        return sessions[-1], made[-1]

    yield make
    for session in sessions:
        session.close()


def test_every_request_gets_its_tokens_and_the_trace_adds_up(engine, tmp_path):
    session, double = engine()
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [4, 9, 1, 6]
    assert run.figures.counts.prefill_positions == 25
    assert run.figures.counts.decode_positions == 3 + 8 + 0 + 5
    assert run.figures.checks == ()
    assert len(run.steps) == double.iterations


def test_who_has_ended_is_in_no_step_though_the_engine_has_them_in_one_more_batch(engine, tmp_path):
    session, _ = engine(max_tokens_per_step=64)
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert run.steps["decode_tokens"].tolist() == [0, 3, 3, 3, 2, 2, 1, 1, 1]
    assert run.steps["running"].tolist() == [4, 3, 3, 3, 2, 2, 1, 1, 1]


def test_a_batch_of_ended_requests_alone_is_no_step_of_the_next_burst(engine, tmp_path):
    session, double = engine()
    driven(session, work([(5, 4), (7, 4)]), tmp_path / "first")
    assert double.iterations == 4
    session.submit(session.prepare(Request(2, [1] * 4, 3)))
    steps = []
    while session.has_work():
        step = session.step(None)
        if not isinstance(step, Nothing):
            steps.append((step.prefill_tokens, step.decode_tokens, [request for request, _ in step.tokens]))
    assert double.iterations == 4 + 1 + 3  # one of the first burst's requests, which had ended
    assert steps == [(4, 0, [2]), (0, 1, [2]), (0, 1, [2])]


def test_prefill_and_decode_are_iterations_of_their_own(engine, tmp_path):
    session, _ = engine()
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert not ((run.steps["prefill_tokens"] > 0) & (run.steps["decode_tokens"] > 0)).any()


def test_a_prompt_in_chunks_has_iterations_without_tokens(engine, tmp_path):
    session, _ = engine()
    run = driven(session, work([(40, 2)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [16, 16, 8, 0]
    assert run.steps["output_tokens"].tolist() == [0, 0, 1, 1]


def test_what_a_lost_cache_computes_again_is_prefill_but_for_the_newest_token(engine, tmp_path):
    session, double = engine(evicts_at=(4,))  # while the third token is in flight, which is dropped
    run = driven(session, work([(5, 6)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [5, 0, 6, 0, 0, 0]
    assert run.steps["decode_tokens"].tolist() == [0, 1, 1, 1, 1, 1]
    assert run.requests["output_tokens"].tolist() == [6]
    assert run.figures.checks == ()
    assert double.iterations == len(run.steps) + 1


def test_who_goes_on_is_counted_where_another_loses_its_cache(engine, tmp_path):
    session, _ = engine(evicts_at=(4,))
    run = driven(session, work([(5, 6), (5, 6)]), tmp_path / "t")
    assert run.steps["running"].tolist()[:4] == [2, 2, 1, 1]
    assert run.figures.counts.decode_positions == 5 + 5
    assert run.figures.checks == ()


@pytest.mark.parametrize(("evicts_at", "prefill"), [((2,), [5, 5]), ((4, 6), [5, 0, 7, 6])])
def test_a_prefill_whose_token_is_dropped_is_all_prefill(engine, tmp_path, evicts_at, prefill):
    session, _ = engine(evicts_at=evicts_at)
    run = driven(session, work([(5, 6)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist()[: len(prefill)] == prefill
    assert run.figures.counts.decode_positions == 5
    assert run.requests["output_tokens"].tolist() == [6]
    assert run.figures.checks == ()


def test_a_finished_request_gives_its_cache_back(engine, tmp_path):
    session, double = engine()
    driven(session, work(LENGTHS), tmp_path / "t")
    session.step(None)
    assert double.sessions == {}


def test_an_error_in_the_engines_loop_ends_the_run_as_it_is(engine, tmp_path):
    session, _ = engine(fails_after=3)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        driven(session, work(LENGTHS), tmp_path / "t")


def test_a_request_that_comes_later_joins(engine, tmp_path):
    session, _ = engine()
    run = driven(session, work([(4, 30), (4, 3)], due_ns=[0, 2_000_000]), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [30, 3]
    assert run.figures.checks == ()


def test_a_step_waits_no_longer_than_it_may(engine, monkeypatch):
    monkeypatch.setattr("innerloop.engines.lmdeploy.pytorch.WAIT_S", 3600.0)
    session, _ = engine()
    until_ns = time.monotonic_ns() + 1_500_000
    assert session.step(until_ns) is Nothing.TIMED_OUT
    assert until_ns <= time.monotonic_ns() < until_ns + 3600 * 10**9


def test_what_a_prompt_finds_in_the_cache_is_told_when_it_is_first_computed(engine, tmp_path):
    session, _ = engine(prefix_caching=True, shared=4)
    run = driven(session, work([(5, 3), (11, 2), (6, 2)]), tmp_path / "t")
    assert run.steps["cached_tokens"].tolist() == [4 + 4, 0, 0]
    assert run.steps["prefill_tokens"].tolist() == [5 + 7 + 2, 0, 0]
    assert run.requests["output_tokens"].tolist() == [3, 2, 2]


def test_a_long_prompts_hit_is_told_with_its_first_chunk_only(engine, tmp_path):
    session, _ = engine(prefix_caching=True, shared=10)
    run = driven(session, work([(12, 1), (60, 2)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [12, 16, 16, 16, 2, 0]
    assert run.steps["cached_tokens"].tolist() == [0, 10, 0, 0, 0, 0]


def test_what_is_found_again_after_a_lost_cache_is_no_hit(engine, tmp_path):
    session, _ = engine(prefix_caching=True, shared=4, evicts_at=(4,))
    run = driven(session, work([(5, 6)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].sum() == 5 + 2  # of 7 again, without the newest, 4 were in the cache
    assert run.steps["cached_tokens"].tolist() == [0] * len(run.steps)


def test_a_hit_is_told_also_where_the_request_loses_its_cache_before_its_token(engine, tmp_path):
    session, _ = engine(prefix_caching=True, shared=4, evicts_at=(2,), max_tokens_per_step=64)
    run = driven(session, work([(5, 6), (5, 6)]), tmp_path / "t")
    assert run.steps["cached_tokens"].tolist()[:2] == [4, 0]


def test_an_engine_that_cannot_be_watched_is_closed(engine, made):
    with pytest.raises(AttributeError, match="block_trie"):
        engine(lacks="block_trie")
    assert made[-1].released


def test_an_engine_that_is_closed_at_work_releases_its_device(engine):
    session, double = engine()
    for index in range(2):
        session.submit(session.prepare(Request(index, [1] * 4, 90)))
    while session.step(None) is Nothing.TIMED_OUT:
        pass
    session.close()
    assert double.released


def test_a_cache_that_shortens_the_context_is_refused(engine, made):
    words = r"^context_length=8192: .* needs 8256 tokens .* has 6400, enough for sequences of up to 6336 tokens$"
    with pytest.raises(UnsupportedSetting, match=words):
        engine(context_length=8192)
    assert made[-1].released


def test_the_smallest_cache_that_is_not_refused_holds_the_longest_request(engine, tmp_path):
    session, double = engine(kv_cache_tokens=192)
    assert double.max_session_len == session.info.effective["context_length"] == 128
    assert session.info.kv_cache_tokens == 192
    run = driven(session, work([(8, 120)]), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [120]


def test_what_it_does_not_tell_is_missing_and_the_rest_is_not(engine, tmp_path):
    session, _ = engine()
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert session.info.unreported == adapter.unreported(make_load(engine_args={"backend": "pytorch"}))
    for name in session.info.unreported:
        assert (run.steps[name] == -1).all(), name
    for name in {"prefill_tokens", "decode_tokens", "running", "waiting"}:
        assert (run.steps[name] >= 0).all(), name
    for name in {"cached_tokens", "drafted_tokens", "accepted_tokens"}:
        assert (run.steps[name] == 0).all(), name


def test_the_effective_settings_are_the_engines_own(engine):
    session, double = engine()
    assert double.engine_config.eager_mode is True
    assert session.info.effective["cuda_graphs"] is False
    assert session.info.kv_cache_tokens == 6400
    assert session.info.effective["quantization"] is None
    assert session.info.native["backend"] == "pytorch"
