"""A thread that reads one source at a fixed rate, and keeps account of its own lateness and cost."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TIMES = [("time_ns", "<i8"), ("late_ns", "<i8")]  # every source's first columns: when it was read, and how late


@dataclass(frozen=True)
class Samples:
    """What a sampler saw. `table` is structured, [samples], beginning with `TIMES`; a missing integer is -1, a missing
    fraction NaN. `cpu_s` is the CPU time that sampling took, `error` what ended it early, `facts` what is constant."""

    source: str
    table: np.ndarray
    interval_s: float
    cpu_s: float
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def between(self, start_ns: int, end_ns: int) -> np.ndarray:
        """The rows inside [start_ns, end_ns], with the neighbour on either side where there is one."""
        times = self.table["time_ns"]
        first = max(int(np.searchsorted(times, start_ns, side="right")) - 1, 0)
        return self.table[first : int(np.searchsorted(times, end_ns)) + 1]


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
        self._rows: list[tuple[Any, ...]] = []
        self._stop = threading.Event()
        self._error: str | None = None
        self._cpu_s = 0.0
        self._thread: threading.Thread | None = None

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
        return np.array([self._rows[-1]], dtype=self.dtype)[0] if self._rows else None

    def start(self, pid: int) -> None:
        """Begins to sample; returns at once."""
        self._thread = threading.Thread(target=self._run, args=(pid,), name=f"sample-{self.source}", daemon=True)
        self._thread.start()

    def stop(self) -> Samples:
        """Takes the last sample and ends the thread. May be called again, and without a start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        table = np.array(self._rows, dtype=self.dtype)
        return Samples(self.source, table, self.interval_s, self._cpu_s, self._error, dict(self.facts))

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
            self._rows.append((now, late, *self.read()))
            if stopping:
                return
            planned += interval_ns * (1 + late // interval_ns)  # what was missed is not made up for


def cost(samples: Samples, start_ns: int, end_ns: int) -> dict[str, Any]:
    """The sampler's own figures: lateness and the longest gap inside [start_ns, end_ns], CPU time over all its life.

    `cpu_share` is of one core. None where there were too few samples to tell.
    """
    rows = samples.between(start_ns, end_ns)
    life_s = (int(samples.table["time_ns"][-1]) - int(samples.table["time_ns"][0])) / 1e9 if len(samples.table) else 0.0
    late = rows["late_ns"] / 1e9
    return {
        "interval_s": samples.interval_s,
        "samples": len(rows),
        "late_p50_s": float(np.quantile(late, 0.50)) if len(rows) else None,
        "late_p99_s": float(np.quantile(late, 0.99)) if len(rows) else None,
        "longest_gap_s": float(np.diff(rows["time_ns"]).max() / 1e9) if len(rows) > 1 else None,
        "cpu_s": samples.cpu_s,
        "cpu_share": samples.cpu_s / life_s if life_s > 0 else None,
        "error": samples.error,
    }
