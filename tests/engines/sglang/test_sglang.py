"""SGLang's adapter on a double of its scheduler, through the loop, the recorder and the analysis."""

from __future__ import annotations

import sys

import pytest

from innerloop.engines.contract import Nothing, Request, WrongTokenCount
from innerloop.engines.sglang import adapter
from innerloop.engines.support import marks
from innerloop.engines.support.versions import UnknownVersion
from innerloop.engines.worker.main import own_cause
from tests.engines.sglang.double import Scheduler
from tests.engines.sglang.modules import modules
from tests.engines.support.driving import driven, work
from tests.engines.support.loads import make_load

IN_ORDER = {"disable_overlap_schedule": True}
LENGTHS = [(5, 4), (11, 3), (2, 1), (17, 6)]
PROMPTS, DECODES = sum(p for p, _ in LENGTHS), sum(n - 1 for _, n in LENGTHS)


@pytest.fixture
def made() -> list[Scheduler]:
    """The schedulers that have been made."""
    return []


@pytest.fixture
def engine(monkeypatch, made):
    def make(overlap=True, **behaviour):
        for name, module in modules(made, **behaviour).items():
            monkeypatch.setitem(sys.modules, name, module)
        return adapter.open(make_load(engine_args={} if overlap else IN_ORDER, context_length=128)), made[-1]

    return make


def submit(session, *requests):
    for request in requests:
        session.submit(session.prepare(request))


def steps(session):
    """The reports of all steps until there is no more work."""
    reports = []
    while session.has_work():
        report = session.step(None)
        if not isinstance(report, Nothing):
            reports.append(report)
    return reports


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("never_overlaps_prefills", [True, False])
def test_every_request_gets_its_tokens_and_the_trace_adds_up(engine, tmp_path, overlap, mixed, never_overlaps_prefills):
    session, double = engine(overlap, mixed=mixed, never_overlaps_prefills=never_overlaps_prefills)
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [4, 3, 1, 6]
    assert run.figures.counts.prefill_positions == PROMPTS
    assert run.figures.counts.decode_positions == DECODES
    assert run.figures.checks == ()
    assert len(run.steps) == double.batches
    assert not session.has_work()


def test_a_report_carries_the_composition_of_the_batch_whose_tokens_it_returns(engine):
    session, _ = engine()
    submit(session, Request(3, [1] * 6, 3))
    reports = steps(session)
    assert [(r.prefill_tokens, r.decode_tokens, len(r.tokens)) for r in reports] == [(6, 0, 1), (0, 1, 1), (0, 1, 1)]
    assert [list(r.finished) for r in reports] == [[], [], [3]]


def test_a_batch_is_marked_with_how_many_steps_after_its_launch_it_comes_out(engine):
    seen: list[str] = []
    marks.turn_on(seen.append, lambda: None)
    try:
        session, _ = engine()
        submit(session, Request(0, [1] * 6, 4))
        by_step = []
        while session.has_work():
            session.step(None)
            by_step.append([name for name in seen if name.startswith("ahead")])
            assert {"schedule", "execute", "wait", "update"} <= set(seen)
            seen.clear()
    finally:
        marks.turn_off()
    # Each launch is a run and a sampling; the last pass launches nothing.
    assert by_step == [["ahead 0"] * 2 + ["ahead 1"] * 2, ["ahead 1"] * 2, ["ahead 1"] * 2, ["ahead 0"]]


def test_the_first_step_spans_the_pass_that_only_fills_the_pipeline(engine):
    session, double = engine()
    submit(session, Request(0, [1] * 6, 3))
    first = session.step(None)
    assert first.tokens
    assert double.batches == 2
    assert first.end_ns - first.start_ns >= first.schedule_ns + first.execute_ns + first.wait_ns + first.update_ns


def test_a_prompt_in_chunks_has_steps_without_tokens(engine, tmp_path):
    session, _ = engine()
    run = driven(session, work([(20, 2)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [8, 8, 4, 0]
    assert run.steps["output_tokens"].tolist() == [0, 0, 1, 1]


def test_what_a_retraction_computes_again_is_prefill_but_for_the_newest_token(engine, tmp_path):
    session, _ = engine(overlap=False, retracts_at=3)
    run = driven(session, work([(3, 6), (3, 6)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist() == [6, 0, 0, 0, 5, 0, 0]
    assert run.steps["decode_tokens"].tolist() == [0, 2, 2, 1, 1, 2, 2]
    assert run.requests["output_tokens"].tolist() == [6, 6]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("at", [2, 3, 4, 5])
def test_with_a_retraction_the_trace_still_adds_up(engine, tmp_path, overlap, mixed, at):
    session, _ = engine(overlap, mixed=mixed, retracts_at=at)
    run = driven(session, work([(5, 7), (3, 9), (6, 5)]), tmp_path / "t")
    assert run.requests["output_tokens"].tolist() == [7, 9, 5]
    assert run.figures.checks == ()
    assert run.steps["preempted"].sum() <= 1


def test_a_request_that_the_scheduler_would_never_admit_is_refused(engine):
    session, double = engine()
    double.max_total_num_tokens = 386
    with pytest.raises(ValueError, match="KV cache of 387 tokens for request 7, and has 386"):
        session.prepare(Request(7, [1] * 256, 128))
    double.max_total_num_tokens = 387
    session.prepare(Request(7, [1] * 256, 128))


def test_without_overlap_the_wait_is_part_of_other_phases_and_missing(engine, tmp_path):
    session, _ = engine(overlap=False)
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert (run.steps["wait_ns"] == -1).all()
    assert session.info.unreported == adapter.unreported(make_load(engine_args=IN_ORDER))
    assert "wait_ns" in session.info.unreported
    assert "wait_ns" not in adapter.unreported(make_load())


@pytest.mark.parametrize("overlap", [True, False])
def test_what_it_does_not_tell_is_missing_and_the_rest_is_not(engine, tmp_path, overlap):
    session, _ = engine(overlap)
    run = driven(session, work(LENGTHS), tmp_path / "t")
    assert session.info.stepping == "driven"
    for name in run.steps.dtype.names or ():
        if name.endswith("_ns") and name not in ("start_ns", "end_ns"):
            assert (run.steps[name] == -1).all() == (name in session.info.unreported), name
    for name in ("cached_tokens", "drafted_tokens", "accepted_tokens"):
        assert (run.steps[name] == 0).all(), name


@pytest.mark.parametrize("overlap", [True, False])
def test_every_step_hands_out_a_token_for_each_of_its_requests(engine, tmp_path, overlap):
    session, _ = engine(overlap)
    run = driven(session, work([(3, 120), (4, 70)]), tmp_path / "t")
    assert (run.steps["output_tokens"] == run.steps["running"]).all()
    assert run.steps["output_tokens"].tolist() == [2] * 70 + [1] * 50


def test_a_request_that_did_not_stream_would_be_heard_of_every_fiftieth_token(engine):
    session, _ = engine(overlap=False)
    prepared = session.prepare(Request(0, [1] * 3, 120))
    prepared.stream = False
    session.submit(prepared)
    assert [len(ids) for report in steps(session) for _, ids in report.tokens] == [50, 50, 20]


@pytest.mark.parametrize("overlap", [True, False])
def test_what_a_prompt_finds_in_the_cache_is_told_when_it_is_first_scheduled(engine, tmp_path, overlap):
    session, _ = engine(overlap, shared=4)
    run = driven(session, work([(5, 3), (17, 3)]), tmp_path / "t")
    assert run.steps["prefill_tokens"].tolist()[:3] == [8, 8, 2]  # 5 and the first 3 of 13
    assert run.steps["cached_tokens"].tolist()[:4] == [4, 0, 0, 0]
    assert run.requests["output_tokens"].tolist() == [3, 3]


@pytest.mark.parametrize("overlap", [True, False])
def test_what_a_retracted_request_finds_again_is_no_hit(engine, tmp_path, overlap):
    session, _ = engine(overlap, shared=2, retracts_at=3)
    run = driven(session, work([(3, 8), (3, 8)]), tmp_path / "t")
    assert run.steps["preempted"].sum() == 1
    assert run.steps["cached_tokens"].sum() == 2
    assert run.requests["output_tokens"].tolist() == [8, 8]


@pytest.mark.parametrize("overlap", [True, False])
def test_the_cache_is_emptied_once_nothing_runs(engine, overlap):
    session, double = engine(overlap, shared=2)
    submit(session, Request(0, [1] * 3, 4))
    session.step(None)
    assert not session.reset_caches()
    steps(session)
    assert session.reset_caches()
    assert double.flushed == 1
    submit(session, Request(1, [1] * 3, 4), Request(2, [1] * 3, 4))
    assert [report.cached_tokens for report in steps(session)] == [2, 0, 0, 0]  # of the second one


def test_a_step_with_nothing_to_do_is_flushed(engine):
    session, _ = engine()
    assert session.step(None) is Nothing.FLUSHED


def test_an_output_cut_short_is_found_out(engine, tmp_path):
    session, _ = engine(short="1")
    with pytest.raises(WrongTokenCount, match="request 1 was to produce 3 tokens and ended with 2"):
        driven(session, work(LENGTHS), tmp_path / "t")


def test_a_request_that_is_ended_while_it_waits_ends_the_run(engine, tmp_path):
    session, _ = engine(refuses="2")
    with pytest.raises(RuntimeError, match="too long"):
        driven(session, work(LENGTHS), tmp_path / "t")


def test_a_request_that_is_ended_at_work_ends_the_run_with_the_engines_words(engine, tmp_path):
    session, _ = engine(aborts="1")
    with pytest.raises(RuntimeError, match="SGLang ended request 1: NaN in the logits"):
        driven(session, work(LENGTHS), tmp_path / "t")


def test_after_a_failure_the_device_is_not_asked_to_finish(engine, tmp_path):
    session, double = engine(fails_at=2)
    with pytest.raises(RuntimeError, match="out of memory"):
        driven(session, work(LENGTHS), tmp_path / "t")
    session.close()
    assert not double.released


def test_a_sound_scheduler_is_released_and_leaves_nothing_in_shared_memory(engine, tmp_path):
    snapshot = tmp_path / "sglang_loads.shm"
    snapshot.touch()
    session, double = engine(snapshot=str(snapshot))
    driven(session, work(LENGTHS), tmp_path / "t")
    session.close()
    assert double.released
    assert not snapshot.exists()


def test_a_scheduler_that_cannot_be_made_leaves_no_sockets(engine, tmp_path):
    with pytest.raises(RuntimeError, match="Not enough memory") as full:
        engine(no_room=True, sockets=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert own_cause(full.value, "cuda", adapter.out_of_memory) == "out_of_memory_device"


def test_a_scheduler_that_is_not_as_expected_is_released(engine, made, tmp_path):
    snapshot = tmp_path / "sglang_loads.shm"
    snapshot.touch()
    with pytest.raises(AttributeError, match="random_seed"):
        engine(lacks="random_seed", snapshot=str(snapshot))
    assert made[-1].released
    assert not snapshot.exists()


def test_the_effective_settings_are_the_engines_own(engine):
    session, double = engine()
    assert double.prepared == 1
    assert session.info.effective["context_length"] == 128
    assert session.info.effective["cuda_graphs"] is True
    assert session.info.effective["async_scheduling"] is True
    assert session.info.kv_cache_tokens == 4096
    assert session.info.weights_bytes == 2**29
    assert session.info.notes == ()


def test_an_unknown_version_is_noted(engine):
    session, _ = engine(version="0.6.0")
    assert any("0.6.0 is not among the versions" in note for note in session.info.notes)


def test_an_unknown_version_that_behaves_otherwise_is_said_to_be_one(monkeypatch):
    made: list[Scheduler] = []
    found = modules(made, version="0.6.0")
    del found["sglang.srt.runtime_context"].spawn_world_rank
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(UnknownVersion, match=r"SGLang 0\.6\.0 is not among .*ImportError.*spawn_world_rank"):
        adapter.open(make_load(context_length=128))
