"""vLLM on two ranks: a window that ends, then one in which the worker is killed. Both ranks were seen, none is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.profiles import load_model
from tests import preloaded
from tests.real import FEW_LAYERS, LONG, SMALLER, Going, check_failed, filled, first_tokens, result_of, variables
from tests.shared import SEED, SHORT, Whole

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two cores"),
]
GIVEN = (
    "--engine", "vllm", "--device", "cpu", "--model", "llama-tiny", *FEW_LAYERS, *SEED,
    "--windows", "short.yaml,long.yaml", "--set", "tensor_parallel=2", "--set", "max_batch_size=8",
    "--set", "max_tokens_per_step=32", "--set", "kv_cache_tokens=8192", "--set", "context_length=1024",
    "--ceilings", "off", "--keep-token-ids",
)  # fmt: skip


@dataclass(frozen=True)
class Windows:
    """Both windows' folders, and what the ranks had of shared memory."""

    ended: Path
    killed: Path
    shared: set[Path]


def shared_memory(processes: list[psutil.Process]) -> set[Path]:
    """What these have of multiprocessing's."""
    mapped = (line.split()[-1] for one in processes for line in Path(f"/proc/{one.pid}/maps").read_text().splitlines())
    return {Path(path) for path in mapped if path.startswith("/dev/shm/psm_")}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    place = tmp_path_factory.mktemp("ranks")
    for name, workload in (("short", SHORT), ("long", LONG)):
        (place / f"{name}.yaml").write_text(workload)
    runs = place / "both" / "runs"
    harness = preloaded.Command(
        "harness.run", *GIVEN, "--out", place / "both", cwd=place, env=variables(), start_new_session=True
    )
    going = Going(harness, runs / "long-1")
    try:
        going.until_measuring()
        worker = going.worker()
        assert len(worker.children(recursive=True)) >= 2
        shared = shared_memory(worker.children(recursive=True))
        worker.kill()
        check_failed(going, "killed_by_signal", 3)
        assert not going.left()
        yield Windows(runs / "short-1", runs / "long-1", shared)
    finally:
        going.end()


def steps(folder: Path) -> dict[str, list[Any]]:
    return pq.read_table(folder / "steps.parquet").to_pydict()


def test_a_killed_worker_leaves_no_rank_and_what_it_recorded_tells_of_both(ran: Windows) -> None:
    assert ran.shared
    assert not [path for path in ran.shared if path.exists()]
    recorded, result = steps(ran.killed), result_of(ran.killed)
    assert min(recorded["prepare_ns"]) > 0
    assert any(recorded["wait_ns"])  # 0 where a busy machine lets the answer be there first
    assert result["engine"]["effective"]["tensor_parallel"] == 2
    assert result["telemetry"]["host"]["worker_processes_max"] >= 3  # the engine core and its ranks


def test_two_ranks_give_the_tokens_of_one(ran: Windows, whole_runs: dict[str, Whole]) -> None:
    alone = whole_runs["vllm"]
    assert result_of(ran.ended)["workload_hash"] == alone.result["workload_hash"]
    mine, theirs = first_tokens(ran.ended), first_tokens(alone.folder)
    assert mine == theirs
    assert len({token for ids in mine for token in ids}) > 8  # a model that always says the same would agree as well


def test_positions_add_up_also_of_split_prompts(ran: Windows) -> None:
    result, recorded = result_of(ran.ended), steps(ran.ended)
    requests = pq.read_table(ran.ended / "requests.parquet").to_pydict()
    assert result["failure"] is None
    assert result["checks"] == []
    assert max(recorded["prefill_positions"]) <= 32 < max(requests["prompt_tokens"])
    assert requests["output_tokens"] == requests["asked_tokens"]
    assert sum(recorded["prefill_positions"]) == sum(requests["prompt_tokens"])
    assert sum(recorded["decode_positions"]) == sum(requests["output_tokens"]) - len(requests["output_tokens"])


def test_all_that_a_step_can_tell_is_told_and_phases_fit_into_it(ran: Windows) -> None:
    result, recorded = result_of(ran.ended), steps(ran.ended)
    assert result["engine"]["unreported"] == []
    for name, values in recorded.items():
        assert None not in values, name
    assert (filled(ran.ended, PHASES) <= 1).all()
    assert min(recorded["prepare_ns"]) > 0
    assert any(recorded["wait_ns"])  # 0 where a busy machine lets the answer be there first
    assert not any(recorded["drafted_tokens"])
    assert result["engine"]["effective"]["speculation"] is None


def test_two_ranks_share_the_cache(ran: Windows) -> None:
    engine = result_of(ran.ended)["engine"]
    told = {name: engine["effective"][name] for name in ("tensor_parallel", "executor", "process_hops")}
    assert told == {"tensor_parallel": 2, "executor": "mp", "process_hops": 1}
    each = load_model("llama-tiny", [SMALLER]).kv_bytes_per_token("float32")
    assert engine["kv_cache_bytes"] == engine["kv_cache_tokens"] * each
