"""Where a difference is: its parts add up, and a planted one is found where it was planted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.compositions import PARTS, Run, run_of
from innerloop.harness.analysis.decomposition import Decomposition, decompose
from innerloop.harness.analysis.step_model import moments
from tests.plugins.driving import closed, offline
from tests.plugins.scripted.options import make_spec
from tests.plugins.scripted.simulate import START_NS, simulate

COSTS: dict[str, Any] = {"step_us": 1000, "decode_us": 20, "prefill_us": 3, "context_ns": 40, "noise": 0.02}


def lengths(n: int, seed: int = 1) -> list[tuple[int, int]]:
    draws = np.random.default_rng(seed)
    return list(zip(draws.integers(10, 100, n).tolist(), draws.integers(10, 80, n).tolist(), strict=True))


def simulated(seed: int, requests: int = 300, users: int = 12, **options: Any) -> Run:
    options = {"max_batch_size": 16, "max_tokens_per_step": 128, **COSTS, **options}
    trace = simulate(make_spec(**options), closed(users, lengths(requests), rest_ns=2_000_000), seed)
    return run_of(trace.steps, trace.tokens, trace.requests, START_NS, int(trace.steps["end_ns"][-1]))


def between(a: Run, b: Run) -> Decomposition:
    found = decompose(a, b)
    assert found is not None
    return found


def check_sums(found: Decomposition, a: Run, b: Run) -> None:
    for side, run in ((found.a_s, a), (found.b_s, b)):
        assert side == pytest.approx(run.seconds.sum() / run.tokens.sum())
    whole = found.mix_s + found.cost_s + found.unmatched_s
    assert whole == pytest.approx(found.difference_s, abs=1e-12)
    assert sum(found.cost_by_part.values()) == pytest.approx(found.cost_s, abs=1e-12)
    assert sum(found.cost_by_coefficient.values()) == pytest.approx(found.cost_s, abs=1e-9)
    if found.mix_by_coefficient is not None:
        assert sum(found.mix_by_coefficient.values()) == pytest.approx(found.mix_s, abs=1e-12)


def hand_made(**columns: list[float]) -> Run:
    arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    seconds = arrays["seconds"]
    parts = {name: arrays.get(name, np.zeros(len(seconds))) for name in PARTS}
    parts["rest"] = seconds - sum(value for name, value in parts.items() if name != "rest")
    zeros = np.zeros(len(seconds))
    return Run(arrays["decode"], seconds, parts, zeros, arrays["decode"], zeros)


def test_by_hand() -> None:
    """A: two steps of 1 token at 1 s, one of 2 tokens at 3 s, for 4 tokens: 5/4 s. B: one at 2 s, one of 3 at 6 s."""
    a = hand_made(decode=[1, 1, 2], seconds=[1, 1, 3])
    b = hand_made(decode=[1, 3], seconds=[2, 6], schedule=[1, 1])
    found = between(a, b)
    assert (found.a_s, found.b_s) == (5 / 4, 8 / 4)
    assert found.mix_s == (1 / 4 - 2 / 4) * (1 + 2) / 2
    assert found.cost_s == (2 - 1) * (2 / 4 + 1 / 4) / 2
    assert found.unmatched_s == 6 / 4 - 3 / 4
    assert found.cost_by_part["schedule"] == found.cost_s
    assert found.matched_share == (2 / 4 + 2 / 4) / (5 / 4 + 8 / 4)
    assert [(change.decode, change.added_s) for change in found.changed] == [(3, 1.5), (2, -0.75)]
    check_sums(found, a, b)


def test_a_phase_that_one_side_does_not_report_lies_in_the_rest() -> None:
    a = hand_made(decode=[1], seconds=[2], schedule=[0.5])
    b = hand_made(decode=[1], seconds=[3], schedule=[float("nan")])
    b = replace(b, parts={**b.parts, "rest": np.array([3.0])})
    found = between(a, b)
    assert found.cost_by_part["schedule"] == 0
    assert found.cost_by_part["rest"] == 1
    check_sums(found, a, b)


def test_without_steps_or_tokens_there_is_none() -> None:
    empty = hand_made(decode=[], seconds=[])
    assert decompose(empty, hand_made(decode=[1], seconds=[1])) is None


def test_runs_of_other_compositions_have_nothing_to_compare() -> None:
    a, b = hand_made(decode=[1], seconds=[1]), hand_made(decode=[2], seconds=[2])
    found = between(a, b)
    assert (found.matched_share, found.mix_s, found.cost_s, found.unmatched_s) == (0, 0, 0, 0)
    assert (found.modelled_share, found.mix_by_coefficient) == (0, None)
    check_sums(found, a, b)


PLANTED: dict[str, tuple[dict[str, Any], str]] = {
    "schedule": ({"phase_us": {"schedule": 300}}, "schedule"),
    "sample": ({"phase_us": {"sample": 200}}, "sample"),
    "execute": ({"phase_us": {"execute": 250}}, "execute"),
    "update": ({"phase_us": {"update": 150}}, "update"),
    "rest": ({"layer_us": 300, "layers_above_core": 1}, "rest"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_time_planted_in_a_phase_is_found_there(name: str) -> None:
    options, part = PLANTED[name]
    for seed in range(4):
        a, b = simulated(seed), simulated(seed + 100, **options)
        found = between(a, b)
        check_sums(found, a, b)
        assert found.cost_by_part[part] >= 0.9 * found.difference_s > 0
        assert max(found.cost_by_part, key=lambda one: found.cost_by_part[one]) == part


def test_another_batch_size_is_another_mix() -> None:
    """The same engine and work at a smaller batch: nothing costs more, smaller steps come more often."""
    work = offline(lengths(300))

    def run(batch: int, seed: int) -> Run:
        spec = make_spec(max_batch_size=batch, max_tokens_per_step=128, **COSTS)
        trace = simulate(spec, work, seed)
        return run_of(trace.steps, trace.tokens, trace.requests, START_NS, int(trace.steps["end_ns"][-1]))

    a, b = run(64, 1), run(16, 2)
    found = between(a, b)
    check_sums(found, a, b)
    assert found.difference_s > 0
    assert found.mix_s + found.unmatched_s >= 0.95 * found.difference_s


def test_a_cost_is_given_to_what_it_grows_with() -> None:
    for option, name in (
        ("step_us", "fixed"),
        ("decode_us", "decode"),
        ("prefill_us", "prefill"),
        ("context_ns", "context"),
    ):
        a, b = simulated(1, noise=0.0), simulated(2, noise=0.0, **{option: COSTS[option] * 1.5})
        found = between(a, b)
        check_sums(found, a, b)
        assert found.cost_by_coefficient[name] >= 0.85 * found.cost_s > 0, name


def test_no_difference_is_no_part() -> None:
    for seed in range(5):
        found = between(simulated(seed), simulated(seed + 50))
        assert abs(found.difference_s) < 0.01 * found.a_s
        assert abs(found.cost_s) < 0.01 * found.a_s


def shared(caching: bool, seed: int, **options: Any) -> Run:
    """Ten users whose prompts begin with the same 512 tokens, as of users-10-shared."""
    draws = np.random.default_rng(7)
    asked = [
        (512 + int(n), int(m)) for n, m in zip(draws.integers(30, 150, 100), draws.integers(8, 80, 100), strict=True)
    ]
    work = closed(10, asked, rest_ns=2_000_000)
    ids = work.prompt_tokens.copy()
    for first in work.prompt_offsets[:-1]:
        ids[first : first + 512] = np.arange(512)
    limits = {"max_batch_size": 16, "max_tokens_per_step": 2048, "kv_cache_tokens": 65536, "prefix_caching": caching}
    trace = simulate(
        make_spec(**{**COSTS, "prefill_us": 10, **limits, **options}), replace(work, prompt_tokens=ids), seed
    )
    return run_of(trace.steps, trace.tokens, trace.requests, START_NS, int(trace.steps["end_ns"][-1]))


def prefilled(run: Run) -> float:
    """Prefill positions for an output token."""
    return float(run.prefill.sum() / run.tokens.sum())


@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_prefill_that_a_cache_saves_is_mix_at_its_fitted_cost(noise: float) -> None:
    """10 us a position: a step of hundreds of them is one that the side with the cache never runs."""
    a, b = shared(False, 1, noise=noise), shared(True, 51, noise=noise)
    found = between(a, b)
    check_sums(found, a, b)
    saved = 10e-6 * (prefilled(b) - prefilled(a))
    assert found.mix_by_coefficient is not None
    assert found.mix_by_coefficient["prefill"] == pytest.approx(saved, rel=0.1)
    assert found.mix_s == pytest.approx(saved, rel=0.15)
    assert abs(found.cost_s) < 0.1 * abs(saved)
    assert abs(found.unmatched_s) < 0.02 * abs(saved)
    assert found.matched_share is not None
    assert found.modelled_share is not None
    assert found.matched_share + found.modelled_share > 0.98


def test_a_fault_beside_another_mix_is_cost_in_its_phase() -> None:
    a, b = shared(False, 1), shared(True, 51, phase_us={"schedule": 300})
    found = between(a, b)
    check_sums(found, a, b)
    planted = 300e-6 * len(b.seconds) / b.tokens.sum()
    assert found.cost_by_part["schedule"] == pytest.approx(planted, rel=0.05)
    assert found.cost_s == pytest.approx(planted, rel=0.1)
    assert found.mix_by_coefficient is not None
    assert found.mix_by_coefficient["prefill"] == pytest.approx(10e-6 * (prefilled(b) - prefilled(a)), rel=0.1)


def without_prefill(n: int, seconds: float) -> Run:
    return hand_made(decode=[1 + k % 8 for k in range(n)], seconds=[seconds * (1 + k % 8) for k in range(n)])


def test_what_a_side_never_did_is_not_comparable() -> None:
    """B never has a prefill, so that nothing says what one takes there; nor what 100 positions take after at most 8."""
    b = without_prefill(80, 1.0)
    prefill = np.where(np.arange(80) % 4 == 0, 50.0, 0.0)
    a = replace(b, prefill=prefill, seconds=b.seconds + prefill)
    found = between(a, b)
    assert found.unmatched_s == pytest.approx(-float(a.seconds[prefill > 0].sum() / a.tokens.sum()))
    check_sums(found, replace(a, parts=a.parts), b)
    wide = hand_made(decode=[1 + k % 8 if k % 10 else 100 for k in range(80)],
                     seconds=[1 + k % 8 if k % 10 else 100 for k in range(80)])  # fmt: skip
    assert between(b, wide).unmatched_s == pytest.approx(
        float(wide.seconds[wide.decode == 100].sum() / wide.tokens.sum())
    )


def test_a_line_that_misses_a_kind_of_its_own_steps_says_nothing() -> None:
    """Decode at 1 s a position up to 4, three times that beyond: no line."""
    b = without_prefill(80, 1.0)
    bent = replace(b, seconds=np.where(b.decode > 4, 3.0, 1.0) * b.decode)
    assert moments(b) is not None
    assert moments(bent) is None


def test_compositions_that_an_engine_does_not_report_are_missing_and_not_0() -> None:
    unknown = np.full(2, np.nan)
    a = replace(hand_made(decode=[1, 2], seconds=[1, 2]), prefill=unknown, context=unknown)
    b = replace(hand_made(decode=[1, 2], seconds=[2, 3]), prefill=unknown, context=unknown)
    assert {(one.prefill, one.context) for one in between(a, b).changed} == {(None, None)}
