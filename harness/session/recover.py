"""A result for a run whose harness did not live to write one."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from innerloop.harness.analysis.chunks import said
from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.cli.output import tell
from innerloop.harness.cli.reading import open_regular
from innerloop.harness.cli.words import counted
from innerloop.harness.process.engine_log import blank_secrets, log_tail
from innerloop.harness.result.build import build
from innerloop.harness.result.keep import keep
from innerloop.harness.result.record import Record
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import ExperimentPlace, Process, Result, Workload
from innerloop.harness.schema.spec import Spec
from innerloop.harness.store import result_file, run_folder
from innerloop.harness.store.alive import QUIET_S, harness_runs, quiet_s
from innerloop.harness.store.stored import JOB, read_job
from innerloop.harness.store.tables import Tables, convert
from innerloop.harness.store.typed import Misfit, typed
from innerloop.harness.store.versions import Document

Part = TypeVar("Part", ExperimentPlace, Process)

RECOVERED = "This result was rebuilt from the run's records; host telemetry and the worker's final summary are missing."
UNSAID: Document = {  # what a whole job has, where one does not say it
    **dict.fromkeys(("engine", "model", "workload", "layer", "device"), ""),
    **{name: {} for name in ("settings", "settings_given", "engine_args", "seeds")},
}


def recover(folder: Path) -> Result:
    """Makes and writes the result of an interrupted run from its job and what it had recorded.

    Raises:
        Refused: the folder holds no run, or one that is still going on.
    """
    job = read_job(folder)
    if job.get("profile") is not None:
        raise Refused(f"{folder} is the profiling pass of a run", f"Show the run itself: {folder.absolute().parent}")
    refuse_if_alive(folder, job)
    with one_at_a_time(folder / JOB):
        if (folder / result_file.FILE).exists():  # another process has made it meanwhile
            return result_file.read(folder)
        return _rebuilt(folder, job)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Waits until no other process rebuilds the result of the run whose job is at `path`; the lock is on the job
    itself, so that nothing is written, and the system frees it at a kill."""
    with open_regular(path, str(path), sys.maxsize) as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _rebuilt(folder: Path, job: Document) -> Result:
    spec, notes = spec_of(job, folder / JOB)
    sweep(folder)
    for log in folder.rglob("*.log"):  # that of a preparation too; the guard does so as well, but may be killed
        blank_secrets(log)
    with said("saving the records", tell):
        tables = convert(folder)
        profile = spec.get("workload_profile")
        workload, known_lens = _requests(folder, isinstance(profile, dict) and profile.get("caches") == "warm")
        result = build(
            Record(
                spec=spec,
                workload=workload,
                known_lens=known_lens,
                workload_hash=text_of(job, "workload_hash"),
                id=text_of(job, "id"),
                process=part_of(job, "process", Process),
                experiment=part_of(job, "experiment", ExperimentPlace),
                tables=tables,
                failure=Failure(
                    "interrupted",
                    f"innerloop was killed before it could write a result; {_kept(tables)}",
                    log_tail=log_tail(folder / "engine.log"),
                ),
                device_note="no device telemetry: it was lost when innerloop was killed",
                notes=[RECOVERED, *notes],
            )
        )
    result = keep(folder, result, "The rebuilt result could not be saved")
    run_folder.release(folder)
    return result


def sweep(folder: Path) -> None:
    """Removes what the killed harness had begun to write."""
    for left in folder.rglob(".*.partial"):
        with suppress(OSError):
            left.unlink()


def spec_of(job: Document, path: Path) -> tuple[Document, list[str]]:
    """What the job at `path` asked for, and a note on what it does not say, which is left empty.

    Raises:
        Refused: what it says is not what it should be.
    """
    said = {name: value for name, value in job["spec"].items() if value is not None}
    spec = {**UNSAID, **job["spec"], **said}
    try:
        typed(Spec, spec)
    except Misfit as error:
        raise Refused(f"{path} is not a valid job.json: {error}") from None
    lost = sorted(UNSAID.keys() - said.keys())
    return spec, [f"{JOB} lacks: {', '.join(lost)}"] if lost else []


def text_of(job: Document, name: str) -> str | None:
    value = job.get(name)
    return value if isinstance(value, str) else None


def part_of(job: Document, name: str, kind: type[Part]) -> Part | None:
    """A part of a job as an instance of `kind`; None where it has none or another one."""
    try:
        return typed(kind, job[name]) if job.get(name) is not None else None
    except Misfit:
        return None


def refuse_if_alive(folder: Path, job: Document) -> None:
    """A live run's trace must not be taken from under it."""
    if harness_runs(job, folder / JOB):
        raise Refused(f"the run in {folder} is still running (process {job['harness_pid']})")
    quiet = quiet_s(folder)
    if quiet is not None and quiet < QUIET_S:
        raise Refused(
            f"the run in {folder} was active {quiet:.0f} s ago",
            f"If innerloop was killed, try again in {QUIET_S:.0f} s.",
        )


def _requests(folder: Path, warm: bool) -> tuple[Workload | None, np.ndarray | None]:
    """The workload that was drawn, and what an infinite prefix cache knows of each request."""
    from innerloop.harness.workloads import load

    try:
        work = load(folder / "workload.npz")
    except InnerloopError:
        return None, None
    return work.describe(), work.known_lens(warm)


def _kept(tables: Tables) -> str:
    steps, tokens = len(tables.steps), int(tables.steps["output_tokens"].sum())
    return (
        f"{counted(steps, 'step')} and {counted(tokens, 'token')} had been recorded"
        if steps
        else "nothing had been measured yet"
    )
