"""The part of a run in which the batch was full."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.engines.worker.trace import STEP
from innerloop.harness.analysis.steady import full_steps, steady, usual_batch
from innerloop.harness.schema.common import Level
from tests.harness.conftest import MS, Make, table


def ramp(make_steps: Make, running: list[int], step_ms: int = 100) -> np.ndarray:
    start = np.arange(len(running)) * step_ms
    return make_steps(start, start + step_ms, running=running, output_tokens=running)


def test_it_opens_with_the_first_full_step_and_closes_with_the_last() -> None:
    # 95 % of 100 is 95: places 2 to 5; a dip in between is part of it
    assert full_steps(np.array([10, 94, 95, 60, 100, 97, 40])) == (2, 5)


def test_figures_over_the_full_batch_leave_ramp_up_and_drain_out(make_steps: Make, make_requests: Make) -> None:
    steps = ramp(make_steps, [1, 5, *[20] * 12, 9, 1])
    found = steady(steps, make_requests([0], [100], [1600], [262]))
    assert found.reason is None
    assert (found.start_ns, found.end_ns, found.steps) == (200 * MS, 1400 * MS, 12)
    assert found.throughput is not None
    assert found.wall_s is not None
    assert found.throughput.output_tokens_per_s == pytest.approx(20 * 12 / 1.2)
    assert found.wall_s.mean == pytest.approx(0.1)
    assert found.batch == Level(20.0, 20)


@pytest.mark.parametrize(("full", "step_ms"), [(9, 1000), (50, 10)])
def test_too_few_steps_or_seconds_give_no_figures_and_say_why(
    make_steps: Make, make_requests: Make, full: int, step_ms: int
) -> None:
    found = steady(ramp(make_steps, [1, *[20] * full, 1], step_ms), make_requests([0], [1], [2], [2]))
    assert f"{full} steps" in (found.reason or "")
    assert found.throughput is None
    assert found.duration_s is None


def test_an_engine_that_does_not_report_its_batch_has_no_steady_window(make_steps: Make, make_requests: Make) -> None:
    found = steady(make_steps([0, 10], [10, 20]), make_requests([0], [10], [20], [2]))
    assert found.reason == "the engine does not report its batch"


def test_no_steps_say_so(make_steps: Make, make_requests: Make) -> None:
    assert steady(make_steps([], []), make_requests([], [], [], [])).reason == "no step was recorded"


def test_the_usual_batch_is_that_of_most_of_the_time():
    steps = table(STEP, start_ns=[0, 10, 20, 30], end_ns=[10, 20, 30, 130], running=[40, 40, 40, 20])
    assert usual_batch(steps) == [20, 38]
    steps["running"] = -1
    assert usual_batch(steps) == [None, None]
    assert usual_batch(steps[:0]) == [None, None]
