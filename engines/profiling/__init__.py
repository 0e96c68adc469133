"""The profiling pass, worker side: the measured run's workload once more, with a profiler around chosen steps.

A pass is a worker of its own, so nothing here is imported by one that measures. `windows` says which steps are
captured, `stepping` wraps the engine's step and ends the pass when they are through, and one file a profiler opens and
closes it: `torch_profiler`, `cuda_tool` (for nsys and ncu, which run around the worker) and `host` (for py-spy).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from innerloop.engines.contract import Engine
from innerloop.engines.profiling.capture import Capture
from innerloop.engines.profiling.stepping import Enough, Stepping
from innerloop.engines.profiling.windows import Chooser, Window
from innerloop.engines.support import marks


class Pass:
    """One profiling pass of a worker: made after the engine's imports and before it loads.

    `job` is the job's "profile": kind, windows (fields of Window), batch, and the folder to write into.
    """

    def __init__(self, job: dict[str, Any], device: str, tell: Callable[..., None]) -> None:
        self._folder, self._tell = Path(job["folder"]), tell
        self._capture = capture_of(job, device)
        self._chooser = Chooser([Window(**fields) for fields in job["windows"]], job["batch"])
        ranges = self._capture.ranges()
        if ranges is not None:
            marks.turn_on(*ranges)

    def drive(self, engine: Engine, run: Callable[[], None]) -> None:
        """Runs the workload until the chosen steps are through, or it ends by itself."""
        self._capture.prepare()
        self._stepping = stepping = Stepping(engine, self._capture, self._chooser, self._tell)
        try:
            run()
        except Enough:
            pass
        finally:
            stepping.close()

    def write(self) -> None:
        """Writes what was seen; raises OSError where that cannot be."""
        self._stepping.write(self._folder / "captured.json")
        self._capture.write(self._folder)


def capture_of(job: dict[str, Any], device: str) -> Capture:
    """The profiler of that kind."""
    if job["kind"] == "kernels":
        from innerloop.engines.profiling.torch_profiler import TorchProfiler

        return TorchProfiler(device)
    if job["kind"] in ("nsys", "ncu"):
        from innerloop.engines.profiling.cuda_tool import CudaTool

        return CudaTool()
    from innerloop.engines.profiling.host import HostSampler

    return HostSampler(job["tracer_pid"])
