from __future__ import annotations

import pytest

from innerloop.harness.analysis.client import account

ABLE = {"tokens_per_s": 100_000.0, "cpu_s_per_s": 0.98, "tokens": 1000}


def test_a_run_without_a_client_has_no_account():
    assert account(None, 1.0, 2.0, 500.0) is None


def test_the_client_is_measured_against_what_it_can_take():
    found = account(ABLE, 0.5, 4.0, 2000.0)
    assert found is not None
    assert found.cpu_s_per_s == 0.125
    assert found.share_of_capacity == pytest.approx(0.02)
    assert found.null_server == ABLE


def test_what_is_not_known_stays_unknown():
    found = account(ABLE, None, None, None)
    assert found is not None
    assert (found.cpu_s_per_s, found.share_of_capacity) == (None, None)
