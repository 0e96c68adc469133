"""What a simulated window leaves, as the arrays that the worker's recorder would have written."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from .formula import PHASES
from .options import Spec
from .scheduler import Batch
from .workload import Workload

MISSING = -1
COUNTS = {  # columns of a step, if its layout has them, and the batch's names for them
    "prefill_tokens": "prefill",
    "decode_tokens": "decode",
    "cached_tokens": "cached",
    "drafted_tokens": "drafted",
    "accepted_tokens": "accepted",
    "running": "running",
    "waiting": "waiting",
    "preempted": "preempted",
}


@dataclass(frozen=True)
class Trace:
    """The records of one window: structured arrays of dtype STEP, TOKEN and REQUEST, and the header's fields of the
    step records."""

    steps: np.ndarray
    tokens: np.ndarray
    requests: np.ndarray
    header: dict[str, int]


@dataclass(slots=True)
class Log:
    """What happened so far. Times are absolute nanoseconds; `end_ns` is now."""

    start_ns: int
    end_ns: int = 0
    batches: list[Batch] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)  # steps of each batch
    starts_ns: list[int] = field(default_factory=list)  # of each step
    ends_ns: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)  # of the KV cache in use in each step
    submitted: dict[int, tuple[int, int]] = field(default_factory=dict)  # by request: when it was due, and submitted

    def __post_init__(self) -> None:
        self.end_ns = self.start_ns

    def add(self, batch: Batch, starts_ns: list[int], ends_ns: list[int], blocks: list[int]) -> None:
        """Steps that are alike but for their times and the blocks in use, [steps] each."""
        self.batches.append(batch)
        self.repeats.append(len(ends_ns))
        self.starts_ns += starts_ns
        self.ends_ns += ends_ns
        self.blocks += blocks


def make_trace(spec: Spec, workload: Workload, log: Log) -> Trace:
    """The records of all that the log holds."""
    from innerloop.engines.worker.trace import HEADER, REQUEST, STATES, STEP, TOKEN

    tokens = _tokens(log, TOKEN)
    steps = _steps(spec, log, tokens, STEP)
    requests = _requests(workload, log, tokens, REQUEST, STATES)
    header = {
        **dict.fromkeys((name for name in HEADER.names or () if name != "magic"), 0),
        "record_bytes": STEP.itemsize,
        "count": len(steps),
        "beat_ns": log.ends_ns[-1] if log.ends_ns else log.start_ns,
        "start_ns": log.start_ns,
        "end_ns": log.end_ns,
        "tokens": int(steps["output_tokens"].sum()),
        "finished": int((requests["state"] == STATES.index("finished")).sum()),
    }
    return Trace(steps, tokens, requests, header)


def _steps(spec: Spec, log: Log, tokens: np.ndarray, dtype: np.dtype) -> np.ndarray:
    n = len(log.starts_ns)
    columns: dict[str, Any] = {
        "start_ns": np.array(log.starts_ns, dtype=np.int64),
        "end_ns": np.array(log.ends_ns, dtype=np.int64),
        "output_tokens": np.bincount(tokens["step"], tokens["count"], minlength=n),
        "kv_usage": np.array(log.blocks) / spec.limits.blocks,
    }
    phases = spec.formula.phases_ns(columns["end_ns"] - columns["start_ns"])
    columns |= {f"{phase}_ns": duration for phase, duration in zip(PHASES, phases, strict=True)}
    for column, name in COUNTS.items():
        columns[column] = np.repeat(
            np.array([getattr(batch, name) for batch in log.batches], dtype=np.int64), log.repeats
        )
    return _table(dtype, n, columns)


def _tokens(log: Log, dtype: np.dtype) -> np.ndarray:
    """One record for each member of each step's batch, in the batch's order."""
    repeats = np.array(log.repeats, dtype=np.int64)
    width = np.array([len(batch.ids) for batch in log.batches], dtype=np.int64)
    ids = np.fromiter(chain.from_iterable(batch.ids for batch in log.batches), dtype=np.int64)
    counts = np.fromiter(chain.from_iterable(batch.counts for batch in log.batches), dtype=np.int64)
    members = np.repeat(width, repeats)  # of each step
    total = int(members.sum())
    first_entry = np.repeat(np.cumsum(width) - width, repeats)  # of each step, in ids and counts
    first_record = np.cumsum(members) - members
    entry = np.arange(total) + np.repeat(first_entry - first_record, members)
    columns = {
        "time_ns": np.repeat(np.array(log.ends_ns, dtype=np.int64), members),
        "request": ids[entry],
        "count": counts[entry],
        "step": np.repeat(np.arange(len(members)), members),
    }
    return _table(dtype, total, columns)


def _requests(workload: Workload, log: Log, tokens: np.ndarray, dtype: np.dtype, states: tuple[str, ...]) -> np.ndarray:
    n = len(workload.output_lens)
    asked = np.asarray(workload.output_lens)
    given = np.bincount(tokens["request"], tokens["count"], minlength=n).astype(np.int64)
    finished = (given == asked) & (given > 0)
    submitted = np.array(list(log.submitted), dtype=np.int64)
    times = {name: np.full(n, MISSING, dtype=np.int64) for name in ("due_ns", "submitted_ns", "first", "last")}
    for column, name in enumerate(("due_ns", "submitted_ns")):
        times[name][submitted] = [moments[column] for moments in log.submitted.values()]
    times["first"][tokens["request"][::-1]] = tokens["time_ns"][::-1]  # where an index repeats, the last one stays
    times["last"][tokens["request"]] = tokens["time_ns"]
    state = np.full(n, states.index("unsent"))
    state[submitted] = states.index("cut")
    state[finished] = states.index("finished")
    columns = {
        "due_ns": times["due_ns"],
        "submitted_ns": times["submitted_ns"],
        "first_token_ns": times["first"],
        "last_token_ns": np.where(finished, times["last"], MISSING),
        "prompt_tokens": np.diff(workload.prompt_offsets),
        "asked_tokens": asked,
        "output_tokens": np.where(finished, given, 0),  # of others, the token records tell
        "user": workload.user,
        "state": state,
        "request_class": np.full(n, -1),
    }
    return _table(dtype, n, columns)


def _table(dtype: np.dtype, rows: int, columns: dict[str, Any]) -> np.ndarray:
    """A table of that dtype; what it has beyond `columns` is missing, what it lacks of them is left out."""
    table = np.empty(rows, dtype=dtype)
    for name in dtype.names or ():
        table[name] = columns.get(name, np.nan if dtype[name].kind == "f" else MISSING)
    return table
