"""Turns a workload's arrivals into submit() and step() calls: the one loop that every engine is driven by."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from innerloop.engines.contract import Nothing, Session, WrongTokenCount
from innerloop.engines.support.waiting import sleep_until
from innerloop.engines.worker.ahead import Ahead
from innerloop.engines.worker.conversations import Conversations
from innerloop.engines.worker.recorder import Recorder
from innerloop.engines.worker.work import Work

MOST_LEFT = 100  # steps that an engine may take to flush what is left in it


def drive(
    session: Session, work: Work, recorder: Recorder, first_id: int = 0, ready: Callable[[], object] | None = None
) -> None:
    """Runs the workload through the engine, recording every step, until it is finished or its duration is over.

    Requests that are due together are submitted before the next step, in the order of their indices; their ids are the
    indices from `first_id` on. They are prepared ahead: before the window opens, and while the engine has nothing to
    do; one that goes on with a conversation as soon as that has its last token. `ready` is called last before the
    window opens.

    Raises:
        WrongTokenCount: the engine ran out of work while a request still lacks tokens.
    """
    clock = time.monotonic_ns
    due = [(d, i) for i, d in enumerate(work.due_ns.tolist()) if d >= 0]  # from the window's start, as all times here
    heapq.heapify(due)
    talks = Conversations(work, first_id)
    keep = recorder.keep_prompt if talks.later is not None else None

    def prepared(index: int) -> Any:
        request = talks.request(index)
        return session.prepare(request if keep is None else keep(request))

    ahead = Ahead(work.due_ns, work.prompt_lens, prepared, talks.later)
    followers: list[int] = work.next_request.tolist()
    rests: list[int] = np.broadcast_to(np.asarray(work.rest_ns), len(followers)).tolist()
    untils: list[int] = [-1] * len(followers) if work.until_ns is None else work.until_ns.tolist()
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
                finished = recorder.step(report)
                talks.received(report.tokens)
                for request in finished:
                    unfinished -= 1
                    if (follower := followers[request - first_id]) < 0:
                        continue
                    if talks.finished(request - first_id, follower):
                        ahead.make(follower)
                    due_ns = recorder.last_token_ns(request) - start + rests[follower]
                    if not 0 <= untils[follower] <= due_ns:
                        heapq.heappush(due, (due_ns, follower))
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
