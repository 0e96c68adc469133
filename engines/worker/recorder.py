"""Writes a trace: fixed-size records in memory-mapped files that survive the death of this process."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.engines.contract import Request, StepReport, WrongTokenCount
from innerloop.engines.worker.trace import HEADER, HEADER_BYTES, LAYOUT, MAGIC, MISSING, PHASES, STATES, STEP

CHUNK_BYTES = 1 << 20  # a file's size is a multiple of this; when it is full it doubles, or grows by MOST_MORE
MOST_MORE = 1 << 22  # records that a file grows by at once, or a long run takes twice its disk
MOST_STEPS, MOST_TOKENS = 1 << 18, 1 << 22  # records that room is made for beforehand: 27 and 96 MiB
MADV_POPULATE_WRITE = 23  # asm-generic/mman-common.h, since Linux 5.14
PAGE_BYTES = 4096
SLOT = {name: place // 8 for name, (_, place, *_) in (HEADER.fields or {}).items()}  # as 64-bit slots of the header
RUNNING, FINISHED, CUT = (STATES.index(s) for s in ("running", "finished", "cut"))

STEP_FORMAT = struct.Struct(f"<{2 + len(PHASES)}q9id")  # trace.STEP, packed in one call
assert STEP_FORMAT.size == STEP.itemsize


class RecordFile:
    """One file of records, grown in whole chunks whose blocks are really allocated: a full disk is an OSError here,
    at a growth, and never a SIGBUS in the middle of a step. Its pages are in memory: no record waits for one."""

    def __init__(self, path: Path, dtype: np.dtype, capacity: int) -> None:
        self.dtype = dtype
        self.capacity = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self.grow(capacity)
        except BaseException:
            os.close(self._fd)
            raise
        self.slots[SLOT["record_bytes"]] = dtype.itemsize
        self.map[: len(MAGIC)] = MAGIC

    def grow(self, needed: int) -> None:
        """Makes room for at least `needed` records; raises OSError (ENOSPC) when the disk is full."""
        size = HEADER_BYTES + needed * self.dtype.itemsize
        size = -(-size // CHUNK_BYTES) * CHUNK_BYTES
        os.posix_fallocate(self._fd, 0, size)
        self.map = mmap.mmap(self._fd, size)
        populate(self.map)
        self.slots = memoryview(self.map)[:HEADER_BYTES].cast("q")
        self.capacity = (size - HEADER_BYTES) // self.dtype.itemsize
        self.records = np.frombuffer(self.map, dtype=self.dtype, offset=HEADER_BYTES, count=self.capacity)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def populate(pages: mmap.mmap) -> None:
    """Has every page of a mapping in memory, and writable."""
    try:
        pages.madvise(MADV_POPULATE_WRITE)
    except OSError:  # an older kernel
        first_bytes = np.frombuffer(pages, dtype=np.uint8)[::PAGE_BYTES]
        first_bytes |= 0


class Recorder:
    """Records one window of one engine: a step, the tokens it gave and what became of each request.

    `prompt_lens`, `output_lens` and `users` are int32 arrays of shape [requests]; the requests' ids follow each other
    from `first_id`. With `keep_ids` the token ids themselves are kept in memory and written when the recorder is
    closed: `output_ids.npz` with `ids` int32 [total], `offsets` int64 [requests + 1], `prompt_ids`, `prompt_offsets` of
    prompts not known beforehand, and `log_probabilities` float32 [total] where every token came with its own.
    """

    def __init__(
        self,
        folder: Path,
        prompt_lens: np.ndarray,
        output_lens: np.ndarray,
        users: np.ndarray,
        keep_ids: bool = False,
        first_id: int = 0,
    ) -> None:
        self._folder = folder = Path(folder)
        self._first = first_id
        folder.mkdir(parents=True)
        n, asked = len(prompt_lens), int(output_lens.sum())
        self.steps = RecordFile(folder / "steps.bin", LAYOUT["steps"], min(asked + n, MOST_STEPS))
        self.tokens = RecordFile(folder / "tokens.bin", LAYOUT["tokens"], min(asked, MOST_TOKENS))
        self.requests = RecordFile(folder / "requests.bin", LAYOUT["requests"], max(n, 1))
        table = self.requests.records[:n]
        for name in ("due_ns", "submitted_ns", "first_token_ns", "last_token_ns"):
            table[name] = MISSING
        table["prompt_tokens"], table["asked_tokens"], table["user"] = prompt_lens, output_lens, users
        table["request_class"] = MISSING
        self.requests.slots[SLOT["count"]] = n
        self._table = table
        self._asked: list[int] = output_lens.tolist()
        self._left = [0] * n  # tokens that a submitted request still lacks
        self._ids: list[list[int]] | None = [[] for _ in self._asked] if keep_ids else None
        self._logs: list[list[float]] = [[] for _ in self._asked] if keep_ids else []
        self._prompts: dict[int, list[int]] = {}
        self._step_count = self._token_count = self._finished = self._spent_ns = 0
        self._head = self.steps.slots
        self._head[SLOT["counts_overhead"]] = 1
        self._bind()

    def _bind(self) -> None:
        """Takes hold of the token columns once, since finding a field costs more than the write behind it."""
        self._columns = tuple(self.tokens.records[f] for f in ("time_ns", "request", "count", "step"))

    def classify(self, class_of: np.ndarray) -> None:
        """Which class each request is of: int32 [requests]."""
        self._table["request_class"] = class_of

    def last_token_ns(self, request: int) -> int:
        """When a finished request had its last token."""
        return int(self._table["last_token_ns"][request - self._first])

    def keep_prompt(self, request: Request) -> Request:
        """Keeps a prompt that was made of a conversation, where ids are kept; returns the request."""
        if self._ids is not None:
            self._prompts[request.id - self._first] = request.prompt
        return request

    def open_window(self, start_ns: int) -> None:
        self._head[SLOT["start_ns"]] = self._head[SLOT["beat_ns"]] = start_ns

    def heartbeat(self, now_ns: int) -> None:
        """Says that this process lives while there is nothing to step."""
        self._head[SLOT["beat_ns"]] = now_ns

    def paused(self, spent_ns: int) -> None:
        """Counts a collection of Python's garbage."""
        head = self._head
        head[SLOT["gc_pauses"]] += 1
        head[SLOT["gc_ns"]] += spent_ns
        head[SLOT["gc_longest_ns"]] = max(head[SLOT["gc_longest_ns"]], spent_ns)

    def submitted(self, request: int, due_ns: int, now_ns: int) -> None:
        index = request - self._first
        self._left[index] = self._asked[index]
        row = self._table[index]
        row["due_ns"], row["submitted_ns"], row["state"] = due_ns, now_ns, RUNNING

    def step(self, report: StepReport) -> Sequence[int]:
        """Writes one step and returns the ids of the requests that it finished.

        Raises:
            WrongTokenCount: a request got more tokens than asked, or the engine ended one before it had all, or gave
                tokens to one that does not run.
            OSError: the disk is full.
        """
        begun = time.monotonic_ns()
        left, asked, first = self._left, self._asked, self._first
        times = repeat(report.end_ns) if report.token_ns is None else report.token_ns
        rows: list[int] = []
        counts: list[int] = []
        done: list[tuple[int, int]] = []
        for (request, ids), time_ns in zip(report.tokens, times, strict=False):
            row, count = request - first, len(ids)
            if not 0 <= row < len(left) or not left[row]:
                raise WrongTokenCount(self._unexpected(row, count))
            before = left[row]
            left[row] = after = before - count
            if before == asked[row] and count:
                self._table[row]["first_token_ns"] = time_ns
            if after <= 0:
                done.append((row, time_ns))
            rows.append(row)
            counts.append(count)
        output = sum(counts)
        i = self._token_count
        j = i + len(rows)
        if j > self.tokens.capacity:
            self.tokens.grow(j + min(j, MOST_MORE))
            self._head[SLOT["growths"]] += 1
            self._bind()
        arrivals = report.end_ns if report.token_ns is None else report.token_ns
        for column, values in zip(self._columns, (arrivals, rows, counts, self._step_count), strict=True):
            column[i:j] = values
        self.tokens.slots[SLOT["count"]] = self._token_count = j
        if self._ids is not None:
            for request, ids in report.tokens:
                self._ids[request - first].extend(ids)
            for (request, _), logs in zip(report.tokens, report.log_probabilities or (), strict=False):
                self._logs[request - first].extend(logs)
        for row, time_ns in done:
            self._finish(row, time_ns)
        self._write_step(report, output)
        for request in report.finished:
            if left[request - first]:
                raise WrongTokenCount(self._miscount(request - first))
        self._spent_ns += time.monotonic_ns() - begun
        self._head[SLOT["recorder_ns"]] = self._spent_ns
        return [row + first for row, _ in done]

    def _finish(self, index: int, time_ns: int) -> None:
        if self._left[index] < 0:
            raise WrongTokenCount(self._miscount(index))
        row = self._table[index]
        row["last_token_ns"], row["output_tokens"], row["state"] = time_ns, self._asked[index], FINISHED
        self._finished += 1

    def _write_step(self, report: StepReport, output: int) -> None:
        k = self._step_count
        if k >= self.steps.capacity:
            self.steps.grow(k + min(k, MOST_MORE))
            self._head = self.steps.slots
            self._head[SLOT["growths"]] += 1
        STEP_FORMAT.pack_into(
            self.steps.map,
            HEADER_BYTES + k * STEP.itemsize,
            report.start_ns,
            report.end_ns,
            *(
                MISSING if v is None else v
                for v in (
                    report.schedule_ns,
                    report.prepare_ns,
                    report.execute_ns,
                    report.wait_ns,
                    report.sample_ns,
                    report.update_ns,
                    report.prefill_tokens,
                    report.decode_tokens,
                    report.cached_tokens,
                    report.drafted_tokens,
                    report.accepted_tokens,
                    output,
                    report.running,
                    report.waiting,
                    report.preempted,
                )
            ),
            float("nan") if report.kv_usage is None else report.kv_usage,
        )
        head = self._head
        head[SLOT["tokens"]] += output
        head[SLOT["finished"]] = self._finished
        head[SLOT["observer_ns"]] += report.observer_ns
        head[SLOT["beat_ns"]] = report.end_ns
        self._step_count = head[SLOT["count"]] = k + 1

    def _miscount(self, index: int) -> str:
        asked, left = self._asked[index], self._left[index]
        verb = "received" if left < 0 else "ended with"
        return f"request {index} should have produced {asked} tokens but {verb} {asked - left}"

    def _unexpected(self, index: int, count: int) -> str:
        if not 0 <= index < len(self._asked) or self._table[index]["state"] < RUNNING:
            return f"the engine returned tokens for request {index}, which was not submitted in this window"
        asked = self._asked[index]
        return f"request {index} should have produced {asked} tokens but received {asked + count}"

    def after_the_end(self, report: StepReport) -> None:
        """Looks at a step that only flushes, and records nothing.

        Raises:
            WrongTokenCount: a request got tokens although it had all of its own.
        """
        for request, ids in report.tokens:
            if len(ids):
                raise WrongTokenCount(self._unexpected(request - self._first, len(ids)))

    def unfinished(self) -> str:
        """Names one request that never got all its tokens, for the error of an engine that stopped too early."""
        open_ = np.flatnonzero(self._table["state"] == RUNNING)
        return self._miscount(int(open_[0])) if len(open_) else "no requests are open"

    def close_window(self, end_ns: int) -> None:
        """Closes the window: what still runs is marked as cut. How far it came is in the token records."""
        self._head[SLOT["end_ns"]] = end_ns
        state = self._table["state"]
        state[state == RUNNING] = CUT

    def close(self) -> None:
        for file in (self.steps, self.tokens, self.requests):
            file.close()
        if self._ids is not None:
            kept: dict[str, Any] = dict(zip(("ids", "offsets"), flat(self._ids), strict=True))
            if self._prompts:
                prompts = [self._prompts.get(index, []) for index in range(len(self._asked))]
                kept["prompt_ids"], kept["prompt_offsets"] = flat(prompts)
            if list(map(len, self._logs)) == list(map(len, self._ids)):
                kept["log_probabilities"] = np.array([one for logs in self._logs for one in logs], dtype=np.float32)
            np.savez(self._folder / "output_ids.npz", **kept)


def flat(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists behind each other, int32 [total], and where each begins, int64 [lists + 1]."""
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return np.fromiter((i for one in lists for i in one), dtype=np.int32, count=int(offsets[-1])), offsets
