"""A sampler's own figures."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.samples import Samples, cost
from innerloop.harness.telemetry.sampler import TIMES


def samples_at(times_ms: list[float], late_ms: list[float]) -> Samples:
    rows = np.zeros(len(times_ms), dtype=TIMES)
    rows["time_ns"], rows["late_ns"] = np.multiply(times_ms, 1e6), np.multiply(late_ms, 1e6)
    return Samples("counting", rows, 0.1, cpu_s=0.02)


def test_its_cost_is_that_inside_the_window_with_a_neighbour_on_either_side() -> None:
    samples = samples_at([0, 100, 200, 350, 400, 500], [50, 1, 2, 3, 4, 50])
    found = cost(samples, int(150e6), int(380e6))
    assert found.samples == 4
    assert found.late_p50_s == pytest.approx(0.0025)
    assert found.late_p99_s is None  # four samples
    assert found.longest_gap_s == pytest.approx(0.150)
    assert found.cpu_share == pytest.approx(0.02 / 0.5)


def test_the_cost_of_a_sampler_that_saw_nothing_is_not_known() -> None:
    found = cost(samples_at([], []), 0, 10**9)
    assert found.samples == 0
    assert [found.late_p50_s, found.late_p99_s, found.longest_gap_s, found.cpu_share] == [None] * 4
