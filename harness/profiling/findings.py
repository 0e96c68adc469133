"""From what a pass left in its folder to figures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerloop.harness.analysis import kernels as analysis
from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.process.bound import with_parent
from innerloop.harness.profiling import events, nsys_export, tools, torch_trace
from innerloop.harness.profiling.choice import Profile
from innerloop.harness.schema.profiling import Captured, Kernels, Slowdown

EXPORT_S = 600.0  # for nsys to turn its report into SQLite


@dataclass(frozen=True, slots=True)
class Findings:
    """What a finished pass saw of the device; `kernels` is None where the profiler keeps a report of its own."""

    captured: Captured
    slowdown: Slowdown
    kernels: Kernels | None = None


def find(
    profile: Profile,
    folder: Path,
    device: str,
    steps: np.ndarray,
    measured: np.ndarray,
    tool: str | None,
    say: Callable[[str], None],
) -> Findings:
    """Reads what a pass left in its folder; `steps` and `measured` (dtype STEP) are the pass's and the measured run's.

    Raises:
        ValueError: nothing was captured, or what was captured cannot be read.
        InnerloopError: the tool left no report.
    """
    document = json.loads((folder / "captured.json").read_text())
    calls = events.captured(document)
    numbers = np.unique(calls["step"])
    numbers = numbers[numbers < len(steps)]
    if len(numbers) == 0:
        raise ValueError(
            f"no steps matched {profile.steps}, so none were captured; choose others with --profiler-steps A:B"
        )
    rows = steps[numbers]
    captured = Captured(steps=analysis.count_kinds(analysis.kinds_of(rows)), ranges=ranges_of(calls))
    slowdown = analysis.slowdown(rows, measured)
    seen = read(profile.kind, folder, calls, device, tool, say)
    if seen is None:
        return Findings(captured, slowdown)
    check(seen, device, numbers)
    events.write(folder / events.FILE, seen)
    facts = analysis.PassFacts(profile.kind, slowdown, seen.by_time, seen.lost, seen.left_out)
    kernels = analysis.analyse(seen.table, seen.names, seen.ranges, seen.device, steps, measured, facts)
    return Findings(captured, slowdown, kernels)


def ranges_of(calls: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The first step and the one behind the last, of each window."""
    step, of = calls["step"], calls["window"]
    by_window = (step[of == window] for window in np.unique(of))
    return tuple((int(numbers.min()), int(numbers.max()) + 1) for numbers in by_window)


def check(seen: events.Events, device: str, numbers: np.ndarray) -> None:
    """Raises: ValueError: there is nothing to say of the captured steps `numbers`, and why."""
    if len(seen.table) == 0 or (device == "cuda" and seen.device != "cuda"):
        raise ValueError(
            "the profiler saw no device work from the worker: the engine runs it in another process, or the profiler"
            " lost its records; " + ("try --profiler nsys" if device == "cuda" else "profile the core layer")
        )
    if len(np.intersect1d(numbers, seen.ranges["step"])):
        return
    if seen.left_out:
        raise ValueError(
            f"{seen.lost} launches, some of them in every captured step, have no device record: the profiler lost them"
            " (CUPTI up to CUDA 13.0 does so at the start of a session); choose more steps with --profiler-steps A:B,"
            " or use --profiler nsys"
        )
    raise ValueError(
        "no batch was both launched and finished within the captured steps: the engine launches one step ahead;"
        " choose at least two steps with --profiler-steps A:B"
    )


def read(
    kind: str, folder: Path, captured: np.ndarray, device: str, tool: str | None, say: Callable[[str], None]
) -> events.Events | None:
    """The events that a profiler of that kind left; None for those that leave none."""
    if kind == "kernels":
        say("reading the profiler's output")
        return torch_trace.read(sorted(folder.glob("window-*.json.gz")), captured, device)
    if kind == "nsys":
        return nsys_export.read(exported(folder / tools.REPORT["nsys"], tool or "nsys", say), captured)
    if kind == "ncu" and not (folder / tools.REPORT["ncu"]).exists():
        raise InnerloopError(f"ncu wrote no report in {folder}; see its engine.log")
    return None


def exported(report: Path, tool: str, say: Callable[[str], None]) -> Path:
    """The SQLite export of an nsys report.

    Raises:
        InnerloopError: there is no report, or nsys cannot export it.
    """
    if not report.exists():
        raise InnerloopError(f"nsys wrote no report in {report.parent}; see its engine.log")
    command = tools.export(report, tool)
    say(f"exporting: {tools.text(command)}")
    done = subprocess.run(with_parent(command), capture_output=True, text=True, timeout=EXPORT_S, check=False)
    if done.returncode != 0:
        raise InnerloopError(f"nsys export failed: {' '.join((done.stderr or done.stdout).split())[-400:]}")
    return report.with_suffix(".sqlite")
