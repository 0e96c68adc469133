"""Fewer points that look the same."""

from __future__ import annotations

import numpy as np

from innerloop.harness.pages.thin import evenly, min_max, plain, thinned


def test_no_peak_and_no_dip_is_lost() -> None:
    values = np.full(1000, 5.0)
    values[[3, 500, 997]] = [50.0, -50.0, 60.0]
    places = min_max(values, most=20)
    assert len(places) <= 20
    assert {3, 500, 997} <= set(places.tolist())
    assert (np.diff(places) > 0).all()


def test_short_lines_are_drawn_whole() -> None:
    assert min_max(np.array([3.0, 1.0, 2.0]), most=3).tolist() == [0, 1, 2]


def test_missing_values_are_neither_least_nor_greatest() -> None:
    values = np.array([np.nan, 1.0, 9.0, np.nan, 4.0, 2.0, np.nan, 7.0])
    assert min_max(values, most=4).tolist() == [1, 2, 5, 7]


def test_even_picks_hold_the_first_and_the_last() -> None:
    assert evenly(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly(101, 3).tolist() == [0, 50, 100]


def test_numbers_are_short_and_nan_is_null() -> None:
    assert plain(np.array([1.23456789, np.nan, np.inf])) == [1.23457, None, None]
    assert plain(np.array([1, 2], dtype=np.int32)) == [1, 2]


def test_it_is_said_when_points_were_left_out() -> None:
    assert thinned(10, 10, "points") == ""
    assert thinned(1200, 50_000, "points").startswith("1\u202f200 of 50\u202f000 points drawn")
