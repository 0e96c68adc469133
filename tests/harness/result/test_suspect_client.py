"""When the client of layer `http` is a reason for doubt."""

from __future__ import annotations

import pytest

from innerloop.harness.analysis.client import account
from innerloop.harness.result.suspect_client import suspicions
from tests.harness.analysis.test_client import ABLE


def test_a_run_without_a_client_or_with_a_quiet_one_is_not_doubted():
    assert suspicions(None) == []
    assert suspicions(account(ABLE, 0.5, 4.0, 2000.0)) == []


@pytest.mark.parametrize(
    ("cpu_s", "rate", "words"),
    [
        (1.0, 60_000.0, "60.0 % of the 100\u202f000 tokens/s"),
        (3.6, 1000.0, "90.0 % of a core"),
        (3.6, 60_000.0, " and it used"),
    ],
)
def test_a_client_near_its_limit_is_a_reason_for_doubt(cpu_s, rate, words):
    [reason] = suspicions(account(ABLE, cpu_s, 4.0, rate))
    assert reason.code == "client_near_limit"
    assert words in reason.detail


def test_what_is_not_known_is_no_reason():
    assert suspicions(account(ABLE, None, None, None)) == []
