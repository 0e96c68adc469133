"""Kills runs at random moments and counts what is left behind.

    python -m benchmarks.soak --kills 1000 --seed 1

Each run is one of the tests' scripted engine, with children of its own in sessions of their own. At a random moment of
its life the harness, the guard or the worker gets SIGKILL, SIGTERM, SIGINT or SIGHUP. Afterwards nothing that it
started may live, every folder must be shown or refused in one line, the cache must not be locked, and no partial file
or temporary folder may stay. Ends with code 1 where something is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from innerloop.harness.store.alive import QUIET_S
from tests.real import ROOT, command, runs_guard, variables

SCRIPTED = ROOT / "tests" / "plugins" / "scripted"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
WHO = ("harness", "guard", "worker")
LONGEST_S = 5.0  # after the start; a run that is left alone takes about as long
END_S, GONE_S = 60.0, 15.0  # for a run to end; then for what it started
MARK = "INNERLOOP_SOAK"
LOAD = """\
prompt: {tokens: 16}
output: {tokens: 100}
load: {kind: offline, requests: 160}
warmup: {requests: 2, output_tokens: 4, max_rounds: 1}
"""


class Soak:
    """One session: a cache and a TMPDIR that all runs share, a folder for each run, and what was counted."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.found: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.temporary = root / "tmp"
        self.temporary.mkdir()
        (root / "load.yaml").write_text(LOAD)

    def arguments(self, folder: Path) -> list[str]:
        fixed = ("--engine", SCRIPTED, "--workload", self.root / "load.yaml", "--out", folder, "--ceilings", "off")
        slow = ("--set", "max_batch_size=8", "--engine-arg", "step_us=1000", "--engine-arg", "fault=children")
        return command(*fixed, *slow)

    def environment(self, mark: str) -> dict[str, str]:
        own = {"INNERLOOP_HOME": str(self.root / "home"), "TMPDIR": str(self.temporary), MARK: mark}
        return variables(**own)

    def kill_one(self, number: int) -> None:
        """One run, and one signal at a random moment of it."""
        folder, mark = self.root / f"run-{number}", uuid.uuid4().hex
        who, sent = self.random.choice(WHO), self.random.choice(SIGNALS)
        process = subprocess.Popen(
            self.arguments(folder),
            cwd=self.root,
            env=self.environment(mark),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        time.sleep(self.random.uniform(0, LONGEST_S))
        reached = self.send(process.pid, who, sent)
        try:
            _, said = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.note("runs that did not end", number)
            process.kill()
            _, said = process.communicate()
        self.codes[f"{who if reached else 'nobody'} {sent.name}: exit {process.returncode}"] += 1
        if "Traceback" in said:
            self.note("tracebacks", number, said.strip().splitlines()[-1])
        if left := wait_until_gone(mark):
            self.note("orphans", number, str([" ".join(one.cmdline())[:80] for one in left]))
            for one in left:
                with suppress(psutil.Error):
                    one.kill()

    def send(self, harness: int, who: str, sent: signal.Signals) -> bool:
        """Sends the signal, if whom it is for is there already and still."""
        with suppress(psutil.Error, StopIteration):
            found = psutil.Process(harness)
            if who != "harness":
                found = next(one for one in found.children(recursive=True) if runs_guard(one))
            if who == "worker":
                found = found.children()[0] if found.children() else next(iter(()))
            found.send_signal(sent)
            return True
        return False

    def look(self, kills: int) -> None:
        """Shows every folder, once none can pass for a run that goes on; then runs once more in the same cache."""
        time.sleep(QUIET_S + 1)
        for number in range(kills):
            folder = self.root / f"run-{number}"
            if not folder.exists():
                continue
            done = self.verb("show", str(folder), "--json")
            if done.returncode == 0:
                self.codes[f"shown as {json.loads(done.stdout)['status']}"] += 1
            elif done.returncode == 2 and "Traceback" not in done.stderr and not (folder / "job.json").exists():
                self.codes["without a job: refused"] += 1
            else:
                self.note("unreadable results", number, done.stderr.strip()[-200:])
            for left in folder.rglob(".*.partial"):
                self.note("partial files", number, left.name)
        for left in (*self.temporary.iterdir(), *self.root.glob("home/**/.*.partial")):
            self.note("leftovers", -1, str(left))
        done = subprocess.run(
            self.arguments(self.root / "last"),
            cwd=self.root,
            env=self.environment("last"),
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            self.note("stuck locks, or a run that is refused", -1, done.stderr[-200:])

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "harness", *words]
        return subprocess.run(program, cwd=self.root, env=self.environment("look"), capture_output=True, text=True)

    def note(self, what: str, number: int, more: str = "") -> None:
        self.found[what] += 1
        print(f"{what}: run {number} {more}", flush=True)


def wait_until_gone(mark: str) -> Sequence[psutil.Process]:
    """The processes with that mark that are left when time is up."""
    deadline = time.monotonic() + GONE_S
    while (left := list(marked(mark))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def marked(mark: str) -> Iterator[psutil.Process]:
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if one.pid != os.getpid() and one.environ().get(MARK) == mark:
                yield one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), asked.seed)
        for number in range(asked.kills):
            soak.kill_one(number)
        soak.look(asked.kills)
    for line, count in sorted(soak.codes.items()):
        print(f"  {count:4} {line}")
    found = dict(soak.found) or "nothing left behind"
    print(f"{asked.kills} kills of seed {asked.seed} in {time.monotonic() - begun:.0f} s: {found}")
    return 1 if soak.found else 0


if __name__ == "__main__":
    sys.exit(main())
