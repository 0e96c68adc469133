"""What a report says of the devices."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.report.devices import devices
from innerloop.harness.schema.telemetry import Telemetry
from tests.harness.filled import filled

GIB = 1 << 30
ONE: dict[str, Any] = {
    "index": 0,
    "mig": None,
    "power_w": {"mean": 611.6, "max": 689.9},
    "clocks_mhz": {"sm": {"mean": 1754.8}},
    "utilization": {"gpu": 0.97},
    "gpm": None,
    "temperature_c": {"max": 64.0},
    "memory_bytes": {
        "peak": 98 * GIB,
        "weights": 15 * GIB,
        "kv_cache": 80 * GIB,
        "rest": 2 * GIB,
        "before_load": GIB,
    },
}
TOTAL = {"window": 6117.2, "per_token": 1.052, "per_token_above_idle": 0.84, "tokens_per_j": 0.951}


def text(*entries: dict[str, Any], energy: dict[str, Any] | None = TOTAL, cpu: dict[str, Any] | None = None) -> str:
    telemetry = filled(Telemetry, {"devices": list(entries), "energy_j": {"devices": energy, "cpu": cpu}})
    console = PlainConsole(width=76, record=True, file=io.StringIO())
    console.print(devices(telemetry))
    shown = console.export_text()
    assert "…" not in shown
    return shown


@pytest.fixture
def one() -> dict[str, Any]:
    return copy.deepcopy(ONE)


def test_a_device_has_a_row_and_all_together_memory_and_energy(one: dict[str, Any]) -> None:
    lines = [" ".join(line.split()) for line in text(one).splitlines()]
    assert lines[1] == "GPU 0 612 W 690 W 97% 1 755 MHz 64 °C 98.0 GiB"
    assert lines[2].startswith("memory: weights 15.0 GiB, KV cache 80.0 GiB, other 2.00 GiB")
    assert "energy: 6 117 J, 1.05 J per token (0.840 above idle), 0.951 tokens per J" in " ".join(lines)


def test_several_devices_memory_adds_up(one: dict[str, Any]) -> None:
    shown = text(one, {**one, "index": 1})
    assert "GPU 1" in shown
    assert "weights 30.0 GiB" in shown


def test_what_is_not_known_is_a_dash_or_left_out(one: dict[str, Any]) -> None:
    one["power_w"] = {"mean": None, "max": None}
    one["utilization"] = {"gpu": None}
    one["clocks_mhz"] = {"sm": {"mean": None}}
    one["temperature_c"] = {"max": None}
    one["memory_bytes"] = dict.fromkeys(one["memory_bytes"])
    shown = text(one, energy={**dict.fromkeys(TOTAL)})
    assert shown.split("GPU 0")[1].split() == ["-"] * 6
    assert "memory:" not in shown
    assert "energy" not in shown


def test_a_slices_activity_stands_in_for_its_utilization(one: dict[str, Any]) -> None:
    one["utilization"], one["gpm"], one["mig"] = {"gpu": None}, {"sm_activity": 0.61}, {"gpu_instance": 1}
    shown = text(one)
    assert "61%" in shown
    assert "GPU 0 slice" in shown


def test_the_cpus_energy_is_apart(one: dict[str, Any]) -> None:
    assert "CPU energy: 2\u202f400 J, 24.0 J per token" in text(one, cpu={"window": 2400.0, "per_token": 24.0})
