"""Turns a workload's arrivals into submit() and step() calls: the one loop that every engine is driven by."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerloop.engines.contract import Nothing, Request, Session, WrongTokenCount
from innerloop.engines.support.waiting import sleep_until
from innerloop.engines.worker.ahead import Ahead
from innerloop.engines.worker.recorder import Recorder

MOST_LEFT = 100  # steps that an engine may take to flush what is left in it


@dataclass(frozen=True, slots=True)
class Work:
    """A workload as arrays. A request is due at `due_ns` after the window opens, or, where that is -1, `rest_ns`
    after the request that names it in `next_request` has finished. `duration_ns` -1 runs until all are finished."""

    prompt_tokens: np.ndarray  # int32 [total]
    prompt_offsets: np.ndarray  # int64 [n + 1]
    output_lens: np.ndarray  # int32 [n]
    due_ns: np.ndarray  # int64 [n]
    next_request: np.ndarray  # int32 [n]
    user: np.ndarray  # int32 [n]
    rest_ns: int
    duration_ns: int

    @classmethod
    def load(cls, path: str | Path) -> Work:
        with np.load(path, allow_pickle=False) as f:
            arrays = {k: f[k] for k in cls.__slots__}
        return cls(**{**arrays, "rest_ns": int(arrays["rest_ns"]), "duration_ns": int(arrays["duration_ns"])})

    def request(self, index: int, request_id: int) -> Request:
        a, b = self.prompt_offsets[index], self.prompt_offsets[index + 1]
        return Request(request_id, self.prompt_tokens[a:b].tolist(), int(self.output_lens[index]))

    def recorder(self, folder: Path, keep_ids: bool = False, first_id: int = 0) -> Recorder:
        lens = np.diff(self.prompt_offsets).astype(np.int32)
        return Recorder(folder, lens, self.output_lens, self.user, keep_ids, first_id)


def drive(
    session: Session, work: Work, recorder: Recorder, first_id: int = 0, ready: Callable[[], object] | None = None
) -> None:
    """Runs the workload through the engine, recording every step, until it is finished or its duration is over.

    Requests that are due together are submitted before the next step, in the order of their indices; their ids are the
    indices from `first_id` on. They are prepared ahead: before the window opens, and while the engine has nothing to
    do. `ready` is called last before the window opens.

    Raises:
        WrongTokenCount: the engine ran out of work while a request still lacks tokens.
    """
    clock = time.monotonic_ns
    due = [(d, i) for i, d in enumerate(work.due_ns.tolist()) if d >= 0]  # from the window's start, as all times here
    heapq.heapify(due)
    lens = np.diff(work.prompt_offsets)
    ahead = Ahead(work.due_ns, lens, lambda index: session.prepare(work.request(index, first_id + index)))
    ahead.fill()
    if ready is not None:
        ready()
    start = clock()
    recorder.open_window(start)
    end = start + work.duration_ns if work.duration_ns >= 0 else None
    unfinished = 0
    while True:
        now = clock()
        if end is not None and now >= end:
            break
        while due and start + due[0][0] <= now:
            due_ns, index = heapq.heappop(due)
            session.submit(ahead.take(index))
            recorder.submitted(first_id + index, start + due_ns, clock())
            unfinished += 1
        until_ns = _next(start + due[0][0] if due else None, end)
        if unfinished:
            report = session.step(until_ns)
            if not isinstance(report, Nothing):
                for request in recorder.step(report):
                    unfinished -= 1
                    follower = int(work.next_request[request - first_id])
                    if follower >= 0:
                        heapq.heappush(due, (report.end_ns - start + work.rest_ns, follower))
            elif not session.has_work():
                raise WrongTokenCount(f"the engine reports no work left, but {recorder.unfinished()}")
        elif due and until_ns is not None:
            ahead.fill(until_ns)
            sleep_until(until_ns, recorder.heartbeat)
        else:
            break
    recorder.close_window(clock())


def drain(session: Session, recorder: Recorder) -> None:
    """Steps until nothing is left in the engine, after every request of `drive` has had its tokens: what the last ones
    would be given beyond them is found here.

    Raises:
        WrongTokenCount: tokens came, or the engine still had work after MOST_LEFT steps.
    """
    for _ in range(MOST_LEFT):
        if not session.has_work():
            return
        report = session.step(None)
        if not isinstance(report, Nothing):
            recorder.after_the_end(report)
    raise WrongTokenCount(f"every request has its tokens, but {MOST_LEFT} steps later the engine still reports work")


def _next(due_ns: int | None, end_ns: int | None) -> int | None:
    """The earlier of the next due time and the window's end; None where there is neither."""
    if due_ns is None or end_ns is None:
        return end_ns if due_ns is None else due_ns
    return min(due_ns, end_ns)
