"""The session on a double of the pipeline, through the real loop, recorder and analysis."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from innerloop.engines.contract import EngineInfo, Nothing, Request
from innerloop.engines.openvino import PHASES, WITH_PREFIX_CACHE
from innerloop.engines.openvino.scheduling import FollowedScheduler
from innerloop.engines.openvino.session import Limits, PipelineSession
from innerloop.engines.support import marks
from tests.engines.openvino.double import BLOCKS, GenerationStatus, Pipeline
from tests.engines.support.driving import driven, work

LENGTHS = [(5, 4), (40, 3), (2, 6), (17, 1)]
LIMITS = Limits(context_length=2048, whole_prompt=None, blocks=BLOCKS)


@pytest.fixture
def session_on(monkeypatch) -> Callable[..., PipelineSession]:
    """session_on(pipeline, ...): a session in charge of a double."""
    openvino, genai = ModuleType("openvino"), ModuleType("openvino_genai")
    vars(openvino)["Tensor"] = np.asarray
    vars(genai).update(GenerationConfig=SimpleNamespace, GenerationStatus=GenerationStatus)
    for module in (openvino, genai):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(pipeline: Any = None, limits: Limits = LIMITS, most: int = 8, caching: bool = False) -> PipelineSession:
        followed = None if caching else FollowedScheduler(4096, most, BLOCKS, split=True)
        session = PipelineSession(pipeline or Pipeline(), limits, most, followed)
        session.info = EngineInfo("1", unreported=(*WITH_PREFIX_CACHE, *PHASES) if caching else PHASES)
        return session

    return make


def test_every_token_is_counted_once_and_positions_add_up(session_on, tmp_path):
    out = driven(session_on(), work(LENGTHS), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [4, 3, 6, 1]
    assert out.steps["prefill_tokens"].tolist() == [64, 0, 0, 0, 0, 0]
    assert out.steps["decode_tokens"].tolist() == [0, 3, 3, 2, 1, 1]
    assert out.steps["running"].tolist() == [4, 3, 3, 2, 1, 1]
    assert out.steps["kv_usage"][0] == 5 / BLOCKS
    assert out.figures.checks == ()
    for name in PHASES:
        assert (out.steps[name] == -1).all()


def test_lengths_are_forced_and_decoding_is_greedy(session_on):
    pipeline = Pipeline()
    session = session_on(pipeline)
    session.submit(session.prepare(Request(3, [7, 8], 5)))
    assert pipeline.added == [3]
    assert vars(pipeline.configs[0]) == {"max_new_tokens": 5, "ignore_eos": True, "do_sample": False}


def test_requests_beyond_the_batch_wait_here(session_on, tmp_path):
    pipeline = Pipeline()
    out = driven(session_on(pipeline, most=2), work([(5, 2)] * 5), tmp_path / "t")
    assert pipeline.widest == 2
    assert out.steps["running"].tolist() == [2, 2, 2, 2, 1, 1]
    assert out.steps["waiting"].tolist() == [3, 3, 1, 1, 0, 0]
    assert out.steps["prefill_tokens"].sum() == 25


def test_with_a_prefix_cache_what_it_held_is_not_told(session_on, tmp_path):
    out = driven(session_on(caching=True), work(LENGTHS), tmp_path / "t")
    for name in WITH_PREFIX_CACHE:
        assert (out.steps[name] == -1).all()
    assert out.steps["decode_tokens"].tolist() == [0, 3, 3, 2, 1, 1]
    assert session_on(caching=True).reset_caches() is False
    assert session_on().reset_caches() is True


def test_a_step_that_goes_otherwise_ends_the_counting_and_nothing_else(session_on, tmp_path, capfd):
    out = driven(session_on(Pipeline(skip=2)), work([(5, 4), (6, 4)]), tmp_path / "t")
    assert out.steps["prefill_tokens"].tolist() == [11, 0, -1, -1, -1]
    assert out.steps["decode_tokens"].tolist() == [0, 2, 1, 2, 1]
    assert out.requests["output_tokens"].tolist() == [4, 4]
    assert "positions are not reported from here on" in capfd.readouterr().err


def test_another_use_of_the_cache_than_was_worked_out_is_noticed(session_on, tmp_path):
    pipeline = Pipeline()
    session = session_on(pipeline, LIMITS._replace(blocks=BLOCKS // 2))
    out = driven(session, work([(5, 2)]), tmp_path / "t")
    assert out.steps["prefill_tokens"].tolist() == [-1, -1]


def test_requests_that_the_engine_gave_up_are_an_error(session_on):
    session = session_on(Pipeline(full_at=1))
    session.submit(session.prepare(Request(0, [7] * 5, 5)))
    session.step(None)
    with pytest.raises(RuntimeError, match=r"IGNORED.*raise kv_cache_tokens"):
        session.step(None)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (LIMITS._replace(context_length=11), "request 4 is longer than context_length 11"),
        (LIMITS._replace(whole_prompt=7), "its prompt is longer than max_tokens_per_step 7"),
        (LIMITS._replace(blocks=0), "request 4 does not fit into the KV cache, which has 0 blocks"),
    ],
)
def test_a_request_that_would_never_be_scheduled_is_refused(session_on, limits, words):
    with pytest.raises(ValueError, match=words):
        session_on(limits=limits).prepare(Request(4, [7] * 8, 4))


def test_a_requests_last_token_takes_no_room(session_on):
    session_on(limits=LIMITS._replace(blocks=1)).prepare(Request(4, [7] * 30, 3))
    with pytest.raises(ValueError, match="does not fit"):
        session_on(limits=LIMITS._replace(blocks=1)).prepare(Request(4, [7] * 30, 4))


def test_an_idle_session_computes_nothing(session_on):
    pipeline = Pipeline()
    assert session_on(pipeline).step(None) is Nothing.FLUSHED
    assert pipeline.steps == 0


def test_closing_cancels_what_runs_and_frees_its_blocks(session_on):
    pipeline = Pipeline()
    session = session_on(pipeline, most=1)
    for number in range(3):
        session.submit(session.prepare(Request(number, [7] * 5, 9)))
    session.step(None)
    session.close()
    assert pipeline.handles == []
    assert pipeline.steps == 2
    assert session.has_work() is False


def test_a_profiler_sees_a_range_around_each_step(session_on):
    ranges: list[str] = []
    marks.turn_on(ranges.append, lambda: None)
    try:
        session = session_on()
    finally:
        marks.turn_off()
    session.submit(session.prepare(Request(0, [7] * 5, 1)))
    session.step(None)
    assert ranges == ["execute"]
