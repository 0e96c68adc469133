"""Sessions in the loop: each turn's prompt is the conversation with the output that the engine really gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from innerloop.engines.contract import Nothing, Request, StepReport, WrongTokenCount
from innerloop.engines.support import waiting
from innerloop.engines.worker import ahead, loop, trace
from innerloop.engines.worker.conversations import Conversations
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.work import Work
from tests.engines.worker import scripted
from tests.engines.worker.scripted import ScriptedEngine
from tests.waiting import Clock

MS = 1_000_000


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (ahead, loop, scripted, waiting):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(waiting, "SPIN_NS", 0)
    return made


class Talking(ScriptedEngine):
    """Its k-th token of request r is 1000 r + k."""

    def __init__(self) -> None:
        super().__init__(step_s=0.001)
        self.prompts: dict[int, list[int]] = {}

    def prepare(self, request: Request) -> Request:
        self.prompts[request.id] = request.prompt
        return request

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        report = super().step(until_ns)
        if isinstance(report, StepReport):
            report.tokens = [(one, [1000 * one + ids[0]]) for one, ids in report.tokens]
        return report


def sessions(**more: object) -> Work:
    """Two sessions of three turns, [10, 20, 30] and [40, 50, 60] being what they add; the second begins 5 ms later."""
    n = 6
    given = {
        "prompt_tokens": np.array([10, 20, 30, 40, 50, 60], dtype=np.int32),
        "prompt_offsets": np.arange(n + 1, dtype=np.int64),
        "output_lens": np.array([2, 1, 1, 1, 2, 1], dtype=np.int32),
        "due_ns": np.array([0, -1, -1, 5 * MS, -1, -1], dtype=np.int64),
        "next_request": np.array([1, 2, -1, 4, 5, -1], dtype=np.int32),
        "user": np.full(n, -1, dtype=np.int32),
        "rest_ns": np.array([0, 30 * MS, 10 * MS, 0, 0, 20 * MS], dtype=np.int64),
        "duration_ns": -1,
        "history_lens": np.array([0, 3, 5, 0, 2, 5], dtype=np.int32),
        **more,
    }
    return Work(**given)  # type: ignore[arg-type]


def run(engine: ScriptedEngine, load: Work, folder: Path, first_id: int = 0) -> np.ndarray:
    recorder = load.recorder(folder, keep_ids=True, first_id=first_id)
    drive(engine, load, recorder, first_id)
    recorder.close()
    return trace.records(folder, "requests")


def test_a_turn_has_the_conversation_so_far_with_the_engines_own_output(tmp_path: Path) -> None:
    engine = Talking()
    run(engine, sessions(), tmp_path / "t", first_id=7)
    assert engine.prompts == {
        7: [10],
        8: [10, 7000, 7001, 20],
        9: [10, 7000, 7001, 20, 8000, 30],
        10: [40],
        11: [40, 10000, 50],
        12: [40, 10000, 50, 11000, 11001, 60],
    }


def test_a_turn_is_due_its_thinking_time_after_the_last_token_of_the_one_before(tmp_path: Path) -> None:
    requests = run(Talking(), sessions(), tmp_path / "t")
    due, last = requests["due_ns"], requests["last_token_ns"]
    after = due[[1, 2, 4, 5]] - last[[0, 1, 3, 4]]
    assert after.tolist() == [30 * MS, 10 * MS, 0, 20 * MS]
    assert requests["prompt_tokens"].tolist() == [1, 4, 6, 1, 3, 6]


def test_the_prompts_that_were_made_are_kept_with_the_outputs(tmp_path: Path) -> None:
    engine = Talking()
    run(engine, sessions(), tmp_path / "t")
    with np.load(tmp_path / "t" / "output_ids.npz") as kept:
        prompts = np.split(kept["prompt_ids"], kept["prompt_offsets"][1:-1])
    assert [one.tolist() for one in prompts] == [engine.prompts[k] for k in range(6)]


def test_a_conversation_of_another_length_than_was_drawn_is_an_error() -> None:
    talks = Conversations(sessions(), 0)
    talks.received([(0, [5])])
    with pytest.raises(WrongTokenCount, match="request 0 left a conversation of 2 tokens, not 3"):
        talks.finished(0, 1)


def test_a_user_that_has_left_sends_no_more(tmp_path: Path) -> None:
    load = sessions(until_ns=np.array([-1, 20 * MS, -1, -1, -1, -1], dtype=np.int64))
    requests = run(Talking(), load, tmp_path / "t")
    assert [trace.STATES[k] for k in requests["state"]] == ["finished", "unsent", "unsent", *["finished"] * 3]


def test_users_are_spread_over_a_residence() -> None:
    load = sessions(spread=np.array([0, -1, -1, 1, -1, -1], dtype=np.int32))
    assert load.spread_over(8 * MS).due_ns.tolist() == [0, -1, -1, 4 * MS, -1, -1]


@pytest.mark.parametrize("residence_s", [2, 5])  # twice 2 s are more nanoseconds than 32 bits hold, and so are 5 s
def test_a_residence_may_last_seconds(residence_s: int) -> None:
    load = sessions(spread=np.array([0, 1, -1, 2, -1, -1], dtype=np.int32))
    third = residence_s * 1000 * MS // 3
    assert load.spread_over(residence_s * 1000 * MS).due_ns.tolist() == [
        0, third, -1, 2 * residence_s * 1000 * MS // 3, -1, -1,
    ]  # fmt: skip


def test_what_warms_a_cache_is_every_first_turn_for_one_token() -> None:
    first = sessions().first_turns()
    assert first.prompt_tokens.tolist() == [10, 40]
    assert first.output_lens.tolist() == [1, 1]
    assert first.due_ns.tolist() == [0, 0]


def test_classes_are_recorded(tmp_path: Path) -> None:
    requests = run(Talking(), sessions(class_of=np.array([0, 0, 0, 1, 1, 1], dtype=np.int32)), tmp_path / "t")
    assert requests["request_class"].tolist() == [0, 0, 0, 1, 1, 1]
    assert run(Talking(), sessions(), tmp_path / "u")["request_class"].tolist() == [-1] * 6
