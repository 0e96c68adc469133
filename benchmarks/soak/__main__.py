"""Kills runs and installations at random moments, starts runs together, and counts what is left behind.

    python -m benchmarks.soak --kills 1000 --installs 100 --pairs 50 --seed 1
    python -m benchmarks.soak --kills 50 --engine torch --engine vllm --at-once 1

A run is one of the tests' scripted engine unless `--engine` says otherwise, with children in sessions of their own. At
a random moment of its life, from the interpreter's start to the report, the harness, one of the guard's two processes
or the worker gets SIGKILL, SIGTERM, SIGINT or SIGHUP; of an installation the harness or uv. Afterwards nothing that it
started may live, every folder must be shown or refused in one line, no lock may be held, and no partial file or
temporary folder may stay. Ends with code 1 where something is left.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak.installs import Installs
from benchmarks.soak.kills import SCRIPTED, Kills, planned
from benchmarks.soak.pairs import Pairs
from benchmarks.soak.tally import Tally

EVERY_S = 30.0


def progress(what: str, of: int) -> Callable[[int], None]:
    """Says now and then how many are done."""
    said = time.monotonic()

    def note(done: int) -> None:
        nonlocal said
        if time.monotonic() - said > EVERY_S:
            said = time.monotonic()
            print(f"{done} of {of} {what}", flush=True)

    return note


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="runs that get a signal")
    parser.add_argument("--engine", action="append", help="of these runs, in turn; default: the scripted one")
    parser.add_argument("--installs", type=int, default=0, help="installations that get a signal")
    parser.add_argument("--pairs", type=int, default=0, help="of each kind")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, usual)  # nohup and a script's background job begin with them ignored, and so would a run
    begun, tally = time.monotonic(), Tally()
    engines = asked.engine or [SCRIPTED]
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        room = Path(name)
        for part in ("kills", "installs", "pairs"):
            (room / part).mkdir()
        if asked.kills:
            kills = Kills(room / "kills", tally, asked.at_once)
            kills.carry_out(planned(asked.kills, asked.seed, engines), progress("runs", asked.kills))
        if asked.installs:
            installs = Installs(room / "installs", tally, asked.at_once)
            installs.carry_out(asked.installs, asked.seed, progress("installations", asked.installs))
        if asked.pairs:
            Pairs(room / "pairs", tally).carry_out(asked.pairs, progress("pairs of each kind", asked.pairs))
    for line, count in sorted(tally.seen.items()):
        print(f"  {count:5} {line}")
    print(
        f"{asked.kills} runs, {asked.installs} installations, {asked.pairs} pairs of each kind, seed {asked.seed},"
        f" {time.monotonic() - begun:.0f} s: {dict(tally.found) or 'nothing left behind'}"
    )
    return 1 if tally.found else 0


if __name__ == "__main__":
    sys.exit(main())
