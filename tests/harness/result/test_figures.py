"""How many values a quantile needs, and what is said where there are fewer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.harness.result.figures import PRIMARY, supported, too_few, value_of, values_of
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.quantiles import quantile_of, values_needed

P99 = "latency_s.itl.p99"


@dataclass
class Latencies:
    itl: Summary


def result(count: int) -> Any:
    itl = replace(Summary(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0), count=count)
    return SimpleNamespace(latency_s=Latencies(itl), throughput=SimpleNamespace(output_tokens_per_s=7))


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 1), (0.9, 10), (0.95, 20), (0.99, 100), (0.999, 1000)])
def test_one_value_is_expected_beyond_a_quantile(quantile: float, needed: int) -> None:
    assert values_needed(quantile) == needed


def test_a_quantile_of_fewer_values_is_unknown_whoever_asks() -> None:
    assert (value_of(result(99), P99), value_of(result(100), P99)) == (None, 5.0)
    assert value_of(result(1), "latency_s.itl.p50") == 2.0
    assert value_of(result(99), PRIMARY) == 7.0
    few = result(19).latency_s.itl
    assert [quantile_of(few, name) for name in ("mean", "p50", "p90", "p95", "p99", "max")] == [1, 2, 3, None, None, 6]
    assert values_of(result(19)) == {"latency_s.itl": 19}
    assert values_of({"latency_s": {"itl": {"count": 19}}}) == {"latency_s.itl": 19}


def test_the_reason_says_how_many_it_needs_and_how_many_there_were() -> None:
    a, b, none = ({"latency_s.itl": count} for count in (120, 22, 0))
    words = "p99 needs at least 100 values in each run; fewest: "
    assert too_few(P99, {"A": [a, a], "B": [a, b]}) == f"{words}120 in A, 22 in B"
    assert too_few(P99, {"": [a, b]}) == f"{words}22"
    assert too_few(P99, {"": [a]}) is None
    assert too_few(P99, {"": [none]}) is None  # there are no such values at all
    assert too_few(P99, {"": []}) is None
    assert too_few(PRIMARY, {"": [b]}) is None
    assert supported(P99, {}) is supported(PRIMARY, b) is True
    assert supported(P99, b) is False
