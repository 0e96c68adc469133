"""A run's records on disk: the worker's raw trace, and the Parquet files that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from innerloop.engines.worker.trace import HEADER, HEADER_BYTES, LAYOUT, MAGIC, STATES, in_this_layout, layout_of
from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.samples import Samples
from innerloop.harness.analysis.unfinished import filled
from innerloop.harness.cli.errors import Refused
from innerloop.harness.store.atomic import whole
from innerloop.harness.telemetry.sampler import Sampler

if TYPE_CHECKING:
    import pyarrow as pa

FILES = {  # the table's name -> its place in the raw trace
    "steps": ("measure", "steps"),
    "tokens": ("measure", "tokens"),
    "requests": ("measure", "requests"),
    "warmup_steps": ("warmup", "steps"),
}
LEFT_OUT = ("reserved",)
NEVER_MISSING = ("start_ns", "end_ns", "time_ns", "output_tokens", "prompt_tokens", "asked_tokens", "count", "request")
REQUIRED = (*NEVER_MISSING, "state")  # without which a table cannot be read
CHUNK = 1 << 20  # records converted at once
METADATA = b"innerloop.header."  # the raw header's fields in the Parquet file's metadata


@dataclass(frozen=True)
class Tables:
    """A run's records: structured arrays of dtype STEP, TOKEN, REQUEST and STEP, [rows] each.

    `header` holds the fields of engines.trace.HEADER for the measured steps (all 0 when nothing was measured),
    `samples` what the samplers saw, `notes` what went wrong while the records were put away.
    """

    steps: np.ndarray
    tokens: np.ndarray
    requests: np.ndarray
    warmup_steps: np.ndarray
    header: dict[str, int]
    samples: tuple[Samples, ...] = ()
    notes: tuple[str, ...] = ()


def read_tables(run_folder: Path) -> Tables:
    """The tables of a run, each from the raw trace where that still lies there, else from Parquet.

    A table of which nothing was written is empty. A trace that was cut off gives the records that are whole.

    Raises:
        Refused: a file of another version of innerloop.
    """
    folder = Path(run_folder)
    steps, header = _table(folder, "steps")
    tokens = _table(folder, "tokens")[0]
    return Tables(
        steps=steps,
        tokens=tokens,
        requests=filled(_table(folder, "requests")[0], tokens),
        warmup_steps=_table(folder, "warmup_steps")[0],
        header=header,
    )


def convert(run_folder: Path, *samplers: Sampler) -> Tables:
    """Puts a run's records away as Parquet and returns them: the raw trace is converted and deleted, and the samplers,
    which are stopped, give telemetry.parquet.

    Each file appears whole or not at all, and the raw trace goes last, so that an interrupted conversion can be
    repeated. When the disk is full or cannot be written, the raw trace stays and the tables' `notes` say so.
    """
    folder = Path(run_folder)
    samples = tuple(sampler.stop() for sampler in samplers)
    tables = replace(read_tables(folder), samples=samples)
    try:
        for name in FILES:
            if _raw(folder, name).exists():
                _write_parquet(folder / f"{name}.parquet", getattr(tables, name), _table(folder, name)[1])
        write_telemetry(folder, samples)
        _remove_raw(folder / "trace")
    except OSError as error:
        return replace(tables, notes=(f"the raw trace was left in {folder / 'trace'}: {error}",))
    return tables


def _remove_raw(trace: Path) -> None:
    """Deletes a trace's own files, and its folders where nothing else lies in them."""
    for folder in (trace / "measure", trace / "warmup", trace):
        for file in LAYOUT:
            (folder / f"{file}.bin").unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _raw(run_folder: Path, name: str) -> Path:
    part, file = FILES[name]
    return run_folder / "trace" / part / f"{file}.bin"


def _table(run_folder: Path, name: str) -> tuple[np.ndarray, dict[str, int]]:
    file = FILES[name][1]
    dtype = LAYOUT[file]
    if (raw := _raw(run_folder, name)).exists():
        return _read_raw(raw, file)
    if (parquet := run_folder / f"{name}.parquet").exists():
        return _read_parquet(parquet, dtype)
    return np.empty(0, dtype=dtype), _no_header()


def _no_header() -> dict[str, int]:
    return {name: 0 for name in HEADER.names or () if name != "magic"}


def _read_raw(path: Path, file: str) -> tuple[np.ndarray, dict[str, int]]:
    """The whole records and the header of a raw file, also of one that is shorter than its header says, or of an
    earlier layout."""
    size = path.stat().st_size
    empty = np.empty(0, dtype=LAYOUT[file])
    if size < HEADER_BYTES:
        return empty, _no_header()
    head = np.fromfile(path, dtype=HEADER, count=1)[0]
    if head["magic"] == b"":  # made, and not one record written
        return empty, _no_header()
    dtype = layout_of(file, int(head["record_bytes"]))
    if head["magic"] != MAGIC or dtype is None:
        raise Refused(f"{path} is not a trace of this version of innerloop")
    header = {name: int(head[name]) for name in _no_header()}
    count = min(header["count"], (size - HEADER_BYTES) // dtype.itemsize)
    if count <= 0:
        return empty, header
    stored = np.memmap(path, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(count,))
    return in_this_layout(file, stored), {**header, "record_bytes": LAYOUT[file].itemsize}


def _schema(dtype: np.dtype, header: dict[str, int]) -> pa.Schema:
    import pyarrow as pa

    fields = []
    for name in dtype.names or ():
        if name in LEFT_OUT:
            continue
        kind = pa.dictionary(pa.int8(), pa.string()) if name == "state" else pa.from_numpy_dtype(dtype[name])
        fields.append(pa.field(name, kind, nullable=name not in NEVER_MISSING))
    metadata = {METADATA + name.encode(): str(value).encode() for name, value in header.items()}
    return pa.schema(fields, metadata=metadata)


def _write_parquet(path: Path, table: np.ndarray, header: dict[str, int]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(table.dtype, header)
    times = [name for name in schema.names if name.endswith("_ns") or name == "step"]
    with (
        whole(path) as partial,
        pq.ParquetWriter(
            partial,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["state"],
            column_encoding={name: "DELTA_BINARY_PACKED" for name in times},
        ) as writer,
    ):
        for begin in range(0, len(table), CHUNK):
            chunk = table[begin : begin + CHUNK]
            arrays = [_column(chunk, field) for field in schema]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _column(chunk: np.ndarray, field: pa.Field) -> pa.Array:
    import pyarrow as pa

    values = np.ascontiguousarray(chunk[field.name])
    if field.name == "state":
        return pa.DictionaryArray.from_arrays(pa.array(values.astype(np.int8)), pa.array(STATES))
    return pa.array(values, mask=None if not field.nullable else ~known(values))


def write_telemetry(run_folder: Path, samples: Sequence[Samples]) -> None:
    """Writes telemetry.parquet: every source's samples below each other, wide, with a `source` column.

    A column that a source does not have is null in its rows. Nothing is written when there is no sample at all.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for one in samples:
        columns = {"source": pa.array([one.source] * len(one.table), pa.string())}
        for name in one.table.dtype.names or ():
            values = np.ascontiguousarray(one.table[name])
            columns[name] = pa.array(values, mask=~known(values))
        parts.append(pa.table(columns))
    if sum(len(part) for part in parts) == 0:
        return
    with whole(Path(run_folder) / "telemetry.parquet") as partial:
        pq.write_table(pa.concat_tables(parts, promote_options="default"), partial, compression="zstd")


def _read_parquet(path: Path, dtype: np.dtype) -> tuple[np.ndarray, dict[str, int]]:
    """A table and its header, by the columns' names, so that a file of another version can be read.

    A column of `dtype` that the file lacks is missing in every row; one that `dtype` lacks is passed over.

    Raises:
        Refused: it is no table of innerloop, or lacks a column that is never missing.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    stored = file.schema_arrow.metadata or {}
    if METADATA + b"record_bytes" not in stored:
        raise Refused(f"{path} was not written by this version of innerloop")
    names = [name for name in dtype.names or () if name in file.schema_arrow.names]
    if lost := [name for name in dtype.names or () if name in REQUIRED and name not in names]:
        raise Refused(f"{path} is not whole: it lacks {', '.join(lost)}")
    out = _missing(file.metadata.num_rows, dtype)
    begin = 0
    for batch in file.iter_batches(batch_size=CHUNK, columns=names):
        rows = out[begin : begin + len(batch)]
        for name in names:
            rows[name] = _values(batch.column(name))
        begin += len(batch)
    header = {name: int(stored.get(METADATA + name.encode(), b"-1")) for name in _no_header()}
    return out, header


def _values(column: pa.Array) -> np.ndarray:
    """A column's values as numbers: a state's place in STATES, -1 or NaN where one is missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        places = [STATES.index(state) for state in column.dictionary.to_pylist()]
        return np.array(places)[column.indices.to_numpy()]
    missing = float("nan") if pa.types.is_floating(column.type) else -1
    return (column.fill_null(missing) if column.null_count else column).to_numpy()


def _missing(count: int, dtype: np.dtype) -> np.ndarray:
    """A table of which every value is missing: -1 or NaN, and 0 where a file holds nothing."""
    out = np.zeros(count, dtype=dtype)
    for name in dtype.names or ():
        if name not in LEFT_OUT:
            out[name] = np.nan if dtype[name].kind == "f" else -1
    return out
