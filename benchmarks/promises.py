"""What real runs on this machine should keep to and only a clock can tell, so that no test asserts it.

    python -m benchmarks.promises [figures|endings] [--engine torch]

figures: the phases fill the steps, and the steps stay below the machine's limit.
endings: whatever happens to a run, it has ended ten seconds later and nobody who took part is left.

Needs a quiet machine; ends with code 1 where something is not kept. The tests prove the rest: that phases fit into
their steps and fill the usual one, that a run above the limit says so, and that every run ends.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from innerloop.engines.worker.trace import PHASES
from tests.real import Going, guards, run, start_long

FILLED = 0.95  # of the steps' time, by the phases that the engine reports
END_S = 10.0
HANG_S = 10.0  # the time without a sign of life that counts as a hang here; it comes on top

Kept = tuple[str, float, str, bool]  # what, how much, what is aimed at, whether it was reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="?", choices=("figures", "endings"))
    parser.add_argument("--engine", choices=("torch", "vllm"), help="only this one")
    given = parser.parse_args()
    parts = {"figures": figures, "endings": endings}
    broken = 0
    for name, part in parts.items():
        for engine in ("torch", "vllm"):
            if given.which not in (None, name) or given.engine not in (None, engine):
                continue
            for what, value, aim, kept in part(engine):
                broken += not kept
                print(f"{engine:5}  {what:44} {value:8.3f}  {aim:18} {'' if kept else 'NOT KEPT'}".rstrip(), flush=True)
    return 1 if broken else 0


def figures(engine: str) -> Iterator[Kept]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        done = run("--engine", engine, "--workload", "quick", "--out", folder, "--json", cwd=Path(name))
        if done.returncode:
            sys.exit(done.stderr)
        result = json.loads(done.stdout)
        steps = pq.read_table(folder / "steps.parquet")
        spent = sum(steps[f"{p}_ns"].to_numpy().sum() for p in PHASES if not steps[f"{p}_ns"].null_count)
        filled = spent / (steps["end_ns"].to_numpy() - steps["start_ns"].to_numpy()).sum()
        yield "phases' part of the steps' time", filled, f"at least {FILLED:g}", filled >= FILLED
        for kind, share in result["roofline"]["bound_share"].items():
            if share is not None:
                yield f"share of the limit, {kind.replace('_', ' ')}", share, "below 1", share < 1


def endings(engine: str) -> Iterator[Kept]:
    ways: dict[str, Callable[[Going], object]] = {
        "worker killed": lambda going: going.worker().kill(),
        "worker stopped": lambda going: going.worker().suspend(),
        "guard killed": lambda going: guards(going.harness.pid)[0].kill(),
        "harness killed": lambda going: going.harness.kill(),
        "harness told SIGINT": lambda going: going.harness.send_signal(signal.SIGINT),
        "harness told SIGTERM": lambda going: going.harness.send_signal(signal.SIGTERM),
    }
    for what, do in ways.items():
        with tempfile.TemporaryDirectory() as name:
            going = start_long(engine, Path(name) / "run", "--hang-timeout", HANG_S)
            try:
                going.until_measuring()
                begun = time.monotonic()
                do(going)
                going.until_gone()
                took = time.monotonic() - begun
            finally:
                going.end()
        most = END_S + (HANG_S if what == "worker stopped" else 0.0)
        yield f"{what}: seconds until nobody is left", took, f"at most {most:g}", took <= most


if __name__ == "__main__":
    sys.exit(main())
