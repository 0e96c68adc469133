"""The parts of a difference and their intervals: they add up, and they hold what was planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker.trace import REQUEST, STEP, TOKEN
from innerloop.harness.analysis.attribution import LEAST_CAPTURED, Attribution, attribute
from innerloop.harness.analysis.compositions import PARTS, Kernels, Run, run_of, run_of_pass
from innerloop.harness.analysis.kernel_classes import CLASSES
from innerloop.harness.analysis.statistics import Interval
from tests.harness.analysis.test_decomposition import COSTS, hand_made, lengths
from tests.harness.conftest import table as made
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


def captured(attention_us: float, seed: int, steps: int = 60) -> Run:
    """A pass that captured steps of one composition and ten kernels each: four of GEMM, 100 us each, four of attention,
    two of copies; 300 us outside of them. Times scatter by 1 %."""
    rng = np.random.default_rng(seed)
    each = np.array([100.0] * 4 + [attention_us] * 4 + [10.0] * 2)
    kinds = [CLASSES.index(name) for name in ("gemm",) * 4 + ("attention",) * 4 + ("copies",) * 2]
    spent = (np.tile(each, (steps, 1)) * rng.normal(1.0, 0.01, (steps, 10)) * 1000).astype(np.int64)
    begins = np.arange(steps) * 10_000_000
    walls = spent.sum(axis=1) + 300_000
    table = made(
        STEP, start_ns=begins, end_ns=begins + walls, prefill_tokens=[0] * steps, decode_tokens=[4] * steps,
        output_tokens=[4] * steps, running=[4] * steps,
    )  # fmt: skip
    requests = made(REQUEST, due_ns=[0] * 4, prompt_tokens=[1000] * 4, asked_tokens=[steps] * 4, state=[2] * 4)
    tokens = made(
        TOKEN, time_ns=np.repeat(begins + walls, 4), request=np.tile(np.arange(4), steps), count=[1] * 4 * steps,
        step=np.repeat(np.arange(steps), 4),
    )  # fmt: skip
    kernels = Kernels(np.repeat(np.arange(steps), 10), spent.ravel(), np.tile(kinds, steps))
    return run_of_pass((table, tokens, requests), kernels)


def test_a_slow_kernel_class_is_named_by_what_the_passes_captured() -> None:
    found = attribute([(captured(50.0, 1), captured(80.0, 2))], LEAST_CAPTURED)
    assert found is not None
    by_class = {name.removeprefix("cost."): part for name, part in found.parts.items() if name.startswith("cost.")}
    assert set(by_class) == {"gemm", "attention", "copies", "rest"}
    planted = 4 * 30e-6 / 4  # four kernels a step, four tokens a step
    assert holds(by_class["attention"], planted)
    assert estimate(by_class["attention"]) >= 0.9 * estimate(found.parts["difference"])
    assert all(holds(by_class[name], 0.0) for name in ("gemm", "copies"))
    assert sum(map(estimate, by_class.values())) == pytest.approx(estimate(found.parts["cost"]), abs=1e-12)
    assert found.scatter == "steps"
    total = (400e-6 + 200e-6 + 20e-6 + 300e-6) / 4
    assert estimate(found.a_s) == pytest.approx(total, rel=0.01)


@pytest.mark.slow
def test_planted_slow_classes_are_found_in_95_of_100_pairs_of_passes() -> None:
    right = held = 0
    for seed in range(100):
        found = attribute([(captured(50.0, 2 * seed), captured(52.0, 2 * seed + 1))], LEAST_CAPTURED)
        assert found is not None
        parts = {name: estimate(part) for name, part in found.parts.items() if name.startswith("cost.")}
        right += max(parts, key=lambda name: abs(parts[name])) == "cost.attention"
        held += holds(found.parts["cost.attention"], 2e-6)
    assert right >= 95
    assert held >= 90


def test_a_class_that_one_side_lacks_takes_no_time_there() -> None:
    a, b = captured(50.0, 1), captured(50.0, 2)
    without = Run(b.tokens, b.seconds - b.parts["copies"], {k: v for k, v in b.parts.items() if k != "copies"},
                  b.prefill, b.decode, b.context)  # fmt: skip
    found = attribute([(a, without)], LEAST_CAPTURED)
    assert found is not None
    assert estimate(found.parts["cost.copies"]) == pytest.approx(-20e-6 / 4, rel=0.05)
    three = attribute([(a, without)] * 3)
    assert three is not None
    assert (three.scatter, estimate(three.parts["cost.copies"])) == ("processes", estimate(found.parts["cost.copies"]))


def test_few_captured_steps_give_no_intervals() -> None:
    found = attribute([(captured(50.0, 1, steps=20), captured(80.0, 2, steps=20))], LEAST_CAPTURED)
    assert found is not None
    assert (found.scatter, found.parts["cost.attention"].low) == (None, None)
