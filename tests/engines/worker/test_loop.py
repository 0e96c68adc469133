from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from innerloop.engines.contract import Nothing, StepReport, WrongTokenCount
from innerloop.engines.support import waiting
from innerloop.engines.worker import ahead, loop, trace
from innerloop.engines.worker.loop import MOST_LEFT, drain, drive
from innerloop.engines.worker.work import Work
from tests.engines.worker import scripted
from tests.engines.worker.scripted import ScriptedEngine
from tests.waiting import Clock

MS = 1_000_000


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    """The loop's and the engine's: a step takes exactly as long as the engine sleeps."""
    made = Clock()
    for module in (ahead, loop, scripted, waiting):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(waiting, "SPIN_NS", 0)  # the clock stands still while nobody sleeps
    return made


def work(outputs, due_ns=None, following=None, rest_ns=0, duration_ns=-1) -> Work:
    n = len(outputs)
    return Work(
        prompt_tokens=np.arange(2 * n, dtype=np.int32),
        prompt_offsets=np.arange(0, 2 * n + 1, 2, dtype=np.int64),
        output_lens=np.array(outputs, dtype=np.int32),
        due_ns=np.array(due_ns if due_ns is not None else [0] * n, dtype=np.int64),
        next_request=np.array(following if following is not None else [-1] * n, dtype=np.int32),
        user=np.full(n, -1, dtype=np.int32),
        rest_ns=rest_ns,
        duration_ns=duration_ns,
    )


def run(engine: ScriptedEngine, load: Work, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    recorder = load.recorder(folder)
    drive(engine, load, recorder)
    recorder.close()
    return tuple(trace.records(folder, name) for name in ("steps", "tokens", "requests"))  # type: ignore[return-value]


def test_requests_due_together_join_the_same_step_in_order(tmp_path):
    engine = ScriptedEngine()
    run(engine, work([2, 1, 3]), tmp_path / "t")
    assert engine.submitted == [(0, 0), (0, 1), (0, 2)]
    assert engine.most_running == 3


def test_every_token_is_recorded_with_its_request_and_step(tmp_path):
    steps, tokens, requests = run(ScriptedEngine(step_s=0.001), work([2, 1, 3]), tmp_path / "t")
    assert steps["end_ns"].tolist() == [1001 * MS, 1002 * MS, 1003 * MS]
    assert steps["output_tokens"].tolist() == [3, 2, 1]
    assert list(zip(tokens["step"].tolist(), tokens["request"].tolist(), strict=True)) == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 2),
    ]  # fmt: skip
    time_ns, step, ends = tokens["time_ns"], tokens["step"], steps["end_ns"]
    assert (time_ns == ends[step]).all()
    assert requests["output_tokens"].tolist() == [2, 1, 3]
    assert [trace.STATES[s] for s in requests["state"]] == ["finished"] * 3


def test_a_follower_becomes_due_its_rest_after_its_predecessor_has_finished(tmp_path):
    load = work([2, 2], due_ns=[0, -1], following=[1, -1], rest_ns=30 * MS)
    _, _, requests = run(ScriptedEngine(step_s=0.001), load, tmp_path / "t")
    assert requests["due_ns"][1] == requests["last_token_ns"][0] + 30 * MS
    assert requests["submitted_ns"][1] == requests["due_ns"][1]


def test_a_request_is_due_at_its_own_time_even_when_a_step_delays_its_submission(tmp_path):
    load = work([3, 1], due_ns=[0, 20 * MS])
    engine = ScriptedEngine(step_s=0.05)
    _, _, requests = run(engine, load, tmp_path / "t")
    head = trace.header(tmp_path / "t" / "steps.bin")
    assert requests["due_ns"][1] == int(head["start_ns"]) + 20 * MS
    assert requests["submitted_ns"][1] - requests["due_ns"][1] == 30 * MS  # it had to wait for the step under way
    assert engine.submitted[1] == (1, 1)


def test_the_window_closes_at_the_duration_and_what_runs_is_cut(tmp_path):
    load = work([1, 10_000], duration_ns=60 * MS)
    steps, tokens, requests = run(ScriptedEngine(step_s=0.01), load, tmp_path / "t")
    head = trace.header(tmp_path / "t" / "steps.bin")
    assert [trace.STATES[s] for s in requests["state"]] == ["finished", "cut"]
    assert int(head["end_ns"]) - int(head["start_ns"]) == 60 * MS
    assert len(steps) == 6
    assert int(tokens["count"].sum()) == int(steps["output_tokens"].sum()) == int(head["tokens"])


def test_requests_that_never_became_due_stay_unsent(tmp_path):
    load = work([5, 1], due_ns=[0, 10_000 * MS], duration_ns=50 * MS)
    _, _, requests = run(ScriptedEngine(step_s=0.001), load, tmp_path / "t")
    assert trace.STATES[requests["state"][1]] == "unsent"
    assert requests["submitted_ns"][1] == trace.MISSING


@pytest.mark.parametrize(("given", "words"), [(1, "ended with 1"), (4, "received 4")])
def test_an_engine_that_miscounts_is_found_out(tmp_path, given, words):
    with pytest.raises(WrongTokenCount, match=rf"request 1 should have produced 3 tokens (and|but) {words}"):
        run(ScriptedEngine(cheat={1: given}), work([6, 3]), tmp_path / "t")


def test_an_engine_that_runs_dry_is_found_out(tmp_path):
    class Forgetful(ScriptedEngine):
        def step(self, until_ns):
            report = super().step(until_ns)
            if not isinstance(report, Nothing):
                report.finished = ()
            return report

    with pytest.raises(
        WrongTokenCount, match="no work left, but request 0 should have produced 3 tokens but ended with 2"
    ):
        run(Forgetful(cheat={0: 2}), work([3]), tmp_path / "t")


def test_what_the_last_request_gets_too_much_is_found_by_one_step_more(tmp_path):
    engine, load = ScriptedEngine(cheat={1: 5}), work([2, 3])
    recorder = load.recorder(tmp_path / "t")
    drive(engine, load, recorder)
    recorder.close()
    assert engine.steps == 3
    with pytest.raises(WrongTokenCount, match="request 1 should have produced 3 tokens but received 4"):
        drain(engine, recorder)
    assert engine.steps == 4
    assert len(trace.records(tmp_path / "t", "steps")) == 3


def test_leftovers_are_flushed_and_an_engine_that_never_rests_is_found_out(tmp_path):
    class Restless(ScriptedEngine):
        left = 0

        def step(self, until_ns):
            report = super().step(until_ns)
            self.left -= isinstance(report, Nothing)
            return report

        def has_work(self):
            return self.left > 0

    engine, load = Restless(), work([2])
    recorder = load.recorder(tmp_path / "t")
    drive(engine, load, recorder)
    engine.left = 2
    drain(engine, recorder)
    assert engine.left == 0
    engine.left = MOST_LEFT + 1
    with pytest.raises(WrongTokenCount, match="every request has its tokens"):
        drain(engine, recorder)
    assert engine.left == 1
    recorder.close()


class WaitingEngine(ScriptedEngine):
    """Its first request gives nothing before a second one has come; until then a step only waits, as it was told."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.told: list[int | None] = []

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        self.told.append(until_ns)
        if len(self.submitted) > 1:
            return super().step(until_ns)
        assert until_ns is not None
        self.clock.now_ns = max(until_ns, self.clock.now_ns)
        return Nothing.TIMED_OUT


def test_a_step_that_only_waits_is_told_when_the_next_request_is_due(tmp_path, clock):
    engine = WaitingEngine(clock)
    _, _, requests = run(engine, work([2, 1], due_ns=[0, 20 * MS]), tmp_path / "t")
    head = trace.header(tmp_path / "t" / "steps.bin")
    assert engine.told[0] == requests["due_ns"][1] == int(head["start_ns"]) + 20 * MS
    assert engine.told[-1] is None  # nothing more is due and no duration was asked for


def test_a_step_that_only_waits_is_told_when_the_window_ends(tmp_path, clock):
    engine = WaitingEngine(clock)
    run(engine, work([1], duration_ns=20 * MS), tmp_path / "t")
    head = trace.header(tmp_path / "t" / "steps.bin")
    assert engine.told == [int(head["start_ns"]) + 20 * MS]


class Preparing(ScriptedEngine):
    """Notes when each request was prepared: before the window opened, or after how many steps."""

    def __init__(self) -> None:
        super().__init__(step_s=0.001)
        self.window_open = False
        self.prepared: list[tuple[int, bool]] = []  # (request, whether the window was open)

    def prepare(self, request):
        self.prepared.append((request.id, self.window_open))
        return super().prepare(request)

    def opened(self) -> None:
        self.window_open = True


def test_requests_are_prepared_before_the_window_in_the_order_in_which_they_fall_due(tmp_path):
    engine, load = Preparing(), work([1, 1, 1, 1], due_ns=[20 * MS, 0, -1, 10 * MS], following=[2, -1, -1, -1])
    recorder = load.recorder(tmp_path / "t")
    drive(engine, load, recorder, ready=engine.opened)
    recorder.close()
    assert engine.prepared == [(1, False), (3, False), (0, False), (2, False)]
    assert [request for _, request in engine.submitted] == [1, 3, 0, 2]


def test_what_is_too_much_to_prepare_beforehand_is_prepared_while_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead.Ahead.__init__, "__defaults__", (4,))  # two prompts of two tokens
    engine, load = Preparing(), work([1, 1, 1], due_ns=[0, 10 * MS, 20 * MS])
    recorder = load.recorder(tmp_path / "t")
    drive(engine, load, recorder, ready=engine.opened)
    recorder.close()
    assert engine.prepared == [(0, False), (1, False), (2, True)]


def test_ready_is_called_last_before_the_window_opens(tmp_path, clock):
    load, seen = work([1]), []
    recorder = load.recorder(tmp_path / "t")

    def ready() -> None:
        clock.now_ns += 5 * MS
        seen.append(clock.now_ns)

    drive(ScriptedEngine(), load, recorder, ready=ready)
    recorder.close()
    assert int(trace.header(tmp_path / "t" / "steps.bin")["start_ns"]) == seen[0]
