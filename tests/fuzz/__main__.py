"""`python -m tests.fuzz --inputs 100000 --seed 1`: so many inputs over all targets, and what was wrong with them.

Every input has a seed of its own, so that `--target TARGET --first K --inputs 1` makes number K again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz.targets import TARGETS
from tests.fuzz.watch import Seen, called

CHUNK = 200  # inputs of one process
LIMIT_BYTES = 8 << 30  # of address space


def one(target: str, seed: int, number: int, box: Path) -> Seen:
    """Makes input `number` of a target and calls it."""
    rng = random.Random(f"{seed}-{target}-{number}")
    return called(TARGETS[target].make(rng, box), box)


def prepared(target: str, box: Path) -> Path:
    """The box, with a cache of its own and the files of the target; it becomes the current folder."""
    box = box.resolve()
    os.environ["INNERLOOP_HOME"] = str(box / "home")
    os.chdir(box)
    TARGETS[target].prepare(box)
    return box


def chunk(target: str, seed: int, numbers: range, out: Path) -> None:
    """Calls the inputs in this process, which is its own, and appends what it saw, a line each."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    with tempfile.TemporaryDirectory() as folder, open(out, "a") as file:
        box = prepared(target, Path(folder))
        for number in numbers:
            file.write(json.dumps({"begun": number}) + "\n")
            file.flush()
            seen = one(target, seed, number, box)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            line = {"number": number, "code": seen.code, "s": seen.seconds, "faults": seen.faults, "peak_kib": peak}
            file.write(json.dumps(line) + "\n")
        os.chdir("/")


def in_a_process(target: str, seed: int, numbers: range) -> list[dict[str, Any]]:
    """The same in a fork, so that one that dies is a finding."""
    with tempfile.NamedTemporaryFile() as out:
        pid = os.fork()
        if pid == 0:
            try:
                chunk(target, seed, numbers, Path(out.name))
                os._exit(0)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        lines = [json.loads(line) for line in Path(out.name).read_text().splitlines()]
    found = [line for line in lines if "number" in line]
    if code != 0:
        last = lines[-1].get("begun", lines[-1].get("number")) if lines else numbers.start
        found.append(
            {"number": last, "code": code, "s": 0.0, "faults": [f"the process ended with {code}"], "peak_kib": 0}
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=6000, help="altogether, shared by the targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input of each target")
    parser.add_argument("--target", choices=TARGETS, action="append")
    asked = parser.parse_args()
    targets = asked.target or list(TARGETS)
    bad = 0
    for target in targets:
        begun, seen = time.monotonic(), []
        last = asked.first + max(asked.inputs // len(targets), 1)
        number = asked.first
        while number < last:
            numbers = range(number, min(number + CHUNK, last))
            got = in_a_process(target, asked.seed, numbers)
            seen += got
            number = got[-1]["number"] + 1
        codes = Counter(str(line["code"]) for line in seen)
        slowest, peak = max(line["s"] for line in seen), max(line["peak_kib"] for line in seen) >> 10
        faults = Counter(fault for line in seen for fault in line["faults"])
        where = {fault: line["number"] for line in reversed(seen) for fault in line["faults"]}
        bad += sum(faults.values())
        print(
            f"{target}: {len(seen)} inputs, exit codes {dict(codes)}, {sum(faults.values())} faults,"
            f" slowest {slowest:.2f} s, peak {peak} MiB, {time.monotonic() - begun:.0f} s"
        )
        for fault, count in faults.most_common():
            print(f"  {count} x, first number {where[fault]}: {fault!r}"[:300], flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
