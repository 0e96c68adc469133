"""Where the time of a run's steps went, from its records: the document of `harness.steps`."""

from __future__ import annotations

from pathlib import Path

from innerloop.harness import __version__, store
from innerloop.harness.analysis import interference, preemptions, step_costs
from innerloop.harness.analysis import slowest as slowest_steps
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.steps import edges
from innerloop.harness.cli.errors import Refused
from innerloop.harness.result.roofline import bound_s_of
from innerloop.harness.schema.investigation import VERSION, Investigation
from innerloop.harness.schema.result import Result
from innerloop.harness.store.tables import Tables


def investigate(run: Path, slowest: int) -> Investigation:
    """What the records of a run's folder say.

    Raises:
        Refused: the folder holds no run.
    """
    stored = store.open(run)
    if isinstance(stored, store.StoredLadder):
        raise Refused(f"{run} contains one run per layer; name one of its subfolders")
    stored = stored.in_folder() if run.exists() else stored
    if stored.kind == "nothing":
        raise store.no_run(stored.path)
    result = stored.result() if stored.kind == "run" else None
    return findings(stored.path.name, stored.tables(), result, slowest)


def findings(run: str, tables: Tables, result: Result | None, slowest: int) -> Investigation:
    """The same from tables; `run` is the run's name, `result` its result, None where it has none."""
    steps, tokens, requests = tables.steps, tables.tokens, tables.requests
    start_ns, end_ns = edges(steps, tables.header)
    done = work(steps, tokens, requests)
    fits = step_costs.fits(steps, done)
    spec = None if result is None else result.spec
    return Investigation(
        schema_version=VERSION,
        innerloop_version=__version__,
        run=run,
        engine=None if spec is None else spec.engine,
        model=None if spec is None else spec.model,
        workload=None if spec is None else spec.workload,
        given={} if spec is None else spec.given,
        label={} if spec is None else spec.label,
        status=None if result is None else result.status,
        steps=len(steps),
        duration_s=(end_ns - start_ns) / 1e9 if end_ns > start_ns else None,
        slowest=slowest_steps.slowest(
            steps,
            requests,
            done,
            step_costs.expected_s(fits, done),
            bound_s_of(tables, done, None if result is None else result.roofline),
            window=(start_ns, end_ns),
            count=slowest,
        ),
        fit_s=fits,
        preemptions=preemptions.preemptions(steps, start_ns),
        interference_s=interference.interference(steps, tokens, requests),
        host_s=step_costs.host_costs(steps),
    )
