"""Writes a trace: fixed-size records in memory-mapped files that survive the death of this process."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from innerloop.engines.contract import StepReport, WrongTokenCount
from innerloop.engines.worker.trace import HEADER, HEADER_BYTES, LAYOUT, MAGIC, MISSING, PHASES, STATES, STEP

CHUNK_BYTES = 1 << 20  # a file's size is a multiple of this; when it is full it doubles
SLOT = {name: place // 8 for name, (_, place, *_) in (HEADER.fields or {}).items()}  # as 64-bit slots of the header
RUNNING, FINISHED, CUT = (STATES.index(s) for s in ("running", "finished", "cut"))

STEP_FORMAT = struct.Struct(f"<{2 + len(PHASES)}q6id")  # trace.STEP, packed in one call
assert STEP_FORMAT.size == STEP.itemsize


class RecordFile:
    """One file of records, grown in whole chunks whose blocks are really allocated: a full disk is an OSError here,
    at a growth, and never a SIGBUS in the middle of a step."""

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
        self.slots = memoryview(self.map)[:HEADER_BYTES].cast("q")
        self.capacity = (size - HEADER_BYTES) // self.dtype.itemsize
        self.records = np.frombuffer(self.map, dtype=self.dtype, offset=HEADER_BYTES, count=self.capacity)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Recorder:
    """Records one window of one engine: a step, the tokens it gave and what became of each request.

    `prompt_lens`, `output_lens` and `users` are int32 arrays of shape [requests]. With `keep_ids` the token ids
    themselves are kept in memory and written when the recorder is closed: `output_ids.npz` with `ids` int32 [total]
    and `offsets` int64 [requests + 1].
    """

    def __init__(
        self,
        folder: Path,
        prompt_lens: np.ndarray,
        output_lens: np.ndarray,
        users: np.ndarray,
        keep_ids: bool = False,
    ) -> None:
        self._folder = folder = Path(folder)
        folder.mkdir(parents=True)
        n = len(prompt_lens)
        self.steps = RecordFile(folder / "steps.bin", LAYOUT["steps"], 4096)
        self.tokens = RecordFile(folder / "tokens.bin", LAYOUT["tokens"], min(int(output_lens.sum()), 1 << 20))
        self.requests = RecordFile(folder / "requests.bin", LAYOUT["requests"], max(n, 1))
        table = self.requests.records[:n]
        for name in ("due_ns", "submitted_ns", "first_token_ns", "last_token_ns"):
            table[name] = MISSING
        table["prompt_tokens"], table["asked_tokens"], table["user"] = prompt_lens, output_lens, users
        self.requests.slots[SLOT["count"]] = n
        self._table = table
        self._asked: list[int] = output_lens.tolist()
        self._left: list[int] = output_lens.tolist()
        self._ids: list[list[int]] | None = [[] for _ in self._asked] if keep_ids else None
        self._step_count = self._token_count = self._finished = self._spent_ns = 0
        self._head = self.steps.slots
        self._bind()

    def _bind(self) -> None:
        """Takes hold of the token columns once, since finding a field costs more than the write behind it."""
        self._columns = tuple(self.tokens.records[f] for f in ("time_ns", "request", "count", "step"))

    def open_window(self, start_ns: int) -> None:
        self._head[SLOT["start_ns"]] = self._head[SLOT["beat_ns"]] = start_ns

    def beat(self, now_ns: int) -> None:
        """A sign of life while there is nothing to step."""
        self._head[SLOT["beat_ns"]] = now_ns

    def submitted(self, index: int, due_ns: int, now_ns: int) -> None:
        row = self._table[index]
        row["due_ns"], row["submitted_ns"], row["state"] = due_ns, now_ns, RUNNING

    def step(self, report: StepReport) -> Sequence[int]:
        """Writes one step and returns the requests that it finished.

        Raises:
            WrongTokenCount: a request got more tokens than asked, or the engine ended one before it had all.
            OSError: the disk is full.
        """
        begun = time.monotonic_ns()
        left, asked, end_ns = self._left, self._asked, report.end_ns
        requests: list[int] = []
        counts: list[int] = []
        done: list[int] = []
        for request, ids in report.tokens:
            count = len(ids)
            before = left[request]
            left[request] = after = before - count
            if before == asked[request]:
                self._table[request]["first_token_ns"] = end_ns
            if after <= 0:
                done.append(request)
            requests.append(request)
            counts.append(count)
        output = sum(counts)
        i = self._token_count
        j = i + len(requests)
        if j > self.tokens.capacity:
            self.tokens.grow(j * 2)
            self._bind()
        for column, values in zip(self._columns, (end_ns, requests, counts, self._step_count), strict=True):
            column[i:j] = values
        self.tokens.slots[SLOT["count"]] = self._token_count = j
        if self._ids is not None:
            for request, ids in report.tokens:
                self._ids[request].extend(ids)
        for request in done:
            self._finish(request, end_ns)
        self._write_step(report, output)
        for request in report.finished:
            if left[request]:
                raise WrongTokenCount(self._miscount(request))
        self._spent_ns += time.monotonic_ns() - begun
        self._head[SLOT["recorder_ns"]] = self._spent_ns
        return done

    def _finish(self, request: int, end_ns: int) -> None:
        if self._left[request] < 0:
            raise WrongTokenCount(self._miscount(request))
        row = self._table[request]
        row["last_token_ns"], row["output_tokens"], row["state"] = end_ns, self._asked[request], FINISHED
        self._finished += 1

    def _write_step(self, report: StepReport, output: int) -> None:
        k = self._step_count
        if k >= self.steps.capacity:
            self.steps.grow(k * 2)
            self._head = self.steps.slots
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
        head[SLOT["beat_ns"]] = report.end_ns
        self._step_count = head[SLOT["count"]] = k + 1

    def _miscount(self, request: int) -> str:
        asked, left = self._asked[request], self._left[request]
        verb = "received" if left < 0 else "ended with"
        return f"request {request} was to produce {asked} tokens and {verb} {asked - left}"

    def unfinished(self) -> str:
        """Names one request that never got all its tokens, for the error of an engine that stopped too early."""
        open_ = np.flatnonzero(self._table["state"] == RUNNING)
        return self._miscount(int(open_[0])) if len(open_) else "no request is open"

    def close_window(self, end_ns: int) -> None:
        """Closes the window: what still runs is marked as cut. How far it came is in the token records."""
        self._head[SLOT["end_ns"]] = end_ns
        state = self._table["state"]
        state[state == RUNNING] = CUT

    def close(self) -> None:
        for file in (self.steps, self.tokens, self.requests):
            file.close()
        if self._ids is not None:
            offsets = np.cumsum([0, *map(len, self._ids)], dtype=np.int64)
            flat = np.fromiter((i for ids in self._ids for i in ids), dtype=np.int32, count=int(offsets[-1]))
            np.savez(self._folder / "output_ids.npz", ids=flat, offsets=offsets)
