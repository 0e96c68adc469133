"""A window cut into equal bins."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.series import over_time
from tests.harness.conftest import MS, Make


def test_a_step_counts_in_every_bin_that_it_spans(make_steps: Make) -> None:
    # bins of 10 ms. Step 1: 0 to 20, batch 2, 4 tokens. Step 2: 25 to 30, batch 6, 3 tokens. Nothing from 30 to 40.
    steps = make_steps([0, 25], [20, 30], running=[2, 6], output_tokens=[4, 3])
    found = over_time(steps, 0, 40 * MS, bins=4)
    assert found is not None
    assert found.bin_s == pytest.approx(0.010)
    assert list(found.running) == [pytest.approx(2), pytest.approx(2), pytest.approx(6), None]
    assert found.output_tokens_per_s == pytest.approx([200, 200, 300, 0])


def test_a_bin_mixes_its_steps_by_their_time_in_it(make_steps: Make) -> None:
    # one bin of 40 ms: 1 for 30 ms, 5 for 10 ms -> 2
    found = over_time(make_steps([0, 30], [30, 40], running=[1, 5]), 0, 40 * MS, bins=1)
    assert found is not None
    assert list(found.running) == [pytest.approx(2)]


def test_what_the_engine_does_not_report_is_none_in_every_bin(make_steps: Make) -> None:
    found = over_time(make_steps([0], [40]), 0, 40 * MS, bins=3)
    assert found is not None
    assert found.kv_usage == (None,) * 3


def test_no_window_has_no_series(make_steps: Make) -> None:
    assert over_time(make_steps([], []), 0, 0) is None
    assert over_time(make_steps([], []), 0, 1) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_bins_hold_all_the_tokens_even_of_overlapping_steps(make_steps: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, 900, 30))
    end = np.maximum.accumulate(start + rng.integers(1, 100, 30))
    given = rng.integers(0, 50, 30)
    found = over_time(make_steps(start, end, output_tokens=given, running=given), 0, int(end[-1]) * MS, bins=7)
    assert found is not None
    assert sum(found.output_tokens_per_s) * found.bin_s == pytest.approx(given.sum())
    assert all(0 <= mean <= given.max() for mean in found.running if mean is not None)
