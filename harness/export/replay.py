"""A run as others read it: its steps as a table, and its requests as a Mooncake trace."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.harness.analysis.chunks import tick
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.steps import edges
from innerloop.harness.cli.errors import Refused
from innerloop.harness.store.atomic import whole
from innerloop.harness.store.tables import Tables
from innerloop.harness.workloads import Workload

DIGEST_BYTES = 16
EVERY = 1024  # rows, after which it is told that it goes on
STEPS_FILE, MOONCAKE_FILE = "steps.csv", "mooncake.jsonl"
STEP_COLUMNS = (
    "step", "start_s", "duration_s", "requests", "prefill_positions", "prefill_context", "decode_positions",
    "decode_context", "kv_read_tokens", "cached_tokens", "output_tokens", "waiting", "preempted", "kv_usage",
)  # fmt: skip


def write_steps(tables: Tables, path: Path) -> int:
    """Writes a CSV with a row a step: when, how long, and what its batch was made of; returns the number of rows.

    Contexts are sums over the batch: for decode of the tokens that each request attends to, for prefill of the pairs of
    a position and one that it attends to. An empty cell is a figure that the engine does not report.

    Raises:
        OSError: it cannot be written.
    """
    with whole(path, contended=True) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(STEP_COLUMNS)
        count = 0
        for row in _steps(tables):
            rows.writerow(row)
            count += 1
    return count


def _steps(tables: Tables) -> Iterator[list[Any]]:
    steps = tables.steps
    start_ns, _ = edges(steps, tables.header)
    done = work(steps, tables.tokens, tables.requests)
    exact = (done.prefill, done.prefill_context, done.decode, done.decode_context, done.kv_read)
    counted = [np.where(known(steps[name]), steps[name], -1) for name in ("cached_tokens", "output_tokens")]
    queued = [np.where(known(steps[name]), steps[name], -1) for name in ("waiting", "preempted")]
    for k, one in enumerate(steps):
        if k % EVERY == 0:
            tick()
        yield [
            k,
            f"{(int(one['start_ns']) - start_ns) * NS:.9f}",
            f"{(int(one['end_ns']) - int(one['start_ns'])) * NS:.9f}",
            _cell(one["running"]),
            *("" if np.isnan(column[k]) else f"{float(column[k]):.6g}" for column in exact),
            *(_cell(column[k]) for column in (*counted, *queued)),
            "" if np.isnan(one["kv_usage"]) else f"{float(one['kv_usage']):.6g}",
        ]


def _cell(value: Any) -> str:
    return "" if value < 0 else str(int(value))


def write_mooncake(tables: Tables, drawn: Workload, path: Path, block_tokens: int) -> int:
    """Writes a trace of the requests that were due, at the times at which they were; returns their number. Turns of
    sessions have session_id, and delay in ms after the first; blocks with the same beginning have the same hash_ids.

    Raises:
        Refused: the records and the requests are not of one run. OSError: it cannot be written.
    """
    if len(tables.requests) != drawn.requests:
        raise Refused(f"the run has {len(tables.requests)} requests, but its workload.npz has {drawn.requests}")
    count = 0
    with whole(path, contended=True) as partial, partial.open("w", encoding="utf-8") as file:
        for row in _requests(tables, drawn, block_tokens):
            file.write(json.dumps(row) + "\n")
            count += 1
    return count


def _requests(tables: Tables, drawn: Workload, block_tokens: int) -> Iterator[Mapping[str, object]]:
    requests = tables.requests
    start_ns, _ = edges(tables.steps, tables.header)
    rest_ns = np.broadcast_to(drawn.rest_ns, drawn.requests)
    sessions, blocks = _sessions(drawn), dict[tuple[int, bytes], int]()
    due = requests["due_ns"]
    for index in np.argsort(due, kind="stable").tolist():
        if index % EVERY == 0:
            tick()
        if due[index] < 0:
            continue
        first, last = drawn.prompt_offsets[index : index + 2]
        own = drawn.prompt_tokens[first:last]
        row: dict[str, object] = {
            "timestamp": _ms(int(due[index]) - start_ns),
            "input_length": len(own),
            "output_length": int(drawn.output_lens[index]),
        }
        if drawn.history_lens is None or not drawn.history_lens[index]:
            row["hash_ids"] = _hash_ids(own, block_tokens, blocks)
        if sessions[index] >= 0:
            row["session_id"] = f"s{sessions[index]}"
            if drawn.history_lens is not None and drawn.history_lens[index]:
                row["delay"] = _ms(int(rest_ns[index]))
        yield row


def _sessions(drawn: Workload) -> np.ndarray:
    """The session of each request, int64 [n]: the first request of its conversation; -1: it has none."""
    out = np.full(drawn.requests, -1, dtype=np.int64)
    if drawn.history_lens is None:
        return out
    for index, follower in enumerate(drawn.next_request.tolist()):
        if follower >= 0 and drawn.history_lens[follower]:
            if out[index] < 0:
                out[index] = index
            out[follower] = out[index]
    return out


def _hash_ids(ids: np.ndarray, block_tokens: int, blocks: dict[tuple[int, bytes], int]) -> list[int]:
    """A number for each block of a prompt: the same where all before it and it are the same."""
    found, parent = [], -1
    for first in range(0, len(ids), block_tokens):
        content = ids[first : first + block_tokens].tobytes()
        if len(content) > DIGEST_BYTES:  # of long prompts that differ, all blocks would be kept
            content = hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
        parent = blocks.setdefault((parent, content), len(blocks))
        found.append(parent)
    return found


def _ms(time_ns: int) -> int | float:
    """Milliseconds, whole where they are."""
    return time_ns // 1_000_000 if time_ns % 1_000_000 == 0 else round(time_ns / 1e6, 6)
