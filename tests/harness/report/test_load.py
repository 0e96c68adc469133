"""Traces, sessions, classes and the prefix cache in the report."""

from __future__ import annotations

from rich.console import Console

from innerloop.harness.report.load import by_class, cache_facts, load_facts, load_words
from innerloop.harness.schema.caches import Caches
from innerloop.harness.schema.common import Summary, TokenTotals
from innerloop.harness.schema.load import ClassCount, ClassLatency, Replayed
from innerloop.harness.schema.result import Workload

TOTALS = TokenTotals(1, 1, 1.0, 1)


def test_what_a_cache_could_have_had_stands_beside_what_it_had() -> None:
    caches = Caches(
        start="cold",
        prefix_hit_share=0.351,
        possible_hit_share=0.357,
        possible_hit_share_in_blocks=0.352,
        block_tokens=32,
        lost_hit_tokens=12,
        evicted_blocks=0,
    )
    assert list(cache_facts(caches)) == [
        (
            "prefix cache",
            "35.1 % hit; an infinite cache: 35.7 %, 35.2 % in blocks of 32; cold at the start",
        ),
        ("", "12 tokens lost to evictions or timing, 0 blocks evicted"),
    ]
    assert list(cache_facts(Caches())) == []
    assert next(cache_facts(Caches(start="warm"))) == ("prefix cache", "hits are not reported; warm at the start")


def test_a_trace_and_sessions_are_told() -> None:
    replayed = Replayed("azure", 10, 8, empty=2)
    workload = Workload(
        8, None, None, TOTALS, TOTALS, sessions=3, shared_share=0.5, classes=(ClassCount("a", 8),), replayed=replayed
    )
    assert list(load_facts(workload)) == [("trace", "azure, 8 requests from 10 rows"), ("sessions", "3, 8 turns")]
    assert list(load_words(workload)) == [
        "an infinite prefix cache would hit 50.0 % of the prompt tokens",
        "3 sessions",
        "classes: a 8",
        "trace of format azure: 2 rows without tokens left out",
    ]
    assert list(load_facts(None)) == []


def test_classes_have_a_row_each() -> None:
    few = Summary(0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 99)
    many = Summary(0.2, 0.2, 0.2, 0.2, 0.9, 0.9, 100)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(
        by_class((ClassLatency("chat", 99, 99, few, few, few), ClassLatency("code", 100, 100, many, few, many)))
    )
    chat, code, few_words = (line.split() for line in console.export_text().splitlines()[-3:])
    assert chat == ["chat", "99", "100", "ms", "-", "100", "ms", "100", "ms"]
    assert " ".join(few_words) == "-: too few requests; at least 100 for p99"
    assert code == ["code", "100", "200", "ms", "900", "ms", "100", "ms", "200", "ms"]
