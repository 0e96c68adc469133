from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from innerloop.engines.contract import Bare
from innerloop.engines.worker import trace, warmup
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.warmup import ALTERNATING_ROUNDS, SHAPES, Plan, Rule, other_content, warm_up
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
    assert made.ids == 2 * (3 + len(SHAPES) + ALTERNATING_ROUNDS)
    recorder = load.recorder(tmp_path / "window", first_id=made.ids)
    drive(engine, load, recorder, made.ids)
    recorder.close()
    ids = [request for _, request in engine.submitted]
    assert len(ids) == len(set(ids))
    assert set(ids[-2:]) == {made.ids, made.ids + 1}
    warm, window = (trace.records(tmp_path / name, "requests") for name in ("warmup", "window"))
    assert warm["prompt_tokens"][:6].tolist() == [3, 4] * 3
    assert set(warm["state"][:6].tolist()) == {trace.STATES.index("finished")}
    assert window["output_tokens"].tolist() == [2, 1]


def test_after_the_first_round_come_the_shapes_and_then_the_rounds(tmp_path):
    engine, made = Noting(), plan([(10, 8)] * 4)
    done = warm_up(engine, made, tmp_path / "warmup")
    assert done.shapes == ["taper", "trickle", "long"]
    parts = [request // 4 for _, request in engine.submitted][::4]
    assert parts == [0, 3, 4, 5, 1, 2]  # the rounds are parts 0 to 2
    assert [engine.lengths[12 + i] for i in range(4)] == [(10, 1), (10, 2), (10, 3), (10, 4)]
    assert [engine.lengths[16 + i] for i in range(4)] == [(10, 8)] * 4
    assert engine.lengths[20] == (1, 4)  # 40 + 20 of the window, less the tokens that are kept free


def test_only_as_many_long_contexts_run_as_there_is_time_for(tmp_path, monkeypatch):
    # A round of 4 x (10 + 8) positions is taken to last 0.72 s: 100 a second, 1000 in a third of half of 60 s.
    monkeypatch.setattr(warmup, "run_part", timed_as(0.72))
    made = plan([(10, 8)] * 4, window=[(400, 68)] * 4)  # 400 prompt positions each
    engine = Noting()
    warm_up(engine, made, tmp_path / "warmup")
    assert [request for _, request in engine.submitted if 20 <= request < 24] == [20, 21]
    assert engine.lengths[20] == (400, 4)


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
def test_bare_and_recorded_steps_alternate_last_and_only_where_asked(tmp_path, compare):
    engine = Turning()
    done = warm_up(engine, plan([(10, 12)] * 2), tmp_path / "warmup", compare)
    assert (engine.bare_steps > 0) is compare
    assert bool(done.pairs) is compare
    assert all(bare >= 0 and recorded >= 0 for bare, recorded in done.pairs)
    assert (max(request for _, request in engine.submitted) >= 6 * 2) is compare


def test_a_rounds_content_is_not_the_last_ones_and_has_its_lengths():
    load = work([(50, 2), (4, 1)])
    other = other_content(load, 1)
    assert not np.array_equal(other.prompt_tokens, load.prompt_tokens)
    assert sorted(other.prompt_tokens) == sorted(load.prompt_tokens)
    assert np.array_equal(other.prompt_offsets, load.prompt_offsets)
