"""The version that made it slow, found by noisy comparisons: simulated, without a process."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.bisection import NONE, Observation, decided, loss, merged, next_version, posterior

MOST = 80


def find(
    versions: int, culprit: int, loss: float, noise: float, rng: np.random.Generator
) -> tuple[int | None, int, list[int]]:
    """(what is found, how many blocks it took, which versions were probed)."""
    seen: list[Observation] = []
    while len(seen) < MOST:
        known = posterior(versions, seen, 0.1).probabilities
        if (found := decided(known)) is not None:
            return found, len(seen), [one.version for one in seen]
        version = next_version(known)
        assert version is not None
        slow = culprit != NONE and version >= culprit
        # two runs, each with this noise
        drawn = rng.normal(np.log1p(-loss) if slow else 0.0, noise * np.sqrt(2))
        seen.append(Observation(version, float(drawn)))
    return None, MOST, [one.version for one in seen]


@pytest.mark.slow
def test_with_ten_percent_of_noise_it_is_right_in_95_of_100_sets() -> None:
    rng = np.random.default_rng(18)
    right = 0
    for trial in range(500):
        versions = int(rng.integers(5, 9))
        culprit = NONE if trial % 4 == 0 else int(rng.integers(1, versions))
        right += find(versions, culprit, 0.25, 0.10, rng)[0] == culprit
    assert right >= 475


def test_a_large_loss_among_seven_releases_is_found_in_few_blocks() -> None:
    rng = np.random.default_rng(1)
    found = [find(7, culprit, 0.4, 0.02, rng) for culprit in range(1, 7)]
    assert [one[0] for one in found] == [1, 2, 3, 4, 5, 6]
    assert max(len(set(one[2])) for one in found) <= 5


def test_the_first_probe_is_the_last_version_and_then_the_middle() -> None:
    start = posterior(7, [], 0.02).probabilities
    assert start[NONE] == pytest.approx(0.5)
    assert next_version(start) == 6
    slow = posterior(7, [Observation(6, -0.5), Observation(6, -0.52)], 0.02).probabilities
    assert slow[NONE] < 0.1
    assert next_version(slow) in (3, 4)
    assert next_version(slow, untestable=(3, 4)) in (2, 5)
    assert next_version(slow, untestable=range(1, 7)) is None


def test_no_culprit_is_an_answer_and_a_gain_is_none() -> None:
    alike = [Observation(6, value) for value in (0.003, -0.004, 0.001, -0.002, 0.004, 0.0)]
    assert decided(posterior(7, alike, 0.02).probabilities) == NONE
    gain = [Observation(6, 0.3), Observation(6, 0.31), Observation(6, 0.29)]
    assert posterior(7, gain, 0.02).probabilities.argmax() == NONE


def test_the_loss_has_an_interval() -> None:
    seen = [Observation(2, -0.22 + d) for d in (0.01, -0.01, 0.0, 0.02)] + [
        Observation(1, d) for d in (0.01, -0.01, 0.0)
    ]
    assert decided(posterior(3, seen, 0.02).probabilities) == 2
    mean, low, high = loss(2, 3, seen, 0.02)
    assert low < mean < high
    assert mean == pytest.approx(0.21, abs=0.03)


def test_versions_that_cannot_be_tested_are_one_with_the_next_that_can() -> None:
    found = merged(np.array([0.1, 0.2, 0.3, 0.2, 0.2]), [1, 2, 4])
    assert found == pytest.approx([0.3, 0.0, 0.0, 0.7, 0.0])
