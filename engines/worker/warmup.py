"""Warm-up: the same small load again and again until its speed has settled."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.engines.contract import Engine, StepReport
from innerloop.engines.worker.convergence import settled
from innerloop.engines.worker.loop import Work, drive
from innerloop.engines.worker.recorder import Recorder


def warm_up(
    engine: Engine, work: Work, folder: Path, max_rounds: int, max_s: float, tolerance: float, window: int
) -> dict[str, Any]:
    """Repeats `work` until `settled` says so, `max_rounds` are done or `max_s` seconds have passed.

    Every round is recorded in one trace under `folder`. Returns the rounds, whether they settled, and each round's
    output tokens a second.
    """
    begun = time.monotonic_ns()
    rates: list[float] = []
    rounds = _Rounds(work, folder, max_rounds)
    while len(rates) < max_rounds and not settled(rates, tolerance, window):
        if rates and (time.monotonic_ns() - begun) / 1e9 > max_s:
            break
        start = time.monotonic_ns()
        drive(engine, other_content(work, len(rates)), rounds.next())
        rates.append(float(work.output_lens.sum()) / ((time.monotonic_ns() - start) / 1e9))
        while engine.has_work():  # flushes are not the next round's
            engine.step()
    rounds.close()
    return {
        "seconds": (time.monotonic_ns() - begun) / 1e9,
        "rounds": len(rates),
        "settled": settled(rates, tolerance, window),
        "tolerance": tolerance,
        "window": window,
        "round_tokens_per_s": rates,
    }


def other_content(work: Work, number: int) -> Work:
    """The same lengths and shared prefixes with other token ids, so that a prefix cache never knows a whole prompt."""
    if number == 0:
        return work
    ids, places = np.unique(work.prompt_tokens, return_inverse=True)
    return replace(work, prompt_tokens=np.random.default_rng(number).permutation(ids)[places])


class _Rounds(Recorder):
    """One recorder for all rounds: each round's requests follow those of the last."""

    def __init__(self, work: Work, folder: Path, rounds: int) -> None:
        lens = np.tile(np.diff(work.prompt_offsets).astype(np.int32), rounds)
        super().__init__(folder, lens, np.tile(work.output_lens, rounds), np.tile(work.user, rounds))
        self._size, self._offset = len(work.output_lens), -len(work.output_lens)

    def next(self) -> _Rounds:
        self._offset += self._size
        return self

    def submitted(self, index: int, due_ns: int, now_ns: int) -> None:
        super().submitted(index + self._offset, due_ns, now_ns)

    def step(self, report: StepReport) -> list[int]:
        offset = self._offset
        report.tokens = [(index + offset, ids) for index, ids in report.tokens]
        report.finished = [index + offset for index in report.finished]
        return [index - offset for index in super().step(report)]
