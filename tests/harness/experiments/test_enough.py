"""An experiment whose metric cannot be known is refused before its first run."""

from __future__ import annotations

from typing import Any

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.enough import refuse_too_few, requests_of

TTFT, ITL = "latency_s.ttft.p99", "latency_s.itl.p99"


def spec(**load: Any) -> dict[str, Any]:
    return {"workload_profile": {"name": "few", "load": load}}


@pytest.mark.parametrize(
    ("load", "requests"),
    [
        ({"kind": "offline", "requests": 64}, 64),
        ({"kind": "open", "requests": 64}, 64),
        ({"kind": "open", "requests": None, "duration_s": 9}, None),
        ({"kind": "closed", "users": 8, "requests_per_user": 8}, 64),
        ({"kind": "closed", "users": 8, "requests_per_user": None, "duration_s": 9}, None),
        ({"kind": "sessions", "sessions": 64}, None),
    ],
)
def test_how_many_requests_a_load_has(load: dict[str, Any], requests: int | None) -> None:
    assert requests_of(load) == requests


def test_a_quantile_of_too_few_requests_is_refused() -> None:
    few, enough = spec(kind="offline", requests=99), spec(kind="offline", requests=100)
    with pytest.raises(Refused, match="p99 needs at least 100 values in each run, and workload few has 99 requests"):
        refuse_too_few([TTFT], few)
    refuse_too_few([TTFT], enough)
    refuse_too_few([ITL, "latency_s.ttft.p50", "throughput.output_tokens_per_s"], few)  # tokens are more than requests
    refuse_too_few([TTFT], spec(kind="closed", users=2, duration_s=9.0))
