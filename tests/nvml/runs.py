"""Runs on a machine whose devices are played, and which the test steers phase by phase."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from innerloop.harness.analysis.energy import LONGEST_GAP_S
from innerloop.harness.result.suspect import SAMPLING_GAP_S
from innerloop.harness.result.suspect_device import MISMATCH
from innerloop.harness.session.phases import DONE
from tests.nvml.library import variables
from tests.nvml.scenario import Curve, Scenario
from tests.preloaded import Command
from tests.real import FEW_LAYERS, ROOT, guards
from tests.real import variables as real_variables
from tests.waiting import until

# Users rest, so that an engine computes less.
WORKLOAD = """\
prompt: {{tokens: 16}}
output: {{tokens: 30}}
load: {{kind: closed, users: 4, rest_ms: 500, duration_s: {seconds}}}
warmup: {{requests: 2, output_tokens: {warmup_tokens}, max_rounds: 2}}
"""


TORCH = ("--engine", "torch", *FEW_LAYERS)
SCRIPTED = ("--engine", ROOT / "tests" / "plugins" / "scripted", "--engine-arg", "step_us=20000")


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

    def known(self, index: int, column: str, within: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(times in the scenario's seconds, values) of a device's samples that have the column; of all, or `within` the
        window, with a neighbour on either side."""
        rows = self.rows(self.device(index)["source"])
        times = np.array([self.scenario.seconds(time_ns) for time_ns in rows["time_ns"]])
        there = np.array([value is not None for value in rows[column]])
        if within:
            start, end = self.window
            there[: max(times.searchsorted(start, "right") - 1, 0)] = there[times.searchsorted(end) + 1 :] = False
        values = np.array([value for value, known in zip(rows[column], there, strict=True) if known])
        return times[there], values

    def doubt_j(self, index: int) -> float:
        """How far off the counter's energy of the window can be, since it is known at samples only.

        At an edge it lies between the samples around it. A sample's time is that before its reading began, so that on a
        busy machine it may be of any moment until the next one.
        """
        times, joules = self.known(index, "energy_j")
        spans = [(max(int(at) - 2, 0), min(int(at), len(times) - 1)) for at in times.searchsorted(self.window)]
        return float(sum(joules[last] - joules[first] for first, last in spans))

    def integral_j(self, index: int) -> float | None:
        """The window's energy by the power readings that there are; None where two are too far apart."""
        times, watts = self.known(index, "power_instant_w")
        parts = np.diff(times) * (watts[1:] + watts[:-1]) / 2
        parts[np.diff(times) > LONGEST_GAP_S] = np.nan
        start, end = np.interp(self.window, times, np.concatenate(([0.0], parts.cumsum())))
        return None if np.isnan(end - start) else float(end - start)

    def starved(self, index: int) -> set[str]:
        """The suspicions about a device that a busy machine alone brings about, as the run's own records have them."""
        gap_s = self.result["telemetry"]["sampler"][self.device(index)["source"]]["longest_gap_s"]
        apart = self.device(index)["energy_j"]["counter_integral_difference"]
        found = {"sampling_gap"} if gap_s > SAMPLING_GAP_S else set()
        return found | ({"energy_mismatch"} if apart is not None and abs(apart) > MISMATCH else set())


@dataclass(frozen=True)
class Stage:
    """What a phase's beginning tells the test; the worker runs from "import" on."""

    phase: str
    worker_pid: int

    def hold(self, condition: Callable[[], object]) -> None:
        """Lets the engine go on only once the condition holds."""
        with suppress(psutil.NoSuchProcess):
            worker = psutil.Process(self.worker_pid)
            worker.suspend()
            try:
                until(condition)
            finally:
                worker.resume()


def played_run(
    scenario: Scenario,
    library: Path,
    folder: Path,
    *arguments: object,
    engine: tuple[object, ...] = SCRIPTED,
    seconds: float = 10,
    warmup_tokens: int = 20,
    on_phase: Callable[[Stage], None] = lambda _: None,
    **more: str,
) -> Played:
    """Runs the engine on the CPU for a window of that many seconds. `on_phase` is called as each phase begins."""
    (folder / "workload.yaml").write_text(WORKLOAD.format(seconds=seconds, warmup_tokens=warmup_tokens))
    environment = {**variables(library, scenario, folder / "scenario.txt"), **more}
    fixed = (*engine, "--device", "cpu", "--workload", folder / "workload.yaml", "--out", folder / "run")
    with (
        open(folder / "stdout", "w+") as stdout,
        Command(
            "harness.run",
            *fixed,
            "--ceilings",
            "off",
            *(arguments or ("--device-telemetry", "all")),
            cwd=folder,
            env=real_variables(**environment),
            stdout=stdout,
        ) as harness,  # fmt: skip
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
    with suppress(psutil.NoSuchProcess, IndexError):
        return guards(harness_pid)[1].children()[0].pid
    return 0
