"""The parts of a difference and their intervals: they add up, and they hold what was planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.attribution import Attribution, attribute
from innerloop.harness.analysis.compositions import PARTS, Run, run_of
from innerloop.harness.analysis.statistics import Interval
from tests.harness.analysis.test_decomposition import COSTS, hand_made, lengths
from tests.plugins.driving import closed
from tests.plugins.scripted.options import make_spec
from tests.plugins.scripted.simulate import START_NS, simulate


def simulated(seed: int, lengths_seed: int = 1, requests: int = 150, **options: Any) -> Run:
    options = {"max_batch_size": 8, "max_tokens_per_step": 128, **COSTS, **options}
    work = closed(6, lengths(requests, lengths_seed), rest_ns=2_000_000)
    trace = simulate(make_spec(**options), work, seed)
    return run_of(trace.steps, trace.tokens, trace.requests, START_NS, int(trace.steps["end_ns"][-1]))


def of(*blocks: tuple[Run, Run]) -> Attribution:
    found = attribute(blocks)
    assert found is not None
    return found


def holds(interval: Interval, value: float) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= value <= interval.high


def estimate(interval: Interval) -> float:
    assert interval.estimate is not None
    return interval.estimate


def check_sums(found: Attribution) -> None:
    parts = {name: estimate(part) for name, part in found.parts.items()}
    assert parts["difference"] == pytest.approx(estimate(found.b_s) - estimate(found.a_s), abs=1e-12)
    assert parts["mix"] + parts["cost"] + parts["unmatched"] == pytest.approx(parts["difference"], abs=1e-12)
    by_phase = [value for name, value in parts.items() if name.startswith("cost.")]
    assert len(by_phase) == len(PARTS)
    assert sum(by_phase) == pytest.approx(parts["cost"], abs=1e-12)
    by_growth = [value for name, value in parts.items() if name.startswith("cost by ")]
    assert sum(by_growth) == pytest.approx(parts["cost"], abs=1e-9)


def test_a_planted_cost_is_found_in_its_phase_and_its_interval_holds_it() -> None:
    a, b = simulated(1), simulated(2, phase_us={"schedule": 300})
    found = of((a, b))
    assert found.scatter == "steps"
    check_sums(found)
    planted = 300e-6 * len(b.seconds) / b.tokens.sum()
    assert estimate(found.parts["cost.schedule"]) == pytest.approx(planted, rel=0.1)
    assert not holds(found.parts["cost"], 0.0)
    assert holds(found.parts["cost.update"], 0.0) or abs(estimate(found.parts["cost.update"])) < 0.02 * planted


def test_a_smaller_batch_is_mix_or_has_no_like_steps() -> None:
    found = of((simulated(1), simulated(2, max_batch_size=3)))
    check_sums(found)
    parts = {name: estimate(part) for name, part in found.parts.items()}
    assert parts["mix"] + parts["unmatched"] > 0.9 * parts["difference"]


def test_blocks_give_the_scatter_between_processes() -> None:
    """Three blocks of one step a token: B - A is 1, 2 and 3 s, mean 2, standard error 0.5774, t(.975, 2) = 4.3027."""
    a = hand_made(decode=[1], seconds=[10])
    found = of(*((a, hand_made(decode=[1], seconds=[10 + k])) for k in (1, 2, 3)))
    assert found.scatter == "processes"
    cost = found.parts["cost"]
    assert cost.low is not None
    assert estimate(cost) == pytest.approx(2.0)
    assert cost.low == pytest.approx(2 - 4.3027 * 0.57735, rel=1e-4)
    assert cost.count == 3


@pytest.mark.parametrize("blocks", [1, 2])
def test_few_steps_or_two_blocks_give_no_interval(blocks: int) -> None:
    a, b = hand_made(decode=[1, 2], seconds=[1, 2]), hand_made(decode=[1, 2], seconds=[1, 3])
    found = of(*[(a, b)] * blocks)
    assert found.scatter is None
    assert {(part.low, part.high) for part in found.parts.values()} == {(None, None)}
    assert estimate(found.parts["cost"]) == pytest.approx(1 / 3)


def test_without_tokens_there_is_nothing_to_attribute() -> None:
    a = hand_made(decode=[1], seconds=[1])
    assert attribute([]) is None
    assert attribute([(a, a), (a, hand_made(decode=[0], seconds=[1]))]) is None


@pytest.mark.slow
def test_intervals_within_runs_hold_no_difference_in_about_95_of_100_pairs() -> None:
    """Different requests and different noise on both sides, and no difference in cost: the part is 0 in truth."""
    found = [of((simulated(2 * k, 2 * k + 1), simulated(2 * k + 1, 2 * k + 2))) for k in range(100)]
    for name in ("cost", "difference"):
        held = np.mean([holds(one.parts[name], 0.0) for one in found])
        assert held >= 0.9, name


PLANTED: dict[str, dict[str, Any]] = {
    "cost.schedule": {"phase_us": {"schedule": 200}},
    "cost.execute": {"phase_us": {"execute": 200}},
    "cost.sample": {"phase_us": {"sample": 200}},
    "cost.update": {"phase_us": {"update": 200}},
    "mix": {"max_batch_size": 4},
}


@pytest.mark.slow
def test_in_at_least_95_of_100_planted_faults_of_five_kinds_the_largest_part_is_the_planted_one() -> None:
    right = 0
    for seed in range(20):
        a = simulated(2 * seed, seed)
        for kind, options in PLANTED.items():
            parts = {
                name: abs(estimate(part))
                for name, part in of((a, simulated(2 * seed + 1, seed, **options))).parts.items()
            }
            parts["mix"] += parts.pop("unmatched")
            right += max(PLANTED, key=lambda name: parts[name]) == kind
    assert right >= 95
