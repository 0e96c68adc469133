"""What it costs to build a large trace, and how late requests are sent at a high rate.

    python -m benchmarks.loads
    python -m benchmarks.loads --requests 100000 --rate 1000

A Mooncake trace with shared blocks is made up, read, built into requests and hashed: seconds of a core, and the most
memory. Then requests fall due at `--rate` per second on an engine that takes no time (the loop, its recorder and the
waiting are real): median, p99 and most of the avoidable send lag, submitted - max(due, end of the step in progress).
p99 is to be below 0.2 ms, and a million requests are to be built in 10 s and 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.send_lag import Instant
from innerloop.engines.worker import trace
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.work import Work
from innerloop.harness.analysis.lag import avoidable_lag_ns
from innerloop.harness.profiles import WorkloadProfile, load_model, parse_seeds
from innerloop.harness.profiles.validation import validate
from innerloop.harness.workloads import build
from innerloop.harness.workloads.rates import at_rate

BLOCK = 512


def write_trace(path: Path, requests: int) -> None:
    """Up to three blocks a prompt, of which the first ones are those of an earlier prompt in three of five."""
    rng, known, fresh, now = random.Random(1), list[list[int]](), 0, 0.0
    with path.open("w") as file:
        for _ in range(requests):
            now += rng.expovariate(1.0)
            ids = rng.choice(known[-200:])[: rng.randrange(1, 3)] if known and rng.random() < 0.6 else []
            ids = [*ids, fresh]
            fresh += 1
            known.append(ids)
            row = {"timestamp": round(now), "input_length": (len(ids) - 1) * BLOCK + rng.randrange(1, BLOCK + 1)}
            file.write(json.dumps({**row, "output_length": rng.randrange(4, 24), "hash_ids": ids}) + "\n")


def building(requests: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        write_trace(path, requests)
        load = {"kind": "trace", "path": str(path), "length_scale": 0.1}
        workload = validate(WorkloadProfile, {"name": "large", "load": load}, "large")
        begun, wall = time.process_time(), time.monotonic()
        work = build(workload, load_model("llama-tiny"), parse_seeds(1), 4096)
        digest = work.hash
        spent, wall = time.process_time() - begun, time.monotonic() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    what = f"{requests} requests, {len(work.prompt_tokens)} prompt tokens, hash {digest[:12]}"
    return f"{what}: {spent:.1f} s of a core ({wall:.1f} s), {peak} MiB"


def lags_us(requests: int, rate_per_s: float) -> np.ndarray:
    """Avoidable send lag of each request but the first, in microseconds."""
    work = Work(
        prompt_tokens=np.ones(requests, np.int32),
        prompt_offsets=np.arange(requests + 1, dtype=np.int64),
        output_lens=np.ones(requests, np.int32),
        due_ns=at_rate(rate_per_s, "poisson", requests, seed=1),
        next_request=np.full(requests, -1, np.int32),
        user=np.full(requests, -1, np.int32),
        rest_ns=0,
        duration_ns=-1,
    )
    with tempfile.TemporaryDirectory() as folder:
        recorder = work.recorder(Path(folder) / "trace")
        drive(Instant(None), work, recorder)
        recorder.close()
        steps, sent = (trace.records(Path(folder) / "trace", name) for name in ("steps", "requests"))
        return avoidable_lag_ns(steps, sent)[1:] / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the trace")
    parser.add_argument("--rate", type=float, default=1000.0, help="per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which requests are sent")
    asked = parser.parse_args()
    print(building(asked.requests))
    p50, p99, most = np.percentile(lags_us(round(asked.rate * asked.seconds), asked.rate), (50, 99, 100))
    print(f"{asked.rate:g} requests/s: median {p50:.1f} us   p99 {p99:.1f} us   most {most:.1f} us")


if __name__ == "__main__":
    main()
