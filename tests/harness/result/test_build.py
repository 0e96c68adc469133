"""A run's result as it is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.samples import Samples
from innerloop.harness.result import build as results
from innerloop.harness.result.record import Record
from innerloop.harness.schema.common import Level
from innerloop.harness.schema.engine import Environment
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.startup import Memory, Startup
from innerloop.harness.store import result_file
from innerloop.harness.store.tables import Tables, read_tables
from innerloop.harness.telemetry.host import HOST
from tests.harness.conftest import SECOND, WORKLOAD

KILLED = Failure("killed_by_signal", "the worker was killed by SIGKILL", exit=-9, log_tail=("x",))


@pytest.fixture
def build(spec: dict[str, Any], reported: dict[str, Any], offline_tables: Tables) -> Any:
    """build(**what differs from a sound run)"""

    def make(**changes: Any) -> Result:
        arguments = {
            "spec": spec,
            "workload": WORKLOAD,
            "workload_hash": "abc",
            "tables": offline_tables,
            "reported": reported,
            "environment": Environment(python="3.11.9", lock_hash="def"),
            **changes,
        }
        return results.build(Record(**arguments))

    return make


def host_samples(**columns: list[float]) -> Samples:
    rows = np.zeros(3, dtype=HOST)
    rows["time_ns"] = [SECOND // 2, 2 * SECOND, 4 * SECOND]
    rows["worker_processes"] = 1
    for name, values in columns.items():
        rows[name] = values
    return Samples("host", rows, 0.25, 0.01, facts={"cpus": 2})


def doubts(result: Result) -> list[str]:
    """The codes of what is more than a note."""
    return [reason.code for reason in result.reasons if reason.severity != "note"]


def test_a_sound_run_is_ok_and_has_every_part(build: Any) -> None:
    result = build()
    assert (result.status, doubts(result), result.checks) == ("ok", [], ())
    assert (result.schema_version, result.kind) == ("2.1", "run")
    assert result.engine.name == "vllm"
    assert result.engine.version == "1.2.3"
    assert result.environment.lock_hash == "def"
    assert result.failure is None


def test_start_up_is_broken_into_its_parts(build: Any, reported: dict[str, Any]) -> None:
    assert build().startup_s == Startup(interpreter=0.2, imports=4.0, load=6.0, warmup=3.0, total=13.2)
    del reported["load_s"]
    partly = build(reported=reported).startup_s
    assert (partly.load, partly.total) == (None, None)


def test_an_unsettled_warm_up_makes_it_suspect_and_says_what_to_do(build: Any, reported: dict[str, Any]) -> None:
    reported["warmup"]["settled"] = False
    result = build(reported=reported)
    assert result.status == "suspect"
    assert doubts(result) == ["not_settled"]
    assert result.reasons[0].advice


def test_a_trace_that_does_not_add_up_makes_it_suspect(build: Any, offline_tables: Tables) -> None:
    steps = offline_tables.steps.copy()
    steps["output_tokens"][0] += 1
    result = build(tables=replace(offline_tables, steps=steps))
    assert doubts(result) == ["trace_mismatch"]
    assert result.checks[0].code == "output_sums"


def test_a_library_that_was_not_preloaded_makes_it_suspect(build: Any, reported: dict[str, Any]) -> None:
    result = build(reported={**reported, "not_preloaded": ["/gone/libtcmalloc.so.4"]})
    assert doubts(result) == ["not_preloaded"]
    assert any("without /gone/libtcmalloc.so.4," in reason.detail for reason in result.reasons)
    assert result.status == "suspect"


def test_a_prefix_cache_is_allowed_for(build: Any, reported: dict[str, Any], offline_tables: Tables) -> None:
    steps = offline_tables.steps.copy()
    steps["prefill_tokens"][0] -= 16
    tables = replace(offline_tables, steps=steps)
    assert build(tables=tables).status == "suspect"
    reported["info"]["effective"]["prefix_caching"] = True
    assert build(tables=tables, reported=reported).status == "ok"


def test_work_that_ran_out_makes_it_suspect(build: Any, offline_tables: Tables) -> None:
    requests = offline_tables.requests.copy()
    requests["user"] = range(8)
    result = build(tables=replace(offline_tables, requests=requests), workload=replace(WORKLOAD, duration_s=10.0))
    assert doubts(result) == ["workload_exhausted"]
    assert result.window.asked_s == 10.0


def test_a_disturbed_machine_makes_it_suspect(build: Any, offline_tables: Tables) -> None:
    host = host_samples(machine_busy_s=[0, 3, 6], machine_steal_s=[0, 0.1, 0.2], worker_user_s=[0, 1, 2])
    result = build(tables=replace(offline_tables, samples=(host,)))
    assert set(doubts(result)) == {"cpu_stolen", "other_processes"}
    assert result.telemetry.host.cpus == 2
    assert result.telemetry.sampler["host"].samples == 3


def test_memory_comes_from_the_samples_at_the_phases_and_from_the_engine(build: Any, offline_tables: Tables) -> None:
    tables = replace(offline_tables, samples=(host_samples(worker_rss_bytes=[5, 9, 7]),))
    memory = build(tables=tables, phases={"load": SECOND, "warmup": 3 * SECOND}).memory_bytes
    assert memory == Memory(before_load=5, after_load=9, peak=9, weights=100 << 20, kv_cache=1 << 30)


def test_a_failure_is_kept_with_what_was_measured(build: Any) -> None:
    result = build(failure=KILLED)
    assert result.status == "failed"
    assert result.failure == KILLED
    assert result.reasons[0].code == "killed_by_signal"
    assert result.reasons[0].advice
    assert result.counts.steps == 50


def test_a_run_that_never_started_is_a_result_too(spec: dict[str, Any], tmp_path: Path) -> None:
    result = results.build(
        Record(
            spec=spec,
            tables=read_tables(tmp_path),
            failure=Failure("install_failed", "no network"),
        )
    )
    result_file.write(tmp_path, result)
    read = result_file.read(tmp_path)
    assert read.status == "failed"
    assert read.window.duration_s is None
    assert read.startup_s == Startup()


def test_what_is_unknown_is_null_and_never_zero_or_nan(build: Any, tmp_path: Path, offline_tables: Tables) -> None:
    steps = offline_tables.steps.copy()
    for name in ("prefill_tokens", "decode_tokens", "running", "preempted", "execute_ns"):
        steps[name] = -1
    steps["kv_usage"] = np.nan
    path = result_file.write(tmp_path, build(tables=replace(offline_tables, steps=steps)))
    assert "NaN" not in path.read_text()
    result = result_file.read(path)
    assert result.throughput.prefill_positions_per_s is None
    assert result.counts.preemptions is None
    assert result.kv_usage == result.batch == Level(None, None)
    assert result.step_s.execute.p50 is None
    assert result.over_time is not None
    assert result.over_time.kv_usage == (None,) * 60


def test_a_result_is_read_by_its_folder_or_its_file(build: Any, tmp_path: Path) -> None:
    made = build()
    path = result_file.write(tmp_path, made)
    assert result_file.read(tmp_path) == result_file.read(path) == made


def test_the_clients_account_is_a_section_of_its_own_and_nears_its_limit_is_a_doubt(
    spec: dict[str, Any], reported: dict[str, Any], offline_tables: Tables
) -> None:
    reported["info"]["client"] = {"tokens_per_s": 100.0}
    reported["process_cpu_s"] = 0.5
    result = results.build(Record(spec={**spec, "layer": "http"}, tables=offline_tables, reported=reported))
    assert result.client is not None
    assert result.throughput.output_tokens_per_s is not None
    assert result.client.cpu_s == 0.5
    assert result.client.share_of_capacity == result.throughput.output_tokens_per_s / 100.0 > 0.5
    assert "client_near_limit" in [reason.code for reason in result.reasons]
