"""`il.runs`: the runs in a folder, to filter, iterate over or read as one table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness import store
from innerloop.harness.api.opened import Run
from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.result.listing import RunLine, fitting, list_runs
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.quantiles import quantile_of

if TYPE_CHECKING:
    import pyarrow as pa

    from innerloop.harness.schema.result import Result

TEXTS = ("run", "folder", "status", "reason", "engine", "version", "layer", "model", "workload", "note")
SPEED = "output_tokens_per_s"


@dataclass(frozen=True)
class Runs:
    """Runs, oldest first. Iterating yields a `Run` for each, without reading its files yet; one that cannot be read is
    "broken"."""

    lines: tuple[RunLine, ...] = field(repr=False)

    def __repr__(self) -> str:
        return f"<{len(self)} runs>"

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Run]:
        return map(_run, self.lines)

    def __getitem__(self, index: int) -> Run:
        return _run(self.lines[index])

    def where(self, **conditions: object) -> Runs:
        """The runs that match all conditions: status, engine, model, workload or the key of a label, compared as text.

        Raises:
            Refused: no run has such a field or label.
        """
        wanted = {name: str(value) for name, value in conditions.items()}
        return Runs(tuple(fitting(self.lines, wanted)))

    def table(self, *figures: str) -> pa.Table:
        """One row per run; missing values are null.

        Args:
            figures: further columns, each a field of the result by its path: "latency_s.ttft.p99".

        Returns:
            Columns: run (its id, as in its Parquet files), folder, status, reason (why it is not ok), engine, version,
            layer, model, workload, note, when (UTC; when it ended, or began if it has no result), output_tokens_per_s
            (of the window); given.NAME for every setting that any of the runs sets, label.KEY.

        Raises:
            Refused: results have no such field.
        """
        import pyarrow as pa

        rows = [_row(line) for line in self.lines]
        kinds = {**dict.fromkeys(TEXTS, pa.string()), "when": pa.timestamp("s", "UTC"), SPEED: pa.float64()}
        columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
        for name in dict.fromkeys(name for row in rows for name in row if name not in kinds):
            columns[name] = _column([row.get(name) for row in rows])
        found: dict[str, list[Any]] = {path: [] for path in figures}
        for line in self.lines if figures else ():  # one result at a time is in memory
            result = _result(line)
            for path, values in found.items():
                values.append(None if result is None else figure(result, path))
        return pa.table(columns | {path: _column(values) for path, values in found.items()})


def runs(folder: str | Path = "runs") -> Runs:
    """The runs in a folder, including each run of a run with several layers. Broken ones are included, with the reason.

    Raises:
        Refused: it is not a folder.
    """
    lines = (one for line in list_runs(Path(folder)) for one in _each(line))
    return Runs(tuple(sorted(lines, key=lambda line: (line.when, line.folder))))


def _each(line: RunLine) -> Iterable[RunLine]:
    return (list_runs(Path(line.folder)) if isinstance(_found(line), store.StoredLadder) else []) or [line]


def _found(line: RunLine) -> store.StoredRun | store.StoredLadder:
    try:
        return store.open(Path(line.folder))
    except OSError:  # another user's, or it has gone meanwhile
        return store.StoredRun(Path(line.folder), "nothing")


def _run(line: RunLine) -> Run:
    found = _found(line)
    return Run(found if isinstance(found, store.StoredRun) else store.StoredRun(found.path, "nothing"))


def _result(line: RunLine) -> Result | None:
    run = _run(line)
    return run.stored.result() if run.stored.kind == "run" and line.status != "broken" else None


def _row(line: RunLine) -> Mapping[str, object]:
    return {
        "run": line.id or Path(line.folder).name,
        "folder": line.folder,
        "when": datetime.fromisoformat(line.when) if line.when else None,  # None: it has gone meanwhile
        "status": line.status,
        "reason": line.reason,
        "engine": line.engine,
        "version": line.version,
        "layer": next(iter(line.layers), None),
        "model": line.model,
        "workload": line.workload,
        "note": line.note,
        SPEED: line.output_tokens_per_s,
        **{f"given.{name}": value for name, value in line.given.items()},
        **{f"label.{key}": text for key, text in line.label.items()},
    }


def _column(values: list[Any]) -> pa.Array:
    """Values as one column; where no type holds them all, as JSON."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else json.dumps(value) for value in values])


def figure(result: Any, path: str) -> Any:
    """The field of a result that a path of names leads to; None where a part on the way is None.

    Raises:
        Refused: there is no such field, or it is a group of fields.
    """
    found = result
    for name in path.split("."):
        if found is None:
            return None
        if isinstance(found, Mapping):
            found = found.get(name)
            continue
        known = [one.name for one in fields(found)] if is_dataclass(found) else []
        if name not in known:
            raise Refused(f"{path}: a result has no field {name!r}{nearest(name, known)}")
        found = quantile_of(found, name) if isinstance(found, Summary) else getattr(found, name)
    if is_dataclass(found):
        raise Refused(f"{path} has several fields; name one of {', '.join(one.name for one in fields(found))}")
    return found
