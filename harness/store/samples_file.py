"""What the samplers saw, read from telemetry.parquet a part at a time: only the columns that are looked at."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from innerloop.harness.analysis.chunks import tick
from innerloop.harness.cli.reading import is_there
from innerloop.harness.store import parquet

FILE = "telemetry.parquet"

Columns = dict[str, np.ndarray]


def read_samples(folder: Path, names: Collection[str]) -> dict[str, Columns]:
    """By source: `time_ns`, int64, and those of the columns that it has a value of, float64 (NaN: missing), [samples]
    each; empty without telemetry.

    Raises:
        Refused: the file is damaged.
    """
    path = folder / FILE
    if not is_there(path):
        return {}
    with parquet.damage(path):
        return _read(path, names)


def _read(path: Path, names: Collection[str]) -> dict[str, Columns]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, read_dictionary=["source"])
    wanted = [name for name in names if name in file.schema_arrow.names]
    parts: dict[str, list[Columns]] = {}
    for batch in file.iter_batches(batch_size=parquet.CHUNK, columns=["source", "time_ns", *wanted]):
        known = [name for name in wanted if batch.column(name).null_count < len(batch)]
        found = {name: batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in known}
        found["time_ns"] = batch.column("time_ns").to_numpy()
        which = batch.column("source")
        if not pa.types.is_dictionary(which.type):
            raise TypeError("the names of its sources are no texts")
        places = which.indices.to_numpy()
        for place, source in enumerate(which.dictionary.to_pylist()):
            rows = places == place
            if rows.any():
                parts.setdefault(source, []).append({name: column[rows] for name, column in found.items()})
        tick()
    return {source: _joined(some) for source, some in parts.items()}


def _joined(parts: list[Columns]) -> Columns:
    names = dict.fromkeys(name for part in parts for name in part)
    nothing = [np.full(len(part["time_ns"]), np.nan) for part in parts] if len(parts) > 1 else []
    return {
        name: parts[0][name]
        if len(parts) == 1
        else np.concatenate([part.get(name, blank) for part, blank in zip(parts, nothing, strict=True)])
        for name in names
    }
