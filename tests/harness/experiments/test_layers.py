"""Real ladders of vLLM: its engine core, `LLMEngine`, `AsyncLLM` and its server, on the same requests."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from innerloop.engines.worker import trace
from innerloop.engines.worker.trace import PHASES
from innerloop.harness.result.suspect_client import BUSY_SHARE, NEAR_SHARE
from innerloop.harness.store.parquet import NAMES
from tests.real import ONE_MORE, filled, shown_later, start_long
from tests.shared import LAYERS

pytestmark = pytest.mark.real


def test_every_layer_was_given_the_same_requests_and_settings(ladder):
    waterfall, results = ladder.waterfall, ladder.results
    assert waterfall["layers"] == LAYERS
    assert {result["workload_hash"] for result in results.values()} == {waterfall["workload_hash"]}
    assert list(waterfall["differences"]) == ["skip_tokenizer_init"]
    own = {  # the first cannot be seen from another process, the others are a layer's
        "attention_backend", "process_hops", "protocol", "prompts_sent_as", "tokens_counted_by",
    }  # fmt: skip
    effective = [result["engine"]["effective"] for result in results.values()]
    assert len({json.dumps({k: v for k, v in e.items() if k not in own}) for e in effective}) == 1


def test_every_layer_gave_exactly_the_same_tokens(ladder):
    folder = ladder.folder
    ids = {}
    for layer in LAYERS:
        with np.load(folder / "runs" / f"{layer}-1" / "output_ids.npz", allow_pickle=False) as kept:
            ids[layer] = (kept["ids"].tolist(), kept["offsets"].tolist())
    assert all(ids[layer] == ids["core"] for layer in LAYERS)
    assert len(set(ids["core"][0])) > 8


def test_the_parts_of_the_waterfall_add_up(ladder):
    waterfall, folder, results = ladder.waterfall, ladder.folder, ladder.results
    assert json.loads((folder / "document.json").read_text()) == waterfall
    rungs = waterfall["rungs"]
    assert [rung["name"] for rung in rungs] == LAYERS
    assert sum(rung["added_ms_per_step"] for rung in rungs) == pytest.approx(rungs[-1]["ms_per_step"])
    for below, above in pairwise(rungs):
        assert above["ms_per_step"] == pytest.approx(below["ms_per_step"] + above["added_ms_per_step"])
    for rung in rungs:
        result = results[rung["name"]]
        idle, throughput = result["time_share"]["idle"], result["throughput"]["output_tokens_per_s"]
        assert rung["tokens_per_s"] == pytest.approx(throughput / (1 - idle))  # without the time without any request


@pytest.mark.parametrize("layer", ["core", "engine"])
def test_the_phases_add_up_to_the_steps_within_two_percent(ladder, layer):
    """Of the usual step: between two phases another process may get the core, for longer than a whole step."""
    folder, results = ladder.folder, ladder.results
    assert results[layer]["engine"]["unreported"] == []
    told = filled(folder / "runs" / f"{layer}-1", PHASES)
    assert (told <= 1).all()
    assert np.median(told) >= 0.98
    assert min(pq.read_table(folder / "runs" / f"{layer}-1" / "steps.parquet")["prepare_ns"].to_pylist()) > 0


@pytest.mark.parametrize("layer", LAYERS)
def test_steps_and_bubbles_and_idle_time_are_the_window(ladder, layer):
    folder, results = ladder.folder, ladder.results
    shares = results[layer]["time_share"]
    if results[layer]["engine"]["stepping"] == "observed":  # its steps overlap with what lies between them
        assert shares["steps"] is shares["bubbles"] is None
        assert 0 <= shares["idle"] <= 1
        return
    assert sum(shares.values()) == pytest.approx(1.0)
    table = pq.read_table(folder / "runs" / f"{layer}-1" / "steps.parquet").to_pydict()
    steps_s = (sum(table["end_ns"]) - sum(table["start_ns"])) / 1e9
    between_s = (shares["bubbles"] + shares["idle"]) * results[layer]["window"]["duration_s"]
    assert steps_s + between_s == pytest.approx(results[layer]["window"]["duration_s"], rel=1e-6)


@pytest.mark.parametrize("layer", ["async", "http"])
def test_what_is_in_another_process_is_unknown_and_not_zero(ladder, layer):
    folder, results = ladder.folder, ladder.results
    table = pq.read_table(folder / "runs" / f"{layer}-1" / "steps.parquet").to_pydict()
    for name in results[layer]["engine"]["unreported"]:
        assert set(table[NAMES["steps"].get(name, name)]) == {None}, name
    assert results[layer]["batch"]["mean"] is None


def test_the_walls_between_processes_are_told(ladder):
    results = ladder.results
    hops = {layer: result["engine"]["effective"]["process_hops"] for layer, result in results.items()}
    assert hops == {"core": 0, "engine": 0, "async": 1, "http": 2}


def test_it_is_shown_whether_the_client_is_the_bottleneck(ladder):
    waterfall, results = ladder.waterfall, ladder.results
    client = results["http"]["client"]
    assert client == waterfall["client"]
    assert client["cpu_s_per_s"] > 0
    received = results["http"]["throughput"]["output_tokens_per_s"]
    assert client["share_of_capacity"] == received / client["null_server"]["tokens_per_s"] > 0
    near = client["share_of_capacity"] > NEAR_SHARE or client["cpu_s_per_s"] > BUSY_SHARE
    assert ("client_near_limit" in [reason["code"] for reason in results["http"]["reasons"]]) is near
    assert client["null_server"]["tokens"] > 10_000
    assert all(results[layer]["client"] is None for layer in LAYERS if layer != "http")


def test_server_and_client_are_gone_afterwards(ladder):
    folder = ladder.folder
    assert processes_of(folder) == []


@ONE_MORE  # test_failures.py has killed harnesses, vllm/test_ranks.py the processes of a killed vLLM
def test_killing_the_harness_during_layer_http_leaves_no_process_and_its_records_can_be_shown(tmp_path):
    going = start_long("vllm", tmp_path / "run", "--layer", "http", "--ceilings", "off")
    try:
        going.until_measuring()
        names = [" ".join(process.cmdline()) for process in going.members]
        assert any("vllm.server" in name for name in names)
        assert len(names) >= 4  # guard, client, server and the engine core
        going.harness.kill()
        going.until_gone()
    finally:
        going.end()
    assert processes_of(tmp_path) == []
    assert len(trace.records(tmp_path / "run" / "trace" / "measure", "tokens")) >= 5
    result = shown_later(tmp_path / "run")
    assert result["failure"]["cause"] == "interrupted"
    assert result["counts"]["output_tokens"] > 0


def processes_of(folder) -> list[list[str]]:
    """The command lines of processes that work for a run in `folder`, or are servers that it had."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if str(folder) in (process.info["cwd"] or "") or any(str(folder) in word for word in line):
            found.append(line)
    return found
