"""What was sampled of the host and of devices, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from innerloop.harness.pages.source import Source


def samples(run: Source, devices: bool) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    """(source, columns) of the samples: of the host, or of each device. Missing values are NaN or -1."""
    table = run.telemetry
    if table is None or not len(table):
        return
    sources = np.array(table.column("source").to_pylist())
    for name in dict.fromkeys(sources.tolist()):
        if (name != "host") == devices:
            rows = np.flatnonzero(sources == name)
            part = table.take(rows)
            yield name, {one: _numbers(part.column(one)) for one in part.column_names if one not in ("run", "source")}


def _numbers(values: object) -> np.ndarray:
    found = np.array([np.nan if one is None else one for one in values.to_pylist()])  # type: ignore[attr-defined]
    return found if found.dtype.kind in "if" else np.full(len(found), np.nan)


def column(table: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A column, or as many missing values where there is none."""
    return table[name] if name in table else np.full(len(table["time_ns"]), np.nan)
