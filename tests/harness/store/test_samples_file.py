"""Samples are read by source, a part at a time, and only the columns that are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from innerloop.harness.analysis.samples import Samples
from innerloop.harness.cli.errors import Refused
from innerloop.harness.store.samples_file import FILE, read_samples
from innerloop.harness.store.tables import write_telemetry

A = np.dtype([("time_ns", "<i8"), ("late_ns", "<i8"), ("watts", "<f8"), ("count", "<i8"), ("never", "<f8")])
B = np.dtype([("time_ns", "<i8"), ("late_ns", "<i8"), ("cpu_s", "<f8")])


def write(folder: Path) -> None:
    one, two = np.zeros(5, A), np.zeros(3, B)
    one["time_ns"], one["watts"], one["count"] = range(5), [1, np.nan, 3, 4, 5], [-1, -1, 7, 8, 9]
    one["never"] = np.nan
    two["time_ns"], two["cpu_s"] = range(3), [0.5, 1.0, 1.5]
    write_telemetry(folder, [Samples("gpu0", one, 1.0, 0.0), Samples("host", two, 1.0, 0.0)], {"run": "r"})


def test_a_link_to_itself_is_refused_and_not_taken_for_no_samples(tmp_path: Path) -> None:
    assert read_samples(tmp_path, ("watts",)) == {}
    (tmp_path / FILE).symlink_to(FILE)
    with pytest.raises(Refused, match=r"telemetry\.parquet is not a regular file"):
        read_samples(tmp_path, ("watts",))


@pytest.mark.parametrize("part", [1, 2, 3, 100])
def test_each_source_has_the_columns_of_which_it_has_a_value(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setattr("innerloop.harness.store.parquet.CHUNK", part)
    found = read_samples(tmp_path, ("watts", "count", "never", "cpu_s", "no_such"))
    assert {source: set(columns) for source, columns in found.items()} == {
        "gpu0": {"time_ns", "watts", "count"},
        "host": {"time_ns", "cpu_s"},
    }
    assert found["gpu0"]["time_ns"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found["gpu0"]["watts"], [1, np.nan, 3, 4, 5])
    np.testing.assert_array_equal(found["gpu0"]["count"], [np.nan, np.nan, 7, 8, 9])
    assert found["host"]["cpu_s"].tolist() == [0.5, 1.0, 1.5]


def test_without_samples_there_are_no_sources_and_damage_is_refused(tmp_path: Path) -> None:
    assert read_samples(tmp_path, ("watts",)) == {}
    (tmp_path / FILE).write_bytes(b"PAR1")
    with pytest.raises(Refused, match="is damaged"):
        read_samples(tmp_path, ("watts",))
    for source in ([1, 2], [None, "host"]):
        pq.write_table(pa.table({"source": source, "time_ns": [1, 2], "watts": [1.0, 2.0]}), tmp_path / FILE)
        with pytest.raises(Refused, match="is damaged"):
            read_samples(tmp_path, ("watts",))
