"""From what a pass left in its folder to figures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.harness.analysis import kernels as analysis
from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.profiling import events, nsys_export, tools, torch_trace
from innerloop.harness.profiling.choice import Profile

EXPORT_S = 600.0  # for nsys to turn its report into SQLite


def find(
    profile: Profile,
    folder: Path,
    device: str,
    steps: np.ndarray,
    measured: np.ndarray,
    tool: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """`captured`, `slowdown` and `kernels` of a pass that came to its end; `steps` and `measured` are of dtype STEP.

    Raises:
        ValueError: nothing was captured, or what was captured cannot be read.
        InnerloopError: the tool left no report.
    """
    document = json.loads((folder / "captured.json").read_text())
    captured = events.captured(document)
    numbers = np.unique(captured["step"])
    numbers = numbers[numbers < len(steps)]
    if len(numbers) == 0:
        raise ValueError(
            f"no step was captured: steps of that kind ({profile.steps}) never came; name others: --profiler-steps A:B"
        )
    rows = steps[numbers]
    kinds = analysis.kinds_of(rows)
    told: dict[str, Any] = {
        "captured": {
            "steps": {kind: int(mask.sum()) for kind, mask in kinds.items()},
            "ranges": [
                [int(rows_["step"].min()), int(rows_["step"].max()) + 1]
                for rows_ in (captured[captured["window"] == window] for window in np.unique(captured["window"]))
            ],
        },
        "slowdown": analysis.slowdown(rows, measured),
    }
    found = read(profile.kind, folder, captured, device, tool, say)
    if found is None:
        return told
    if len(found.table) == 0 or (device == "cuda" and found.device != "cuda"):
        raise ValueError(
            "nothing that ran on the device was seen in the worker's process: the engine runs it in another one, or the"
            " profiler lost its records; " + ("try --profiler nsys" if device == "cuda" else "profile the layer core")
        )
    events.write(folder / events.FILE, found)
    numbers = np.intersect1d(numbers, found.ranges["step"])
    if len(numbers) == 0 and found.left_out:
        raise ValueError(
            f"of {found.lost} launches, in every captured step, nothing was seen on the device: the profiler lost its"
            " records (CUPTI does so at the beginning of a session, up to CUDA 13.0); more steps by --profiler-steps"
            " A:B, or --profiler nsys"
        )
    if len(numbers) == 0:
        raise ValueError(
            "no batch was both launched and finished in the captured steps: the engine launches each one step ahead;"
            " name two steps or more by --profiler-steps A:B"
        )
    rows = steps[numbers]
    busy, _, _ = analysis.per_step(found.table, numbers)
    devices = max(len(np.unique(found.table["device"])), 1)
    told["kernels"] = {
        "source": profile.kind,
        **analysis.analyse(found.table, found.names, found.ranges, found.device, steps),
        "joined_by_time": found.by_time,
        "launches_lost": found.lost,
        "steps_left_out": found.left_out,
        "slowdown": told["slowdown"],
        "estimate": analysis.estimate(rows, busy // devices, found.device, measured),
    }
    return told


def read(
    kind: str, folder: Path, captured: np.ndarray, device: str, tool: str | None, say: Callable[[str], None]
) -> events.Events | None:
    """The events that a profiler of that kind left; None for those that leave none."""
    if kind == "kernels":
        say("reading what the profiler saw")
        return torch_trace.read(sorted(folder.glob("window-*.json.gz")), captured, device)
    if kind == "nsys":
        return nsys_export.read(exported(folder / tools.REPORT["nsys"], tool or "nsys", say), captured)
    if kind == "ncu" and not (folder / tools.REPORT["ncu"]).exists():
        raise InnerloopError(f"ncu left no report in {folder}: see its engine.log")
    return None


def exported(report: Path, tool: str, say: Callable[[str], None]) -> Path:
    """The SQLite export of an nsys report.

    Raises:
        InnerloopError: there is no report, or nsys cannot export it.
    """
    if not report.exists():
        raise InnerloopError(f"nsys left no report in {report.parent}: see its engine.log")
    command = tools.export(report, tool)
    say(f"exporting: {tools.text(command)}")
    done = subprocess.run(tools.with_parent(command), capture_output=True, text=True, timeout=EXPORT_S, check=False)
    if done.returncode != 0:
        raise InnerloopError(f"nsys export failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return report.with_suffix(".sqlite")
