"""MLC-LLM's session on a double of `SyncMLCEngine`, through the real loop, recorder and analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.engines.contract import Nothing, Request, WrongTokenCount
from innerloop.engines.mlc_llm import UNREPORTED
from innerloop.engines.mlc_llm.session import Limits, MlcSession
from innerloop.engines.mlc_llm.settings import native_arguments
from innerloop.engines.support import marks
from innerloop.engines.worker import trace
from tests.engines.mlc_llm.double import Engine
from tests.engines.support.driving import driven, work
from tests.engines.support.loads import make_load

LENGTHS = [(5, 4), (11, 3), (2, 6), (17, 1)]


def submit(session: MlcSession, request: int, prompt: int, output: int) -> None:
    session.submit(session.prepare(Request(request, [7] * prompt, output)))


def test_every_token_is_counted_once_and_no_figure_is_made_up(session_on, tmp_path):
    out = driven(session_on(), work(LENGTHS), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [output for _, output in LENGTHS]
    assert out.steps["decode_tokens"].sum() == sum(output - 1 for _, output in LENGTHS)
    assert out.figures.checks == ()
    assert np.isnan(out.steps["kv_usage"]).all()
    for name in set(UNREPORTED) - {"kv_usage"}:
        assert (out.steps[name] == -1).all()
    for name in ("cached_tokens", "drafted_tokens", "accepted_tokens"):
        assert (out.steps[name] == 0).all()


def test_each_token_comes_in_the_step_that_made_it(session_on, tmp_path):
    out = driven(session_on(), work([(4, 5), (3, 5)]), tmp_path / "t")
    assert out.steps["output_tokens"].tolist() == [2] * 5
    assert (out.tokens["count"] == 1).all()


def test_a_prefill_also_carries_the_tokens_of_what_runs(session_on, tmp_path):
    out = driven(session_on(), work([(8, 5), (14, 2)]), tmp_path / "t")
    assert out.steps["output_tokens"].tolist() == [1, 1, 2, 2, 1]
    assert out.steps["decode_tokens"].tolist() == [0, 1, 1, 2, 1]


def test_the_engines_metrics_are_not_read_while_all_that_runs_decodes(session_on, tmp_path, monkeypatch):
    session, read = session_on(), []
    metrics = session._engine.metrics

    def counted() -> Any:
        read.append(len(session._decoding))
        return metrics()

    monkeypatch.setattr(session._engine, "metrics", counted)
    out = driven(session, work([(4, 30), (3, 30)]), tmp_path / "t")
    assert len(out.steps) == 30
    assert len(read) < 3
    assert session._observer_ns == 0  # what it took is in the reports


def test_a_long_prompt_that_comes_while_others_decode_is_a_step_for_each_of_its_parts(session_on, tmp_path):
    session = session_on(chunk=16, longest=1024, total=4096)
    driven(session, work([(4, 3)]), tmp_path / "before")  # ends with steps after which nothing was read
    out = driven(session, work([(40, 2)]), tmp_path / "t")
    assert out.steps["output_tokens"].tolist() == [0, 0, 1, 1]


def test_a_profiler_sees_a_range_around_each_action(session_on):
    ranges: list[str] = []
    marks.turn_on(ranges.append, lambda: None)
    try:
        session = session_on()
    finally:
        marks.turn_off()
    submit(session, 0, 4, 2)
    session.step(None)
    session.step(None)
    assert ranges == ["execute", "execute"]


def test_a_request_is_made_before_it_is_due_and_only_queued_then(session_on):
    session = session_on()
    prepared = session.prepare(Request(3, [7] * 4, 2))
    assert not session.has_work()
    assert not session._engine.waiting
    session.submit(prepared)
    assert session.has_work()
    assert [request.name for request in session._engine.waiting] == ["3"]


def test_with_a_prefix_cache_what_it_held_is_not_told(session_on):
    session = session_on(caches_prefixes=True)
    submit(session, 0, 4, 1)
    assert session.step(None).cached_tokens is None


def test_a_request_refused_on_its_way_in_is_an_output_cut_short(session_on, tmp_path):
    with pytest.raises(WrongTokenCount, match="should have produced 2 tokens but ended with 0"):
        driven(session_on(longest=6), work([(8, 2)]), tmp_path / "t")


def test_an_output_that_meets_the_longest_sequence_is_found_at_its_end(session_on, tmp_path):
    with pytest.raises(WrongTokenCount, match="should have produced 9 tokens but ended with 6"):
        driven(session_on(longest=10), work([(4, 9)]), tmp_path / "t")


def test_a_request_that_never_fits_into_the_kv_cache_ends_the_run(session_on, tmp_path):
    session = session_on(longest=4096, chunk=1024, total=1024)
    with pytest.raises(
        RuntimeError, match=r"stuck with 1 waiting request: .* does not fit into the KV cache.*kv_cache_tokens"
    ):
        driven(session, work([(1020, 2)]), tmp_path / "t")
    assert session._engine.steps == 2
    assert trace.records(tmp_path / "t", "steps").size == 0


def test_one_that_stops_fitting_while_it_grows_ends_the_run(session_on, tmp_path):
    session = session_on(longest=1024, chunk=1024, total=1024, places=1)
    with pytest.raises(RuntimeError, match="does not fit into the KV cache"):
        driven(session, work([(1000, 24)]), tmp_path / "t")
    assert trace.records(tmp_path / "t", "steps")["output_tokens"].sum() == 17


def test_a_step_that_only_preempts_requests_computes_nothing(session_on, tmp_path):
    session = session_on(longest=1024, chunk=1024, total=1024, places=1)
    out = driven(session, work([(1000, 15)]), tmp_path / "t")
    assert session._engine.preempted == 14
    assert session._engine.steps == 29
    assert out.steps.size == 15
    assert out.requests["output_tokens"].tolist() == [15]


def test_a_step_without_a_batch_is_told_from_one_with_it(session_on):
    session = session_on(longest=1024, chunk=1024, total=1024, places=1)
    assert session.step(None) is Nothing.FLUSHED
    submit(session, 0, 1000, 2)
    first, second, third = (session.step(None) for _ in range(3))
    assert second is Nothing.FLUSHED  # it was preempted
    assert [list(first.tokens), list(third.tokens)] == [[(0, [7])]] * 2
    assert not session.has_work()


def test_what_cannot_fit_is_refused_before_it_is_submitted(session_on):
    session = session_on(Limits(context_length=64, total=40), longest=80, total=40)
    submit(session, 0, 20, 13)
    with pytest.raises(ValueError, match="request 1 is longer than context_length 64"):
        submit(session, 1, 60, 5)
    with pytest.raises(ValueError, match=r"request 2 .*does not fit into the KV cache.*kv_cache_tokens 40"):
        submit(session, 2, 33, 1)
    with pytest.raises(ValueError, match=r"request 3 .*does not fit"):
        submit(session, 3, 20, 14)  # its last position would never be computed
    assert len(session._engine.waiting) == 1


def test_what_just_fits_comes_to_its_end(session_on, tmp_path):
    out = driven(session_on(Limits(64, 40), longest=80, total=40), work([(20, 13)]), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [13]


@pytest.mark.parametrize(("lengths", "places"), [([(1000, 24)], 1), ([(512, 512)], 1), ([(512, 500)] * 32, 32)])
def test_with_the_engines_own_kv_cache_no_request_is_preempted(session_on, tmp_path, monkeypatch, lengths, places):
    monkeypatch.setattr("time.sleep", lambda _: None)
    found = native_arguments(make_load(context_length=1024, max_batch_size=places))
    longest, seqs = found["max_single_sequence_length"], found["max_num_sequence"]
    total = seqs * longest  # cpp/serve/config.cc, where the memory suffices
    session = session_on(longest=longest, chunk=found["prefill_chunk_size"], places=seqs, total=total)
    out = driven(session, work(lengths), tmp_path / "t")
    assert session._engine.preempted == 0
    assert out.requests["output_tokens"].tolist() == [output for _, output in lengths]


def test_positions_computed_again_are_told_when_it_closes(session_on, tmp_path, capfd):
    session = session_on(longest=1024, chunk=1024, total=1024, places=1)
    driven(session, work([(1000, 3)]), tmp_path / "t")
    session.close()
    assert "at least 2003 positions" in capfd.readouterr().err  # 1001 and 1002


def test_without_recomputation_nothing_is_said(session_on, tmp_path, capfd):
    session = session_on()
    driven(session, work(LENGTHS), tmp_path / "t")
    session.close()
    assert capfd.readouterr().err == ""


def test_resetting_the_caches_resets_the_engine_and_forgets_nothing_of_the_run(session_on, tmp_path, capfd):
    session = session_on(longest=1024, chunk=1024, total=1024, places=1, caches_prefixes=True)
    driven(session, work([(1000, 3)]), tmp_path / "warmup")
    assert session.reset_caches()
    assert session._engine.resets == 1
    out = driven(session, work([(1000, 2)]), tmp_path / "t")
    assert out.steps["output_tokens"].tolist() == [1, 1]
    session.close()
    assert f"at least {2003 + 1001} positions" in capfd.readouterr().err


def test_without_a_prefix_cache_there_is_nothing_to_reset(session_on):
    session = session_on()
    assert session.reset_caches()
    assert session._engine.resets == 0


def test_an_error_in_the_middle_is_the_engines_own(session_on, tmp_path):
    with pytest.raises(ValueError, match="illegal memory access"):
        driven(session_on(fails_at=3), work([(4, 9)]), tmp_path / "t")


def test_closing_resets_the_engine_and_lets_go_of_it(session_on):
    session = session_on()
    engine: Engine = session._engine
    submit(session, 0, 2, 5)
    session.close()
    assert engine.resets == 1
    assert engine not in vars(session).values()
    assert not any(getattr(value, "__self__", None) is engine for value in vars(session).values())


def test_an_engine_that_cannot_be_reset_is_let_go_of_all_the_same(session_on, monkeypatch):
    session = session_on()

    def fail() -> Any:
        raise ValueError("TVMError: CUDA: an illegal memory access was encountered")

    session._engine.reset = fail
    with pytest.raises(ValueError, match="illegal memory access"):
        session.close()
    assert session._engine is None
