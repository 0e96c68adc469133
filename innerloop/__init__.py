"""innerloop: an in-process benchmarker for LLM inference engines.

    import innerloop as il
    run = il.run(engine="torch", workload="quick", settings={"max_batch_size": 16})
    run.result.throughput.output_tokens_per_s
    run.steps.to_pandas()

`run` starts a run, `open` opens an existing one, `runs` lists the runs in a folder; docs/how-to/python.md has examples.
Everything is imported on first use, because every module and the command's help import this one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innerloop.harness import __version__
    from innerloop.harness.api.collection import Runs, runs
    from innerloop.harness.api.opened import Experiment, Layers, Run, open
    from innerloop.harness.api.start import run
    from innerloop.harness.cli.errors import InnerloopError, Refused

__all__ = ["Experiment", "InnerloopError", "Layers", "Refused", "Run", "Runs", "__version__", "open", "run", "runs"]

_HOMES = {
    "Experiment": "innerloop.harness.api.opened",
    "InnerloopError": "innerloop.harness.cli.errors",
    "Layers": "innerloop.harness.api.opened",
    "Refused": "innerloop.harness.cli.errors",
    "Run": "innerloop.harness.api.opened",
    "Runs": "innerloop.harness.api.collection",
    "__version__": "innerloop.harness",
    "open": "innerloop.harness.api.opened",
    "run": "innerloop.harness.api.start",
    "runs": "innerloop.harness.api.collection",
}


if not TYPE_CHECKING:  # else type checkers would accept every name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'innerloop' has no attribute {name!r}")
        found = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
