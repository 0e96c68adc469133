"""What makes a run's figures doubtful."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.harness.result.suspect import Evidence, _warmup, _workload, exhausted_ns, suspicions, unhonoured
from innerloop.harness.schema.reasons import Check
from innerloop.harness.schema.startup import Warmup
from innerloop.harness.schema.telemetry import Host, SamplerCost
from tests.harness.conftest import MS, SECOND, Make
from tests.harness.filled import filled

QUIET_HOST = {
    "steal_share": 0.0,
    "other_share": 0.01,
    "other_cores": 0.1,
    "swap_in_bytes": 0,
    "swap_out_bytes": 0,
}


@pytest.fixture
def codes(make_steps: Make, make_requests: Make) -> Any:
    """codes(**what differs from a sound run of 20 steps and 2 s) -> the reasons' codes."""

    def find(**changes: Any) -> list[str]:
        start = np.arange(20) * 100
        arguments = {
            "steps": make_steps(start, start + 100),
            "requests": make_requests([0], [100], [2000], [20]),
            "start_ns": 0,
            "end_ns": 2 * SECOND,
            "duration_ns": -1,
            "bubble_share": 0.01,
            "recorder_share": 0.002,
            "warmup": {"settled": True, "rounds": 3, "round_tokens_per_s": (1.0,)},
            "host": QUIET_HOST,
            "sampler": {"longest_gap_s": 0.3},
            "checks": [],
            **changes,
        }
        for name, kind in {"warmup": Warmup, "host": Host, "sampler": SamplerCost}.items():
            arguments[name] = None if arguments[name] is None else filled(kind, arguments[name])
        reasons = suspicions(Evidence(**arguments))
        assert all(reason.detail and reason.advice for reason in reasons)
        return [reason.code for reason in reasons]

    return find


def test_a_sound_run_has_no_reason(codes: Any) -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("trace_mismatch", {"checks": [Check("x", "sums differ")] * 5}),
        ("short_window", {"end_ns": SECOND - 1}),
        ("not_settled", {"warmup": {"settled": False, "rounds": 9, "round_tokens_per_s": (1.0, 2.0)}}),
        ("cpu_stolen", {"host": {**QUIET_HOST, "steal_share": 0.011}}),
        ("other_processes", {"host": {**QUIET_HOST, "other_share": 0.051, "other_cores": 0.6}}),
        ("other_processes", {"host": {**QUIET_HOST, "other_share": 0.011, "other_cores": 2.1}}),
        ("swapping", {"host": {**QUIET_HOST, "swap_in_bytes": 1 << 20, "swap_out_bytes": 1}}),
        ("sampling_gap", {"sampler": {"longest_gap_s": 3.1}}),
        ("bubbles", {"bubble_share": 0.11}),
        ("recorder_cost", {"recorder_share": 0.021}),
    ],
)
def test_each_disturbance_is_named(codes: Any, code: str, changes: dict[str, Any]) -> None:
    assert codes(**changes) == [code]


@pytest.mark.parametrize(
    "changes",
    [
        {
            "host": {
                **QUIET_HOST,
                "steal_share": 0.01,
                "other_share": 0.05,
                "other_cores": 1.0,
                "swap_out_bytes": 1 << 20,
            }
        },
        {"bubble_share": 0.10, "recorder_share": 0.02, "sampler": {"longest_gap_s": 3.0}},
        {"end_ns": SECOND},
        {"host": None, "warmup": None, "sampler": None, "bubble_share": None, "recorder_share": None},
        {"host": {"other_cores": 0.0}, "sampler": {"longest_gap_s": None}},
    ],
)
def test_what_is_at_the_limit_or_not_known_is_no_reason(codes: Any, changes: dict[str, Any]) -> None:
    assert codes(**changes) == []


@pytest.mark.parametrize(
    ("most", "advice"),
    [
        ({"max_rounds": 8, "max_s": 30.0}, "a longer warm-up (it took 48 s; --workload-arg warmup.max_s=N, here 30)"),
        ({"max_rounds": 2, "max_s": 30.0}, "more warm-up rounds (--workload-arg warmup.max_rounds=N, here 2)"),
        ({}, "more warm-up rounds (--workload-arg warmup.max_rounds=N)"),
    ],
)
def test_a_warm_up_that_was_cut_is_to_be_longer_in_what_cut_it(most: dict[str, Any], advice: str) -> None:
    seen = filled(Warmup, {"settled": False, "rounds": 2, "seconds": 47.9, "round_tokens_per_s": (1.0, 2.0)})
    [reason] = _warmup(seen, most)
    assert reason.advice == f"Allow {advice}, and check what else is running on this machine."


def test_too_few_steps_are_a_short_window(codes: Any, make_steps: Make) -> None:
    start = np.arange(9) * 200
    assert codes(steps=make_steps(start, start + 200)) == ["short_window"]


def test_a_user_who_runs_out_of_requests_exhausts_a_closed_loop(make_requests: Make) -> None:
    # user 1 has finished its only request at 4 s of 10
    requests = make_requests(
        [0, 0, None], [1, 1, None], [9900, 4000, None], [2, 2, 0], ["finished", "finished", "unsent"], user=[0, 1, 0]
    )
    assert exhausted_ns(requests, 0, 10 * SECOND, 10 * SECOND) == 4 * SECOND
    [reason] = _workload(requests, 0, 10 * SECOND, 10 * SECOND)
    assert "load.max_tokens_per_s_per_user" in str(reason.advice)


def test_a_user_who_is_still_served_does_not(make_requests: Make) -> None:
    requests = make_requests([0, 0], [1, 1], [9900, 9000], [2, 2], ["finished", "cut"], user=[0, 1])
    assert exhausted_ns(requests, 0, 10 * SECOND, 10 * SECOND) is None


def test_the_last_two_percent_of_a_window_may_be_empty(make_requests: Make) -> None:
    requests = make_requests([0], [1], [9801], [2], user=[0])
    assert exhausted_ns(requests, 0, 10 * SECOND, 10 * SECOND) is None
    requests["last_token_ns"] = 9799 * MS
    assert exhausted_ns(requests, 0, 10 * SECOND, 10 * SECOND) == 9799 * MS


def test_a_window_that_ended_before_its_time_ran_out_of_work(make_requests: Make) -> None:
    requests = make_requests([0], [1], [5000], [2], user=[0])
    assert exhausted_ns(requests, 0, 5 * SECOND, 10 * SECOND) == 5 * SECOND


def test_an_open_loop_has_no_users_who_could_run_out(make_requests: Make) -> None:
    assert exhausted_ns(make_requests([0, 10], [1, 11], [5, 15], [2, 2]), 0, 5 * SECOND, 10 * SECOND) is None


def test_without_a_duration_a_workload_cannot_run_out(make_requests: Make) -> None:
    assert exhausted_ns(make_requests([0], [1], [5], [2]), 0, 10 * SECOND, -1) is None


def test_a_setting_that_the_engine_resolved_otherwise_is_named():
    asked = {"context_length": 512, "max_batch_size": 8, "kv_cache_tokens": 1000, "chunked_prefill": None}
    effective = {"context_length": 2048, "max_batch_size": 8, "kv_cache_tokens": 1024, "chunked_prefill": True}
    [reason] = unhonoured(asked, {**effective, "kv_block_tokens": 128})
    assert reason.code == "setting_not_honoured"
    assert reason.detail == "context_length: 512 was requested, but the engine runs with 2048"


def test_a_kv_cache_may_be_rounded_up_by_less_than_a_block_and_no_more():
    effective = {"kv_cache_tokens": 1024, "kv_block_tokens": 128}
    assert unhonoured({"kv_cache_tokens": 897}, effective) == []
    assert len(unhonoured({"kv_cache_tokens": 896}, effective)) == 1
    assert len(unhonoured({"kv_cache_tokens": 2000}, effective)) == 1


def test_what_the_engine_does_not_report_is_taken_on_trust():
    assert unhonoured({"max_batch_size": 8, "prefix_caching": False}, {"max_batch_size": None}) == []


def test_a_kv_cache_that_is_not_of_fp8_as_asked_is_found_out():
    asked = {"kv_cache_dtype": "fp8"}
    assert [reason.code for reason in unhonoured(asked, {"kv_cache_dtype": "bfloat16"})] == ["setting_not_honoured"]
    for kept in ("fp8_e4m3", "float8_e4m3fn", None):
        assert unhonoured(asked, {"kv_cache_dtype": kept}) == []
    assert unhonoured({"kv_cache_dtype": "auto"}, {"kv_cache_dtype": "bfloat16"}) == []


def test_graphs_that_were_asked_for_and_are_not_there_are_found() -> None:
    [reason] = unhonoured({"cuda_graphs": True}, {"cuda_graphs": False})
    assert reason.detail == "cuda_graphs: True was requested, but the engine runs with False"
    assert unhonoured({"cuda_graphs": None}, {"cuda_graphs": False}) == []
    assert unhonoured({"cuda_graphs": False}, {"cuda_graphs": None}) == []
