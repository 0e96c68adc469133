"""Draws by counter: the same everywhere, independent of each other, and of the right shape."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.workloads import draws

KEY = draws.key(1, draws.LENGTHS)
INDEX = np.arange(100_000, dtype=np.int64)


def test_words_are_the_published_splitmix64_sequence() -> None:
    # The first outputs for seed 1234567, as in the reference implementation's test vectors.
    seed = np.array([1234567], dtype=np.uint64)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert draws.words(seed, INDEX[:4]).tolist() == expected


def test_a_longer_draw_begins_with_a_shorter_one() -> None:
    assert draws.normal(KEY, 9)[:4].tolist() == draws.normal(KEY, 4).tolist()
    assert draws.exponential(KEY, 9)[:4].tolist() == draws.exponential(KEY, 4).tolist()


@pytest.mark.parametrize("other", [(2, draws.LENGTHS, 0), (1, draws.CONTENT, 0), (1, draws.LENGTHS, 1), (2**40, 2, 0)])
def test_seeds_streams_and_parts_have_keys_of_their_own(other: tuple[int, int, int]) -> None:
    assert draws.key(*other)[0] != KEY[0]


def test_whole_numbers_are_uniform_and_reach_both_ends() -> None:
    counts = np.bincount(draws.below(draws.words(KEY, INDEX), 7), minlength=7)
    assert len(counts) == 7
    assert np.abs(counts / len(INDEX) - 1 / 7).max() < 0.005


def test_uniform_numbers_never_touch_the_ends() -> None:
    extremes = draws.uniform(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert 0 < extremes[0] < extremes[1] < 1


def test_normal_and_exponential_have_their_moments() -> None:
    z, gaps = draws.normal(KEY, len(INDEX)), draws.exponential(KEY, len(INDEX))
    assert (z.mean(), z.std()) == pytest.approx((0, 1), abs=0.015)
    assert (np.abs(z) < 1.96).mean() == pytest.approx(0.95, abs=0.005)
    assert (gaps.mean(), gaps.std()) == pytest.approx((1, 1), abs=0.015)
    assert gaps.min() > 0
