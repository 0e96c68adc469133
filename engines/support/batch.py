"""What an engine has scheduled, kept from its launch until its tokens come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from innerloop.engines.contract import StepReport


@dataclass(slots=True)
class Batch:
    """A batch's composition, in the words of `StepReport`: positions, requests, and the KV cache's use (0 to 1)."""

    prefill: int
    decode: int
    running: int
    waiting: int
    preempted: int
    kv_usage: float | None = None
    cached: int | None = None
    drafted: int = 0
    observer_ns: int = 0  # what counting it took

    @property
    def positions(self) -> int:
        return self.prefill + self.decode + self.drafted

    def report(
        self,
        start_ns: int,
        end_ns: int,
        tokens: Sequence[tuple[int, Sequence[int]]],
        finished: Sequence[int],
        **phases: Any,
    ) -> StepReport:
        """The step that brings the batch out; `phases` are its `*_ns`.

        Of a batch with drafts, all but a request's first token of a step were drafted and accepted.
        """
        accepted = sum(len(ids) - 1 for _, ids in tokens) if self.drafted else 0
        return StepReport(
            start_ns=start_ns,
            end_ns=end_ns,
            tokens=tokens,
            finished=finished,
            prefill_tokens=self.prefill,
            decode_tokens=self.decode,
            cached_tokens=self.cached,
            drafted_tokens=self.drafted,
            accepted_tokens=accepted,
            running=self.running,
            waiting=self.waiting,
            preempted=self.preempted,
            kv_usage=self.kv_usage,
            observer_ns=self.observer_ns,
            **phases,
        )
