"""Starting real runs of real engines from tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from innerloop.engines.vllm.cpu import cpu_flags
from innerloop.engines.worker import trace
from tests import preloaded
from tests.waiting import until

ROOT = Path(__file__).parents[1]
COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "PYTHON_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
LONG_TESTS = bool(os.environ.get("INNERLOOP_LONG_TESTS", "").strip())
ONE_MORE = pytest.mark.skipif(
    not LONG_TESTS,
    reason="one more of a kind that is tested; set INNERLOOP_LONG_TESTS=1",
)
SMALLER = "num_hidden_layers=2"  # of models in runs whose time is better spent on something else than computing
FEW_LAYERS = ("--model-arg", SMALLER)
ONE_THREAD = (  # of OpenVINO, as `variables` has it for engines that read OMP_NUM_THREADS, on whichever core is free
    "--engine-arg", "INFERENCE_NUM_THREADS=1", "--engine-arg", "ENABLE_CPU_PINNING=false",
)  # fmt: skip
WITHOUT_AVX512 = "avx512f" not in (cpu_flags() or {"avx512f"})
FOUR_BITS = pytest.mark.skipif(WITHOUT_AVX512, reason="vLLM's CPU build has 4-bit kernels only for AVX-512")
LONG = """\
prompt: {tokens: 16}
output: {tokens: 500}
load: {kind: offline, requests: 4000}
warmup: {requests: 2, output_tokens: 4, max_rounds: 1}
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "harness.run", *map(str, arguments)]


def variables(**more: str) -> dict[str, str]:
    """This process's variables but for those that ask for colours, with the checkout first: innerloop's own packages
    may come from PYTHONPATH too.

    Engines compute in one thread, so that a busy machine slows them in proportion and no worse: of two threads the one
    that has a core waits for the other in every operator.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {name: value for name, value in os.environ.items() if name not in COLOURS}
    return {**own, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def run(*arguments: object, cwd: Path, timeout: float = 1800, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the harness to its end; nothing of stdout and stderr is mixed."""
    return preloaded.run("harness.run", *arguments, cwd=cwd, env=variables(**more), timeout=timeout)


@dataclass
class Going:
    """A run that has been started, with every process that belonged to it when last looked at."""

    harness: preloaded.Command
    folder: Path
    members: list[psutil.Process] = field(default_factory=list)

    def until_measuring(self) -> None:
        """Waits until some steps have been measured, and notes who is taking part."""
        until(self._measures, patience_s=600)
        self.members = psutil.Process(self.harness.pid).children(recursive=True)
        assert self.members

    def _measures(self) -> bool:
        assert self.harness.poll() is None, f"the harness ended early: {self.harness.communicate()}"
        try:
            return len(trace.records(self.folder / "trace" / "measure", "steps")) >= 5
        except (OSError, ValueError):
            return False

    def worker(self) -> psutil.Process:
        [worker] = guards(self.harness.pid)[1].children()
        return worker

    def left(self) -> list[psutil.Process]:
        return [p for p in self.members if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def until_gone(self) -> None:
        """Waits until the harness has ended and nobody who took part is left."""
        until(lambda: self.harness.poll() is not None and not self.left())

    def result(self) -> dict[str, Any]:
        return result_of(self.folder)

    def end(self) -> None:
        self.harness.kill()
        self.harness.communicate()
        for process in self.members:
            if process.is_running():
                process.kill()


def result_of(folder: Path) -> dict[str, Any]:
    """A run's result."""
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def first_tokens(folder: Path) -> list[list[int]]:
    """The first twelve token ids of each request: later ones may differ where sums are added up in another order."""
    with np.load(folder / "output_ids.npz", allow_pickle=False) as kept:
        return [kept["ids"][first : first + 12].tolist() for first in kept["offsets"][:-1]]


def filled(folder: Path, phases: Iterable[str]) -> np.ndarray:
    """The part of each of a run's steps that is told as one of those phases."""
    table = pq.read_table(folder / "steps.parquet")
    start, end = (table[name].to_numpy() for name in ("start_ns", "end_ns"))
    return sum(table[f"{phase}_ns"].to_numpy() for phase in phases) / (end - start)


def check_limit(result: dict[str, Any]) -> None:
    """A run's share of the machine's limit is known, and where it is more than all of it, that is said.

    That it is less on a quiet machine is measured by benchmarks/promises.py.
    """
    roofline = result["roofline"]
    assert roofline["reason"] is None
    for kind in ("all", "decode_only", "with_prefill"):
        mbu, mfu, share = (roofline[figure][kind] for figure in ("mbu", "mfu", "bound_share"))
        assert mbu > 0
        assert mfu > 0
        assert max(mbu, mfu) - 1e-9 <= share <= mbu + mfu
    assert roofline["unattributed_prefill_positions"] == 0
    more = any(share is not None and share > 1 for share in roofline["bound_share"].values())
    assert (roofline["above_bound"] in result["notes"]) is more


def runs_guard(process: psutil.Process) -> bool:
    try:
        return any(word.endswith("guard.py") for word in process.cmdline())
    except psutil.NoSuchProcess:  # it has just ended; also a zombie's
        return False


def guards(harness_pid: int) -> list[psutil.Process]:
    """The guard's processes: the first, and the second, which is the worker's parent; fewer where one has ended."""
    first = [one for one in psutil.Process(harness_pid).children() if runs_guard(one)]
    return first + [below for one in first for below in one.children() if runs_guard(below)]


def start_long(engine: str | Path, folder: Path, *arguments: object) -> Going:
    """Starts a run that would take many minutes."""
    workload = folder.parent / "long.yaml"
    workload.write_text(LONG)
    fixed = ("--engine", engine, "--workload", workload, "--out", folder, "--set", "max_batch_size=8")
    harness = preloaded.Command(
        "harness.run", *fixed, "--ceilings", "off", *arguments,
        cwd=folder.parent, env=variables(), start_new_session=True,
    )  # fmt: skip
    return Going(harness, folder)


def check_failed(going: Going, cause: str, exit_code: int) -> dict[str, Any]:
    """The failed result of a run whose records up to then can be read."""
    going.until_gone()
    assert going.harness.returncode == exit_code
    result = going.result()
    assert result["status"] == ("interrupted" if cause == "interrupted" else "failed")
    assert result["failure"]["cause"] == cause
    tokens = pq.read_table(going.folder / "tokens.parquet")
    assert sum(tokens["tokens"].to_pylist()) == result["counts"]["output_tokens"] > 0
    assert pq.read_metadata(going.folder / "steps.parquet").num_rows >= 5
    assert not (going.folder / "trace").exists()
    return result


def shown_later(folder: Path) -> dict[str, Any]:
    """What `show` makes of a run whose harness was killed, once its last heartbeat is believed no more."""
    shown: list[subprocess.CompletedProcess[str]] = []

    def can_be_shown() -> bool:
        shown.append(preloaded.run("harness.show", folder, "--json", cwd=ROOT, env=variables()))
        return shown[-1].returncode == 0

    until(can_be_shown)
    return json.loads(shown[-1].stdout)
