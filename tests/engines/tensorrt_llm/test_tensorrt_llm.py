"""TensorRT-LLM's session on a double of `PyExecutor`, through the real loop, recorder and analysis."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from innerloop.engines.contract import Nothing, Request, WrongTokenCount
from innerloop.engines.support import marks
from innerloop.engines.tensorrt_llm.session import LoopSession
from innerloop.engines.worker.work import Work
from tests.engines.support.driving import Driven, driven, work
from tests.engines.tensorrt_llm.double import BLOCKS, PyExecutor
from tests.engines.tensorrt_llm.double_requests import install, llm
from tests.waiting import PATIENCE_S


@pytest.fixture
def session_on(monkeypatch):
    """session_on(executor): the session in charge of that double."""
    install(monkeypatch)
    made = []

    def make(executor: PyExecutor) -> LoopSession:
        session = LoopSession(llm(executor))
        made.append(session)
        return session

    yield make
    for session in made:
        session.close()


LENGTHS = [(5, 4), (11, 3), (2, 6), (17, 1)]


def after_a_rest(first: tuple[int, int], second: tuple[int, int], rest_ns: int) -> Work:
    """Two requests, the second one due so long after the end of the first."""
    return replace(work([first, second], due_ns=[0, -1]), next_request=np.array([1, -1], np.int32), rest_ns=rest_ns)


def columns(out: Driven, *names: str) -> list[tuple[int, ...]]:
    """Those figures of each step."""
    return list(zip(*(out.steps[name].tolist() for name in names), strict=True))


@pytest.mark.parametrize(("overlap", "withholds"), [(False, False), (True, False), (True, True)])
def test_every_position_and_token_is_counted_once(session_on, tmp_path, overlap, withholds):
    executor = PyExecutor(overlap, withholds=withholds)
    out = driven(session_on(executor), work(LENGTHS), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [output for _, output in LENGTHS]
    assert out.steps["prefill_tokens"].sum() == sum(prompt for prompt, _ in LENGTHS)
    assert out.steps["decode_tokens"].sum() == sum(output - 1 for _, output in LENGTHS)
    assert out.figures.checks == ()
    assert not executor.responses  # nothing piles up where nobody collects it


@pytest.mark.parametrize("overlap", [False, True])
def test_a_second_burst_is_told_like_the_first(session_on, tmp_path, overlap):
    out = driven(session_on(PyExecutor(overlap)), after_a_rest((4, 3), (5, 3), 20_000_000), tmp_path / "t")
    assert columns(out, "prefill_tokens", "decode_tokens", "output_tokens") == [
        (4, 0, 1),
        (0, 1, 1),
        (0, 1, 1),
        (5, 0, 1),
        (0, 1, 1),
        (0, 1, 1),
    ]
    assert out.figures.checks == ()


def test_where_the_token_before_the_last_is_withheld_the_last_step_brings_two(session_on, tmp_path):
    out = driven(session_on(PyExecutor(overlap=True, withholds=True)), work([(4, 4)]), tmp_path / "t")
    assert columns(out, "decode_tokens", "output_tokens") == [(0, 1), (1, 1), (1, 0), (1, 2)]
    assert out.figures.checks == ()


@pytest.mark.parametrize("overlap", [False, True])
def test_a_burst_into_an_idle_engine_starts_with_a_batch_of_one(session_on, tmp_path, overlap):
    executor = PyExecutor(overlap, budget=64, expects=4)
    session = session_on(executor)
    assert executor.at_rest.wait(PATIENCE_S)
    out = driven(session, work([(4, 20)] * 4), tmp_path / "t")
    assert out.steps["running"][0] == 1
    assert out.steps["running"].max() == 4
    assert out.steps["waiting"][-1] == 0
    assert out.figures.checks == ()


@pytest.mark.parametrize("overlap", [False, True])
def test_a_prompt_in_chunks_takes_steps_without_tokens(session_on, tmp_path, overlap):
    out = driven(session_on(PyExecutor(overlap)), work([(20, 3)]), tmp_path / "t")
    assert columns(out, "prefill_tokens", "decode_tokens", "output_tokens") == [
        (8, 0, 0),
        (8, 0, 0),
        (4, 0, 1),
        (0, 1, 1),
        (0, 1, 1),
    ]


@pytest.mark.parametrize("overlap", [False, True])
def test_each_token_is_handed_out_in_the_step_that_made_it(session_on, tmp_path, overlap):
    out = driven(session_on(PyExecutor(overlap)), work([(4, 9)]), tmp_path / "t")
    assert out.steps["output_tokens"].tolist() == [1] * 9


@pytest.mark.parametrize("overlap", [False, True])
def test_what_a_prompt_finds_in_the_prefix_cache_is_told_once_and_not_computed(session_on, tmp_path, overlap):
    out = driven(session_on(PyExecutor(overlap, held=6)), work([(20, 3), (5, 1)]), tmp_path / "t")
    assert out.steps["cached_tokens"].tolist()[0] == 6
    assert out.steps["cached_tokens"].sum() == 6 + 4  # the newest position of a prompt is always computed
    assert out.steps["prefill_tokens"].sum() == 25 - 10
    assert (out.steps["drafted_tokens"] == 0).all()
    assert (out.steps["accepted_tokens"] == 0).all()


def test_what_a_preempted_request_finds_there_is_no_hit(session_on, tmp_path):
    out = driven(session_on(PyExecutor(overlap=False, budget=64, held=2, pauses_at=5)), work([(4, 20)]), tmp_path / "t")
    assert out.steps["preempted"].sum() == 1
    assert out.steps["cached_tokens"].sum() == 2


@pytest.mark.parametrize("overlap", [False, True])
def test_the_prefix_cache_is_emptied_while_the_loop_is_held(session_on, tmp_path, overlap):
    executor = PyExecutor(overlap, held=2)
    session = session_on(executor)
    assert driven(session, work([(4, 2)]), tmp_path / "1").steps["cached_tokens"].sum() == 2
    assert session.reset_caches()
    assert executor.at_rest.wait(PATIENCE_S)
    began = time.monotonic_ns()
    out = driven(session, work([(4, 2)]), tmp_path / "2")
    assert out.steps["cached_tokens"].sum() == 0
    assert out.steps["start_ns"][0] >= began  # the loop's waking for it is no part of the next step


def test_a_loop_that_has_ended_has_no_cache_to_empty(session_on):
    executor = PyExecutor(overlap=True)
    session = session_on(executor)
    executor.shutdown()
    assert not session.reset_caches()


@pytest.mark.parametrize(("overlap", "ahead"), [(False, "ahead 0"), (True, "ahead 1")])
def test_a_profiler_sees_each_phase_and_which_step_a_batch_comes_out_in(session_on, tmp_path, overlap, ahead):
    seen: list[str] = []
    marks.turn_on(seen.append, lambda: None)
    try:
        session = session_on(PyExecutor(overlap))
    finally:
        marks.turn_off()
    driven(session, work([(4, 5)]), tmp_path / "t")
    assert {"schedule", "prepare", "execute", "wait", "sample", "update"} <= set(seen)
    assert seen.count(ahead) >= 8  # each batch is launched and sampled


def test_a_request_is_made_before_it_is_due_and_bears_our_id(session_on):
    executor = PyExecutor(overlap=True)
    session = session_on(executor)
    prepared = session.prepare(Request(70, [1, 2, 3], 2))
    assert (prepared.id, prepared.streaming) == (70, True)
    assert not session.has_work()
    session.submit(prepared)
    reports = [report for _ in range(3) if not isinstance(report := session.step(None), Nothing)]
    assert [request for report in reports for request, _ in report.tokens] == [70, 70]
    assert reports[-1].finished == [70]
    assert not session.has_work()


def test_with_overlap_a_step_spans_the_launch_of_its_batch_and_of_the_next(session_on, tmp_path):
    out = driven(session_on(PyExecutor(overlap=True)), work([(4, 3)]), tmp_path / "t")
    assert out.steps["execute_ns"][0] >= 2_000_000  # two forward passes of 1 ms before the first tokens are out
    assert (out.steps["start_ns"][1:] == out.steps["end_ns"][:-1]).all()


def test_the_first_step_after_a_pause_in_the_load_begins_when_the_engine_wakes(session_on, tmp_path):
    out = driven(session_on(PyExecutor(overlap=False)), after_a_rest((4, 2), (4, 2), 50_000_000), tmp_path / "t")
    idle = out.steps["start_ns"][2] - out.steps["end_ns"][1]
    assert idle >= 50_000_000


def test_what_a_paused_request_computes_again_is_prefill_but_for_its_newest_token(session_on, tmp_path):
    out = driven(session_on(PyExecutor(overlap=False, budget=64, pauses_at=4)), work([(4, 9)]), tmp_path / "t")
    assert out.steps["preempted"].sum() == 1
    assert out.steps["decode_tokens"].sum() == 8
    assert out.steps["prefill_tokens"].sum() == 4 + 6  # the prompt, and with two of the three tokens that it had
    assert out.figures.checks == ()


def test_requests_behind_the_batch_are_waiting(session_on, tmp_path):
    out = driven(session_on(PyExecutor(overlap=False, budget=4, expects=3)), work([(4, 8)] * 3), tmp_path / "t")
    assert out.steps["waiting"].max() >= 1
    assert out.steps["waiting"][-1] == 0
    assert set(out.steps["kv_usage"]) == {10 / BLOCKS}


def test_an_output_cut_short_is_found_at_its_end(session_on, tmp_path):
    with pytest.raises(WrongTokenCount, match="should have produced 5 tokens but ended with 4"):
        driven(session_on(PyExecutor(overlap=True, cut=1)), work([(4, 5)]), tmp_path / "t")


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_in_the_middle_ends_the_run_with_the_engines_words(session_on, tmp_path, overlap):
    with pytest.raises(RuntimeError, match="illegal memory access"):
        driven(session_on(PyExecutor(overlap, fails_at=3)), work([(4, 9)]), tmp_path / "t")


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exception_that_ends_the_loop_is_told_by_its_words(session_on, tmp_path, monkeypatch, overlap):
    heard: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    with pytest.raises(RuntimeError, match="TensorRT-LLM: RuntimeError: no free block is left"):
        driven(session_on(PyExecutor(overlap, dies_at=2)), work([(4, 9)]), tmp_path / "t")
    assert len(heard) == 1  # who listened before still hears of it


def test_an_exception_in_another_thread_is_not_the_engines(session_on, tmp_path, monkeypatch):
    heard: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    session = session_on(PyExecutor(overlap=True))
    other = threading.Thread(target=lambda: 1 / 0)
    other.start()
    other.join()
    assert driven(session, work([(4, 3)]), tmp_path / "t").figures.checks == ()
    assert len(heard) == 1


def test_a_loop_that_ended_without_a_word_is_noticed(session_on):
    executor = PyExecutor(overlap=False)
    session = session_on(executor)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="loop has ended"):
        session.step(None)


def test_a_prompt_longer_than_a_step_is_refused_where_it_would_not_be_split(session_on, tmp_path):
    with pytest.raises(ValueError, match=r"request 1: a prompt of 9 tokens .* step \(8\).*chunked_prefill=true"):
        driven(session_on(PyExecutor(overlap=True, chunked=False)), work([(8, 2), (9, 2)]), tmp_path / "t")


def test_a_step_waits_no_longer_than_until_the_time_it_is_given(session_on, monkeypatch):
    asked = []

    def no_time(until_ns):
        asked.append(until_ns)
        return 0.0

    monkeypatch.setattr("innerloop.engines.tensorrt_llm.session.seconds_left", no_time)
    assert session_on(PyExecutor(overlap=True)).step(5_000) is Nothing.TIMED_OUT
    assert asked == [5_000]


@pytest.mark.parametrize("overlap", [False, True])
def test_closing_cancels_what_still_runs(session_on, tmp_path, overlap):
    executor, hook = PyExecutor(overlap), threading.excepthook
    session = session_on(executor)
    assert threading.excepthook is not hook
    driven(session, work([(4, 100_000)], duration_ns=20_000_000), tmp_path / "t")
    session.close()
    assert not executor.worker_thread.is_alive()
    assert threading.excepthook is hook
