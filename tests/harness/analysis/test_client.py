from __future__ import annotations

import pytest

from innerloop.harness.analysis.client import account, suspicions

ABLE = {"tokens_per_s": 100_000.0, "cpu_s_per_s": 0.98, "tokens": 1000}


def test_a_run_without_a_client_has_no_account():
    assert account(None, 1.0, 2.0, 500.0) is None
    assert suspicions(None) == []


def test_the_client_is_measured_against_what_it_can_take():
    found = account(ABLE, 0.5, 4.0, 2000.0)
    assert found is not None
    assert found["cpu_s_per_s"] == 0.125
    assert found["share_of_capacity"] == pytest.approx(0.02)
    assert found["null_server"] == ABLE
    assert suspicions(found) == []


@pytest.mark.parametrize(
    ("cpu_s", "rate", "words"),
    [
        (1.0, 60_000.0, "60.0 % of the 100 000 tokens/s"),
        (3.6, 1000.0, "90.0 % of a core"),
        (3.6, 60_000.0, " and it used"),
    ],
)
def test_a_client_near_its_limit_is_a_reason_for_doubt(cpu_s, rate, words):
    [reason] = suspicions(account(ABLE, cpu_s, 4.0, rate))
    assert reason.code == "client_near_limit"
    assert words in reason.detail


def test_what_is_not_known_stays_unknown():
    found = account(ABLE, None, None, None)
    assert found is not None
    assert (found["cpu_s_per_s"], found["share_of_capacity"]) == (None, None)
    assert suspicions(found) == []
