"""What makes a device's figures doubtful."""

from __future__ import annotations

from typing import Any

import pytest

from innerloop.harness.result.suspect_device import suspicions
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.telemetry import Device, SamplerCost
from tests.harness.filled import filled

SOUND: dict[str, Any] = {
    "index": 0,
    "source": "gpu0",
    "missing_from_s": None,
    "missing_reason": None,
    "event_reasons": [{"reason": "gpu_idle", "seconds": 9.0}],
    "clocks_mhz": {"sm": {"busy_mean": 1900.0, "max_possible": 1980}},
    "temperature_c": {"start": 40.0, "middle": 60.0, "end": 61.0, "max": 62.0},
    "foreign_processes": [],
    "update_period_s": 0.1,
    "energy_j": {"counter": 100.0, "integral": 104.0, "counter_integral_difference": 0.04, "resolution_s": 0.1},
}


def find(window_s: float = 10.0, gap_s: float = 0.06, **changes: Any) -> list[Reason]:
    device = filled(Device, {**SOUND, **changes})
    reasons = suspicions([device], {"gpu0": filled(SamplerCost, {"longest_gap_s": gap_s})}, window_s)
    assert all("GPU 0" in reason.detail and reason.advice for reason in reasons)
    return reasons


def test_a_sound_device_has_no_reason() -> None:
    assert find() == []


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("device_lost", {"missing_from_s": 4.2, "missing_reason": "GPU is lost"}),
        ("device_lost", {"missing_from_s": -3.0, "missing_reason": "GPU is lost"}),
        ("throttled", {"event_reasons": [{"reason": "hw_thermal_slowdown", "seconds": 0.2}]}),
        ("low_clocks", {"clocks_mhz": {"sm": {"busy_mean": 1484.0, "max_possible": 1980}}}),
        ("temperature_rising", {"temperature_c": {"start": 40.0, "middle": 60.0, "end": 63.5, "max": 64.0}}),
        ("foreign_process", {"foreign_processes": [{"pid": 9, "name": "ollama", "peak_bytes": 1 << 30}]}),
        ("power_cap", {"event_reasons": [{"reason": "sw_power_cap", "seconds": 0.2}]}),
        ("device_sampling_gap", {"gap_s": 3.1}),
        ("energy_mismatch", {"energy_j": {**SOUND["energy_j"], "counter_integral_difference": -0.051}}),
        ("window_too_short_for_energy", {"window_s": 1.9, "event_reasons": []}),
    ],
)
def test_each_doubt_has_its_reason(code: str, changes: dict[str, Any]) -> None:
    assert [reason.code for reason in find(**changes)] == [code]


@pytest.mark.parametrize(
    "changes",
    [
        {"event_reasons": [{"reason": "sw_power_cap", "seconds": 0.05}]},
        {"event_reasons": [{"reason": "applications_clocks_setting", "seconds": 9.0}]},
        {"clocks_mhz": {"sm": {"busy_mean": None, "max_possible": 1980}}},
        {"clocks_mhz": {"sm": {"busy_mean": 900.0, "max_possible": None}}},
        {"temperature_c": {"start": None, "middle": None, "end": None, "max": None}},
        {"gap_s": 2.9},
        {"energy_j": {"counter": None, "integral": 9.0, "counter_integral_difference": None, "resolution_s": None}},
    ],
)
def test_what_is_small_or_unknown_is_no_reason(changes: dict[str, Any]) -> None:
    assert find(**changes) == []


def test_details_name_what_was_seen() -> None:
    [lost] = find(missing_from_s=4.2, missing_reason="GPU is lost")
    assert "since 4.2 s into the window: GPU is lost" in lost.detail
    [hot] = find(event_reasons=[{"reason": "hw_thermal_slowdown", "seconds": 2.5}])
    assert "for 2.5 s (hw_thermal_slowdown)" in hot.detail
    strangers = [{"pid": 9, "name": "ollama", "peak_bytes": 1 << 30}, {"pid": 77, "name": None, "peak_bytes": None}]
    [others] = find(foreign_processes=strangers)
    assert "ollama (9, 1.00 GiB), an unnamed process (77)" in others.detail


def test_a_window_too_short_is_told_instead_of_a_mismatch() -> None:
    energy = {**SOUND["energy_j"], "counter_integral_difference": 0.5}
    assert [reason.code for reason in find(window_s=1.0, energy_j=energy)] == ["window_too_short_for_energy"]
