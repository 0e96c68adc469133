"""Due times from a column of a file, for `arrivals: file`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import open_regular
from innerloop.harness.profiles.loads import MOST_REQUESTS, Open
from innerloop.harness.workloads.traces import records, values
from innerloop.harness.workloads.traces.records import NotARecord
from innerloop.harness.workloads.traces.values import BadField

MOST_BYTES = 1 << 36
NS = 1_000_000_000


def times_of(plan: Open, folder: Path | None = None) -> npt.NDArray[np.int64]:
    """The times of a file in order, the first being 0, int64 [n]: `requests` of them, or those within `duration_s`.

    Raises:
        Refused: the file cannot be used; names the line.
    """
    path = (folder or Path()) / str(plan.path)
    source = f"the arrivals file {path}"
    found: list[int] = []
    with open_regular(path, source, MOST_BYTES) as file:
        at = 0
        try:
            rows: Any = records.csv_rows(file, source) if path.suffix.lower() == ".csv" else _rows(file, path)
            for line, record in rows:
                at, value = line, _chosen(record, plan.column)
                found.append(values.time_ns(value, plan.column or "the time", plan.time_unit or _unit(record, plan)))
                if len(found) > MOST_REQUESTS:
                    raise Refused(f"{source} has more than {MOST_REQUESTS} times")
        except NotARecord as error:
            raise Refused(f"{source}, line {error.line} {error}") from None
        except BadField as error:
            raise Refused(f"{source}, line {at}: {error}") from None
        except OSError as error:
            raise Refused(f"{source} cannot be read: {error.strerror}") from None
    if not found:
        raise Refused(f"{source} contains no times")
    due = np.sort(np.array(found, dtype=np.int64))
    due -= due[0]
    if plan.duration_s is not None:
        due = due[due < round(plan.duration_s * NS)]
    return due[: plan.requests]


def _rows(file: Any, path: Path) -> Any:
    return records.json_lines(file) if path.suffix.lower() == ".jsonl" else records.lines(file)


def _chosen(record: Any, column: str | None) -> Any:
    if not isinstance(record, dict):
        if column is not None:
            raise BadField(column, "is missing: the row has no columns")
        return record
    if column is None:
        raise BadField("load.column", f"is missing; the row has {', '.join(str(name)[:40] for name in [*record][:20])}")
    return record.get(column)


def _unit(record: Any, plan: Open) -> str | None:
    """Mooncake's, where the row is one of such a trace."""
    return "ms" if isinstance(record, dict) and {"timestamp", "input_length", "output_length"} <= {*record} else None
