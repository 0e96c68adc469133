"""Real runs of the CPU engine on a machine whose devices are played, and which the test steers phase by phase."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from innerloop.harness.session.phases import DONE
from tests.nvml.library import variables
from tests.nvml.scenario import Curve, Scenario
from tests.real import command, runs_guard
from tests.real import variables as real_variables

WORKLOAD = """\
prompt: {{tokens: 16}}
output: {{tokens: 30}}
load: {{kind: closed, users: 4, duration_s: {seconds}}}
warmup: {{requests: 2, output_tokens: 20, max_rounds: 2}}
"""


@dataclass(frozen=True)
class Played:
    """A run that has ended."""

    scenario: Scenario
    folder: Path
    result: dict[str, Any]
    stdout: str
    stderr: str

    @property
    def window(self) -> tuple[float, float]:
        """Its edges in the scenario's seconds."""
        return tuple(self.scenario.seconds(self.result["window"][edge]) for edge in ("start_ns", "end_ns"))  # type: ignore[return-value]

    def exact_j(self, power: Curve) -> float:
        return power.integral(*self.window)

    def device(self, index: int) -> dict[str, Any]:
        [found] = [one for one in self.result["telemetry"]["devices"] if one["index"] == index]
        return found

    def reasons(self, index: int | None = None) -> dict[str, str]:
        """Codes and details of the suspicions, all of them or those about one device."""
        found = self.result["reasons"]
        return {r["code"]: r["detail"] for r in found if index is None or r["detail"].startswith(f"GPU {index}")}

    def rows(self, source: str) -> dict[str, list[Any]]:
        """The samples of a source: column -> values, None where there is none."""
        table = pq.read_table(self.folder / "telemetry.parquet", filters=[("source", "=", source)])
        return table.to_pydict()


@dataclass(frozen=True)
class Stage:
    """What a phase's beginning tells the test; the worker runs from "import" on."""

    phase: str
    worker_pid: int


def played_run(
    scenario: Scenario,
    library: Path,
    folder: Path,
    *arguments: object,
    seconds: float = 10,
    on_phase: Callable[[Stage], None] = lambda _: None,
    **more: str,
) -> Played:
    """Runs the torch engine on the CPU for a window of that many seconds. `on_phase` is called as each phase begins.

    The engine computes in one thread, so that a busy machine slows it in proportion and no worse.
    """
    (folder / "workload.yaml").write_text(WORKLOAD.format(seconds=seconds))
    environment = {**variables(library, scenario, folder / "scenario.txt"), "OMP_NUM_THREADS": "1", **more}
    fixed = ("--engine", "torch", "--device", "cpu", "--workload", folder / "workload.yaml", "--out", folder / "run")
    with (
        open(folder / "stdout", "w+") as stdout,
        subprocess.Popen(
            command(*fixed, *(arguments or ("--device-telemetry", "all"))),
            cwd=folder,
            env=real_variables(**environment),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        ) as harness,
    ):
        assert harness.stderr is not None
        said = []
        try:
            for line in harness.stderr:
                said.append(line)
                if (phase := begun(line)) is not None:
                    on_phase(Stage(phase, worker_pid(harness.pid)))
        except BaseException:
            harness.terminate()
            raise
    result = folder / "run" / "result.json"
    printed = (folder / "stdout").read_text()
    assert harness.returncode == 0, "".join(said) + printed
    return Played(scenario, folder / "run", json.loads(result.read_text()), printed, "".join(said))


def begun(line: str) -> str | None:
    """The phase whose beginning a line of the live view tells: it says how long the one before it took."""
    phases = list(DONE)
    for before, after in pairwise(phases):
        if re.match(rf"{DONE[before]} in ", line):
            return after
    return None


def worker_pid(harness_pid: int) -> int:
    """The engine's process; 0 when it has ended."""
    for guard in filter(runs_guard, psutil.Process(harness_pid).children()):
        for child in guard.children():
            return child.pid
    return 0
