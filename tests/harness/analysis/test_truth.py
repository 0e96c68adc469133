"""Figures, intervals and alarms on simulated runs whose truth is known; benchmarks/truth.py has the full counts."""

from __future__ import annotations

import pytest

from benchmarks.truth import (
    CLOSED_S,
    DRIFT_S,
    FEW_USERS,
    Coverage,
    called,
    changing_mix,
    closed_loop,
    errors,
    figures,
    open_loop,
    slowing,
)


@pytest.mark.parametrize("run", [open_loop, closed_loop])
def test_figures_are_those_of_plain_loops_over_the_records(run) -> None:
    trace = run(60, 1)
    assert max(errors(trace, figures(trace))) < 1e-6


@pytest.mark.slow
def test_intervals_hold_the_truth_of_runs_ten_times_as_long():
    found = Coverage(closed_loop, CLOSED_S / 2, 1)
    for seed in range(5):
        found.add(seed)
    assert found.counts["no window"] == 0
    assert min(found.held.values()) >= 2  # 95 % intervals hold fewer of five in one of 30 000 draws
    assert found.counts["drift"] == 0


@pytest.mark.slow
def test_a_fall_of_eleven_percent_over_five_minutes_is_found_and_a_change_of_mix_is_not_called_one():
    assert called(slowing(closed_loop(DRIFT_S, 1, FEW_USERS), 0.11))
    assert not called(closed_loop(DRIFT_S, 1, FEW_USERS))
    assert not called(changing_mix(1))


def test_a_rate_above_the_capacity_is_overload():
    seen = figures(open_loop(60, 2, rate=60)).stability.backlog
    assert seen is not None
    assert seen.overloaded
