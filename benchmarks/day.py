"""A day's trace, made and put away: how long it takes, and the peak memory against the trace's size.

    python -m benchmarks.day --tokens 250000000 50000000

The trace has the layout of a worker's own and 24 hours of stamps: 256 users, each with one request after the other of
200 to 800 tokens. It is put away by `innerloop show`, as that of a run whose harness was killed: read, written as
Parquet, analysed, and its result kept. The aim is less than 2 GiB and minutes, whatever the size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from innerloop.engines.worker.trace import HEADER, HEADER_BYTES, MAGIC, REQUEST, STATES, STEP, TOKEN
from tests.real import variables

USERS, SHORTEST, LONGEST, PROMPT = 256, 200, 800, 100
DAY_NS = 24 * 3600 * 10**9
BLOCK = 4096  # steps made at once
AIM_BYTES = 2 << 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[250_000_000])
    parser.add_argument("--folder", type=Path, help="where the traces are made; default: that of temporary files")
    asked = parser.parse_args()
    peaks = []
    for tokens in asked.tokens:
        with tempfile.TemporaryDirectory(prefix="day-", dir=asked.folder) as name:
            folder = Path(name) / "run"
            begun = time.monotonic()
            made = make(folder, tokens)
            print(f"{made:,} arrivals, {size_of(folder) / 1e9:.1f} GB, made in {time.monotonic() - begun:.0f} s")
            seconds, peak, result = put_away(folder)
            peaks.append(peak)
            print(
                f"  put away in {seconds:.0f} s, peak {peak / 2**20:,.0f} MiB, Parquet {size_of(folder) / 1e9:.1f} GB"
            )
            counts, itl = result["counts"], result["latency_s"]["itl"]
            print(f"  {counts['output_tokens']:,} tokens, {counts['steps']:,} steps, ITL p99 {itl['p99']:.6f} s")
            assert counts["output_tokens"] == made
            shutil.rmtree(folder)
    print(f"aim: {AIM_BYTES / 2**20:,.0f} MiB")
    return 0 if max(peaks) < AIM_BYTES else 1


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def put_away(folder: Path) -> tuple[float, int, dict]:
    """Seconds, peak resident bytes, and the result; its progress is printed as it comes."""
    words = [sys.executable, "-m", "harness", "show", str(folder), "--json"]
    begun = time.monotonic()
    with open(folder.parent / "out.json", "wb") as out:
        process = subprocess.Popen(words, cwd=folder.parent, env=variables(), stdout=out)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    assert os.waitstatus_to_exitcode(status) == 0
    return seconds, used.ru_maxrss * 1024, json.loads((folder / "result.json").read_text())


def make(folder: Path, tokens: int) -> int:
    """Writes the trace and its job; returns how many arrivals it has."""
    count = max(tokens // USERS, 2 * LONGEST)
    draw = np.random.default_rng(1)
    each = 2 * count // (SHORTEST + LONGEST) + 64  # requests of a user, more than enough
    lengths = draw.integers(SHORTEST, LONGEST, (USERS, each), endpoint=True)
    ends = np.cumsum(lengths, axis=1)  # the step behind each request's last
    begins = ends - lengths
    duration = draw.normal(1.0, 0.1, count).clip(0.5)
    end_ns = 10**12 + np.cumsum(duration * (DAY_NS / duration.sum())).astype(np.int64)
    start_ns = np.concatenate(([10**12], end_ns[:-1])) + 1000
    steps = np.full(count, -1, dtype=STEP)
    steps["start_ns"], steps["end_ns"], steps["kv_usage"] = start_ns, end_ns, 0.5
    starting = np.bincount(begins[begins < count], minlength=count)
    steps["prefill_tokens"], steps["decode_tokens"] = starting * PROMPT, USERS - starting
    steps["output_tokens"] = steps["running"] = USERS
    steps["waiting"] = steps["preempted"] = 0
    steps["execute_ns"] = (end_ns - start_ns) * 9 // 10
    used = begins < count  # requests that were begun, in the order of users
    number = np.cumsum(used.ravel()).reshape(used.shape) - 1
    requests = requests_of(used, begins, ends, start_ns, end_ns)
    measure = folder / "trace" / "measure"
    measure.mkdir(parents=True)
    edges = {"start_ns": 10**12, "end_ns": int(end_ns[-1]), "counts_overhead": 1, "tokens": count * USERS}
    write(measure / "steps.bin", steps, edges)
    write(measure / "requests.bin", requests, {})
    with open(measure / "tokens.bin", "wb") as file:
        file.write(header(TOKEN, count * USERS, {}))
        for first in range(0, count, BLOCK):
            block = np.arange(first, min(first + BLOCK, count))
            rows = np.empty((len(block), USERS), dtype=TOKEN)
            rows["time_ns"], rows["step"], rows["count"] = end_ns[block][:, None], block[:, None], 1
            for user in range(USERS):
                rows["request"][:, user] = number[user, np.searchsorted(ends[user], block, side="right")]
            rows.tofile(file)
    spec = {"engine": "vllm", "model": "llama-tiny", "workload": "day", "layer": "core", "device": "cpu"}
    empty: dict[str, dict] = {"settings": {}, "settings_given": {}, "engine_args": {}, "seeds": {}}
    (folder / "job.json").write_text(json.dumps({"spec": {**spec, **empty}}))
    return count * USERS


def requests_of(
    used: np.ndarray, begins: np.ndarray, ends: np.ndarray, start_ns: np.ndarray, end_ns: np.ndarray
) -> np.ndarray:
    """One record a request that was begun, user by user; the last of each user is cut."""
    user = np.nonzero(used)[0]
    begin, end = begins[used], ends[used]
    whole = end <= len(end_ns)
    requests = np.zeros(len(user), dtype=REQUEST)
    requests["due_ns"] = requests["submitted_ns"] = start_ns[begin] - 500
    requests["first_token_ns"] = end_ns[begin]
    requests["last_token_ns"] = np.where(whole, end_ns[np.minimum(end, len(end_ns)) - 1], -1)
    requests["prompt_tokens"], requests["asked_tokens"], requests["user"] = PROMPT, end - begin, user
    requests["output_tokens"] = np.where(whole, end - begin, -1)
    requests["state"] = np.where(whole, STATES.index("finished"), STATES.index("cut"))
    return requests


def header(dtype: np.dtype, count: int, fields: dict[str, int]) -> bytes:
    head = np.zeros((), dtype=HEADER)
    head["magic"], head["record_bytes"], head["count"] = MAGIC, dtype.itemsize, count
    for name, value in fields.items():
        head[name] = value
    return head.tobytes().ljust(HEADER_BYTES, b"\0")


def write(path: Path, rows: np.ndarray, fields: dict[str, int]) -> None:
    with open(path, "wb") as file:
        file.write(header(rows.dtype, len(rows), fields))
        rows.tofile(file)


if __name__ == "__main__":
    sys.exit(main())
