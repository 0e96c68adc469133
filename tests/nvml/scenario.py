"""What the played library plays, and what is then true: curves over time with exact integrals, devices, faults.

Times are seconds since the scenario's epoch, on the clock that the harness reads (`time.monotonic_ns`).
"""

from __future__ import annotations

import math
import mmap
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

CELLS = 64  # as in scenario.h
NEVER = math.inf
ZERO, STALL = -1, -2  # instead of an NVML error: reads as 0; does not return before the fault is over


@dataclass(frozen=True)
class Piece:
    """A line from `first` to `last`, and a sine on top of it."""

    seconds: float
    first: float
    last: float
    amplitude: float = 0.0
    period_s: float = 1.0

    def value(self, s: float) -> float:
        line = self.first + (self.last - self.first) * s / self.seconds
        return line + self.amplitude * math.sin(2 * math.pi * s / self.period_s)

    def integral(self, s: float) -> float:
        """From the piece's start to `s` seconds later."""
        line = self.first * s + (self.last - self.first) * s * s / (2 * self.seconds)
        turn = 2 * math.pi / self.period_s
        return line + self.amplitude / turn * (1 - math.cos(turn * s))


@dataclass(frozen=True)
class Curve:
    """Pieces one after the other from 0 s on; then the last value stays, or all begins again."""

    pieces: tuple[Piece, ...]
    repeats: bool = False

    def value(self, t: float) -> float:
        t, _ = self._folded(t)
        for piece in self.pieces:
            if t < piece.seconds:
                return piece.value(t)
            t -= piece.seconds
        return self.pieces[-1].last

    def integral(self, start_s: float, end_s: float) -> float:
        return self._integral(end_s) - self._integral(start_s)

    def _integral(self, t: float) -> float:
        t, total = self._folded(t)
        for piece in self.pieces:
            if t <= piece.seconds:
                return total + piece.integral(t)
            total += piece.integral(piece.seconds)
            t -= piece.seconds
        return total + self.pieces[-1].last * t

    def _folded(self, t: float) -> tuple[float, float]:
        """The time within one round, and the integral of the rounds before it."""
        if not self.repeats:
            return t, 0.0
        round_s = sum(piece.seconds for piece in self.pieces)
        rounds, t = divmod(t, round_s)
        return t, rounds * sum(piece.integral(piece.seconds) for piece in self.pieces)


def constant(value: float) -> Curve:
    return Curve((Piece(1.0, value, value),))


def levels(*pairs: tuple[float, float], repeats: bool = False, ripple: float = 0.0) -> Curve:
    """(seconds, value) after (seconds, value); the last value stays unless it repeats.

    A ripple makes each reading of a steady level differ a little from the one before, as those of real parts do.
    """
    return Curve(tuple(Piece(seconds, value, value, ripple, 0.37) for seconds, value in pairs), repeats)


def ramp(seconds: float, first: float, last: float) -> Curve:
    return Curve((Piece(seconds, first, last),))


def wave(mean: float, amplitude: float, period_s: float) -> Curve:
    return Curve((Piece(period_s, mean, mean, amplitude, period_s),), repeats=True)


class Cells:
    """Numbers in a file that the played library has mapped: what is set here holds for its next call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(8 * CELLS))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * CELLS)
        self._used = 0

    def new(self, value: float) -> Cell:
        cell = Cell(self._map, self._used)
        self._used += 1
        cell.set(value)
        return cell


class Cell:
    """One number that may change at any time. In a scenario it stands wherever a `Number` does."""

    def __init__(self, memory: mmap.mmap, index: int) -> None:
        self._memory, self.index = memory, index

    def set(self, value: float) -> None:
        struct.pack_into("=d", self._memory, 8 * self.index, value)

    def get(self) -> float:
        return struct.unpack_from("=d", self._memory, 8 * self.index)[0]

    def __str__(self) -> str:
        return f"@{self.index}"


Number = float | Cell


@dataclass(frozen=True)
class Fault:
    """From `start` until `end`, reading `what` ends with the NVML error code `error`; every `every`-th time only.

    `what`: "*" for all that is asked of the device, or power_instant, power_average, power_usage, energy, memory,
    processes, utilization, clocks, max_clocks, temperature, memory_temperature, event_reasons, throttle_reasons (the
    same by its older name), pcie, pcie_throughput, nvlink, power_limit, gpm, mig, handle, fields (the whole call),
    name, uuid, index, pci, architecture, compute_capability.
    """

    what: str
    error: int
    start: Number = 0.0
    end: Number = NEVER
    every: int = 1


@dataclass(frozen=True)
class Process:
    """`bytes` -1: NVML cannot tell. A pid of 0 is no process yet."""

    pid: Number
    bytes: Number
    start: Number = 0.0
    end: Number = NEVER
    graphics: bool = False


@dataclass(frozen=True)
class Event:
    """Bits of the clocks' event reasons that are set from `start` until `end`."""

    bits: int
    start: Number = 0.0
    end: Number = NEVER


@dataclass(frozen=True)
class Device:
    """A device, or a MIG slice of one. `numbers` and `curves` are named as in scenario.h; what is left out is not
    supported. A curve may be steered by a cell, and then has no integral. `told` gets what was last told of the memory
    in use."""

    uuid: str
    name: str
    bus_id: str = "00000000:00:00.0"
    numbers: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Curve | Cell] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    processes: tuple[Process, ...] = ()
    events: tuple[Event, ...] = ()
    slices: tuple[Device, ...] = ()
    told: Cell | None = None

    def lines(self) -> list[str]:
        out = [f"uuid {self.uuid}", f"name {self.name}", f"bus_id {self.bus_id}"]
        out += [f"{name} {value!r}" for name, value in self.numbers.items()]
        for name, curve in self.curves.items():
            if isinstance(curve, Cell):
                out.append(f"{name} {curve}")
                continue
            out += [f"{name} {p.seconds} {p.first} {p.last} {p.amplitude} {p.period_s}" for p in curve.pieces]
            out += [f"{name} repeat"] if curve.repeats else []
        out += [f"fault {f.what} {f.start} {f.end} {f.error} {f.every}" for f in self.faults]
        out += [f"process {p.pid} {p.bytes} {p.start} {p.end} {int(p.graphics)}" for p in self.processes]
        out += [f"event {e.bits} {e.start} {e.end}" for e in self.events]
        out += [f"told {self.told}"] if self.told else []
        for part in self.slices:
            out += ["slice", *part.lines()]
        return out


@dataclass(frozen=True)
class Scenario:
    devices: tuple[Device, ...]
    cells: Cells | None = None
    clock: Cell | None = None  # it is so many seconds, whatever the clock says; then nothing takes time
    init_error: int = 0
    costs_s: dict[str, float] = field(default_factory=dict)  # how long it takes to read something, by a fault's names
    driver: str = "580.65.06"
    cuda: int = 13000
    epoch_ns: int = field(default_factory=time.monotonic_ns)

    def write(self, path: Path) -> Path:
        """Writes the text that the library reads."""
        lines = [f"driver {self.driver}", f"nvml 13.{self.driver}", f"cuda {self.cuda}", f"epoch_ns {self.epoch_ns}"]
        lines += [f"init_error {self.init_error}"]
        lines += [f"cells {self.cells.path}"] if self.cells else []
        lines += [f"clock {self.clock}"] if self.clock else []
        lines += [f"cost {what} {seconds}" for what, seconds in self.costs_s.items()]
        for device in self.devices:
            lines += ["device", *device.lines()]
        path.write_text("\n".join(lines) + "\n")
        return path

    def seconds(self, time_ns: int) -> float:
        """A time of the monotonic clock in the scenario's seconds."""
        return (time_ns - self.epoch_ns) / 1e9

    def now(self) -> float:
        return self.seconds(time.monotonic_ns())
