"""How a real device's readings behave: what it answers, how often power changes, the counter against its integral.

    python -m benchmarks.gpu.power [--seconds 8] [--python PY]

Reads the first GPU as fast as it answers, idle and then under a matrix product that runs in PY (an interpreter with
torch; without one, idle only). Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from innerloop.harness.machine.gpus import visible_gpus
from innerloop.harness.telemetry.device import MISSING, SLOT, Device

LOAD = """
import time, torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
print("ready", flush=True)
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
"""
MARGIN_S = 1.0  # of the load, on either side of what is read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--python", help="a Python interpreter with torch installed")
    given = parser.parse_args()
    gpus = visible_gpus()
    if not gpus:
        sys.exit("there is no GPU here that could be read")
    from innerloop.harness.telemetry.nvml import NvmlDevice

    device = NvmlDevice(gpus[0].uuid)
    try:
        found: dict[str, Any] = {"facts": device.facts(), "idle": look(device, given.seconds)}
        if given.python:
            found["busy"] = busy(device, given.seconds, given.python)
    finally:
        device.close()
    print(json.dumps(found, indent=1, default=str))


def busy(device: Device, seconds: float, python: str) -> dict[str, Any]:
    """`look` while the device multiplies matrices."""
    load = [python, "-c", LOAD.format(seconds=seconds + 2 * MARGIN_S)]
    with subprocess.Popen(load, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        try:
            if worker.stdout.readline().strip() != "ready":
                return {"failed": f"the load ended at once, with {worker.wait()}"}
            time.sleep(MARGIN_S)
            return look(device, seconds)
        finally:
            worker.kill()


def look(device: Device, seconds: float) -> dict[str, Any]:
    """Reads power and energy without a pause for `seconds`, then everything once. Times in ms, power in W."""
    times, powers, energies = [], [], []
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        row: list[Any] = list(MISSING)
        device.fast(row)
        times.append(now)
        powers.append(row[SLOT["power_instant_w"]])
        energies.append(row[SLOT["energy_j"]])
    row = list(MISSING)
    device.medium(row)
    device.slow(row)
    t, p, e = np.array(times), np.array(powers), np.array(energies)
    both = np.isfinite(p) & np.isfinite(e)
    counted = integral = None
    if both.sum() > 1:
        counted = float(e[both][-1] - e[both][0])
        integral = float(np.sum((p[both][1:] + p[both][:-1]) / 2 * np.diff(t[both])))
    return {
        "readings": len(t),
        "ms_per_reading": spread(np.diff(t) * 1e3),
        "power_w": spread(p),
        "ms_between_changes_of_power": changes(t, p),
        "ms_between_changes_of_energy": changes(t, e),
        "energy_j": {"counter": counted, "integral": integral},
        "integral_over_counter": integral / counted if counted and integral is not None else None,
        "once": {name: value for name, value in zip(SLOT, row, strict=True) if value >= 0},  # missing: -1 or NaN
        "faults": dict(device.faults),
    }


def changes(times: np.ndarray, values: np.ndarray) -> dict[str, float] | None:
    """How long a value stayed as it was, in ms; what was not read is passed over."""
    have = np.isfinite(values)
    times, values = times[have], values[have]
    return spread(np.diff(times[1:][np.diff(values) != 0]) * 1e3)


def spread(values: np.ndarray) -> dict[str, float] | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, middle, high = np.quantile(known, [0.05, 0.5, 0.95])
    return {"p5": float(low), "p50": float(middle), "p95": float(high), "mean": float(known.mean())}


if __name__ == "__main__":
    main()
