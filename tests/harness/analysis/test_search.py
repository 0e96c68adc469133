"""The highest load within limits, searched on a load whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from innerloop.harness.analysis.search import ABOVE, BELOW, Probe, Search, Tally, judge, pooled, search

Share = Callable[[float], float]


def probe(load: float, share: float, requests: int = 1000, quantile: float = 0.95, **more: bool) -> Probe:
    return Probe(load, {"ttft": Tally(quantile, requests, round(share * requests), 1.0)}, **more)


def run(
    share: Share, start: float, most: int = 15, whole: bool = False, requests: int = 1000
) -> tuple[Search, list[Probe]]:
    probes: list[Probe] = []
    while (now := search(probes, start, most, whole)).next is not None:
        probes.append(probe(now.next, share(now.next), requests))
    return now, probes


def falling(at: float) -> Share:
    """All requests keep the limit below `at`, ever fewer above."""
    return lambda load: min(1.0, max(0.0, 0.95 + 2.0 * (1 - load / at)))


@pytest.mark.parametrize("start", [0.1, 1.0, 9.0, 300.0])
@pytest.mark.parametrize("truth", [3.7, 12.0])
def test_it_finds_the_load_to_5_percent_and_checks_it_on_both_sides(truth: float, start: float) -> None:
    found, probes = run(falling(truth), start, most=30)
    assert found.state == "found"
    assert found.answer is not None
    assert found.fails is not None
    assert 0.9 * truth < found.answer <= truth <= found.fails
    assert found.fails / found.answer <= 1.06
    assert (found.confirmed, found.refuted) == (True, True)
    tried = {one.load for one in probes}
    assert {float(f"{found.answer * place:.4g}") for place in (BELOW, ABOVE)} <= tried


def test_users_are_whole_numbers() -> None:
    found, probes = run(falling(23.0), 10, whole=True)
    assert found.state == "found"
    assert found.answer == 22
    assert all(one.load == int(one.load) for one in probes)
    assert [one.load for one in probes[:3]] == [10, 20, 40]


def test_fifteen_probes_are_enough_from_the_loads_own_rate() -> None:
    found, probes = run(falling(17.0), 4.0)
    assert found.state == "found"
    assert len(probes) <= 15


def test_where_everything_holds_or_nothing_does_it_says_so() -> None:
    assert run(lambda load: 1.0, 1.0, most=30)[0].state == "above"
    assert run(lambda load: 0.0, 1.0, most=30)[0].state == "below"
    assert run(lambda load: 1.0, 1.0, most=3)[0].state == "unresolved"


def test_an_undecided_load_is_probed_three_times_at_most_and_then_bounds_the_answer() -> None:
    # at 20 requests a probe neither 1 nor 0.94 can be told from 0.95
    found, probes = run(lambda load: 1.0 if load < 3 else 0.94, 1.0, requests=40)
    loads = [one.load for one in probes]
    assert max(loads.count(load) for load in loads) == 3
    assert found.state == "unresolved"
    assert found.confirmed is not False


def test_probes_at_one_load_are_taken_together() -> None:
    # 60 of 60: 60 / 63.84 = 0.9398 is below 0.95; 120 of 120: 120 / 123.84 = 0.969
    one = probe(1.0, 1.0, 60)
    assert judge(1.0, [one]).holds is None
    assert judge(1.0, [one, one]).holds is True
    assert pooled([Tally(0.95, 100, 90, 4.0), Tally(0.95, 100, 100, 1.0)]).count == 125


def test_a_load_fails_where_requests_pile_up_or_the_engine_gives_up() -> None:
    assert judge(1.0, [probe(1.0, 1.0, overloaded=True)]).holds is False
    assert judge(1.0, [Probe(1.0, aborted=True)]).holds is False
    limits = {"a": Tally(0.95, 1000, 1000, 1.0), "b": Tally(0.99, 1000, 900, 1.0)}
    assert judge(1.0, [Probe(1.0, limits)]).holds is False


def test_what_slows_a_probe_can_show_that_a_load_holds_and_never_that_it_fails() -> None:
    slowed, met = probe(1.0, 0.2, disturbed=True), probe(1.0, 1.0, disturbed=True)
    assert (judge(1.0, [slowed]).holds, judge(1.0, [slowed]).disturbed, judge(1.0, [slowed]).shares) == (None, 1, {})
    assert (judge(1.0, [met]).holds, judge(1.0, [met]).disturbed) == (True, 0)
    both = judge(1.0, [slowed, probe(1.0, 0.99)])
    assert (both.holds, both.disturbed, both.shares["ttft"].estimate) == (True, 1, 0.99)
    piled = probe(1.0, 1.0, overloaded=True, disturbed=True)
    assert judge(1.0, [piled, piled, probe(1.0, 1.0)]).holds is True
    assert judge(1.0, [slowed, Probe(1.0, aborted=True)]).holds is False


def test_a_load_whose_probes_are_disturbed_is_probed_again_and_bounds_the_answer() -> None:
    probes: list[Probe] = []
    while (now := search(probes, 1.0, 15)).next is not None:
        probes.append(probe(now.next, 1.0 if now.next <= 2 else 0.3, disturbed=now.next > 2))
    assert [one.load for one in probes[:6]] == [1.0, 2.0, 4.0, 4.0, 4.0, 2.828]
    assert (now.state, now.answer, now.fails) == ("unresolved", 2.0, None)


def test_where_no_load_was_decided_the_search_is_unresolved_and_not_below_every_load() -> None:
    probes: list[Probe] = []
    while (now := search(probes, 4.0, 15, least=4.0)).next is not None:
        probes.append(probe(now.next, 0.3, disturbed=True))
    assert [one.load for one in probes] == [4.0, 4.0, 4.0]
    assert (now.state, now.answer, now.fails) == ("unresolved", None, None)


def test_a_lower_load_that_fails_counts_more_than_a_higher_one_that_held() -> None:
    found = search([probe(1, 1.0), probe(2, 1.0), probe(4, 0.5), probe(3, 1.0), probe(1.5, 0.5)], 1.0, 15)
    assert (found.answer, found.fails) == (1.0, 1.5)
    assert found.next == 1.5  # chance decided it or a higher one: it is probed again
    probes = [probe(1, 1.0), probe(2, 1.0), probe(4, 0.5), probe(3, 1.0), *[probe(1.5, 0.5)] * 3]
    found = search(probes, 1.0, 15)
    assert (found.answer, found.fails) == (1.0, 1.5)
    assert found.next is not None
    assert found.next < 1.5


def test_a_load_that_failed_by_chance_holds_again_when_it_is_probed_once_more() -> None:
    calm, burst = probe(1.5, 1.0), probe(1.5, 0.97, overloaded=True)
    before = [probe(1, 1.0), probe(2, 1.0), probe(2.1, 0.5)]
    assert search([*before, burst], 1.0, 15).next == 1.5
    now = search([*before, burst, calm], 1.0, 15)
    assert (now.answer, now.fails) == (2, 2.1)


def test_with_noise_the_checks_are_seldom_contradicted() -> None:
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(100):
        truth = 10 * rng.uniform(0.5, 2)

        def noisy(load: float, truth: float = truth) -> float:
            kept = min(1.0, max(0.0, 0.95 + 1.0 * (1 - load / truth)))
            return float(rng.binomial(1000, kept)) / 1000

        found, _ = run(noisy, 4.0, most=25)
        wrong += found.answer is None or not 0.85 * truth < found.answer < 1.05 * truth
        assert found.confirmed is not False or found.state != "found"
    assert wrong <= 5
