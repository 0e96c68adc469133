"""LMDeploy's adapter on a double of TurboMind, through the loop, the recorder and the analysis."""

from __future__ import annotations

import sys
import time

import pytest

from innerloop.engines.contract import Nothing, Request, Session, WrongTokenCount
from innerloop.engines.lmdeploy import adapter
from innerloop.engines.worker import loop
from tests.engines.lmdeploy.turbomind_double import Faults, TurboMind, modules
from tests.engines.support.driving import driven, work
from tests.engines.support.loads import make_load
from tests.waiting import PATIENCE_S, Clock

LENGTHS = [(5, 4), (11, 9), (2, 1), (7, 6)]


@pytest.fixture(autouse=True)
def however_busy_the_machine_is(monkeypatch):
    """An iteration's stragglers are waited for, and a thread goes on until it waits: the signals that the double hands
    over come in one go, as far as who reads them can see."""
    monkeypatch.setattr("innerloop.engines.lmdeploy.turbomind.STRAGGLER_S", PATIENCE_S)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def made() -> list[TurboMind]:
    """The engines that have been made."""
    return []


@pytest.fixture
def engine(monkeypatch, made):
    sessions: list[Session] = []

    def make(context_length=64, max_batch_size=64, **faults):
        for name, module in modules(Faults(**faults), made).items():
            monkeypatch.setitem(sys.modules, name, module)
        sessions.append(adapter.open(make_load(context_length=context_length, max_batch_size=max_batch_size)))
        return sessions[-1], made[-1]

    yield make
    for session in sessions:
        session.close()


def test_every_request_gets_its_tokens_and_the_trace_adds_up(engine, tmp_path):
    session, _ = engine()
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [4, 9, 1, 6]
    assert run.figures.counts.finished == 4
    assert run.figures.checks == ()


def test_a_step_is_an_iteration(engine, tmp_path):
    session, double = engine()
    run = driven(session, work([(4, 20)]), tmp_path / "t")
    assert run.steps["output_tokens"].tolist() == [1] * 20
    assert double.iterations == 20
    assert (run.steps["start_ns"][1:] == run.steps["end_ns"][:-1]).all()


def test_an_iteration_whose_signals_are_read_before_the_last_has_come_stays_one_step(engine, tmp_path):
    session, double = engine(straddles=True, begins_with=4)
    run = driven(session, work([(4, 12)] * 4), tmp_path / "t")
    tokens = run.steps["output_tokens"].tolist()
    assert sum(tokens) == 48
    assert len(tokens) <= double.iterations + 1  # who has its first token in an iteration is not known beforehand
    assert tokens.count(4) >= 9


def test_the_ticks_that_the_signals_of_one_iteration_could_read_differ(engine, tmp_path):
    session, double = engine(straddles=True)
    driven(session, work([(4, 12)] * 4), tmp_path / "t")
    assert any(ticks != {iteration} for iteration, ticks in double.ticks.items())


def test_iterations_that_are_signalled_together_are_steps_of_their_own(engine, tmp_path):
    session, double = engine(together=3, begins_with=3)
    run = driven(session, work([(4, 12)] * 3), tmp_path / "t")
    assert len(run.steps) == double.iterations
    assert max(run.steps["output_tokens"]) == 3
    assert run.figures.checks == ()


def test_a_request_that_loses_its_cache_does_not_split_the_steps_of_the_others(engine, tmp_path):
    session, double = engine(swapped_out=(1, 5, 8), begins_with=3)
    run = driven(session, work([(4, 20)] * 3), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [20, 20, 20]
    assert len(run.steps) == double.iterations
    assert (run.steps["output_tokens"] == 2).sum() >= 3


def test_a_step_waits_no_longer_than_it_may(engine, monkeypatch):
    asked = []

    def no_time(until_ns):
        asked.append(until_ns)
        return 0.0

    monkeypatch.setattr("innerloop.engines.lmdeploy.turbomind.seconds_left", no_time)
    session, _ = engine()
    assert session.step(5_000) is Nothing.TIMED_OUT
    assert asked == [5_000]


def test_a_request_that_is_due_does_not_split_an_iteration(engine):
    session, double = engine(straddles=True, begins_with=4)
    for index in range(4):
        session.submit(session.prepare(Request(index, [1] * 4, 12)))
    reports = []
    while session.has_work():
        report = session.step(0)  # long past
        if isinstance(report, Nothing):
            time.sleep(0.0005)
        else:
            reports.append(report)
    assert len(reports) <= double.iterations + 1  # who has its first token in an iteration is not known beforehand


def test_what_turbomind_does_not_tell_is_missing(engine, tmp_path):
    session, _ = engine()
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert session.info.unreported == adapter.unreported(make_load())
    for name in session.info.unreported:
        assert (run.steps[name] == -1).all(), name
    assert (run.steps["waiting"] >= 0).all()
    assert (run.steps["kv_usage"] == 0.25).all()
    assert run.figures.counts.prefill_positions is None


def test_who_is_behind_a_full_batch_waits_and_who_has_just_ended_ran(engine, tmp_path, monkeypatch):
    session, double = engine(max_batch_size=2, begins_with=6, in_step=True)
    step = session.step

    def in_step(until_ns):
        double.go_on()
        while isinstance(report := step(until_ns), Nothing):
            pass
        return report

    monkeypatch.setattr(session, "step", in_step)
    run = driven(session, work([(4, 6)] * 6), tmp_path / "t")
    assert run.steps["running"].tolist() == [2] * 18
    assert run.steps["waiting"].tolist() == [4] * 6 + [2] * 6 + [0] * 6


def test_nobody_waits_whose_end_is_known_to_the_engine_only(engine, tmp_path):
    session, _ = engine(together=3, begins_with=3)
    run = driven(session, work([(4, 12)] * 3), tmp_path / "t")
    assert run.steps["waiting"].tolist() == [0] * 12


def test_who_has_lost_its_cache_waits(engine, tmp_path):
    session, _ = engine(swapped_out=(1, 5, 8), begins_with=3)
    run = driven(session, work([(4, 20)] * 3), tmp_path / "t")
    assert 1 in run.steps["waiting"].tolist()
    assert set(run.steps["waiting"].tolist()) == {0, 1}


def test_a_signal_before_the_submission_returns_is_kept(engine, tmp_path):
    session, _ = engine(early=True)
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [4, 9, 1, 6]
    assert (run.requests["first_token_ns"] >= run.requests["submitted_ns"]).all()
    assert run.figures.checks == ()


def test_the_tokens_are_those_behind_the_prompt(engine):
    session, _ = engine()
    session.submit(session.prepare(Request(8, [1, 2, 3], 5)))
    tokens = []
    while session.has_work():
        report = session.step(None)
        if not isinstance(report, Nothing):
            tokens += [token for index, ids in report.tokens for token in ids if index == 8]
    assert tokens == [1000, 1001, 1002, 1003, 1004]


def test_an_output_cut_short_is_found_out(engine, tmp_path):
    session, _ = engine(short=1)
    with pytest.raises(WrongTokenCount, match="request 1 should have produced 9 tokens but ended with 8"):
        driven(session, work(LENGTHS), tmp_path / "t")


def test_a_request_that_fails_ends_the_run_with_the_engines_word_for_it(engine, tmp_path):
    session, _ = engine(fails=2)
    with pytest.raises(RuntimeError, match=r"request 2 with INTERNAL_ENGINE_ERROR \(status 5\)"):
        driven(session, work(LENGTHS), tmp_path / "t")


def test_a_step_without_a_signal_gives_the_caller_a_look_at_the_clock(engine):
    session, _ = engine()
    assert session.step(None) is Nothing.TIMED_OUT
    assert not session.has_work()


def test_what_still_runs_when_the_window_closes_is_cancelled(engine, tmp_path, monkeypatch):
    session, double = engine(context_length=100_000)
    clock, step = Clock(time.monotonic_ns()), session.step
    monkeypatch.setattr(loop, "time", clock)

    def a_millisecond(until_ns):
        clock.sleep(0.001)
        return step(until_ns)

    monkeypatch.setattr(session, "step", a_millisecond)
    run = driven(session, work([(2, 90_000), (2, 90_000)], duration_ns=20_000_000), tmp_path / "t")
    assert run.figures.counts.cut == 2
    session.close()
    assert double.cancelled == 2
    assert double.closed


def test_the_effective_settings_are_the_engines_own(engine):
    session, double = engine()
    assert session.info.version == "0.18.0"
    assert session.info.effective["max_tokens_per_step"] == 2048
    assert double.engine_config.max_prefill_token_num == 2048 - 64
    assert session.info.effective["context_length"] == 64
    assert session.info.kv_cache_tokens is None
    assert session.info.native["backend"] == "turbomind"


@pytest.mark.parametrize(
    ("context_length", "most"),
    [
        (63, 2048),  # no more than max_batch_size: the engine then allows as many contexts
        (64, 2048),
        (65, 65 + 63),  # a prefill or more with 65 positions, and the other requests' decodes
        (1984, 2047),
        (1985, 2048),
    ],
)
def test_the_whole_contexts_that_an_iteration_prefills_are_no_more_than_context_length(engine, context_length, most):
    session, _ = engine(context_length=context_length)
    assert session.info.effective["max_tokens_per_step"] == most


def test_a_request_that_cannot_be_made_is_not_in_flight(engine):
    session, double = engine(no_room=True)
    with pytest.raises(RuntimeError, match="no room"):
        session.prepare(Request(0, [1], 1))
    assert not session.has_work()
    session.close()
    assert double.closed
    assert double.cancelled == 0


def test_an_extension_that_did_not_load_says_why(engine):
    with pytest.raises(RuntimeError, match=r"did not load: libcublas\.so\.12: cannot open"):
        engine(extension=OSError("libcublas.so.12: cannot open shared object file"))


def test_a_request_waits_prepared_until_it_is_submitted(engine):
    session, _ = engine()
    prepared = session.prepare(Request(3, [1, 2], 2))
    assert not session.has_work()
    session.submit(prepared)
    assert session.has_work()


def test_an_engine_that_cannot_be_watched_is_closed(engine, made, monkeypatch):
    def lost(self):
        raise AttributeError("errcode_map")

    monkeypatch.setattr(TurboMind, "create_instance", lost)
    with pytest.raises(AttributeError, match="errcode_map"):
        engine()
    assert made[-1].closed
