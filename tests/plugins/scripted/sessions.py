"""The scripted engine in real time: stepped by its caller, or by a thread of its own."""

from __future__ import annotations

import queue
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from innerloop.contract import EngineInfo, Nothing, Request, Session, StepReport

from .options import Spec
from .sequence import Sequence, make_sequence
from .stepping import Step, make_stepping
from .tokens import output_ids

POLL_NS = 200_000  # the last stretch of a wait is polled: a sleep ends some 50 us late
STOP_S = 5.0  # for the thread to end


def now_ns() -> int:
    return time.monotonic_ns()


def wait_until(moment_ns: int) -> None:
    """Returns at `moment_ns`, or at once if that is over. Other threads can run meanwhile."""
    while (left := moment_ns - now_ns()) > 0:
        if left > POLL_NS:
            time.sleep((left - POLL_NS) / 1e9)
        else:
            select.select((), (), (), 0)  # lets others run, and takes a microsecond; a sleep of 0 takes some 50


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is ready to be submitted, and the token ids that it will get."""

    sequence: Sequence
    ids: list[int]


class Driven(Session):
    """Every call of `step` is one of its caller's; it takes what the formula says."""

    def __init__(self, spec: Spec, seed: int, info: EngineInfo) -> None:
        self.info = info
        self._spec = spec
        self._stepping = make_stepping(spec, seed)
        self._ids: dict[int, Iterator[int]] = {}  # by request: what it has still to get

    def prepare(self, request: Request) -> Prepared:
        ids = output_ids(request.prompt, request.output_tokens, self._spec.vocab_size)
        return Prepared(make_sequence(request.id, request.prompt, request.output_tokens, ids, self._spec.limits), ids)

    def submit(self, prepared: Prepared) -> None:
        self._stepping.scheduler.submit(prepared.sequence)
        self._ids[prepared.sequence.id] = iter(prepared.ids)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        outcome, moment_ns = self._stepping.call(now_ns(), until_ns)
        if not isinstance(outcome, Step):
            wait_until(moment_ns)
            return outcome
        report = self._report(outcome)
        wait_until(moment_ns)
        if not self._spec.pipeline:  # there, the next batch has begun at the planned end
            report.end_ns = now_ns()
        return report

    def has_work(self) -> bool:
        return self._stepping.has_work()

    def reset_caches(self) -> bool:
        self._stepping.scheduler.pool.reset()
        return True

    def close(self) -> None:
        pass

    def _report(self, step: Step) -> StepReport:
        """The report of a step that ends when it is planned to."""
        batch = step.batch
        given = zip(batch.ids, batch.counts, strict=True)
        tokens = [(request, list(islice(self._ids[request], count))) for request, count in given]
        for request in batch.finished:
            del self._ids[request]
        schedule, prepare, execute, wait, sample, update = self._spec.formula.phases_ns(step.end_ns - step.start_ns)
        return StepReport(
            start_ns=step.start_ns,
            end_ns=step.end_ns,
            tokens=tokens,
            finished=batch.finished,
            prefill_tokens=batch.prefill,
            decode_tokens=batch.decode,
            cached_tokens=batch.cached,
            drafted_tokens=batch.drafted,
            accepted_tokens=batch.accepted,
            running=batch.running,
            waiting=batch.waiting,
            preempted=batch.preempted,
            kv_usage=batch.blocks / self._spec.limits.blocks,
            schedule_ns=schedule,
            prepare_ns=prepare,
            execute_ns=execute,
            wait_ns=wait,
            sample_ns=sample,
            update_ns=update,
        )


class Observed(Driven):
    """A thread steps; `step` waits for what it hands over."""

    def __init__(self, spec: Spec, seed: int, info: EngineInfo) -> None:
        super().__init__(spec, seed, info)
        self._submitted: queue.SimpleQueue[Prepared | None] = queue.SimpleQueue()  # None: stop
        self._reports: queue.SimpleQueue[StepReport | Exception] = queue.SimpleQueue()
        self._unfinished = 0  # requests submitted of which no report has said that they are finished
        self._thread = threading.Thread(target=self._run, name="scripted-engine", daemon=True)
        self._thread.start()

    def submit(self, prepared: Prepared) -> None:
        self._unfinished += 1
        self._submitted.put(prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if not self._unfinished:
            return Nothing.FLUSHED
        try:
            handed = self._reports.get(timeout=None if until_ns is None else max(until_ns - now_ns(), 0) / 1e9)
        except queue.Empty:
            return Nothing.TIMED_OUT
        if isinstance(handed, Exception):
            raise RuntimeError(f"the engine's thread has ended: {handed}") from handed
        self._unfinished -= len(handed.finished)
        return handed

    def has_work(self) -> bool:
        return self._unfinished > 0

    def close(self) -> None:
        self._submitted.put(None)
        self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            while self._take_submitted():
                report = super().step(None)
                if isinstance(report, StepReport):
                    self._reports.put(report)
        except Exception as error:
            self._reports.put(error)

    def _take_submitted(self) -> bool:
        """Submits what has come, and waits for it where there is nothing to do; False when the thread is to stop."""
        while not (self._submitted.empty() and self._stepping.has_work()):
            prepared = self._submitted.get()
            if prepared is None:
                return False
            super().submit(prepared)
        return True
