"""Two runs that start at the same moment: each gets a default folder of its own, and of one --out one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak.kills import SCRIPTED
from benchmarks.soak.tally import Tally
from tests.real import variables

END_S = 120.0
FEW = """\
prompt: {tokens: 8}
output: {tokens: 6}
load: {kind: offline, requests: 8}
warmup: {requests: 4, output_tokens: 4, max_rounds: 0}
"""
# Everything is imported and waits for a byte, so that both come to the claim of the folder at the same moment.
RUN = """
import os, sys
import innerloop.harness.session.start, innerloop.harness.report.run
from innerloop.harness.run import main
from innerloop.harness.session import windows
make = windows.make_folder
def together(*arguments):
    print("ready", flush=True)
    os.read(0, 1)
    return make(*arguments)
windows.make_folder = together
sys.exit(main(sys.argv[1:]))
"""


class Pairs:
    def __init__(self, room: Path, tally: Tally) -> None:
        self.room, self.tally = room, tally
        (room / "few.yaml").write_text(FEW)

    def carry_out(self, pairs: int, note: Callable[[int], None]) -> None:
        for number in range(pairs):
            self._default(self.room / f"default-{number}")
            self._same(self.room / f"same-{number}")
            note(number + 1)

    def _default(self, folder: Path) -> None:
        """Two whole runs."""
        folder.mkdir()
        for code, said in self._together(folder):
            if code != 0:
                self.tally.find("runs of a pair that failed", folder.name, said[-300:])
        self._count(folder / "runs", 2, "default folder")

    def _same(self, folder: Path) -> None:
        """One whole run and one refusal."""
        folder.mkdir()
        ended = self._together(folder, "--out", "runs/one")
        codes = sorted(code for code, _ in ended)
        refusals = [said for code, said in ended if code == 2 and "runs/one is not empty" in said]
        if codes != [0, 2] or len(refusals) != 1 or "Traceback" in refusals[0]:
            self.tally.find("pairs with one --out", folder.name, str(ended)[-300:])
        else:
            self.tally.see("same --out: refused in one line")
        self._count(folder / "runs", 1, "same --out")

    def _together(self, folder: Path, *more: str) -> list[tuple[int, str]]:
        """Exit code and stderr of each of the two."""
        fixed = ["--engine", SCRIPTED, "--workload", str(self.room / "few.yaml"), "--ceilings", "off", "--json", *more]
        own = variables(INNERLOOP_HOME=str(self.room / "home"))
        both = [
            subprocess.Popen(
                [sys.executable, "-c", RUN, *fixed],
                cwd=folder,
                env=own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for one in both:
            assert one.stdout is not None
            one.stdout.readline()
        for one in both:
            assert one.stdin is not None
            os.write(one.stdin.fileno(), b".")
        return [(one.returncode, said) for one in both for _, said in [one.communicate(timeout=END_S)]]

    def _count(self, runs: Path, wanted: int, kind: str) -> None:
        """Every folder holds one whole run and nothing of another one."""
        whole = 0
        for folder in runs.iterdir():
            try:
                result = json.loads((folder / "result.json").read_text())
                job = json.loads((folder / "job.json").read_text())
                finished = result["counts"]["finished"] == 8 and result["failure"] is None
                whole += finished and result["id"] == job["id"] and not (folder / "trace").exists()
            except (OSError, ValueError) as error:
                self.tally.find("unreadable results", folder, str(error))
        if whole != wanted:
            self.tally.find("pairs without their whole runs", runs, f"{whole} of {wanted}")
        for _ in range(whole):
            self.tally.see(f"{kind}: whole results")
