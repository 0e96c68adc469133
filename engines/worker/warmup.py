"""Warm-up: the same small load again and again until its speed has settled."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.engines.contract import Session
from innerloop.engines.worker.convergence import has_converged
from innerloop.engines.worker.loop import Work, drive


def warm_up(
    session: Session, work: Work, folder: Path, max_rounds: int, max_s: float, tolerance: float, window: int
) -> dict[str, Any]:
    """Repeats `work` until it has converged, `max_rounds` are done or `max_s` seconds have passed.

    Every round is recorded in one trace under `folder`; the requests of all rounds are numbered on. Returns the rounds,
    whether they settled, and each round's output tokens a second.
    """
    begun = time.monotonic_ns()
    rates: list[float] = []
    recorder = repeated(work, max_rounds).recorder(folder)
    while len(rates) < max_rounds and not has_converged(rates, tolerance, window):
        if rates and (time.monotonic_ns() - begun) / 1e9 > max_s:
            break
        start = time.monotonic_ns()
        number = len(rates)
        drive(session, other_content(work, number), recorder, first_id=number * len(work.output_lens))
        rates.append(float(work.output_lens.sum()) / ((time.monotonic_ns() - start) / 1e9))
        while session.has_work():  # flushes are not the next round's
            session.step(None)
    recorder.close()
    return {
        "seconds": (time.monotonic_ns() - begun) / 1e9,
        "rounds": len(rates),
        "settled": has_converged(rates, tolerance, window),
        "tolerance": tolerance,
        "window": window,
        "round_tokens_per_s": rates,
    }


def request_ids(work: Work, max_rounds: int) -> int:
    """How many request ids a warm-up may use: those of the window come after them."""
    return max_rounds * len(work.output_lens)


def repeated(work: Work, rounds: int) -> Work:
    """The requests of all rounds, one round after the other, for a recorder: their prompts are not in it."""
    lens = np.tile(np.diff(work.prompt_offsets), rounds)
    return replace(
        work,
        prompt_offsets=np.concatenate([[0], np.cumsum(lens)]),
        output_lens=np.tile(work.output_lens, rounds),
        user=np.tile(work.user, rounds),
    )


def other_content(work: Work, number: int) -> Work:
    """The same lengths and shared prefixes with other token ids, so that a prefix cache never knows a whole prompt."""
    if number == 0:
        return work
    ids, places = np.unique(work.prompt_tokens, return_inverse=True)
    return replace(work, prompt_tokens=np.random.default_rng(number).permutation(ids)[places])
