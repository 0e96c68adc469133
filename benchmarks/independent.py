"""Does layer core give the speed that the engine has without innerloop? Against a loop written by hand.

    python -m benchmarks.independent [--engine vllm torch] [--pairs 10] [--workload quick] [--out DIR]

Each pair is a run of layer core and, in another fresh process of the same interpreter, the hand-written loop of
by_hand.py over the same token ids; which of them goes first alternates. Printed is core's tokens/s over the other's,
the mean of the pairs' log ratios, with its 95 % interval by Student's t. About a minute a pair on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from innerloop.harness.analysis.statistics import paired_ratio
from innerloop.harness.process.bound import with_parent

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.independent", description=__doc__)
    parser.add_argument("--engine", nargs="+", default=["vllm", "torch"], choices=["vllm", "torch"])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--workload", default="quick")
    parser.add_argument("--out", type=Path, help="where the runs are kept; default: they are not")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for engine in arguments.engine:
            measure(engine, arguments.pairs, arguments.workload, (arguments.out or Path(place)) / engine)


def measure(engine: str, pairs: int, workload: str, folder: Path) -> None:
    core, hand = [], []
    first = run(engine, workload, folder / "first")  # brings the arguments and the token ids; not counted
    for pair in range(1, pairs + 1):
        if pair % 2:
            core.append(speed(run(engine, workload, folder / f"core-{pair}")))
        hand.append(by_hand(engine, first))
        if not pair % 2:
            core.append(speed(run(engine, workload, folder / f"core-{pair}")))
        print(f"{engine}, pair {pair} of {pairs}: core {core[-1]:.1f}, by hand {hand[-1]:.1f} tokens/s", flush=True)
    found = paired_ratio(np.array(hand), np.array(core))
    interval = "" if found.low is None else f", 95 % interval {found.low:.4f} to {found.high:.4f}"
    print(f"{engine}: core / by hand {found.estimate:.4f}{interval} ({pairs} pairs)", flush=True)


def run(engine: str, workload: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "innerloop", "run", "--engine", engine, "--device", "cpu", "--model", "llama-tiny"]
    command += ["--workload", workload, "--ceilings", "off", "--out", str(folder)]
    subprocess.run(with_parent(command), check=True, cwd=ROOT, capture_output=True)
    return folder


def speed(folder: Path) -> float:
    result = json.loads((folder / "result.json").read_text())
    assert result["counts"]["unsent"] == result["counts"]["cut"] == 0
    return float(result["throughput"]["output_tokens_per_s"])


def by_hand(engine: str, folder: Path) -> float:
    """Tokens/s of the hand-written loop, with the interpreter and the variables of the run in `folder`."""
    environment = json.loads((folder / "result.json").read_text())["environment"]
    variables = {**os.environ, **environment["variables"]}
    command = [environment["interpreter"], str(ROOT / "benchmarks" / "by_hand.py"), engine, str(folder)]
    done = subprocess.run(with_parent(command), check=True, cwd=folder, env=variables, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["tokens"] / found["seconds"])


if __name__ == "__main__":
    main()
