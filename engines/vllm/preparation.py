"""How long a model runner prepares its inputs: in this process, or in those of its ranks.

`watch` is sent to ranks in other processes as it is, so this file imports nothing of innerloop.
"""

from __future__ import annotations

import mmap
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

WORD = 8  # bytes of a counter


def inputs_ready(runner: Any) -> tuple[Any, str] | None:
    """The last call before a model runner's forward pass, as (owner, name); None where it is not to be found.

    V1 runners (gpu_model_runner.py) end their preparation with `_preprocess`, V2 runners (gpu/model_runner.py) with
    the model state's `prepare_inputs`.
    """
    if callable(getattr(runner, "_preprocess", None)):
        return runner, "_preprocess"
    state = getattr(runner, "model_state", None)
    if callable(getattr(state, "prepare_inputs", None)):
        return state, "prepare_inputs"
    return None


def watch(runner: Any, prepared: Callable[[int], object]) -> bool:
    """Calls `prepared` with the nanoseconds from the runner's entry until its inputs are ready, at each forward pass;
    False if either is not to be found."""
    last = inputs_ready(runner)
    if last is None or not callable(getattr(runner, "execute_model", None)):
        return False
    owner, name = last
    clock, entered = time.monotonic_ns, [0]
    entering, readying = runner.execute_model, getattr(owner, name)

    def execute_model(*args: Any, **kwargs: Any) -> Any:
        entered[0] = clock()
        return entering(*args, **kwargs)

    def ready(*args: Any, **kwargs: Any) -> Any:
        result = readying(*args, **kwargs)
        if entered[0]:
            prepared(clock() - entered[0])
            entered[0] = 0
        return result

    runner.execute_model = execute_model
    setattr(owner, name, ready)
    return True


def watch_rank(worker: Any, path: str) -> bool:
    """Run in a rank's process: adds what it spends on preparing to its counter in the file."""
    worker = getattr(worker, "worker", worker)
    with open(path, "r+b") as file:
        counters = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
    rank = worker.rank

    def prepared(ns: int) -> None:
        counters[rank] += ns

    return watch(worker.model_runner, prepared)


class Ranks:
    """What each rank of an executor has spent on preparing its inputs since it was last asked.

    The ranks count in memory that they share with this process; a rank has counted a step's before it answers.
    """

    def __init__(self, executor: Any) -> None:
        """Raises whatever the executor does where it cannot run a function in its ranks."""
        import cloudpickle

        # Ranks that are spawned have no `innerloop` to import.
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        with tempfile.NamedTemporaryFile(prefix="innerloop-ranks-") as file:
            file.truncate(WORD * executor.world_size)
            self.seen = all(executor.collective_rpc(watch_rank, args=(file.name,)))
            self._counters = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self._last = list(self._counters)

    def slowest_ns(self) -> int:
        """The most that any rank has spent since the last call."""
        last, self._last = self._last, list(self._counters)
        return max(now - before for now, before in zip(self._last, last, strict=True))
