"""What sampling devices costs, on devices that the tests' played library plays, so that it runs without a GPU.

    python -m benchmarks.telemetry rates            lateness and CPU share of the sampler at 20, 100 and 200 Hz
    python -m benchmarks.telemetry rates --busy     the same while every core is busy, as beside an engine on the CPU
    python -m benchmarks.telemetry effect           steps' time with device sampling off and on, in interleaved pairs

The played calls return at once, but for those that are known to be slow on a real device. What the driver itself
costs is not in these figures; what Python, the thread and the records cost is. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import overhead
from innerloop.harness.analysis.samples import cost
from innerloop.harness.machine.gpus import visible_gpus
from innerloop.harness.telemetry.device import DeviceSampler
from innerloop.harness.telemetry.samplers import device_sampler
from tests.nvml.devices import SLOW_READINGS_S, h100
from tests.nvml.library import build, load, variables
from tests.nvml.scenario import Scenario, wave


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rates", "effect"))
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each rate")
    parser.add_argument("--busy", action="store_true", help="keep every core busy meanwhile")
    parser.add_argument("--hz", type=float, default=20.0, help="of the effect")
    parser.add_argument("--engine", default="vllm", choices=("vllm", "torch"))
    parser.add_argument("--model", default="llama-tiny")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=4, help="pairs that are run first and not counted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.what == "rates":
            play(folder, arguments.devices)
            rates(arguments)
        else:
            effect(arguments, folder)


def play(folder: Path, count: int) -> None:
    """From now on this process has that many devices."""
    scenario = Scenario(tuple(h100(k, wave(400, 200, 3.0)) for k in range(count)), costs_s=SLOW_READINGS_S)
    library = build(folder / "nvml")
    os.environ.update(variables(library, scenario, folder / "scenario.txt"))
    sys.modules["pynvml"] = load(library)


def rates(arguments: argparse.Namespace) -> None:
    busy = []
    if arguments.busy:
        command = [sys.executable, "-c", "while True: pass"]
        busy = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        print(
            f"{arguments.devices} devices, {arguments.seconds:g} s each, {'all cores busy' if busy else 'idle cores'}"
        )
        for hz in (20.0, 100.0, 200.0):
            samplers = started(hz)
            time.sleep(arguments.seconds)
            print_cost(hz, samplers)
    finally:
        for process in busy:
            process.kill()


def started(hz: float) -> list[DeviceSampler]:
    samplers = [device_sampler(gpu, hz) for gpu in visible_gpus()]
    for one in samplers:
        one.start(os.getpid())
    for one in samplers:
        one.ready.wait(10)
    return samplers


def print_cost(hz: float, samplers: list[DeviceSampler]) -> None:
    found = [one.stop() for one in samplers]
    costs = [cost(one, int(one.table["time_ns"][0]), int(one.table["time_ns"][-1])) for one in found]
    late = np.concatenate([one.table["late_ns"] for one in found]) / 1e3
    taken = sum(one.cpu_s for one in found)
    count = sum(len(one.table) for one in found)
    print(
        f"{hz:>5.0f} Hz: {count} samples, "
        f"late p50 {np.quantile(late, 0.5):.0f} us, p99 {np.quantile(late, 0.99):.0f} us, "
        f"{taken / count * 1e6:.0f} us of CPU a sample, {sum(c.cpu_share or 0.0 for c in costs):.3%} of one core"
    )


class WithDevices(overhead.Observer):
    """What the harness does while a run with devices is measured."""

    def __init__(self, pid: int, trace: Path, hz: float) -> None:
        super().__init__(pid, trace)
        self._devices = started(hz)
        for one in self._devices:
            one.follow(pid)

    def stop(self) -> None:
        super().stop()
        for one in self._devices:
            one.stop()


def effect(arguments: argparse.Namespace, folder: Path) -> None:
    arguments.comparison = "telemetry"

    def watched(pid: int, trace: Path) -> Any:
        if "NVML_PLAYED" not in os.environ:  # not earlier: the engine is to run on the CPU
            play(folder, arguments.devices)
        return WithDevices(pid, trace, arguments.hz)

    rounds = overhead.run(arguments, folder, {"off": overhead.Observer, "on": watched})
    for time_of in ("loop_s", "step_s"):
        print(f"{time_of}:")
        overhead.print_ratio(arguments, overhead.times(rounds, "off", "on", time_of))


if __name__ == "__main__":
    main()
