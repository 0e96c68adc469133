"""What a run's page is made from: its result and its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from innerloop.harness.analysis.context import Work, first_steps, work
from innerloop.harness.analysis.steps import edges
from innerloop.harness.cli.errors import Refused
from innerloop.harness.schema.result import Result
from innerloop.harness.store.samples_file import read_samples
from innerloop.harness.store.tables import Tables, no_tables, read_tables

DRAWN = (  # columns of samples that are drawn
    "worker_user_s", "worker_system_s", "harness_cpu_s", "machine_busy_s", "event_reasons",
    "power_instant_w", "power_average_w", "gpu_utilization", "sm_clock_mhz", "temperature_c",
)  # fmt: skip
CONTEXT_TOKENS = 20_000_000  # arrivals, above which no step's composition is worked out: a page is to come in seconds


@dataclass(frozen=True)
class Source:
    """A run. `trouble` says why its records could not be read, where that is so; then they are empty."""

    result: Result
    tables: Tables
    folder: Path | None = None
    trouble: str = ""

    @property
    def name(self) -> str:
        return self.folder.name if self.folder is not None else "run"

    @cached_property
    def window(self) -> tuple[int, int]:
        """The window's start and end, ns; (0, 0) if it never opened."""
        return edges(self.tables.steps, self.tables.header)

    @cached_property
    def work(self) -> Work | None:
        """What each step computed; None where there is nothing, or too much of it."""
        tables = self.tables
        if not len(tables.steps) or len(tables.tokens) > CONTEXT_TOKENS:
            return None
        return work(tables.steps, tables.tokens, tables.requests)

    @cached_property
    def begun_in(self) -> np.ndarray | None:
        """The step in which each request's prompt was begun, as `first_steps`; None too where there is too much."""
        tables = self.tables
        return None if self.work is None else first_steps(tables.steps, tables.tokens, tables.requests)

    @cached_property
    def telemetry(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The samples by source, of each the columns DRAWN that it has, as `read_samples`; empty where there are none,
        or they cannot be read."""
        if self.folder is None:
            return {}
        try:
            return read_samples(self.folder, DRAWN)
        except Refused:
            return {}

    def at_s(self, time_ns: np.ndarray) -> np.ndarray:
        """Seconds from the window's start, float64, the shape of `time_ns`."""
        return (np.asarray(time_ns, dtype=np.int64) - self.window[0]) / 1e9


def source(result: Result, folder: Path | None) -> Source:
    """A run with its records, as far as they can be read."""
    if folder is None or not folder.is_dir():
        return Source(result, no_tables(), None, "its folder is unknown")
    try:
        return Source(result, read_tables(folder), folder)
    except Refused as refusal:
        return Source(result, no_tables(), folder, str(refusal))
