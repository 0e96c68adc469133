"""A result for a run whose harness did not live to write one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.cli.words import number
from innerloop.harness.process.launcher import log_tail
from innerloop.harness.result.build import build, with_note
from innerloop.harness.result.record import Record
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result, Workload
from innerloop.harness.store import result_file
from innerloop.harness.store.alive import QUIET_S, harness_runs, quiet_s
from innerloop.harness.store.stored import JOB, read_job
from innerloop.harness.store.tables import Tables, convert


def recover(folder: Path) -> Result:
    """Makes and writes the result of an interrupted run from its job and what it had recorded.

    Raises:
        Refused: the folder holds no run, or one that is still going on.
    """
    job = read_job(folder)
    if job.get("profile") is not None:
        raise Refused(f"{folder} is the profiling pass of a run", f"Show the run itself: {folder.absolute().parent}")
    refuse_if_alive(folder, job)
    tables = convert(folder)
    result = build(
        Record(
            spec=job["spec"],
            workload=_workload(folder),
            workload_hash=job.get("workload_hash"),
            id=job.get("id"),
            tables=tables,
            failure=Failure(
                "interrupted",
                f"the harness was killed before it could write a result; {_kept(tables)}",
                log_tail=log_tail(folder / "engine.log"),
            ),
            device_note="no device telemetry: it was lost with the harness",
            notes=["This result was rebuilt from the run's records, without host telemetry and the worker's summary."],
        )
    )
    try:
        result_file.write(folder, result)
    except OSError as error:
        return with_note(result, f"It could not be saved: {error}")
    return result


def refuse_if_alive(folder: Path, job: dict[str, Any]) -> None:
    """A live run's trace must not be taken from under it."""
    if harness_runs(job, folder / JOB):
        raise Refused(f"the run in {folder} is still running (process {job['harness_pid']})")
    quiet = quiet_s(folder)
    if quiet is not None and quiet < QUIET_S:
        raise Refused(
            f"the run in {folder} was active {quiet:.0f} s ago",
            f"If its harness was killed, try again in {QUIET_S:.0f} s.",
        )


def _workload(folder: Path) -> Workload | None:
    from innerloop.harness.workloads import load

    try:
        return load(folder / "workload.npz").describe()
    except InnerloopError:
        return None


def _kept(tables: Tables) -> str:
    steps, tokens = len(tables.steps), int(tables.steps["output_tokens"].sum())
    return (
        f"{number(steps)} steps and {number(tokens)} tokens had been recorded"
        if steps
        else "nothing had been measured yet"
    )
