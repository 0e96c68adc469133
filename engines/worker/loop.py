"""Turns a workload's arrivals into submit() and step() calls: the one loop that every engine is driven by."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerloop.engines.contract import Engine, Request, WrongTokenCount
from innerloop.engines.worker.recorder import Recorder

IDLE_SLICE_NS = 20_000_000  # while nothing is due, life is shown this often


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

    def request(self, index: int) -> Request:
        a, b = self.prompt_offsets[index], self.prompt_offsets[index + 1]
        return Request(index, self.prompt_tokens[a:b].tolist(), int(self.output_lens[index]))

    def recorder(self, folder: Path, keep_ids: bool = False) -> Recorder:
        lens = np.diff(self.prompt_offsets).astype(np.int32)
        return Recorder(folder, lens, self.output_lens, self.user, keep_ids)


def drive(engine: Engine, work: Work, recorder: Recorder) -> None:
    """Runs the workload through the engine, recording every step, until it is finished or its duration is over.

    Requests that are due together are submitted before the next step, in the order of their indices. The engine is told
    by `due_ns` until when a step that only waits may last.

    Raises:
        WrongTokenCount: the engine ran out of work while a request still lacks tokens.
    """
    clock = time.monotonic_ns
    due = [(d, i) for i, d in enumerate(work.due_ns.tolist()) if d >= 0]  # from the window's start, as all times here
    heapq.heapify(due)
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
            engine.submit(work.request(index))
            recorder.submitted(index, start + due_ns, clock())
            unfinished += 1
        engine.due_ns = moment = _next(start + due[0][0] if due else None, end)
        if unfinished:
            report = engine.step()
            if report is not None:
                for index in recorder.step(report):
                    unfinished -= 1
                    follower = int(work.next_request[index])
                    if follower >= 0:
                        heapq.heappush(due, (report.end_ns - start + work.rest_ns, follower))
            elif not engine.has_work():
                raise WrongTokenCount(f"the engine says that it has no work left, but {recorder.unfinished()}")
        elif due and moment is not None:
            _wait_until(moment, recorder)
        else:
            break
    recorder.close_window(clock())
    engine.due_ns = None


def _next(due_ns: int | None, end_ns: int | None) -> int | None:
    """The earlier of the next due time and the window's end; None where there is neither."""
    if due_ns is None or end_ns is None:
        return end_ns if due_ns is None else due_ns
    return min(due_ns, end_ns)


def _wait_until(moment_ns: int, recorder: Recorder) -> None:
    while (left := moment_ns - time.monotonic_ns()) > 0:
        recorder.beat(time.monotonic_ns())
        time.sleep(min(left, IDLE_SLICE_NS) / 1e9)
