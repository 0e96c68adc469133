"""The prefix cache in a result: what it could have had, what it had, and what became of the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.by_class import by_class
from innerloop.harness.analysis.prefixes import hit_share_over_time, recomputed
from innerloop.harness.result import caches
from innerloop.harness.result.build import load_notes
from innerloop.harness.result.record import Record
from innerloop.harness.schema.common import TokenTotals
from innerloop.harness.schema.load import ClassCount, Replayed
from innerloop.harness.schema.result import Workload
from innerloop.harness.store.tables import Tables

TOTALS = TokenTotals(1, 1, 1.0, 1)


def record(tables: Tables, **more: Any) -> Record:
    reported = {"info": {"effective": {"prefix_caching": True, "kv_block_tokens": 4}}, **more.pop("reported", {})}
    return Record(spec=more.pop("spec", {}), tables=tables, reported=reported, **more)


def test_possible_measured_lost_and_recomputed_stand_beside_each_other(offline_tables: Tables) -> None:
    steps = offline_tables.steps  # 8 prompts of 16 tokens
    steps["cached_tokens"] = 0
    steps["cached_tokens"][0], steps["prefill_tokens"][0], steps["prefill_tokens"][9] = 40, 88, 7
    known = np.array([0, 7, 7, 7, 16, 16, 16, 16])
    found = caches.section(record(offline_tables, known_lens=known), 128)
    assert (found.start, found.block_tokens) == ("cold", 4)
    assert found.possible_hit_share == (3 * 7 + 4 * 16) / 128
    assert found.possible_hit_share_in_blocks == (3 * 4 + 4 * 12) / 128  # a prompt's last token is always computed
    assert found.prefix_hit_share == 40 / 128
    assert found.lost_hit_tokens == 60 - 40
    assert found.recomputed_positions == 7
    assert found.hit_share_over_time is not None
    assert found.hit_share_over_time[0] == pytest.approx(40 / 128)


def test_a_warm_start_is_said_and_is_no_doubt(offline_tables: Tables) -> None:
    spec = {"workload_profile": {"caches": "warm"}}
    warm = record(offline_tables, spec=spec, reported={"caches_reset": False})
    found = caches.section(warm, 128)
    assert found.start == "warm"
    assert list(caches.doubts(warm, found, prefix_caching=True)) == []
    cold = record(offline_tables, reported={"caches_reset": False})
    assert [one.code for one in caches.doubts(cold, caches.section(cold, 128), True)] == ["cache_not_reset"]


def test_nothing_is_said_without_a_prefix_cache_or_what_the_engine_does_not_report(offline_tables: Tables) -> None:
    without = replace(record(offline_tables), reported={})
    assert caches.section(without, 128).start is None
    offline_tables.steps["cached_tokens"] = -1
    found = caches.section(record(offline_tables), 128)
    assert (found.prefix_hit_share, found.possible_hit_share, found.recomputed_positions) == (None, None, None)
    assert hit_share_over_time(offline_tables.steps, 1, 2) is None
    assert recomputed(offline_tables.steps, offline_tables.requests) is None


def test_latencies_are_told_by_class(make_requests: Any, make_tokens: Any) -> None:
    requests = make_requests([0, 0, 10], [10, 30, 40], [20, 70, 80], [2, 3, 2], request_class=[0, 1, 1])
    tokens = make_tokens([10, 20, 30, 40, 50, 70, 80], [0, 0, 1, 2, 1, 1, 2])
    found = by_class(requests, tokens, ["chat", "code"], 80_000_000)
    assert found is not None
    chat, code = found
    assert (chat.name, chat.requests, chat.ttft.p50, chat.tpot.p50) == ("chat", 1, 0.01, 0.01)
    assert (code.finished, code.e2e.max) == (2, 0.07)
    assert code.ttft.mean == pytest.approx(0.03)
    assert by_class(requests, tokens, (), 0) is None


def test_what_became_of_a_trace_is_a_note(offline_tables: Tables) -> None:
    replayed = Replayed("mooncake", 10, 7, empty=2, too_long=1, fit="skip", length_scale=0.5)
    workload = Workload(7, None, None, TOTALS, TOTALS, classes=(ClassCount("a", 7),), replayed=replayed)
    notes = list(load_notes(record(offline_tables, workload=workload, reported={"spread_over_s": 2.5})))
    assert notes == [
        "users started over 2.50 s: one mean residence time, estimated from the warm-up",
        "trace: 2 rows without tokens left out, 1 requests left out: longer than the context, "
        "lengths multiplied by 0.5",
    ]
