"""py-spy, attached to the worker while the chosen steps run: where the host's time goes, as a flame graph."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.process.bound import with_parent
from innerloop.harness.profiling.flame import flame_graph
from innerloop.harness.schema.profiling import FunctionShare, HostProfile, ThreadShare

RATE_HZ = 100
STACKS, GRAPH, LOG = "stacks.txt", "flame.svg", "py-spy.log"
END_S = 20.0  # for py-spy to write what it has once it is told to stop
TOP = 12
# py-spy knows a waiting thread by its innermost function, but not by the qualified names of Python 3.11 and later.
WAITING = re.compile(r"\.(wait|select|poll|accept|get) \((threading|selectors|socket|queue)\.py\)$")


def py_spy() -> str | None:
    """Its program: beside this interpreter, where pip puts it, or on PATH."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


def require_py_spy() -> str:
    """Raises: Refused: it is not here."""
    found = py_spy()
    if found is None:
        raise Refused("--profiler host: py-spy is not installed", "pip install py-spy")
    return found


def command(pid: int, folder: Path, program: str = "py-spy") -> list[str]:
    """Every Python thread of the process that is not waiting, the calls in C++ left out, `RATE_HZ` times a second."""
    return [
        program,
        "record",
        f"--pid={pid}",
        f"--rate={RATE_HZ}",
        "--format=raw",
        "--threads",
        "--nolineno",
        f"--output={folder / STACKS}",
    ]


class Sampling:
    """One py-spy, from when it is made until it is stopped."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._folder = folder
        words = with_parent(command(pid, folder, require_py_spy()))
        with open(folder / LOG, "wb") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """Has py-spy write what it has; it is gone when this returns."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def found(self) -> HostProfile:
        """Writes the flame graph; how often it looked, how late it was, and the functions that took most.

        Raises:
            InnerloopError: py-spy could not look, with its own words and what to do.
        """
        said = (self._folder / LOG).read_text(encoding="utf-8", errors="replace")
        stacks = self._folder / STACKS
        if not stacks.exists():
            raise InnerloopError(trouble(said))
        counts = parse(stacks.read_text(encoding="utf-8", errors="replace"))
        if not counts:
            raise InnerloopError("the chosen steps ended before py-spy took a sample; choose more steps")
        (self._folder / GRAPH).write_text(
            flame_graph(counts, "samples of the worker's Python threads"), encoding="utf-8"
        )
        return profile(counts, said)


def trouble(said: str) -> str:
    """What py-spy said, and what helps."""
    words = " ".join(said.split())[-400:] or "it printed nothing"
    if "permission" in said.lower() or "not permitted" in said.lower() or "EPERM" in said:
        return (
            f"py-spy is not allowed to read the worker: {words}. In a container, add"
            " --cap-add SYS_PTRACE; elsewhere, run as root or set /proc/sys/kernel/yama/ptrace_scope to 0 or 1"
        )
    return f"py-spy could not read the worker: {words}"


def parse(text: str) -> Counter[tuple[str, ...]]:
    """Collapsed stacks, one a line: frames from the outside in, joined by ";", a blank and the count. Threads that only
    wait for a lock, a queue or a socket are left out."""
    out: Counter[tuple[str, ...]] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit() and not WAITING.search(stack):
            out[tuple(stack.split(";"))] += int(count)
    return out


def profile(counts: Counter[tuple[str, ...]], said: str) -> HostProfile:
    """Shares of the samples: of each thread, and of the functions of the thread that steps, Python's main one.

    `said` is py-spy's output: samples, errors and the worst delay by its own words.
    """
    threads: Counter[str] = Counter()
    for stack, count in counts.items():
        threads[stack[0]] += count
    stepping = next((name for name in threads if name.endswith("MainThread")), threads.most_common(1)[0][0])
    own: Counter[str] = Counter()
    with_calls: Counter[str] = Counter()
    for stack, count in counts.items():
        if stack[0] == stepping:
            own[stack[-1]] += count
            for frame in set(stack[1:]):
                with_calls[frame] += count
    whole, mine = sum(counts.values()), threads[stepping]
    ended = re.search(r"Samples: (\d+) Errors: (\d+)", said)
    behind = [float(value) for value in re.findall(r"([\d.]+)s behind in sampling", said)]
    return HostProfile(
        rate_hz=RATE_HZ,
        samples=int(ended[1]) if ended else None,
        errors=int(ended[2]) if ended else None,
        behind_s=max(behind, default=0.0),
        threads=tuple(ThreadShare(name, count / whole) for name, count in threads.most_common(TOP)),
        top=tuple(FunctionShare(name, count / mine, with_calls[name] / mine) for name, count in own.most_common(TOP)),
    )
