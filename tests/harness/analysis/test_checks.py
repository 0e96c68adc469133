"""Does the trace add up?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.checks import checks
from innerloop.harness.store.tables import Tables


def found(tables: Tables, **options: Any) -> list[str]:
    return [c.code for c in checks(tables.steps, tables.tokens, tables.requests, **options)]


def test_a_sound_trace_has_no_finding(offline_tables: Tables) -> None:
    assert found(offline_tables) == []


def broken(column: str, table: str, change: Callable[[np.ndarray], None], tables: Tables) -> Tables:
    rows = getattr(tables, table).copy()
    change(rows[column])
    return replace(tables, **{table: rows})


def add(place: int, amount: int) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[place] += amount

    return change


@pytest.mark.parametrize(
    ("table", "column", "place", "amount", "codes"),
    [
        ("requests", "asked_tokens", 3, 1, ["request_tokens"]),
        ("requests", "output_tokens", 3, -1, ["request_tokens", "output_sums", "decode_sum"]),
        ("steps", "output_tokens", 3, 1, ["output_sums"]),
        ("tokens", "count", 3, 1, ["output_sums"]),
        ("tokens", "request", 3, 1, ["token_requests"]),
        ("tokens", "request", 3, 100, ["token_requests"]),
        ("steps", "prefill_tokens", 0, 1, ["prefill_sum"]),
        ("steps", "prefill_tokens", 0, -1, ["prefill_sum"]),
        ("steps", "decode_tokens", 1, 1, ["decode_sum"]),
        ("steps", "decode_tokens", 1, -1, ["decode_sum"]),
        ("steps", "schedule_ns", 3, 10**12, ["phase_times"]),
        ("steps", "end_ns", 3, -45_000_000, ["step_times", "step_times"]),
        ("steps", "start_ns", 3, -85_000_000, ["step_times"]),
        ("tokens", "time_ns", 9, -60_000_000, ["token_times"]),
        ("requests", "submitted_ns", 3, -5_000_000, ["request_times"]),
        ("requests", "first_token_ns", 3, -60_000_000, ["request_times"]),
    ],
)
def test_one_wrong_number_is_found(
    offline_tables: Tables, table: str, column: str, place: int, amount: int, codes: list[str]
) -> None:
    wrong = broken(column, table, add(place, amount), offline_tables)
    assert set(found(wrong)) == set(codes)


def test_a_step_that_ends_before_it_starts_is_named(offline_tables: Tables) -> None:
    wrong = broken("end_ns", "steps", add(3, -45_000_000), offline_tables)
    details = [c.detail for c in checks(wrong.steps, wrong.tokens, wrong.requests)]
    assert "1 steps end before they start" in details
    assert "step 3 has an earlier end_ns than the step before it" in details


def test_two_requests_that_swap_a_token_are_found_though_the_sums_agree(offline_tables: Tables) -> None:
    wrong = broken("request", "tokens", add(0, 1), offline_tables)
    assert found(wrong) == ["token_requests"]


def test_arrivals_of_several_tokens_are_counted_by_request(offline_tables: Tables) -> None:
    rows = offline_tables.tokens
    pairs = rows[: len(rows) // 2].copy()  # every arrival brings two: the sums are the same
    pairs["count"] = 2
    assert found(replace(offline_tables, tokens=pairs)) == []
    pairs["request"][0] = 5
    assert found(replace(offline_tables, tokens=pairs)) == ["token_requests"]


def test_a_trace_that_ended_in_the_middle_need_not_add_up(offline_tables: Tables) -> None:
    shorter = replace(offline_tables, steps=offline_tables.steps[:-1])
    assert found(shorter, complete=False) == []
    assert "output_sums" in found(shorter)


def test_what_the_engine_does_not_report_is_not_checked(offline_tables: Tables) -> None:
    silent = broken("prefill_tokens", "steps", lambda c: c.fill(-1), offline_tables)
    silent = broken("decode_tokens", "steps", lambda c: c.fill(-1), silent)
    assert found(silent) == []


def test_a_prefix_cache_may_leave_prompt_positions_out_but_not_add_any(offline_tables: Tables) -> None:
    fewer = broken("prefill_tokens", "steps", add(0, -16), offline_tables)
    assert found(fewer, prefix_caching=True) == []
    more = broken("prefill_tokens", "steps", add(0, 16), offline_tables)
    assert found(more, prefix_caching=True) == ["prefill_sum"]


def test_a_preemption_may_add_prefill_and_turn_one_decode_into_prefill(offline_tables: Tables) -> None:
    again = broken("preempted", "steps", add(5, 1), offline_tables)
    again = broken("prefill_tokens", "steps", add(6, 21), again)
    again = broken("decode_tokens", "steps", add(6, -1), again)
    assert found(again) == []
    assert found(broken("decode_tokens", "steps", add(6, -1), again)) == ["decode_sum"]


def test_decode_is_checked_without_a_count_of_preemptions_when_prefill_shows_that_there_was_none(
    offline_tables: Tables,
) -> None:
    silent = broken("preempted", "steps", lambda c: c.fill(-1), offline_tables)
    assert found(silent) == []
    assert found(broken("decode_tokens", "steps", add(6, -1), silent)) == ["decode_sum"]


def test_positions_are_not_compared_when_a_request_was_cut(offline_tables: Tables) -> None:
    cut = broken("state", "requests", add(0, 1), offline_tables)  # finished -> cut
    assert found(broken("decode_tokens", "steps", add(6, -1), cut)) == []
