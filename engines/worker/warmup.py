"""Warm-up: what the window will bring, then the same small load again and again until its speed has settled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.engines.contract import Session
from innerloop.engines.worker.alternating import Alternating
from innerloop.engines.worker.convergence import deviation, has_converged
from innerloop.engines.worker.loop import drain, drive
from innerloop.engines.worker.recorder import Recorder
from innerloop.engines.worker.shapes import first_requests, long_contexts, longest_context, taper
from innerloop.engines.worker.trace import records
from innerloop.engines.worker.work import Work

SHAPES = ("taper", "long")
SHAPES_SHARE = 0.5  # of max_s, which shapes may take beside the rounds
LONG_SHARE = 0.25  # of a round's positions, which long contexts may have


@dataclass(frozen=True, slots=True)
class Rule:
    """When a warm-up ends: rounds have settled, `max_rounds` are done or they have taken `max_s` seconds."""

    max_rounds: int
    max_s: float
    tolerance: float
    window: int


@dataclass(slots=True)
class WarmUp:
    """What came of it. `account` is for the result; `pairs` are (bare, recorded) ns of neighbouring decode steps of
    the rounds that settled it; `round_s`, `token_s` and `longest` are of the last round: how long it took, a decoding
    request's token, and the most output tokens."""

    account: dict[str, Any]
    shapes: list[str] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    round_s: float = 0.0
    token_s: float = 0.0
    longest: int = 0

    def residence_s(self, outputs: float) -> float:
        """How long a request of so many output tokens stays among as many as a round has: meanwhile each of them has
        one prompt computed, as in the round, whose outputs are shorter."""
        return max(self.round_s + (outputs - self.longest) * self.token_s, 0.0)


class Plan:
    """The parts of a warm-up, all of which have their own request ids and their own content.

    `rounds` is what is repeated, `window` what is measured afterwards, `most_prompt` the longest prompt that may be
    made up. The ids are those of `rule.max_rounds` rounds and of one part for each of SHAPES, from `first_id` on.
    """

    def __init__(self, rounds: Work, window: Work, rule: Rule, most_prompt: int, first_id: int = 0) -> None:
        self.rule, self._first_id = rule, first_id
        self.size = len(rounds.output_lens)
        self.round = rounds
        self._shapes = {
            "taper": taper(rounds, max(longest_context(window), longest_context(rounds))),
            "long": long_contexts(rounds, window, most_prompt),
        }
        self._slots = rule.max_rounds + len(SHAPES)

    @property
    def end(self) -> int:
        """The first request id that it does not use: those of the window begin there."""
        return self.first_id(self._slots)

    def first_id(self, slot: int) -> int:
        """The first request id of a slot."""
        return self._first_id + slot * self.size

    def part(self, slot: int) -> Work:
        """What the slot holds, with content of its own."""
        return other_content(self._lengths(slot), slot)

    def _lengths(self, slot: int) -> Work:
        """A round, or one of SHAPES."""
        shape = slot - self.rule.max_rounds
        return self._shapes[SHAPES[shape]] if 0 <= shape < len(SHAPES) else self.round

    def recorder(self, folder: Path) -> Recorder:
        """One for all parts."""
        works = [self._lengths(slot) for slot in range(self._slots)]
        lens = np.concatenate([work.prompt_lens for work in works]).astype(np.int32)
        outputs = np.concatenate([work.output_lens for work in works]).astype(np.int32)
        return Recorder(folder, lens, outputs, np.tile(self.round.user, self._slots), first_id=self._first_id)


def warm_up(
    session: Session,
    plan: Plan,
    folder: Path,
    compare: bool = True,
    shapes: Sequence[str] = SHAPES,
    tell: Callable[[dict[str, Any]], object] | None = None,
) -> WarmUp:
    """One round, the `shapes`, then rounds until they have settled, all in one trace under `folder`. Where the engine
    can be stepped bare and `compare` is wanted, these rounds take bare and recorded steps in turn. `tell` hears after
    each round how far the rounds are from having settled, and what bounds them."""
    rule = plan.rule
    begun = time.monotonic_ns()
    recorder = plan.recorder(folder)
    bare = session.bare() if compare else None
    rates: list[float] = []
    pairs: list[list[tuple[int, int]]] = []
    rounds_s = 0.0
    done = WarmUp({})
    while len(rates) < rule.max_rounds and not has_converged(rates, rule.tolerance, rule.window):
        if rates and rounds_s > rule.max_s:
            break
        turns = Alternating(session, bare) if bare is not None and rates else None
        work = plan.part(len(rates))
        took_s = run_part(turns or session, work, recorder, plan.first_id(len(rates)))
        rows = records(folder, "requests")[len(rates) * plan.size :][: plan.size]
        done.round_s, done.token_s, done.longest = took_s, token_s(rows, took_s), int(work.output_lens.max())
        rates.append(float(work.output_lens.sum()) / took_s)
        rounds_s += took_s
        if tell is not None:
            tell(
                {
                    "rounds": len(rates),
                    "max_rounds": rule.max_rounds,
                    "deviation": deviation(rates, rule.window),
                    "tolerance": rule.tolerance,
                    "left_s": max(rule.max_s - rounds_s, 0.0),
                }
            )
        if turns is not None:
            pairs.append(turns.pairs)
        if len(rates) == 1:
            done.shapes = run_shapes(session, plan, recorder, took_s, shapes)
    recorder.close()
    done.pairs = [pair for of_round in pairs[-rule.window :] for pair in of_round]
    done.account = {
        "seconds": seconds_since(begun),
        "rounds": len(rates),
        "settled": has_converged(rates, rule.tolerance, rule.window),
        "tolerance": rule.tolerance,
        "window": rule.window,
        "round_tokens_per_s": rates,
    }
    return done


def token_s(requests: np.ndarray, took_s: float) -> float:
    """Seconds for each token of the request (dtype REQUEST) that began last, when no prompt was left to compute; of a
    round whose requests have one token each, `took_s`."""
    tokens, first = requests["output_tokens"], requests["first_token_ns"]
    rows = requests[(tokens > 1) & (first >= 0)]
    if not len(rows):
        return took_s
    last = rows[np.argmax(rows["first_token_ns"])]
    return float(last["last_token_ns"] - last["first_token_ns"]) / 1e9 / float(last["output_tokens"] - 1)


def run_part(session: Session, work: Work, recorder: Recorder, first_id: int) -> float:
    """Drives it; returns the seconds that it took without what is left to flush."""
    start = time.monotonic_ns()
    drive(session, work, recorder, first_id)
    took_s = seconds_since(start)
    drain(session, recorder)
    return took_s


def run_shapes(
    session: Session, plan: Plan, recorder: Recorder, round_s: float, shapes: Sequence[str] = SHAPES
) -> list[str]:
    """Those of `shapes` for which there is time, judged by the seconds that the first round took; returns their names.
    The longest context comes always, others while all have LONG_SHARE of a round's positions."""
    begun, budget_s = time.monotonic_ns(), plan.rule.max_s * SHAPES_SHARE
    positions = len(plan.round.prompt_tokens) + int(plan.round.output_lens.sum())
    done = []
    for place, name in enumerate(SHAPES):
        if name not in shapes:
            continue
        slot = plan.rule.max_rounds + place
        work = plan.part(slot)
        if name == "long":
            affordable = min(int(positions * LONG_SHARE), int(positions / round_s * (budget_s - seconds_since(begun))))
            count = int(np.searchsorted(work.prompt_offsets, affordable, side="right")) - 1
            work = first_requests(work, max(count, 1))
        if len(work.output_lens) == 0 or seconds_since(begun) > budget_s:
            continue
        run_part(session, work, recorder, plan.first_id(slot))
        done.append(name)
    return done


def other_content(work: Work, number: int) -> Work:
    """The same lengths and shared prefixes with other token ids, so that a prefix cache never knows a whole prompt."""
    if number == 0:
        return work
    ids, places = np.unique(work.prompt_tokens, return_inverse=True)
    return replace(work, prompt_tokens=np.random.default_rng(number).permutation(ids)[places])


def seconds_since(begun_ns: int) -> float:
    return (time.monotonic_ns() - begun_ns) / 1e9
