"""The profilers that are programs of their own: where they are, and the command lines that start them.

Options are those of the Nsight Systems User Guide ("CLI Profile Command Switch Options", "CLI Export Command Switch
Options") and of the Nsight Compute CLI guide ("Command Line Options"); the tests hold the documented lists. Nsight
Systems 2023.4.4 and Nsight Compute 2024.1.1 take them as they stand here.
"""

from __future__ import annotations

import glob
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.errors import Refused

PLACES = {  # where NVIDIA's packages put them when they are not on PATH
    "nsys": (
        "/usr/local/cuda/bin/nsys",
        "/opt/nvidia/nsight-systems*/*/bin/nsys",
        "/opt/nvidia/nsight-systems*/*/nsys",
    ),
    "ncu": ("/usr/local/cuda/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu"),
}
FROM = {
    "nsys": "https://developer.nvidia.com/nsight-systems (packages: nsight-systems-cli, or cuda-nsight-systems-*)",
    "ncu": "https://developer.nvidia.com/nsight-compute (packages: nsight-compute-*, or cuda-nsight-compute-*)",
}
REPORT = {"nsys": "report.nsys-rep", "ncu": "report.ncu-rep"}
KERNEL_LIMIT = 256  # kernels that ncu measures: a step of some layers, at seconds for dozens of them


def find(tool: str) -> str | None:
    """The tool's path, from PATH or from where its packages put it (the newest); None if it is not here."""
    found = shutil.which(tool)
    if found is not None:
        return found
    candidates = [path for pattern in PLACES[tool] for path in sorted(glob.glob(pattern), reverse=True)]
    return next((path for path in candidates if shutil.which(path)), None)


def prefix(tool: str, folder: Path, program: str | None = None) -> list[str]:
    """What stands before the worker's own command, up to its interpreter."""
    return nsys(folder, program or "nsys") if tool == "nsys" else ncu(folder, program or "ncu")


def nsys(folder: Path, program: str = "nsys") -> list[str]:
    """CUDA, NVTX and system calls of the capture range; each kernel of a CUDA graph on its own, and forked workers too.

    Sampling and context switches are off: they would slow the host that is looked at.
    """
    return [
        program,
        "profile",
        "--trace=cuda,nvtx,osrt",
        "--cuda-graph-trace=node",
        "--sample=none",
        "--cpuctxsw=none",
        "--trace-fork-before-exec=true",
        "--capture-range=cudaProfilerApi",
        "--capture-range-end=stop",
        f"--output={folder / Path(REPORT['nsys']).stem}",
        "--force-overwrite=true",
    ]


def ncu(folder: Path, program: str = "ncu") -> list[str]:
    """The first kernels of the capture range, each replayed until the metrics of the set are there.

    Clocks are left alone: the figures are to be those of the engine as it runs.
    """
    return [
        program,
        "--profile-from-start=off",
        "--target-processes=all",
        "--nvtx",
        "--set=basic",
        "--graph-profiling=node",
        f"--launch-count={KERNEL_LIMIT}",
        "--clock-control=none",
        f"--export={folder / Path(REPORT['ncu']).stem}",
        "--force-overwrite",
    ]


def export(report: Path, program: str = "nsys") -> list[str]:
    """Turns an nsys report into SQLite beside it."""
    sqlite = report.with_suffix(".sqlite")
    return [program, "export", "--type=sqlite", f"--output={sqlite}", "--force-overwrite=true", str(report)]


def text(command: Sequence[str]) -> str:
    """The command as one would type it."""
    return shlex.join(command)


def require(tool: str, command: Sequence[str]) -> str:
    """The tool's path.

    Raises:
        Refused: it is not here; says where it comes from and the command that would be run.
    """
    found = find(tool)
    if found is None:
        raise Refused(
            f"--profiler {tool}: {tool} is not installed here",
            f"get it at {FROM[tool]}",
            "or run this by hand on a machine that has it, with the engine's environment and the profiling "
            "pass's folder:",
            text(command),
        )
    return found
