"""Conversations in progress: each turn's prompt is made of the output that the engine gave to the one before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerloop.engines.contract import Request, WrongTokenCount
from innerloop.engines.worker.work import Work


class Conversations:
    """What the requests of a workload go on with. Nothing is kept of requests that nobody goes on with."""

    def __init__(self, work: Work, first_id: int) -> None:
        self._work, self._first = work, first_id
        history = work.history_lens
        self._history: list[int] = [] if history is None else history.tolist()
        self._next: list[int] = work.next_request.tolist() if self._history else []
        self._before: dict[int, list[int]] = {}  # by the request that goes on with it
        self._output: dict[int, list[int]] = {}  # so far, of requests that somebody goes on with

    @property
    def later(self) -> np.ndarray | None:
        """Which requests go on with another: bool [n]; None: none does."""
        history = self._work.history_lens
        return None if history is None else history > 0

    def request(self, index: int) -> Request:
        """The request, with the conversation so far."""
        return self._work.request(index, self._first + index, self._before.get(index, ()))

    def received(self, tokens: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Takes note of what a step gave out."""
        if not self._history:
            return
        for request, ids in tokens:
            index = request - self._first
            if (follower := self._next[index]) >= 0 and self._history[follower]:
                self._output.setdefault(index, []).extend(ids)

    def finished(self, index: int, follower: int) -> bool:
        """Puts together what `follower` goes on with; False: it begins anew.

        Raises:
            WrongTokenCount: that is of another length than was prepared for.
        """
        if not self._history or not self._history[follower]:
            self._before.pop(index, None)
            return False
        output = self._output.pop(index)
        self._before[follower] = [*self.request(index).prompt, *output]
        self._before.pop(index, None)
        if len(self._before[follower]) != self._history[follower]:
            raise WrongTokenCount(
                f"request {index} left a conversation of {len(self._before[follower])} tokens, "
                f"not {self._history[follower]}"
            )
        return True
