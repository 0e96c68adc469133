"""What became of a worker that ended without a word."""

from __future__ import annotations

import signal
from dataclasses import replace

from innerloop.harness.machine import cgroups
from innerloop.harness.schema.reasons import Failure


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory so far: of this control group where it counts them,
    since others' say nothing of ours, else of the machine."""
    if (own := cgroups.oom_kills()) is not None:
        return own
    try:
        with open("/proc/vmstat") as f:
            return next((int(line.split()[1]) for line in f if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def ended(exit_code: int | None, out_of_memory: bool) -> Failure:
    """The failure of a worker that ended without a word."""
    if exit_code == -signal.SIGKILL and out_of_memory:
        return Failure(
            "out_of_memory_host", "the kernel killed the worker: the machine or its container ran out of memory"
        )
    if exit_code is None:
        return Failure("killed_by_signal", "the worker's guard process was killed")
    if exit_code < 0:
        return Failure("killed_by_signal", f"the worker was killed by {signal_name(-exit_code)}")
    return Failure("engine_exception", f"the worker exited with code {exit_code} before it had finished")


def explained(failure: Failure, out_of_memory: bool) -> Failure:
    """A process below the worker that was killed while the kernel ran out of memory was killed for that."""
    if not out_of_memory or failure.cause != "killed_by_signal" or "SIGKILL" not in failure.message:
        return failure
    return replace(
        failure,
        cause="out_of_memory_host",
        message=f"{failure.message}: the machine or its container ran out of memory",
    )


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
