"""How long `innerloop compare` takes with two stored runs of a million tokens each, and how long until it starts.

    python -m benchmarks.stored_comparison

The traces are those of benchmarks/day.py with 32 users, so that there are 31 250 steps. The start is the import of all
that the command needs. CPU seconds stand beside wall seconds: on a busy machine only they say anything. The aims are
0.5 s to start and 2 s in all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import day
from tests.real import ROOT, variables

START_S, WHOLE_S = 0.5, 2.0
IMPORTS = (
    "import innerloop.harness.compare, innerloop.harness.experiments.stored, innerloop.harness.experiments.telling"
)
MACHINE = ROOT / "tests" / "golden" / "experiment" / "runs" / "A-1" / "result.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    day.USERS = 32
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        runs = [finished(Path(name) / side, asked.tokens) for side in "ab"]
        whole = [sys.executable, "-m", "innerloop", "compare", *map(str, runs)]
        starts = fastest([sys.executable, "-c", IMPORTS], asked.repeats)
        wholes = fastest(whole, asked.repeats)
    for what, found, aim in (("start", starts, START_S), ("whole", wholes, WHOLE_S)):
        print(f"{what}: {found[0]:.2f} s wall, {found[1]:.2f} s CPU, the fastest of {asked.repeats}; aim {aim} s")
    return 0 if starts[1] < START_S and wholes[1] < WHOLE_S else 1


def finished(folder: Path, tokens: int) -> Path:
    """A run that ended, as far as a comparison looks at it."""
    day.make(folder, tokens)
    day.put_away(folder)
    path = folder / "result.json"
    result = json.loads(path.read_text())
    environment = json.loads(MACHINE.read_text())["environment"]
    path.write_text(
        json.dumps(
            {**result, "status": "ok", "failure": None, "reasons": [], "workload_hash": "0", "environment": environment}
        )
    )
    return folder


def fastest(command: list[str], repeats: int) -> tuple[float, float]:
    """The least (wall, CPU) seconds of a command that ends well."""
    walls, cpus = [], []
    for _ in range(repeats):
        begun = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=variables(), stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        walls.append(time.monotonic() - begun)
        cpus.append(used.ru_utime + used.ru_stime)
    return min(walls), min(cpus)


if __name__ == "__main__":
    sys.exit(main())
