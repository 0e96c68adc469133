"""Starting real runs of real engines from tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from innerloop.engines.worker import trace

ROOT = Path(__file__).parents[1]
LONG = """\
prompt: {tokens: 16}
output: {tokens: 500}
load: {kind: offline, requests: 4000}
warmup: {requests: 2, output_tokens: 4, max_rounds: 1}
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "harness.run", *map(str, arguments)]


def variables(**more: str) -> dict[str, str]:
    """This process's variables, with the checkout first: innerloop's own packages may come from PYTHONPATH too."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **more}


def run(*arguments: object, cwd: Path, timeout: float = 600, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the harness to its end; nothing of stdout and stderr is mixed."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=variables(**more), capture_output=True, text=True, timeout=timeout
    )


@dataclass
class Going:
    """A run that has been started, with every process that belonged to it when last looked at."""

    harness: subprocess.Popen[str]
    folder: Path
    members: list[psutil.Process] = field(default_factory=list)

    def until_measuring(self, timeout: float = 300) -> None:
        """Waits until some steps have been measured, and notes who is taking part."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert self.harness.poll() is None, f"the harness ended early: {self.harness.communicate()}"
            try:
                if len(trace.records(self.folder / "trace" / "measure", "steps")) >= 5:
                    self.members = psutil.Process(self.harness.pid).children(recursive=True)
                    assert self.members
                    return
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        raise AssertionError("nothing was measured in time")

    def worker(self) -> psutil.Process:
        [guard] = [p for p in self.members if runs_guard(p)]
        [worker] = guard.children()
        return worker

    def left(self) -> list[psutil.Process]:
        return [p for p in self.members if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.harness.poll() is not None and not self.left():
                return True
            time.sleep(0.05)
        return False

    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    def end(self) -> None:
        self.harness.kill()
        self.harness.communicate()
        for process in self.members:
            if process.is_running():
                process.kill()


def runs_guard(process: psutil.Process) -> bool:
    return any(word.endswith("guard.py") for word in process.cmdline())


def start_long(engine: str, folder: Path, *arguments: object) -> Going:
    """Starts a run that would take many minutes."""
    workload = folder.parent / "long.yaml"
    workload.write_text(LONG)
    fixed = ("--engine", engine, "--workload", workload, "--out", folder, "--set", "max_batch_size=8")
    harness = subprocess.Popen(
        command(*fixed, *arguments),
        cwd=folder.parent,
        env=variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return Going(harness, folder)
