"""Latency limits as they are typed, and as profiles."""

from __future__ import annotations

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import names
from innerloop.harness.profiles.slo import load_slo, parse_slo
from innerloop.harness.schema.goodput import Limit


def test_limits_have_a_figure_a_quantile_and_a_time() -> None:
    assert parse_slo("ttft_p99=500ms, tpot_p95=0.05s,e2e_p99.9=2s") == (
        Limit("ttft", 0.99, 0.5),
        Limit("tpot", 0.95, 0.05),
        Limit("e2e", 0.999, 2.0),
    )
    assert parse_slo(None) == ()
    assert Limit("e2e", 0.999, 2.0).name == "e2e_p99.9"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ttft=1s", "is not a limit; use a form such as"),
        ("ttft_p99=500", "is not a limit"),
        ("tfft_p99=1s", "no latency 'tfft'; did you mean 'ttft'"),
        ("ttft_p100=1s", "between p0 and p100"),
        ("ttft_p99=0s", "above 0"),
        ("ttft_p99=1s,ttft_p99=2s", "names a limit twice"),
        ("mlperf-llama2", "no profile 'mlperf-llama2'; did you mean"),
    ],
)
def test_what_is_no_limit_is_refused(text: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        parse_slo(text)


def test_every_profile_names_its_source_and_revision() -> None:
    assert "mlperf-llama2-70b-interactive" in names("slo")
    for name in names("slo"):
        assert "982b2063398dc2d4fb606eacbfa73e54404ecc1e" in load_slo(name).source
    assert parse_slo("mlperf-llama2-70b-interactive") == (Limit("ttft", 0.99, 0.45), Limit("tpot", 0.99, 0.04))
