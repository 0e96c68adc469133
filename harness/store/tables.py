"""A run's records on disk: the worker's raw trace, and the Parquet files that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from innerloop.engines.worker.trace import HEADER, HEADER_BYTES, LAYOUT, MAGIC, in_this_layout, layout_of
from innerloop.harness import __version__
from innerloop.harness.analysis.chunks import chunks
from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.samples import Samples
from innerloop.harness.analysis.unfinished import filled
from innerloop.harness.cli.errors import Refused, told
from innerloop.harness.cli.reading import is_there, read_json
from innerloop.harness.schema.spec import VERSION
from innerloop.harness.store import parquet
from innerloop.harness.store.atomic import whole
from innerloop.harness.store.parquet import no_header
from innerloop.harness.store.sound import unsound

if TYPE_CHECKING:
    import pyarrow as pa

FILES = {  # the table's name -> its place in the raw trace
    "steps": ("measure", "steps"),
    "tokens": ("measure", "tokens"),
    "requests": ("measure", "requests"),
    "warmup_steps": ("warmup", "steps"),
}


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
        Refused: a file that is damaged, or of another version of innerloop.
    """
    folder = Path(run_folder)
    steps, header = _table(folder, "steps")
    tokens, requests = _table(folder, "tokens")[0], _table(folder, "requests")[0]
    if why := unsound(steps, tokens, requests):
        raise Refused(f"the records in {folder} are damaged: {why}")
    return Tables(
        steps=steps,
        tokens=tokens,
        requests=filled(requests, tokens),
        warmup_steps=_table(folder, "warmup_steps")[0],
        header=header,
    )


class Stoppable(Protocol):
    """A sampler, or a part of one."""

    def stop(self) -> Samples: ...


def convert(run_folder: Path, *samplers: Stoppable) -> Tables:
    """Puts a run's records away as Parquet and returns them: the raw trace is converted and deleted, and the samplers,
    which are stopped, give telemetry.parquet.

    Each file appears whole or not at all, and the raw trace goes last, so that an interrupted conversion can be
    repeated. Where the disk is full or something else keeps a file from being written, the raw trace stays and the
    tables' `notes` say so.

    Raises:
        Refused: the raw trace is damaged, or of another version of innerloop.
    """
    folder = Path(run_folder)
    samples = tuple(sampler.stop() for sampler in samplers)
    tables = replace(read_tables(folder), samples=samples)
    identity = identity_of(folder)
    try:
        for name in FILES:
            if _raw(folder, name).exists():
                path, header = folder / f"{name}.parquet", _table(folder, name)[1]
                parquet.write(path, FILES[name][1], getattr(tables, name), header, identity)
        write_telemetry(folder, samples, identity)
        _remove_raw(folder / "trace")
    except Exception as error:  # whatever keeps a file from being written takes no figure from the run
        return replace(tables, notes=(f"the raw trace was left in {folder / 'trace'}: {told(error)}",))
    return tables


def no_tables(notes: Sequence[str] = ()) -> Tables:
    """The tables of a run of which nothing can be read."""
    steps, tokens, requests, warmup_steps = (np.empty(0, dtype=LAYOUT[file]) for _, file in FILES.values())
    return Tables(steps, tokens, requests, warmup_steps, no_header(), notes=tuple(notes))


def identity_of(folder: Path) -> dict[str, str]:
    """What the run in a folder is, by its job, as far as that is known: `run` is its id, else its folder's name."""
    try:
        job = read_json(folder / "job.json", "its job")
        spec = job["spec"]
        known_of = {"run": job.get("id"), "workload_hash": job.get("workload_hash")}
        known_of |= {name: spec.get(name) for name in ("engine", "model", "layer", "workload")}
    except (Refused, KeyError, TypeError, AttributeError):
        known_of = {}
    own = {name: str(value) for name, value in known_of.items() if value is not None}
    versions = {"innerloop_version": __version__, "schema_version": VERSION}
    return {"run": folder.absolute().name, **own, **versions}


def arrow_table(run_folder: Path, name: str) -> pa.Table:
    """A table of a run, `name` a key of FILES or "telemetry", with the columns that this version writes, whichever
    version wrote it; see docs/reference/files.md. Without rows where nothing was written.

    Raises:
        Refused: a file that is damaged, or of another version of innerloop.
    """
    import pyarrow as pa

    folder = Path(run_folder)
    path, identity = folder / f"{name}.parquet", identity_of(folder)
    if is_there(path):
        identity |= parquet.stored_identity(path)
    if name == "telemetry":
        columns = {parquet.RUN: pa.string(), "source": pa.string(), "time_ns": pa.int64(), "late_ns": pa.int64()}
        return parquet.read_telemetry(path, identity) if is_there(path) else pa.schema(columns).empty_table()
    rows, header = _table(folder, name)
    if name == "requests" and _raw(folder, name).exists():
        rows = filled(rows, _table(folder, "tokens")[0])
    return parquet.arrow(FILES[name][1], rows, header, identity)


def _remove_raw(trace: Path) -> None:
    """Deletes a trace's own files, and its folders where nothing else lies in them; follows no link."""
    if trace.is_symlink():
        return
    for folder in (trace / "measure", trace / "warmup", trace):
        if folder.is_symlink():
            continue
        for file in LAYOUT:
            (folder / f"{file}.bin").unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _raw(run_folder: Path, name: str) -> Path:
    part, file = FILES[name]
    return run_folder / "trace" / part / f"{file}.bin"


def _table(run_folder: Path, name: str) -> tuple[np.ndarray, dict[str, int]]:
    file = FILES[name][1]
    if is_there(raw := _raw(run_folder, name)):
        return _read_raw(raw, file)
    if is_there(path := run_folder / f"{name}.parquet"):
        return parquet.read(path, file)
    return np.empty(0, dtype=LAYOUT[file]), no_header()


def _read_raw(path: Path, file: str) -> tuple[np.ndarray, dict[str, int]]:
    """The whole records and the header of a raw file, also of one that is shorter than its header says, or of an
    earlier layout."""
    if not path.is_file():
        raise Refused(f"{path} is not a regular file")
    size = path.stat().st_size
    empty = np.empty(0, dtype=LAYOUT[file])
    if size < HEADER_BYTES:
        return empty, no_header()
    head = np.fromfile(path, dtype=HEADER, count=1)[0]
    if head["magic"] == b"":  # made, and not one record written
        return empty, no_header()
    dtype = layout_of(file, int(head["record_bytes"]))
    if head["magic"] != MAGIC or dtype is None:
        raise Refused(f"{path} is not a trace of this version of innerloop")
    header = {name: int(head[name]) for name in no_header()}
    count = min(header["count"], (size - HEADER_BYTES) // dtype.itemsize)
    if count <= 0:
        return empty, header
    stored = np.memmap(path, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(count,))
    return in_this_layout(file, stored), {**header, "record_bytes": LAYOUT[file].itemsize}


def write_telemetry(run_folder: Path, samples: Sequence[Samples], identity: Mapping[str, str]) -> None:
    """Writes telemetry.parquet: every source's samples below each other, wide, with a `run` and a `source` column.

    A column that a source does not have is null in its rows. Nothing is written when there is no sample at all.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if sum(len(one.table) for one in samples) == 0:
        return
    schema = pa.unify_schemas([_sampled(one.source, one.table[:0], identity).schema for one in samples])
    schema = schema.with_metadata(parquet.identity_metadata(identity))
    with (
        whole(Path(run_folder) / "telemetry.parquet") as partial,
        pq.ParquetWriter(partial, schema, compression="zstd") as writer,
    ):
        for one in samples:
            for part in chunks(one.table):
                rows = _sampled(one.source, part, identity)
                missing = {field.name: pa.nulls(len(part), field.type) for field in schema}
                found = dict(zip(rows.column_names, rows.columns, strict=True))
                writer.write_table(pa.table({**missing, **found}, schema))


def _sampled(source: str, table: np.ndarray, identity: Mapping[str, str]) -> pa.Table:
    """Samples of one source as they are written."""
    import pyarrow as pa

    columns = {
        parquet.RUN: pa.array([identity.get(parquet.RUN, "")] * len(table), pa.string()),
        "source": pa.array([source] * len(table), pa.string()),
    }
    for name in table.dtype.names or ():
        values = np.ascontiguousarray(table[name])
        columns[name] = pa.array(values, mask=~known(values))
    return pa.table(columns)
