"""The worker's job: job.json and the workloads beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.engines.contract import CONTRACT
from innerloop.harness.spec.adapter_settings import load_of_run
from innerloop.harness.store.alive import this_harness
from innerloop.harness.store.atomic import write_text

if TYPE_CHECKING:
    from innerloop.harness.session.inputs import Inputs
    from innerloop.harness.session.prepared import Prepared

FILES = ("workload.npz", "warmup.npz", "job.json")
WARMUP_TOLERANCE = 0.05  # rounds have settled when the last ones lie this close together (docs/method/start-up.md)
WARMUP_WINDOW = 3


def write_job(inputs: Inputs, prepared: Prepared, then: Sequence[Inputs] = ()) -> None:
    """Writes all that the worker is told, and what `harness.show` needs should the harness not live to tell it.

    `then`: what the same worker measures after it, whose jobs lie in their own folders.
    """
    spec, folder = inputs.spec, inputs.folder
    load = load_of_run(spec, None if prepared.checkpoint is None else prepared.checkpoint.path)
    load = replace(load, prepared={name: str(made.path) for name, made in prepared.folders.items()})
    inputs.work.save(folder / "workload.npz")
    inputs.warm.save(folder / "warmup.npz")
    knobs = spec.workload.warmup
    job = {
        "contract": CONTRACT,
        "engine": spec.engine.name,
        "plugin": spec.engine.plugin,
        "load": asdict(load),
        "workload": str(folder / "workload.npz"),
        "warmup": {
            "workload": str(folder / "warmup.npz"),
            "rule": {
                "max_rounds": knobs.max_rounds,
                "max_s": knobs.max_s,
                "tolerance": WARMUP_TOLERANCE,
                "window": WARMUP_WINDOW,
            },
        },
        "caches": spec.workload.caches,
        "trace": str(folder / "trace"),
        "keep_token_ids": inputs.options.keep_token_ids,
        "id": inputs.id,
        "process": asdict(inputs.process) if inputs.process else None,
        "experiment": asdict(inputs.options.experiment) if inputs.options.experiment else None,
        "then": [str(one.folder / "job.json") for one in then],
        "spec": spec.describe(),
        "workload_hash": inputs.work.hash,
        **this_harness(),
        "spawn_ns": time.monotonic_ns(),
    }
    write_text(folder / "job.json", json.dumps(job, indent=1))


def take_back(folder: Path) -> None:
    """Removes what `write_job` has written of a run that was refused: nobody is to take it for an interrupted one."""
    for path in (*(folder / name for name in FILES), *folder.glob(".*.partial")):
        with suppress(OSError):
            path.unlink(missing_ok=True)
