"""A run's tables as Parquet: read by the columns' names, each with the run that it is of, so that the files of many
runs are one table to whoever queries them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from innerloop.engines.worker.trace import HEADER, LAYOUT, STATES
from innerloop.harness.analysis.chunks import chunks, give_back, scratch_in, tick
from innerloop.harness.analysis.columns import known
from innerloop.harness.cli.errors import Refused
from innerloop.harness.store.atomic import whole

if TYPE_CHECKING:
    import pyarrow as pa

NAMES = {  # of columns on disk, where the records have another
    "steps": {"prefill_tokens": "prefill_positions", "decode_tokens": "decode_positions"},
    "tokens": {"count": "tokens"},
}
NUMBERS = {"steps": "step", "requests": "request"}  # a column that says which row it is
RUN = "run"  # a column that says which run it is of
NEVER_MISSING = ("start_ns", "end_ns", "time_ns", "output_tokens", "prompt_tokens", "asked_tokens", "count", "request")
REQUIRED = (*NEVER_MISSING, "state")  # without which a table cannot be read
CHUNK = 1 << 20  # records converted at once
MAPPED = 1 << 26  # records, above which a table that is read is not held in memory: 1.5 GiB of arrivals
MOST_A_BYTE = 8  # records; a file that says that it has more is damaged, and must not fill the disk
HEADER_PREFIX, IDENTITY_PREFIX = b"innerloop.header.", b"innerloop."  # in the file's metadata


def no_header() -> dict[str, int]:
    """The header's fields of a trace of which nothing was written."""
    return {name: 0 for name in HEADER.names or () if name != "magic"}


def write(path: Path, file: str, table: np.ndarray, header: Mapping[str, int], identity: Mapping[str, str]) -> None:
    """Writes a table whole or not at all. `file` is a key of LAYOUT, `table` of its dtype, `header` the raw file's
    fields. `identity` says what the run is: it goes into the file's metadata, its `run` into a column too.

    Raises:
        OSError: it cannot be written.
    """
    import pyarrow.parquet as pq

    schema = _schema(file, table.dtype, header, identity)
    times = [name for name in schema.names if name.endswith("_ns") or name == "step"]
    with (
        whole(path) as partial,
        pq.ParquetWriter(
            partial,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["state", RUN],
            column_encoding={name: "DELTA_BINARY_PACKED" for name in times},
        ) as writer,
    ):
        for batch in _batches(file, table, schema, identity):
            writer.write_batch(batch)


def arrow(file: str, table: np.ndarray, header: Mapping[str, int], identity: Mapping[str, str]) -> pa.Table:
    """The Arrow table that `write` would put in a file: the same columns and metadata."""
    import pyarrow as pa

    schema = _schema(file, table.dtype, header, identity)
    return pa.Table.from_batches(_batches(file, table, schema, identity), schema)


def _batches(file: str, table: np.ndarray, schema: pa.Schema, identity: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    begin = 0
    for part in chunks(table):
        for first in range(0, len(part), CHUNK):
            rows = part[first : first + CHUNK]
            yield _batch(file, rows, begin, schema, identity)
            begin += len(rows)


def _batch(file: str, chunk: np.ndarray, begin: int, schema: pa.Schema, identity: Mapping[str, str]) -> pa.RecordBatch:
    """The records `chunk`, the first of which is number `begin`."""
    import pyarrow as pa

    rows = len(chunk)
    extra = {RUN: pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), [identity.get(RUN, "")])}
    if file in NUMBERS:
        extra[NUMBERS[file]] = pa.array(np.arange(begin, begin + rows))
    arrays = [extra.get(field.name) or _column(chunk, field, file) for field in schema]
    return pa.record_batch(arrays, schema=schema)


def _schema(file: str, dtype: np.dtype, header: Mapping[str, int], identity: Mapping[str, str]) -> pa.Schema:
    import pyarrow as pa

    text = pa.dictionary(pa.int8(), pa.string())
    fields = [pa.field(RUN, text, nullable=False)]
    if file in NUMBERS:
        fields.append(pa.field(NUMBERS[file], pa.int64(), nullable=False))
    for name in dtype.names or ():
        kind = text if name == "state" else pa.from_numpy_dtype(dtype[name])
        fields.append(pa.field(_on_disk(file, name), kind, nullable=name not in NEVER_MISSING))
    metadata = {HEADER_PREFIX + name.encode(): str(value).encode() for name, value in header.items()}
    return pa.schema(fields, metadata={**metadata, **identity_metadata(identity)})


def identity_metadata(identity: Mapping[str, str]) -> dict[bytes, bytes]:
    """What a run is, as a file's metadata say it: `innerloop.run`, `innerloop.engine` ..."""
    return {IDENTITY_PREFIX + name.encode(): value.encode() for name, value in identity.items()}


def stored_identity(path: Path) -> dict[str, str]:
    """What a file's metadata say that the run is; empty for one of the first version.

    Raises:
        Refused: it cannot be read.
    """
    import pyarrow.parquet as pq

    with damage(path):
        found = pq.read_schema(path).metadata or {}
    names = [name for name in found if name.startswith(IDENTITY_PREFIX) and not name.startswith(HEADER_PREFIX)]
    return {name.removeprefix(IDENTITY_PREFIX).decode(): found[name].decode() for name in names}


def _on_disk(file: str, name: str) -> str:
    return NAMES.get(file, {}).get(name, name)


def _column(chunk: np.ndarray, field: pa.Field, file: str) -> pa.Array:
    import pyarrow as pa

    name = next((ours for ours, disk in NAMES.get(file, {}).items() if disk == field.name), field.name)
    values = np.ascontiguousarray(chunk[name])
    if name == "state":
        return pa.DictionaryArray.from_arrays(pa.array(values.astype(np.int8)), pa.array(STATES))
    return pa.array(values, mask=None if not field.nullable else ~known(values))


def read(path: Path, file: str) -> tuple[np.ndarray, dict[str, int]]:
    """A table of dtype LAYOUT[file] and its header, by the columns' names, also those of the first version.

    A column of the layout that the file lacks is missing in every row; one that the layout lacks is passed over.

    Raises:
        Refused: it is no table of innerloop, is damaged, or lacks a column that is never missing.
    """
    with damage(path):
        return _read(path, file)


def read_telemetry(path: Path, identity: Mapping[str, str]) -> pa.Table:
    """A telemetry file with a `run` column, also one of the first version, which has none.

    Raises:
        Refused: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with damage(path):
        table = pq.read_table(path)
    if RUN in table.column_names:
        return table
    return table.add_column(0, RUN, pa.array([identity.get(RUN, "")] * len(table), pa.string()))


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Raises: Refused: what a damaged Parquet file makes its readers raise."""
    import pyarrow as pa

    try:
        if not path.is_file():  # a FIFO would be waited for
            raise Refused(f"{path} is not a regular file")
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise Refused(f"{path} is damaged: {said}") from None


def _read(path: Path, file: str) -> tuple[np.ndarray, dict[str, int]]:
    import pyarrow.parquet as pq

    dtype, source = LAYOUT[file], pq.ParquetFile(path)
    stored = source.schema_arrow.metadata or {}
    if HEADER_PREFIX + b"record_bytes" not in stored:
        raise Refused(f"{path} was not written by this version of innerloop")
    there = {}
    for name in dtype.names or ():
        found = [one for one in (_on_disk(file, name), name) if one in source.schema_arrow.names]
        if found:
            there[name] = found[0]
    if lost := [name for name in dtype.names or () if name in REQUIRED and name not in there]:
        raise Refused(f"{path} is incomplete: it lacks {', '.join(lost)}")
    out = _room(path, source.metadata.num_rows, dtype)
    begin = 0
    for batch in source.iter_batches(batch_size=CHUNK, columns=list(there.values())):
        rows = _missing(len(batch), dtype)
        for name, disk in there.items():
            rows[name] = _values(batch.column(disk))
        out[begin : begin + len(batch)] = rows
        begin += len(batch)
        if len(out) > CHUNK:
            give_back(out)
            tick()
    return out, {name: int(stored.get(HEADER_PREFIX + name.encode(), b"-1")) for name in no_header()}


def _values(column: pa.Array) -> np.ndarray:
    """A column's values as numbers: a state's place in STATES, -1 or NaN where one is missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        places = [STATES.index(state) for state in column.dictionary.to_pylist()]
        return np.array(places)[column.indices.to_numpy()]
    if not column.null_count:
        values: np.ndarray = column.to_numpy()
        return values
    missing = float("nan") if pa.types.is_floating(column.type) else -1
    valid, stored = column.buffers()  # what fill_null does, without the 0.1 s that importing pyarrow.compute takes
    rows = slice(column.offset, column.offset + len(column))
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")[rows].astype(bool)
    return np.where(bits, np.frombuffer(stored, column.type.to_pandas_dtype())[rows], missing)


def _room(path: Path, count: int, dtype: np.dtype) -> np.ndarray:
    """A table to be filled: in memory, or, of a long run, in a file without a name in its folder, where one can be."""
    if MAPPED < count < MOST_A_BYTE * path.stat().st_size:
        with suppress(OSError):
            return scratch_in(path.parent, count, dtype)
    return np.empty(count, dtype=dtype)


def _missing(count: int, dtype: np.dtype) -> np.ndarray:
    """A table of which every value is missing: -1 or NaN."""
    out = np.zeros(count, dtype=dtype)
    for name in dtype.names or ():
        out[name] = np.nan if dtype[name].kind == "f" else -1
    return out
