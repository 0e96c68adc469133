"""A run's records on disk."""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from innerloop.engines.worker import trace
from innerloop.engines.worker.trace import HEADER_BYTES, STEP
from innerloop.harness import __version__
from innerloop.harness.cli.errors import Refused
from innerloop.harness.schema.spec import VERSION
from innerloop.harness.store import parquet
from innerloop.harness.store.tables import FILES, convert, read_tables
from innerloop.harness.telemetry.sampler import TIMES, Sampler
from tests.harness.conftest import SECOND, offline_run, write_raw

NAMES = ("steps", "tokens", "requests", "warmup_steps")


class Fixed(Sampler):
    """Gives the same few numbers, of which some are missing."""

    def __init__(self, source: str, column: str, kind: str, value: Any) -> None:
        super().__init__(3600)
        self.source, self.value = source, value
        self.dtype = np.dtype([*TIMES, (column, kind)])

    def open(self, pid: int) -> None: ...

    def read(self) -> tuple[Any, ...]:
        return (self.value,)


def test_converting_changes_the_place_of_the_records_and_not_one_number(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    raw = read_tables(folder)
    returned = convert(folder)
    read = read_tables(folder)
    assert len(raw.tokens) == 400
    for name in NAMES:
        for rows in (getattr(returned, name), getattr(read, name)):
            assert rows.tobytes() == getattr(raw, name).tobytes()
    assert returned.header == read.header == raw.header
    assert raw.header["start_ns"] == SECOND


def test_the_raw_trace_is_gone_afterwards(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    convert(folder)
    assert not (folder / "trace").exists()
    assert {p.name for p in folder.glob("*.parquet")} == {f"{name}.parquet" for name in NAMES}
    assert not list(folder.glob(".*.partial"))


def test_missing_values_are_null_in_parquet_and_times_are_whole_nanoseconds(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    convert(folder)
    steps = pq.read_table(folder / "steps.parquet")
    assert steps["wait_ns"].null_count == len(steps)
    assert steps["schedule_ns"].null_count == 0
    assert str(steps.schema.field("start_ns").type) == "int64"
    requests = pq.read_table(folder / "requests.parquet")
    assert requests["user"].null_count == len(requests)
    assert set(requests["state"].to_pylist()) == {"finished"}


def test_a_missing_fraction_is_null_and_comes_back_as_nan(tmp_path: Path) -> None:
    steps = offline_run()["steps"][:3].copy()
    steps["kv_usage"][1] = np.nan
    parquet.write(tmp_path / "steps.parquet", "steps", steps, {"record_bytes": STEP.itemsize}, {})
    assert pq.read_table(tmp_path / "steps.parquet")["kv_usage"].null_count == 1
    assert read_tables(tmp_path).steps.tobytes() == steps.tobytes()


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + 96 * 2 + 95])
def test_a_trace_cut_off_anywhere_gives_its_whole_records(run_folder: Callable[..., Path], size: int) -> None:
    folder = run_folder()
    os.truncate(folder / "trace" / "measure" / "steps.bin", size)
    whole = max(size - HEADER_BYTES, 0) // STEP.itemsize
    assert len(read_tables(folder).steps) == whole
    convert(folder)
    assert len(read_tables(folder).steps) == whole
    assert len(read_tables(folder).tokens) == 400


@pytest.mark.parametrize("count", [0, 1, 30])
def test_only_what_the_header_counts_is_there(run_folder: Callable[..., Path], count: int) -> None:
    assert len(read_tables(run_folder(count=count)).steps) == count


def test_a_file_made_but_never_written_is_empty(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    (folder / "trace" / "measure" / "steps.bin").write_bytes(bytes(1 << 20))
    assert len(read_tables(folder).steps) == 0


def test_a_run_that_never_measured_has_empty_tables(tmp_path: Path) -> None:
    tables = convert(tmp_path)
    assert [len(getattr(tables, name)) for name in NAMES] == [0] * 4
    assert set(tables.header.values()) == {0}
    assert list(tmp_path.iterdir()) == []


def test_another_versions_trace_is_refused(run_folder: Callable[..., Path]) -> None:
    folder = run_folder(record_bytes=104)
    with pytest.raises(Refused, match="not a trace of this version"):
        read_tables(folder)


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"a": [1]}), tmp_path / "steps.parquet")
    with pytest.raises(Refused, match="not written by this version"):
        read_tables(tmp_path)


def other_version(path: Path, without: tuple[str, ...] = (), **more: Any) -> None:
    """Rewrites a table as another version of innerloop would have: fewer columns, further ones, other records."""
    import pyarrow as pa

    table = pq.read_table(path)
    metadata = {**table.schema.metadata, parquet.HEADER_PREFIX + b"record_bytes": b"7"}
    table = table.drop_columns(list(without))
    for name, value in more.items():
        table = table.append_column(name, pa.array([value] * len(table)))
    pq.write_table(table.select([*reversed(table.column_names)]).replace_schema_metadata(metadata), path)


def test_a_table_of_another_version_is_read_by_its_columns_names(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    raw = convert(folder).steps
    other_version(folder / "steps.parquet", ("preempted", "kv_usage", "wait_ns"), later_tokens=3, later_words="x")
    read = read_tables(folder)
    assert read.steps.dtype == STEP
    assert set(read.steps["preempted"].tolist()) == set(read.steps["wait_ns"].tolist()) == {-1}
    assert np.isnan(read.steps["kv_usage"]).all()
    for name in set(STEP.names or ()) - {"preempted", "kv_usage", "wait_ns"}:
        assert (read.steps[name] == raw[name]).all()
    assert read.header["start_ns"] == SECOND


def test_columns_that_the_trace_gains_are_missing_in_tables_of_today(
    run_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder()
    raw = convert(folder).steps
    longer = np.dtype([*STEP.descr, ("later_tokens", "<i4"), ("later_ns", "<i8"), ("later_share", "<f8")])
    monkeypatch.setitem(trace.LAYOUT, "steps", longer)
    read = read_tables(folder).steps
    assert set(read["later_tokens"].tolist()) == set(read["later_ns"].tolist()) == {-1}
    assert np.isnan(read["later_share"]).all()
    assert all((read[name] == raw[name]).all() for name in STEP.names or ())


def test_a_table_without_what_is_never_missing_is_refused(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    convert(folder)
    other_version(folder / "steps.parquet", ("end_ns", "wait_ns"))
    with pytest.raises(Refused, match=r"is incomplete: it lacks end_ns$"):
        read_tables(folder)


def test_an_interrupted_conversion_can_be_repeated(
    run_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder()
    write = parquet.write

    def killed(path: Path, *arguments: Any) -> None:
        if path.name == "requests.parquet":
            raise KeyboardInterrupt
        write(path, *arguments)

    monkeypatch.setattr(parquet, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(folder)
    assert len(read_tables(folder).requests) == 8
    monkeypatch.undo()
    convert(folder)
    assert len(read_tables(folder).requests) == 8
    assert not (folder / "trace").exists()


def test_a_full_disk_leaves_the_raw_trace_and_says_so(
    run_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("innerloop.harness.store.atomic.replace_file", full)
    tables = convert(folder)
    assert len(tables.tokens) == 400
    assert "No space left on device" in tables.notes[0]
    assert all((folder / "trace" / part / f"{file}.bin").exists() for part, file in FILES.values())
    assert not list(folder.glob(".*.partial"))


def test_every_sources_samples_lie_in_one_file(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    host, device = Fixed("host", "load", "<f8", 0.5), Fixed("device-0", "power_mw", "<i8", -1)
    for sampler in (host, device):
        sampler.start(1)
    tables = convert(folder, host, device)
    written = pq.read_table(folder / "telemetry.parquet").to_pylist()
    assert {row["source"] for row in written} == {"host", "device-0"}
    assert {row["run"] for row in written} == {folder.name}
    assert parquet.stored_identity(folder / "telemetry.parquet")["workload_hash"] == "abc123"
    assert len(written) == sum(len(one.table) for one in tables.samples) >= 2
    for row in written:
        assert (row["load"], row["power_mw"]) == ((0.5, None) if row["source"] == "host" else (None, None))


def test_without_samples_there_is_no_telemetry_file(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    convert(folder, Fixed("host", "load", "<f8", 0.5))
    assert not (folder / "telemetry.parquet").exists()


def test_a_cut_requests_progress_is_in_the_tables_and_in_parquet(tmp_path: Path) -> None:
    made = offline_run()
    requests = made["requests"].copy()
    requests["state"][0], requests["output_tokens"][0], requests["last_token_ns"][0] = 3, 0, -1
    write_raw(tmp_path / "trace" / "measure" / "tokens.bin", made["tokens"])
    write_raw(tmp_path / "trace" / "measure" / "requests.bin", requests)
    for rows in (convert(tmp_path).requests, read_tables(tmp_path).requests):
        assert (rows["output_tokens"] == 50).all()
        assert len(set(rows["last_token_ns"].tolist())) == 1


def test_files_of_many_runs_are_one_table(run_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Each row says which run, step and request it is of, and each file what the run was."""
    import pyarrow as pa

    for name in ("a", "b"):
        folder = run_folder(name)
        spec = {"engine": "vllm", "model": "m", "layer": "core", "workload": "w", "label": {"x": "y"}}
        job = {"id": f"id-of-{name}", "spec": spec, "workload_hash": "h"}
        (folder / "job.json").write_text(json.dumps(job))
        convert(folder)
    both = pa.concat_tables([pq.read_table(path) for path in sorted(tmp_path.glob("*/steps.parquet"))])
    assert both.column_names[:2] == ["run", "step"]
    assert both["run"].to_pylist() == ["id-of-a"] * (len(both) // 2) + ["id-of-b"] * (len(both) // 2)
    assert both["step"].to_pylist() == [*range(len(both) // 2)] * 2
    assert {"prefill_positions", "decode_positions"} <= set(both.column_names)
    requests, tokens = (pq.read_table(folder / f"{name}.parquet") for name in ("requests", "tokens"))
    assert requests["request"].to_pylist() == list(range(len(requests)))
    assert tokens.column_names == ["run", "time_ns", "request", "tokens", "step"]
    assert parquet.stored_identity(folder / "tokens.parquet") == {
        "run": "id-of-b",
        "engine": "vllm",
        "model": "m",
        "layer": "core",
        "workload": "w",
        "workload_hash": "h",
        "innerloop_version": __version__,
        "schema_version": VERSION,
    }


def test_duckdb_joins_the_files_of_many_runs(run_folder: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert(run_folder(name))
    found = (
        duckdb.connect()
        .execute(
            f"""select run, step, sum(tokens), any_value(prefill_positions), any_value(decode_positions)
        from '{tmp_path}/*/tokens.parquet' join '{tmp_path}/*/steps.parquet' using (run, step)
        join '{tmp_path}/*/requests.parquet' using (run, request)
        where step < 2 and prompt_tokens = 16 group by run, step order by run, step"""
        )
        .fetchall()
    )
    assert found == [(run, step, 8, *positions) for run in "ab" for step, positions in enumerate([(128, 0), (0, 8)])]


def test_the_column_of_the_run_takes_next_to_no_room(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    convert(folder)
    group = pq.ParquetFile(folder / "tokens.parquet").metadata.row_group(0)
    [size] = [group.column(k).total_compressed_size for k in range(5) if group.column(k).path_in_schema == "run"]
    assert group.num_rows == 400
    assert size < 150


def test_a_run_without_a_job_is_called_by_its_folder(run_folder: Callable[..., Path]) -> None:
    folder = run_folder()
    convert(folder)
    assert set(pq.read_table(folder / "steps.parquet")["run"].to_pylist()) == {folder.name}


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_damaged_table_is_refused_in_one_line(run_folder: Callable[..., Path], part: float) -> None:
    folder = run_folder()
    convert(folder)
    for name in ("steps", "tokens", "requests"):
        path = folder / f"{name}.parquet"
        whole = path.read_bytes()
        for damaged in (whole[: int(len(whole) * part)], whole[: int(len(whole) * part)] + b"\xff" * 64 + whole[-200:]):
            path.write_bytes(damaged)
            with pytest.raises(Refused) as refused:
                read_tables(folder)
            assert "\n" not in str(refused.value)
        path.write_bytes(whole)


def test_a_long_table_is_read_into_a_file_and_is_the_same(run_folder, monkeypatch) -> None:
    folder = run_folder()
    tables = convert(folder)
    monkeypatch.setattr("innerloop.harness.store.parquet.MAPPED", 10)
    monkeypatch.setattr("innerloop.harness.store.parquet.CHUNK", 7)
    before = sorted(folder.iterdir())
    found = read_tables(folder)
    assert isinstance(found.tokens.base, mmap.mmap)
    assert found.tokens.tolist() == tables.tokens.tolist()
    assert found.requests.tolist() == tables.requests.tolist()
    assert sorted(folder.iterdir()) == before


def test_a_trace_that_is_a_link_is_read_and_what_it_leads_to_stays(run_folder: Callable[..., Path]) -> None:
    theirs, ours = run_folder("theirs"), run_folder("ours")
    shutil.rmtree(ours / "trace")
    (ours / "trace").symlink_to(theirs / "trace")
    assert len(convert(ours).steps) > 0
    assert (theirs / "trace" / "measure" / "steps.bin").exists()
