"""A thread that reads one source at a fixed rate, and keeps account of its own lateness and cost."""

from __future__ import annotations

import os
import struct
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from innerloop.harness.analysis.samples import Samples

TIMES = [("time_ns", "<i8"), ("late_ns", "<i8")]  # every source's first columns: when it was read, and how late
CODES = {"<f8": "d", "<i8": "q", "<i4": "i"}  # numpy's names of the columns' types, and struct's
BLOCK_ROWS = 1024
HELD_BLOCKS = 64  # in memory
STOP_S = 5.0  # for a reading under way to return, when sampling is to end


class Rows:
    """Records of one packed dtype, kept as bytes: small, cheap to add to, and nothing for the garbage collector.

    `folder`: where a file without a name takes those of a long run, when they are more than `HELD_BLOCKS` blocks.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self.folder: Path | None = None
        self._written: BinaryIO | None = None  # whole blocks
        self._dtype = dtype
        self._struct = struct.Struct("<" + "".join(CODES[dtype[name].str] for name in dtype.names or ()))
        self._blocks: list[bytearray] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, *values: Any) -> None:
        """Adds one record, its values in the order of the dtype."""
        place = self._count % BLOCK_ROWS
        if place == 0:
            if len(self._blocks) >= HELD_BLOCKS and self.folder is not None:
                self._write_out(self.folder)
            self._blocks.append(bytearray(BLOCK_ROWS * self._struct.size))
        self._struct.pack_into(self._blocks[-1], place * self._struct.size, *values)
        self._count += 1

    def _write_out(self, folder: Path) -> None:
        """A disk that is full takes no sample from the run: from then on they are held."""
        try:
            if self._written is None:
                self._written = cast(BinaryIO, tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115
            end, held = self._written.seek(0, os.SEEK_END), b"".join(self._blocks)
            if os.pwrite(self._written.fileno(), held, end) < len(held):
                self._written.truncate(end)
                self.folder = None
            else:
                self._blocks.clear()
        except OSError:
            self.folder = None

    def table(self) -> np.ndarray:
        """All records, [rows] of the dtype: a copy, or what lies in the file of a long run."""
        if self._written is not None and self.folder is not None:
            self._write_out(self.folder)
        held = np.frombuffer(b"".join(self._blocks), self._dtype)
        if self._written is None:
            return held[: self._count].copy()
        rows = min(self._count, self._written.seek(0, os.SEEK_END) // self._dtype.itemsize)
        mapped = np.memmap(self._written, self._dtype, "r", shape=(rows,))
        return np.concatenate((mapped, held[: self._count - rows])) if self._count > rows else mapped

    @property
    def last(self) -> np.void | None:
        """The newest record; None before the first."""
        newest = self._count - 1
        if newest < 0:
            return None
        place = newest % BLOCK_ROWS * self._struct.size
        return np.frombuffer(self._blocks[-1], self._dtype, 1, place)[0]


class Sampler(ABC):
    """Reads a source every `interval_s` seconds from `start` to `stop`, also once at each.

    A source defines `source`, `dtype` (beginning with `TIMES`), `open`, `read` and `close`; all three run in the
    sampling thread. An exception in one of them ends the sampling, not the run: `Samples.error` tells.
    """

    source: str
    dtype: np.dtype

    def __init__(self, interval_s: float) -> None:
        if interval_s <= 0:
            raise ValueError(f"a sampling interval must be positive, not {interval_s}")
        self.interval_s = interval_s
        self.facts: dict[str, Any] = {}
        self._stop = threading.Event()
        self._error: str | None = None
        self._cpu_s = 0.0
        self._thread: threading.Thread | None = None

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.dtype)

    @abstractmethod
    def open(self, pid: int) -> None:
        """Prepares to sample on behalf of the process tree under `pid`."""

    @abstractmethod
    def read(self) -> tuple[Any, ...]:
        """One sample: the columns of `dtype` after `TIMES`."""

    def close(self) -> None:  # noqa: B027 (a source may have nothing to release)
        """Releases what `open` took."""

    @property
    def latest(self) -> np.void | None:
        """The newest sample as a record of `dtype`, for a live view; None before the first."""
        return self._rows.last

    def keep_in(self, folder: Path) -> None:
        """Samples of a long run are written into a file without a name there."""
        self._rows.folder = folder

    def start(self, pid: int) -> None:
        """Begins to sample; returns at once."""
        self._thread = threading.Thread(target=self._run, args=(pid,), name=f"sample-{self.source}", daemon=True)
        self._thread.start()

    def stop(self) -> Samples:
        """Takes the last sample and ends the thread. May be called again, and without a start.

        A reading that does not return, as of a driver that hangs, is left to itself.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                self._error = "a reading has not returned"
        return Samples(self.source, self._rows.table(), self.interval_s, self._cpu_s, self._error, dict(self.facts))

    def _run(self, pid: int) -> None:
        begun = time.thread_time()
        try:
            try:
                self.open(pid)
                self._pace()
            finally:
                self.close()
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
        self._cpu_s = time.thread_time() - begun

    def _pace(self) -> None:
        interval_ns = int(self.interval_s * 1e9)
        planned = time.monotonic_ns()
        while True:
            stopping = self._stop.wait(max(planned - time.monotonic_ns(), 0) / 1e9)
            now = time.monotonic_ns()
            late = 0 if stopping else max(now - planned, 0)
            self._rows.append(now, late, *self.read())
            if stopping:
                return
            planned += interval_ns * (1 + late // interval_ns)  # what was missed is not made up for
