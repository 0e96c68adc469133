"""What an engine had kept, and what it made while it was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.store.tables import Tables


@pytest.fixture
def record(offline_tables: Tables, spec: dict[str, Any]) -> Callable[..., Record]:
    def make(cached: int | None = None, **reported: Any) -> Record:
        steps = offline_tables.steps.copy()
        if cached is not None:
            steps["cached_tokens"] = 0
            steps["cached_tokens"][0] = cached
        return Record(spec=spec, tables=replace(offline_tables, steps=steps), reported=reported)

    return make


def test_the_share_of_prompts_from_the_cache_is_the_engines_count(record: Callable[..., Record]) -> None:
    result = build(record(cached=32, caches_reset=True))
    assert result.caches is not None
    assert result.caches.prefix_hit_share == 32 / result.counts.prompt_tokens
    assert result.caches.reset is True
    silent = build(record()).caches
    assert silent is not None
    assert (silent.prefix_hit_share, silent.reset, silent.made_in_window) == (None, None, None)


def test_what_is_compiled_while_measuring_makes_a_run_suspect(record: Callable[..., Record]) -> None:
    made = build(record(compiled_in_window={"cuda_graph_captures": 2, "dynamo_graphs": 0}))
    [reason] = [one for one in made.reasons if one.code == "compiled_in_window"]
    assert "2 cuda graph captures" in reason.detail
    assert "dynamo" not in reason.detail
    none = build(record(compiled_in_window={"cuda_graph_captures": 0}))
    assert "compiled_in_window" not in [one.code for one in none.reasons]


def test_a_cache_that_cannot_be_emptied_is_said_where_it_is_on(record: Callable[..., Record]) -> None:
    for caching in (False, True):
        info = {"effective": {"prefix_caching": caching}}
        codes = [one.code for one in build(record(caches_reset=False, info=info)).reasons]
        assert ("cache_not_reset" in codes) is caching
