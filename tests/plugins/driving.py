"""Workloads and loads for the scripted engine, and a loop that drives its sessions."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from innerloop.contract import Load, Request, Session, StepReport

SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "quantization": None,
    "tensor_parallel": 1,
    "context_length": 2048,
    "max_batch_size": 8,
    "max_tokens_per_step": 256,
    "kv_cache_tokens": 4096,
    "kv_memory_fraction": None,
    "prefix_caching": False,
    "chunked_prefill": None,
    "cuda_graphs": None,
    "seed": 0,
}


def make_load(layer: str = "core", engine_args: dict[str, Any] | None = None, **settings: Any) -> Load:
    return Load("/no/checkpoint", {"vocab_size": 1000}, "cpu", layer, {**SETTINGS, **settings}, engine_args or {})


@dataclass(frozen=True)
class Work:
    """A workload, as the harness makes it; see scripted/workload.py."""

    prompt_tokens: np.ndarray
    prompt_offsets: np.ndarray
    output_lens: np.ndarray
    due_ns: np.ndarray
    next_request: np.ndarray
    user: np.ndarray
    rest_ns: int = 0
    duration_ns: int = -1

    def request(self, index: int) -> Request:
        first, last = self.prompt_offsets[index : index + 2]
        return Request(index, self.prompt_tokens[first:last].tolist(), int(self.output_lens[index]))


def offline(lengths: Sequence[tuple[int, int]], due_ns: Sequence[int] | None = None, **more: int) -> Work:
    """Requests of (prompt, output) tokens that begin unlike each other; all due at once unless `due_ns` says when."""
    prompts, n = [prompt for prompt, _ in lengths], len(lengths)
    return Work(
        prompt_tokens=np.arange(sum(prompts), dtype=np.int32),
        prompt_offsets=np.cumsum([0, *prompts], dtype=np.int64),
        output_lens=np.array([output for _, output in lengths], dtype=np.int32),
        due_ns=np.array(due_ns if due_ns is not None else [0] * n, dtype=np.int64),
        next_request=np.full(n, -1, dtype=np.int32),
        user=np.full(n, -1, dtype=np.int32),
        **more,
    )


def closed(users: int, lengths: Sequence[tuple[int, int]], rest_ns: int, duration_ns: int = -1) -> Work:
    """Every user's next request is due `rest_ns` after the one before has finished."""
    one, index = offline(lengths), np.arange(len(lengths))
    return Work(
        one.prompt_tokens,
        one.prompt_offsets,
        one.output_lens,
        due_ns=np.where(index < users, 0, -1),
        next_request=np.where(index + users < len(index), index + users, -1),
        user=index % users,
        rest_ns=rest_ns,
        duration_ns=duration_ns,
    )


class Clock:
    """A clock that jumps to whatever is waited for."""

    def __init__(self, now: int) -> None:
        self.now = now

    def read(self) -> int:
        return self.now

    def jump(self, moment_ns: int) -> None:
        self.now = max(self.now, moment_ns)


def drive(session: Session, work: Work, now: Callable[[], int], wait: Callable[[int], None]) -> list[StepReport]:
    """The worker's loop without its recorder: every step's report."""
    start = now()
    due = [(start + due_ns, i) for i, due_ns in enumerate(work.due_ns.tolist()) if due_ns >= 0]
    heapq.heapify(due)
    end = start + work.duration_ns if work.duration_ns >= 0 else None
    reports: list[StepReport] = []
    unfinished = 0
    while end is None or now() < end:
        while due and due[0][0] <= now():
            session.submit(session.prepare(work.request(heapq.heappop(due)[1])))
            unfinished += 1
        moments = [moment for moment in (due[0][0] if due else None, end) if moment is not None]
        until = min(moments) if moments else None
        if unfinished:
            report = session.step(until)
            if not isinstance(report, StepReport):
                assert session.has_work()
                continue
            reports.append(report)
            for request in report.finished:
                unfinished -= 1
                if (follower := int(work.next_request[request])) >= 0:
                    heapq.heappush(due, (report.end_ns + work.rest_ns, follower))
        elif due and until is not None:
            wait(until)
        else:
            break
    return reports
