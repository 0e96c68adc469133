"""What the recorder costs a step, with warm caches and with caches that something else has filled meanwhile.

    python -m benchmarks.recorder

An engine that computes on the CPU streams its weights through the caches in every step, so that what runs between two
of its steps finds neither its code nor its data there; beside a GPU the caches stay the host's own. Printed are medians
of `Recorder.step` alone, one token for each request of the batch: at once after another ("warm"), and each after 128 MB
have been read and written ("cold").
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from innerloop.engines.contract import StepReport
from innerloop.engines.worker.recorder import Recorder

FILLING_BYTES = 128_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    filling = np.ones(FILLING_BYTES // 8)
    print("requests   warm       cold")
    for requests in (1, 32, 256):
        warm, cold = (step_us(requests, arguments.steps, with_) for with_ in (None, filling))
        print(f"{requests:>8}   {warm:5.1f} us   {cold:5.1f} us")


def step_us(requests: int, steps: int, filling: np.ndarray | None) -> float:
    """The median microseconds of a recorded decode step; `filling` goes through the caches before each, if given."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(
            Path(folder) / "trace",
            prompt_lens=np.full(requests, 10, np.int32),
            output_lens=np.full(requests, steps, np.int32),
            users=np.zeros(requests, np.int32),
        )
        recorder.open_window(0)
        took = []
        for k in range(steps):
            report = decode_step(k, requests)
            if filling is not None:
                np.add(filling, 1.0, out=filling)
            begun = time.perf_counter_ns()
            recorder.step(report)
            took.append(time.perf_counter_ns() - begun)
        recorder.close()
    return statistics.median(took) / 1e3


def decode_step(number: int, requests: int) -> StepReport:
    return StepReport(
        start_ns=number * 1000 + 1, end_ns=number * 1000 + 900, tokens=[(i, [5]) for i in range(requests)],
        prefill_tokens=0, decode_tokens=requests, running=requests, waiting=0, preempted=0, kv_usage=0.3,
        schedule_ns=1, prepare_ns=1, execute_ns=1, wait_ns=1, sample_ns=1, update_ns=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
