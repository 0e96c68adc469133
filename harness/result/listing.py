"""The runs of a folder, a line each: what ran, what was set, how it ended, how fast it was."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from innerloop.harness.analysis.chunks import tick
from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.result.codes import suspect_codes
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.spec import Spec
from innerloop.harness.store.alive import is_running
from innerloop.harness.store.find import folders
from innerloop.harness.store.stored import JOB, StoredLadder, StoredRun, open, read_job
from innerloop.harness.store.typed import typed

FIELDS = ("status", "engine", "model", "workload")  # that --where knows beside labels
STAMP = re.compile(r"\d{8}T\d{6}Z-")  # how innerloop begins a folder's name


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run. What is not known is None or empty.

    status: of a result, or "running", "interrupted" (it has no result), "broken" (it cannot be read); a run of several
    layers may be "partial". when: UTC, ISO 8601: when it ended, or began where it has no result. reason: why it is not
    ok. output_tokens_per_s: of the window. experiment: of a folder with many runs, what it asks and found; its status
    is that of the worst of them, and `runs` says how many ended how.
    """

    folder: str
    when: str
    status: str
    reason: str | None = None
    engine: str | None = None
    version: str | None = None
    layers: Sequence[str] = ()
    model: str | None = None
    workload: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    label: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    output_tokens_per_s: float | None = None
    id: str | None = None
    experiment: str | None = None
    runs: Mapping[str, int] = field(default_factory=dict)


def list_runs(root: Path) -> list[RunLine]:
    """All runs in a folder, the newest last. One that cannot be read is a line with the reason.

    Raises:
        Refused: `root` is no folder.
    """
    if root.exists() and not root.is_dir():
        raise Refused(f"{root} is not a folder; name the folder with the runs")
    lines = []
    for folder in folders(root):
        line = line_of(folder)
        if line is not None:
            lines.append(line)
        tick()
    return sorted(lines, key=lambda line: (line.when, line.folder))


def line_of(folder: Path) -> RunLine | None:
    """The line of a folder; None where it holds no run."""
    try:
        stored = open(folder)
        if isinstance(stored, StoredLadder):
            return _of_ladder(stored)
        return _of_result(folder, stored.result()) if stored.kind == "run" else _without_result(stored)
    except Refused as refusal:
        reason = str(refusal)
    except Exception as error:  # a listing must not end at a file that somebody else wrote
        reason = f"{type(error).__name__}: {error}"
    return RunLine(str(folder), changed(folder), "broken", reason)


def chosen(lines: Sequence[RunLine], where: Sequence[str]) -> list[RunLine]:
    """Those that fit every FIELD=VALUE; a field is one of FIELDS or the key of a label.

    Raises:
        Refused: no FIELD=VALUE, or no run has such a field.
    """
    conditions: dict[str, str] = {}
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals:
            raise Refused(f"--where takes FIELD=VALUE; got {condition!r}")
        if conditions.setdefault(name, value) != value:
            return []
    try:
        return fitting(lines, conditions)
    except Refused as refusal:
        raise Refused(f"--where: {refusal}") from None


def fitting(lines: Sequence[RunLine], conditions: Mapping[str, str]) -> list[RunLine]:
    """Those that have all these values; a field is one of FIELDS or the key of a label.

    Raises:
        Refused: no run has such a field.
    """
    keys = {key for line in lines for key in line.label}
    for name in conditions:
        if name not in FIELDS and name not in keys and lines:
            raise Refused(f"no run has a field or label {name!r}{nearest(name, {*FIELDS, *keys})}")
    return [line for line in lines if all(_has(line, name, value) for name, value in conditions.items())]


def _has(line: RunLine, name: str, value: str) -> bool:
    """Whether a line has a value, or, being that of several runs, one of them has."""
    found = getattr(line, name) if name in FIELDS else line.label.get(name)
    return found == value or (name in FIELDS and found is not None and value in found.split(","))


def _of_result(folder: Path, result: Result) -> RunLine:
    reason = None
    if result.failure is not None:
        reason = result.failure.cause
    elif result.status == "suspect":
        reason = ", ".join(suspect_codes(result.reasons))
    line = RunLine(
        str(folder),
        _utc(result.created, folder),
        result.status,
        reason,
        version=result.engine.version,
        output_tokens_per_s=result.throughput.output_tokens_per_s,
        id=result.id,
    )
    return _with_spec(line, result.spec)


def _of_ladder(stored: StoredLadder) -> RunLine:
    """A run of several layers: what was set is that of the first of its runs."""
    waterfall = stored.waterfall()
    runs = [run.folder for rung in waterfall.rungs for run in rung.runs]
    inner = open(stored.folder / runs[0]) if runs else None
    spec = inner.result().spec if isinstance(inner, StoredRun) and inner.kind == "run" else None
    states = dict(Counter(run.status for rung in waterfall.rungs for run in rung.runs))
    line = RunLine(
        str(stored.folder),
        _utc(waterfall.created, stored.folder),
        waterfall.status,
        "; ".join(f"{how} runs: {n} of {sum(states.values())}" for how, n in states.items() if how != "ok") or None,
        runs=states,
        engine=waterfall.engine.name,
        version=waterfall.engine.version,
        layers=waterfall.layers,
        model=waterfall.model,
        workload=waterfall.workload,
    )
    return line if spec is None else replace(_with_spec(line, spec), layers=waterfall.layers)


def _without_result(stored: StoredRun) -> RunLine | None:
    folder = stored.folder
    if stored.kind == "interrupted":
        job = read_job(folder)
        running = is_running(folder, job, folder / JOB)
        reason = None if running else "innerloop was killed; innerloop show rebuilds the result"
        status = "running" if running else "interrupted"
        line = RunLine(str(folder), changed(folder / JOB), status, reason, id=job.get("id"))
        return _with_spec(line, typed(Spec, job["spec"]))
    if stored.kind == "records":
        return RunLine(str(folder), changed(folder), "broken", "records without result.json and job.json")
    if STAMP.match(folder.name) and not any(folder.iterdir()):
        reason = "not started: still being prepared, or killed before the start"
        return RunLine(str(folder), changed(folder), "interrupted", reason)
    return None


def _with_spec(line: RunLine, spec: Spec) -> RunLine:
    """The line with what was asked for."""
    return replace(
        line,
        engine=spec.engine,
        layers=(spec.layer,),
        model=spec.model,
        workload=spec.workload,
        given=spec.given,
        label=spec.label,
        note=spec.note,
    )


def _utc(text: Any, folder: Path) -> str:
    """A stored time in UTC, or when the folder was changed where it is none."""
    try:
        return _iso(datetime.fromisoformat(str(text)))
    except ValueError:
        return changed(folder)


def changed(path: Path) -> str:
    """When a file or folder was changed, UTC; empty where it is gone."""
    try:
        return _iso(datetime.fromtimestamp(path.stat().st_mtime, timezone.utc))
    except OSError:
        return ""


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")
