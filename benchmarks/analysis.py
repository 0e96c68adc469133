"""Analysis of a long trace against one `numpy.sort` of as many numbers, in interleaved runs, and its peak memory.

    python -m benchmarks.analysis [--tokens 10000000] [--runs 7]

The trace is a synthetic one: 256 requests at a time, 500 tokens each. The analysis is what the result takes from a
trace (harness.analysis.run.analyse), on tables mapped from the worker's files as after a run; the work of each step,
which the machine's limit needs besides (harness.analysis.context.work), is timed by itself. The peak is of both.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from innerloop.engines.worker.trace import HEADER, HEADER_BYTES, MAGIC, REQUEST, STATES, STEP, TOKEN
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.run import analyse
from innerloop.harness.store.tables import read_tables

BATCH, OUTPUT, PROMPT, STEP_NS = 256, 500, 100, 10_000_000
AIM_RATIO, AIM_BYTES = 10.0, 1 << 30


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tokens", type=int, default=10_000_000)
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_trace(folder, asked.tokens)
        command = [sys.executable, "-m", "benchmarks.analysis", "--measure", name]
        alone = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        tables = read_tables(folder)
        numbers = np.random.default_rng(0).random(asked.tokens)
        pairs, works = [], []
        for _ in range(asked.runs):
            sort_s = timed(lambda: np.sort(numbers))
            analysis_s = timed(lambda: analyse(tables.steps, tables.tokens, tables.requests, tables.header))
            pairs.append((analysis_s, sort_s))
            works.append(timed(lambda: work(tables.steps, tables.tokens, tables.requests)))
    ratios = sorted(a / s for a, s in pairs)
    print(f"tokens                {asked.tokens:,} in {len(tables.steps):,} steps, {len(tables.requests):,} requests")
    print(f"analysis              {statistics.median(a for a, _ in pairs):.3f} s (median of {asked.runs})")
    print(f"work of the steps     {statistics.median(works):.3f} s")
    print(f"numpy.sort            {statistics.median(s for _, s in pairs):.3f} s")
    middle, low, high = statistics.median(ratios), ratios[0], ratios[-1]
    print(f"ratio                 {middle:.2f} ({low:.2f} to {high:.2f}; aim < {AIM_RATIO:g})")
    print(f"peak memory, alone    {alone['peak_bytes'] / 2**20:,.0f} MiB, trace included (aim < {AIM_BYTES >> 20} MiB)")
    return 0


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def measure(folder: Path) -> dict[str, int]:
    """The peak resident memory of a process that only reads and analyses the trace."""
    tables = read_tables(folder)
    analyse(tables.steps, tables.tokens, tables.requests, tables.header)
    work(tables.steps, tables.tokens, tables.requests)
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def make_trace(folder: Path, tokens: int) -> None:
    """A trace of `tokens` arrivals (rounded to whole waves of 256 requests), prefill in each wave's first step."""
    waves = max(tokens // (BATCH * OUTPUT), 1)
    n_steps, n_requests = waves * OUTPUT, waves * BATCH
    steps = np.zeros(n_steps, dtype=STEP)
    steps["start_ns"] = 10**12 + np.arange(n_steps) * STEP_NS
    steps["end_ns"] = steps["start_ns"] + np.random.default_rng(0).integers(STEP_NS * 9 // 10, STEP_NS, n_steps)
    steps["execute_ns"] = STEP_NS // 2
    opens = np.arange(n_steps) % OUTPUT == 0
    steps["prefill_tokens"], steps["decode_tokens"] = np.where(opens, BATCH * PROMPT, 0), np.where(opens, 0, BATCH)
    steps["output_tokens"] = steps["running"] = BATCH
    steps["kv_usage"] = 0.5
    arrivals = np.zeros(n_steps * BATCH, dtype=TOKEN)
    arrivals["step"] = np.repeat(np.arange(n_steps), BATCH)
    begins, ends, step = steps["start_ns"], steps["end_ns"], arrivals["step"]
    arrivals["time_ns"] = ends[step]
    arrivals["request"] = step // OUTPUT * BATCH + np.tile(np.arange(BATCH), n_steps)
    arrivals["count"] = 1
    requests = np.zeros(n_requests, dtype=REQUEST)
    requests["due_ns"] = requests["submitted_ns"] = np.repeat(begins[::OUTPUT], BATCH)
    requests["first_token_ns"] = np.repeat(ends[::OUTPUT], BATCH)
    requests["last_token_ns"] = np.repeat(ends[OUTPUT - 1 :: OUTPUT], BATCH)
    requests["prompt_tokens"], requests["asked_tokens"], requests["output_tokens"] = PROMPT, OUTPUT, OUTPUT
    requests["user"], requests["state"] = -1, STATES.index("finished")
    (folder / "trace" / "measure").mkdir(parents=True)
    for name, rows in {"steps": steps, "tokens": arrivals, "requests": requests}.items():
        head = np.zeros((), dtype=HEADER)
        head["magic"], head["record_bytes"], head["count"] = MAGIC, rows.dtype.itemsize, len(rows)
        head["start_ns"], head["end_ns"] = steps["start_ns"][0], steps["end_ns"][-1]
        with open(folder / "trace" / "measure" / f"{name}.bin", "wb") as file:
            file.write(head.tobytes().ljust(HEADER_BYTES, b"\0"))
            rows.tofile(file)


if __name__ == "__main__":
    sys.exit(main())
