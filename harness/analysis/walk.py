"""Goes through a run's arrivals in order, a part at a time, and knows what each request had before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.chunks import chunks
from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.latency import finished
from innerloop.harness.analysis.order import by_request, opening


@dataclass(frozen=True, slots=True)
class Part:
    """Arrivals that follow each other, int64 [arrivals] each.

    prompt: the tokens of their request's prompt. before: the tokens that it had before. count: those that it gets.
    """

    step: np.ndarray
    request: np.ndarray
    prompt: np.ndarray
    before: np.ndarray
    count: np.ndarray

    @property
    def fed(self) -> np.ndarray:
        """Decode positions: a prompt's first token comes out of it; each later one is a position fed back."""
        fed = self.count.astype(np.float64)
        fed -= self.before == 0
        return fed


@dataclass(frozen=True)
class Jobs:
    """Prompts to be computed, in the order in which they were finished; [jobs] each.

    step: the step that gave the token behind it, or the number of steps where none came. positions: how many it takes.
    request: whose.
    """

    step: np.ndarray
    positions: np.ndarray
    request: np.ndarray


class Walk:
    """One way through the arrivals, and what was seen of prompts on it.

    `steps`, `tokens` and `requests` are of dtype STEP, TOKEN and REQUEST, arrivals in order of time. Records that name
    no step or request that is there, or bring nothing, are passed over; a broken trace has some.
    """

    def __init__(self, steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> None:
        self._steps, self._tokens, self._requests = steps, tokens, requests
        self._prompts = requests["prompt_tokens"].astype(np.int64)
        self._had = np.zeros(len(requests), dtype=np.int64)
        self._last_step = np.full(len(requests), -1, dtype=np.int64)
        thrown = np.cumsum(np.where(known(steps["preempted"]), steps["preempted"], 0), dtype=np.int64)
        self._thrown = thrown if len(thrown) and thrown[-1] > 0 else None
        self._seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __iter__(self) -> Iterator[Part]:
        for rows in chunks(self._tokens):
            rows = sane(rows, len(self._steps), len(self._requests))
            step, request = rows["step"].astype(np.int64), rows["request"].astype(np.int64)
            count = rows["count"].astype(np.int64)
            order = by_request(request)
            before = before_each(request, count, order)
            before += self._had[request]
            part = Part(step, request, self._prompts[request], before, count)
            self._note(part, order)
            self._had += np.bincount(request, count, minlength=len(self._had)).astype(np.int64)
            yield part

    def _note(self, part: Part, order: np.ndarray) -> None:
        """The prompts that were finished here.

        A request that went without tokens for some steps in which something was preempted is taken to have been
        preempted: its prompt and what it had generated, but for the newest token, were computed again before its next
        token.
        """
        begun = part.before == 0
        rows, sizes = np.flatnonzero(begun), part.prompt
        if self._thrown is not None and len(order):
            previous = self._previous_steps(part, order)
            again = (previous >= 0) & (part.step > previous + 1)
            again &= self._thrown[part.step] > self._thrown[previous]
            rows = np.flatnonzero(begun | again)
            sizes = np.where(again, part.prompt + part.before - 1, part.prompt)
        self._seen.append((part.step[rows], sizes[rows], part.request[rows]))

    def _previous_steps(self, part: Part, order: np.ndarray) -> np.ndarray:
        """The step of the arrival before each, of its request; -1 for its first one."""
        request, step = part.request[order], part.step[order]
        opens = opening(request)
        grouped = np.concatenate(([-1], step[:-1]))
        grouped[opens] = self._last_step[request[opens]]
        closes = np.append(opens[1:], len(order)) - 1
        self._last_step[request[closes]] = step[closes]
        out = np.empty(len(order), dtype=np.int64)
        out[order] = grouped
        return out

    def jobs(self) -> Jobs:
        """Every prompt that was computed, in the order of the tokens that came out behind them, once the walk is over.

        Requests that never got a token stand at the end, in the order of their submission.
        """
        requests = self._requests
        waiting = np.flatnonzero(
            (requests["first_token_ns"] < 0) & (requests["submitted_ns"] >= 0) & ~finished(requests)
        )
        waiting = waiting[np.argsort(requests["submitted_ns"][waiting], kind="stable")]
        left = np.full(len(waiting), len(self._steps))
        parts = [*self._seen, (left, self._prompts[waiting], waiting)]
        return Jobs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def sane(tokens: np.ndarray, steps: int, requests: int) -> np.ndarray:
    """The records that name a step and a request that are there and bring something; a broken trace has others."""
    if len(tokens) == 0:
        return tokens
    step, request = tokens["step"], tokens["request"]
    good = (step >= 0) & (step < steps) & (tokens["count"] > 0)
    good &= (request >= 0) & (request < requests)
    return tokens if good.all() else tokens[good]


def before_each(request: np.ndarray, count: np.ndarray, order: np.ndarray) -> np.ndarray:
    """How many tokens of these arrivals each one's request had before it, int64 [arrivals]; `order` is `by_request`."""
    opens = opening(request[order])
    grouped = count[order]
    before = np.cumsum(grouped, dtype=np.int64)
    before -= grouped
    before -= np.repeat(before[opens], np.diff(np.append(opens, len(order))))  # in place: these arrays are long
    out = np.empty(len(order), dtype=np.int64)
    out[order] = before
    return out
