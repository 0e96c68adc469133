"""The CPU's own energy counters (RAPL) as Linux shows them in /sys/class/powercap; often readable by root only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.harness.telemetry.sampler import TIMES, Sampler

ROOT = Path("/sys/class/powercap")
INTERVAL_S = 0.2

CPU_ENERGY = np.dtype([*TIMES, ("package_j", "<f8"), ("dram_j", "<f8")])  # counters; all sockets together


class Zone:
    """One counter, made to go on where it wraps.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._file = os.open(folder / "energy_uj", os.O_RDONLY)
        self._wraps = 0
        self._before = 0

    def joules(self) -> float:
        microjoules = int(os.pread(self._file, 32, 0))
        if microjoules < self._before:
            self._wraps += 1
        self._before = microjoules
        return (microjoules + self._wraps * self._range) / 1e6

    def close(self) -> None:
        os.close(self._file)


def zones(root: Path = ROOT) -> dict[str, list[Path]]:
    """The readable counters by what they measure: "package" (a socket) and "dram" (its memory, where it is apart)."""
    found: dict[str, list[Path]] = {"package": [], "dram": []}
    for folder in sorted(root.glob("intel-rapl:*")):  # AMD's are called so too
        try:
            name = (folder / "name").read_text().strip()
            for file in ("energy_uj", "max_energy_range_uj"):  # without its range it is not known where it wraps
                int((folder / file).read_text())
        except (OSError, ValueError):
            continue
        kind = name.partition("-")[0]
        if kind in found:
            found[kind].append(folder)
    return found


class CpuEnergySampler(Sampler):
    """Samples the energy of all sockets; `facts` holds their number. It has nothing to do where none is readable."""

    source = "cpu"
    dtype = CPU_ENERGY

    def __init__(self, root: Path = ROOT, interval_s: float = INTERVAL_S) -> None:
        super().__init__(interval_s)
        self._root = root
        self._packages: list[Zone] = []
        self._dram: list[Zone] = []

    def open(self, pid: int) -> None:
        found = zones(self._root)
        for folder in found["package"]:
            self._packages.append(Zone(folder))
        for folder in found["dram"]:
            self._dram.append(Zone(folder))
        self.facts.update(packages=len(self._packages), dram=len(self._dram))

    def close(self) -> None:
        for zone in (*self._packages, *self._dram):
            zone.close()

    def read(self) -> tuple[Any, ...]:
        return _sum(self._packages), _sum(self._dram)


def _sum(zones_of_kind: list[Zone]) -> float:
    return sum(zone.joules() for zone in zones_of_kind) if zones_of_kind else float("nan")
