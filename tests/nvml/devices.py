"""Devices with the features and habits of real parts, for scenarios."""

from __future__ import annotations

from typing import Any

from tests.nvml.scenario import Cell, Curve, Device, constant

GIB = 1 << 30
GPU_IDLE, SW_POWER_CAP, HW_SLOWDOWN, SW_THERMAL, HW_THERMAL = 0x1, 0x4, 0x8, 0x20, 0x40  # bits of event reasons
REASONS = 0x1FF  # those that an H100's driver knows
# What readings took on real machines where it was worth telling: an average power waits for the device's controller.
SLOW_READINGS_S = {"power_average": 3.3e-3, "pcie": 0.3e-3}


def h100(index: int = 0, power_w: Curve | None = None, **changes: Any) -> Device:
    """An H100 that does everything. Its instant power changes every 100 ms and is the mean of the last 25 ms.

    `changes` are the device's fields; `numbers` and `curves` are laid over its own, and None in them takes one away.
    """
    power = power_w or constant(100.0)
    numbers = {
        "memory_total_bytes": 80 * GIB,
        "memory_reserved_bytes": GIB // 2,
        "power_limit_w": 700.0,
        "default_power_limit_w": 700.0,
        "sm_max_mhz": 1980,
        "memory_max_mhz": 2619,
        "compute_major": 9,
        "compute_minor": 0,
        "architecture": 9,
        "mig": 0,
        "gpm": 1,
        "event_reasons_supported": REASONS,
        "power_update_s": 0.1,
        "power_window_s": 0.025,
        "counter_update_s": 0.0,
        "energy_before_j": 1000.0,
    }
    curves: dict[str, Curve | Cell] = {
        "power_w": power,
        "memory_used_bytes": constant(GIB),
        "gpu_percent": constant(90),
        "memory_percent": constant(50),
        "sm_mhz": constant(1980),
        "memory_mhz": constant(2619),
        "temperature_c": constant(50),
        "memory_temperature_c": constant(60),
        "pcie_tx_bytes_per_s": constant(3e6),
        "pcie_rx_bytes_per_s": constant(5e6),
        "nvlink_tx_bytes_per_s": constant(7e6),
        "nvlink_rx_bytes_per_s": constant(11e6),
        "gpm_graphics_percent": constant(95),
        "gpm_sm_percent": constant(80),
        "gpm_occupancy_percent": constant(40),
        "gpm_tensor_percent": constant(30),
        "gpm_dram_percent": constant(70),
    }
    return Device(
        uuid=changes.pop("uuid", f"GPU-{index:08x}-1111-2222-3333-444444444444"),
        name=changes.pop("name", "NVIDIA H100 80GB HBM3"),
        bus_id=f"00000000:{0x1B + index:02X}:00.0",
        numbers=_changed(numbers, changes.pop("numbers", {})),
        curves=_changed(curves, changes.pop("curves", {})),
        **changes,
    )


def p100(index: int = 0, power_w: Curve | None = None, **changes: Any) -> Device:
    """A part from before there were energy counters, instant power, GPM, MIG, NVLink fields and PCIe byte counters."""
    device = h100(index, power_w, name="Tesla P100-PCIE-16GB")
    without = dict.fromkeys(("energy_before_j", "power_window_s", "gpm", "mig"))
    silent = [name for name in device.curves if name.startswith(("gpm_", "nvlink_", "pcie_", "memory_temperature"))]
    numbers = {"compute_major": 6, "architecture": 4, "memory_total_bytes": 16 * GIB, **without}
    return h100(
        index,
        power_w,
        name=device.name,
        numbers={**numbers, **changes.pop("numbers", {})},
        curves={**dict.fromkeys(silent), **changes.pop("curves", {})},
        **changes,
    )


def mig_slice(part: int, memory_used_bytes: Curve | Cell | None = None, **changes: Any) -> Device:
    """A MIG slice: memory, processes and GPM of its own, and nothing else."""
    return Device(
        uuid=changes.pop("uuid", f"MIG-{part:08x}-5555-6666-7777-888888888888"),
        name="NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        numbers={"memory_total_bytes": 40 * GIB, "gpu_instance": part + 1, "compute_instance": 0},
        curves={
            "memory_used_bytes": memory_used_bytes or constant(2 * GIB),
            "gpm_sm_percent": constant(60),
            "gpm_tensor_percent": constant(20),
            "gpm_dram_percent": constant(50),
        },
        **changes,
    )


def _changed(own: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**own, **changes}.items() if value is not None}
