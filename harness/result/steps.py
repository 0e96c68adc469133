"""Where the time of a run's steps went, from its records: the document of `harness.steps`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from innerloop.harness import store
from innerloop.harness.analysis import interference, preemptions, step_costs
from innerloop.harness.analysis import slowest as slowest_steps
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.run import edges
from innerloop.harness.cli.errors import Refused
from innerloop.harness.result.roofline import floors_of
from innerloop.harness.schema.result import Result
from innerloop.harness.store.tables import Tables

SCHEMA_VERSION = 1


def investigate(run: Path, slowest: int) -> dict[str, Any]:
    """What the records of a run's folder tell, as plain data.

    Raises:
        Refused: the folder holds no run.
    """
    stored = store.open(run)
    if isinstance(stored, store.StoredLadder):
        raise Refused(f"{run} holds a run of each layer: name one of the folders in it")
    stored = stored.in_folder() if run.exists() else stored
    if stored.kind == "nothing":
        raise Refused(f"{stored.path} holds no run: there is neither a result.json nor a job.json in it")
    result = stored.result() if stored.kind == "run" else None
    return {"run": stored.path.name, **findings(stored.tables(), result, slowest)}


def findings(tables: Tables, result: Result | None, slowest: int) -> dict[str, Any]:
    """The same from tables; `result` is the run's, None where it has none."""
    steps, tokens, requests = tables.steps, tables.tokens, tables.requests
    start_ns, end_ns = edges(steps, tables.header)
    done = work(steps, tokens, requests)
    fits = step_costs.fits(steps, done)
    rows = slowest_steps.slowest(
        steps,
        requests,
        done,
        step_costs.expected_s(fits, done),
        start_ns=start_ns,
        end_ns=end_ns,
        count=slowest,
    )
    floor_s = floors_of(done, result)
    for row in rows:
        floor = None if floor_s is None else float(floor_s[row["step"]])
        row["floor_s"] = None if floor is None or floor != floor else floor
    spec = None if result is None else result.spec
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "steps",
        "engine": spec and spec.engine,
        "model": spec and spec.model,
        "workload": spec and spec.workload,
        "status": result and result.status,
        "steps": len(steps),
        "duration_s": (end_ns - start_ns) / 1e9 if end_ns > start_ns else None,
        "slowest": rows,
        "fit_s": {kind: asdict(fit) for kind, fit in fits.items()},
        "preemptions": preemptions.preemptions(steps, start_ns),
        "interference_s": interference.interference(steps, tokens, requests),
        "host_s": {
            phase: {**asdict(one["fit"]), "bins": one["bins"]} for phase, one in step_costs.host_costs(steps).items()
        },
    }
