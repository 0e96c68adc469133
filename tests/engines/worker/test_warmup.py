from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from innerloop.engines.contract import Bare
from innerloop.engines.worker import trace, warmup
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.warmup import SHAPES, Plan, Rule, WarmUp, other_content, token_s, warm_up
from tests.engines.support.driving import work
from tests.engines.worker.scripted import ScriptedEngine

RULE = Rule(max_rounds=3, max_s=60.0, tolerance=1e-9, window=3)


def plan(lengths, window=((40, 20),), rule: Rule = RULE, most_prompt: int = 1000) -> Plan:
    return Plan(work(lengths), work(window), rule, most_prompt)


class Noting(ScriptedEngine):
    """Notes every request's lengths as it is prepared."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: dict[int, tuple[int, int]] = {}

    def prepare(self, request):
        self.lengths[request.id] = len(request.prompt), request.output_tokens
        return request


def test_requests_are_numbered_on_over_all_parts_and_the_window(tmp_path):
    engine, made, load = ScriptedEngine(), plan([(3, 2), (4, 1)]), work([(3, 2), (4, 1)])
    done = warm_up(engine, made, tmp_path / "warmup")
    assert done.account["rounds"] == 3
    assert made.end == 2 * (3 + len(SHAPES))
    recorder = load.recorder(tmp_path / "window", first_id=made.end)
    drive(engine, load, recorder, made.end)
    recorder.close()
    ids = [request for _, request in engine.submitted]
    assert len(ids) == len(set(ids))
    assert set(ids[-2:]) == {made.end, made.end + 1}
    warm, window = (trace.records(tmp_path / name, "requests") for name in ("warmup", "window"))
    assert warm["prompt_tokens"][:6].tolist() == [3, 4] * 3
    assert set(warm["state"][:6].tolist()) == {trace.STATES.index("finished")}
    assert window["output_tokens"].tolist() == [2, 1]


def test_after_each_round_is_told_how_far_the_rounds_are_from_settled(tmp_path):
    told: list[dict] = []
    warm_up(ScriptedEngine(), plan([(3, 2), (4, 1)]), tmp_path / "warmup", tell=told.append)
    assert [one["rounds"] for one in told] == [1, 2, 3]
    assert [one["deviation"] is None for one in told] == [True, True, False]
    assert {(one["max_rounds"], one["tolerance"]) for one in told} == {(3, 1e-9)}
    assert 60.0 > told[0]["left_s"] > told[1]["left_s"] > told[2]["left_s"] >= 0.0


def test_after_the_first_round_come_the_shapes_and_then_the_rounds(tmp_path):
    engine, made = Noting(), plan([(10, 8)] * 4)
    done = warm_up(engine, made, tmp_path / "warmup")
    assert done.shapes == ["taper", "long"]
    parts = [request // 4 for _, request in engine.submitted]
    assert parts == [0] * 4 + [3] * 4 + [4] * 4 + [1] * 4 + [2] * 4  # the rounds are parts 0 to 2
    assert [engine.lengths[12 + i] for i in range(4)] == [(10, 1), (10, 2), (10, 3), (10, 4)]  # the last one joins
    assert engine.lengths[16] == (1, 4)  # 40 + 20 of the window, less the tokens that are kept free


def test_long_contexts_have_a_quarter_of_a_rounds_positions_and_one_is_always_met(tmp_path):
    made = plan([(400, 100)] * 4, window=[(400, 68)] * 4)  # 400 prompt positions each; a quarter of a round has 500
    engine = Noting()
    warm_up(engine, made, tmp_path / "warmup")
    assert [request for _, request in engine.submitted if 16 <= request < 20] == [16]
    assert engine.lengths[16] == (400, 4)
    made = plan([(400, 100)] * 4, window=[(200, 68)] * 4)
    warm_up(engine, made, tmp_path / "shorter")
    assert engine.lengths[17] == (200, 4)


def test_only_as_many_long_contexts_run_as_there_is_time_for(tmp_path, monkeypatch):
    # A round of 4 x 500 positions is taken to last 150 s: 13.3 a second, 400 in half of 60 s.
    monkeypatch.setattr(warmup, "run_part", timed_as(150))
    made = plan([(400, 100)] * 4, window=[(200, 68)] * 4)
    engine = Noting()
    warm_up(engine, made, tmp_path / "warmup")
    assert [request for _, request in engine.submitted if 16 <= request < 20] == [16]


def timed_as(seconds: float) -> Any:
    run_part = warmup.run_part

    def timed(*arguments: Any) -> float:
        run_part(*arguments)
        return seconds

    return timed


class Turning(ScriptedEngine):
    """Can be stepped bare."""

    def __init__(self) -> None:
        super().__init__()
        self.bare_steps = 0

    def bare(self) -> Bare:
        def step() -> Any:
            self.bare_steps += 1
            return ScriptedEngine.step(self, None)

        return Bare(step, lambda report: (report.tokens, report.finished), nullcontext)


@pytest.mark.parametrize("compare", [True, False])
def test_the_rounds_after_the_first_take_bare_and_recorded_steps_in_turn_where_asked(tmp_path, compare):
    engine = Turning()
    done = warm_up(engine, plan([(10, 12)] * 2), tmp_path / "warmup", compare)
    assert (engine.bare_steps > 0) is compare
    assert bool(done.pairs) is compare
    assert all(bare >= 0 and recorded >= 0 for bare, recorded in done.pairs)
    assert len(done.pairs) <= 2 * 11 // 2  # two rounds of 11 decode steps


def test_a_residence_has_the_prompts_of_a_round_once_and_its_own_tokens():
    """Two prompts take 1 s and 3 s, then 3 more tokens 0.1 s each: the round takes 4.3 s. With 64 tokens that is 4 s
    and 63 x 0.1 s, not 16 times the round."""
    rows = np.zeros(2, trace.REQUEST)
    rows["first_token_ns"], rows["last_token_ns"] = [1_000_000_000, 4_000_000_000], [4_300_000_000, 4_300_000_000]
    rows["output_tokens"] = 4
    each = token_s(rows, 4.3)
    assert each == pytest.approx(0.1)
    assert WarmUp({}, round_s=4.3, token_s=each, longest=4).residence_s(64.0) == pytest.approx(4.0 + 6.3)
    assert WarmUp({}).residence_s(64.0) == 0.0
    assert token_s(rows[:0], 4.3) == 4.3


def test_the_last_round_tells_the_residence(tmp_path):
    engine = ScriptedEngine(step_s=0.002)
    done = warm_up(engine, plan([(10, 8)] * 4), tmp_path / "warmup")
    assert done.longest == 8
    assert 0.002 <= done.token_s <= done.round_s / 7


def test_a_rounds_content_is_not_the_last_ones_and_has_its_lengths():
    load = work([(50, 2), (4, 1)])
    other = other_content(load, 1)
    assert not np.array_equal(other.prompt_tokens, load.prompt_tokens)
    assert sorted(other.prompt_tokens) == sorted(load.prompt_tokens)
    assert np.array_equal(other.prompt_offsets, load.prompt_offsets)
