"""What an engine captures or compiles, counted where torch tells: in the window nothing should be."""

from __future__ import annotations

import sys
import time
from typing import Any

MOST = 20


class Compilations:
    """Counts from `start` until `stop` what torch in this process captures as CUDA graphs and what its compiler makes.

    A process that never imported torch, or whose engine is in another one, knows nothing: `counts` are empty.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.captured_ns: list[int] = []  # when captures began, monotonic: the first MOST
        self._before: dict[str, int] = {}
        self._capture: Any = None

    def start(self) -> None:
        graph = self._graph_class()
        if graph is not None:
            self.counts["cuda_graph_captures"] = 0
            self._capture = capture = graph.capture_begin

            def counted(*args: Any, **kwargs: Any) -> Any:
                self.counts["cuda_graph_captures"] += 1
                if len(self.captured_ns) < MOST:
                    self.captured_ns.append(time.monotonic_ns())
                return capture(*args, **kwargs)

            graph.capture_begin = counted
        self._before = dynamo_counts()

    def stop(self) -> dict[str, int]:
        """Ends the counting; returns what was counted, by what it is."""
        if self._capture is not None:
            self._graph_class().capture_begin, self._capture = self._capture, None
        now = dynamo_counts()
        self.counts.update({name: now[name] - self._before.get(name, 0) for name in now})
        return self.counts

    @staticmethod
    def _graph_class() -> Any:
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_available():
            return None
        return torch.cuda.CUDAGraph


def dynamo_counts() -> dict[str, int]:
    """What torch's compiler has made so far (torch/_dynamo/utils.py, `counters`); empty where it is not loaded."""
    utils = sys.modules.get("torch._dynamo.utils")
    counters = getattr(utils, "counters", None)
    if counters is None:
        return {}
    return {
        "dynamo_graphs": int(counters["stats"]["unique_graphs"]),
        "dynamo_frames": int(counters["frames"]["total"]),
    }
