"""The worker's job: job.json and the workloads beside it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from innerloop.harness.store.atomic import write_text

if TYPE_CHECKING:
    from innerloop.harness.checkpoints import Checkpoint
    from innerloop.harness.session.inputs import Inputs

WARMUP_TOLERANCE = 0.05  # rounds have settled when the last ones lie this close together (docs/metrics.md)
WARMUP_WINDOW = 3


def write_job(inputs: Inputs, checkpoint: Checkpoint) -> None:
    """Writes all that the worker is told, and what `harness.show` needs should the harness not live to tell it."""
    spec, folder = inputs.spec, inputs.folder
    inputs.work.save(folder / "workload.npz")
    inputs.warm.save(folder / "warmup.npz")
    knobs = spec.workload.warmup
    job = {
        "engine": spec.engine.name,
        "load": {
            "checkpoint": str(checkpoint.path),
            "config": json.loads((checkpoint.path / "config.json").read_text()),
            "device": spec.device,
            "layer": spec.layer,
            "settings": spec.settings.model_dump(),
            "engine_args": spec.engine_args,
            "trust_remote_code": spec.trust_remote_code,
        },
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
        "trace": str(folder / "trace"),
        "keep_token_ids": inputs.options.keep_token_ids,
        "spec": spec.describe(),
        "workload_hash": inputs.work.hash,
        "harness_pid": os.getpid(),
        "spawn_ns": time.monotonic_ns(),
    }
    write_text(folder / "job.json", json.dumps(job, indent=1))
