"""The line that a user watches while an engine loads, warms up and is measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.words import seconds, size
from innerloop.harness.process.launcher import Outcome
from innerloop.harness.session.phases import DONE, EMPTYING, WORDS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from innerloop.harness.process.events import Round
    from innerloop.harness.telemetry.device import DeviceSampler

MOST_SEEN = 500  # requests and tokens by which latencies are told
RATE_WINDOW_S = 3.0  # tokens/s is that of the last seconds
BAR = 24  # columns
PLAIN_EVERY_S = 10.0  # where the output is no terminal


@dataclass(frozen=True, slots=True)
class Reading:
    """What the trace's pages say at one moment."""

    tokens: int
    finished: int
    running: int | None
    kv_usage: float | None
    waiting: int | None = None


def read(folder: Path) -> Reading | None:
    """Reads the pages that the worker is writing; None before it has opened them."""
    from innerloop.engines.worker import trace

    try:
        head = trace.header(folder / "steps.bin")
        steps = trace.records(folder, "steps")
    except (OSError, ValueError):
        return None
    if not len(steps):
        return Reading(0, 0, None, None)
    last = steps[-1]
    running, waiting = (count if count >= 0 else None for count in (int(last["running"]), int(last["waiting"])))
    kv = float(last["kv_usage"])
    return Reading(int(head["tokens"]), int(head["finished"]), running, kv if kv == kv else None, waiting)


def latencies(folder: Path) -> tuple[float | None, float | None]:
    """The median TTFT of the requests so far, and the median ITL of the newest tokens, in seconds; None: there is none.

    Of the same pages, of which some hundred records are looked at however long the window is.
    """
    import numpy as np

    from innerloop.engines.worker import trace

    try:
        requests, tokens = trace.records(folder, "requests"), trace.records(folder, "tokens")
    except (OSError, ValueError):
        return None, None
    some = requests[:: max(len(requests) // MOST_SEEN, 1)]
    due, first = some["due_ns"], some["first_token_ns"]
    begun = first > 0  # looked at first, since the worker goes on writing
    ttft = (first - due)[begun]
    newest = tokens[-MOST_SEEN:]
    ordered = newest[np.argsort(newest["request"], kind="stable")]
    request, time_ns = ordered["request"], ordered["time_ns"]
    itl = np.diff(time_ns)[request[1:] == request[:-1]]
    return tuple(float(np.median(one)) / 1e9 if len(one) else None for one in (ttft, itl))  # type: ignore[return-value]


def round_words(last: Round | None) -> list[str]:
    """How far a warm-up is: its rounds, how far their speeds lie apart, and what ends it at the latest."""
    if last is None:
        return ["round 1"]
    number, most = last["rounds"] + 1, last["max_rounds"]
    words = [f"round {number} of at most {most}" if number <= most else f"{most} rounds"]
    if last["deviation"] is not None:
        words.append(f"last rounds differ by {last['deviation']:.0%} (target {last['tolerance']:.0%})")
    return [*words, f"at most {last['left_s']:.0f} s more"]


def lines_of(facts: Sequence[str], width: int) -> list[str]:
    """Facts in as few lines as they take; none is broken."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + 3 + len(fact) <= width:
            lines[-1] += f"   {fact}"
        else:
            lines.append(fact)
    return lines


def device_words(devices: Sequence[DeviceSampler]) -> list[str]:
    """The devices together, where they tell: mean utilization, power and memory."""
    shown = [device.shown for device in devices]
    watts = [one.power_w for one in shown if one.power_w is not None]
    busy = [one.utilization for one in shown if one.utilization is not None]
    held = [one.memory_bytes for one in shown if one.memory_bytes is not None]
    return [
        *([f"GPU {sum(busy) / len(busy):.0%}"] if busy else []),
        *([f"{sum(watts):.0f} W"] if watts else []),
        *([size(sum(held))] if held else []),
    ]


@dataclass(frozen=True, slots=True)
class Part:
    """A window: where its trace lies, how much it is to do, how long it lasts if that is known, and its workload."""

    trace: Path
    tokens: int
    requests: int
    duration_s: float | None
    name: str = ""


class LiveView:
    """A progress line, redrawn in place on a terminal and printed now and then elsewhere.

    Remaining time is that of the workload's duration, or else what the tokens still to come take at the present
    rate. Nothing is drawn between ticks: a spinner's thread would take the engine's cores many times a second.
    """

    def __init__(
        self,
        console: Console,
        parts: Sequence[Part],
        devices: Sequence[DeviceSampler] = (),
    ) -> None:
        from rich.live import Live

        self._console, self._parts, self._devices = console, parts, devices
        self._now = 0  # which part is shown
        self._phase = ""
        self._round: Round | None = None
        self._since = self._printed = time.monotonic()
        self._history: list[tuple[float, int]] = []
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tick(self, outcome: Outcome) -> None:
        if len(outcome.closed) > self._now:
            self._now, self._phase = len(outcome.closed), ""
            name = self._parts[self._now].name
            self._console.print(f"window {self._now + 1} of {len(self._parts)}: {name}", style="dim")
        phase = next(reversed(outcome.phases), "start")
        now = time.monotonic()
        if phase != self._phase:
            if self._phase and outcome.failure is None:
                took_s = (outcome.phases[phase] - outcome.phases[self._phase]) / 1e9
                if self._phase == "start":
                    took_s = outcome.reported.get("interpreter_s", 0.0)
                self._console.print(f"{DONE[self._phase]} in {took_s:.1f} s", style="dim")
            self._phase, self._since, self._printed, self._history = phase, now, now, []
        self._round = outcome.round
        if phase == "done":
            return
        if self._live is not None:
            self._live.update(self.line(now), refresh=True)
        elif now - self._printed >= PLAIN_EVERY_S:
            self._printed = now
            self._console.print(self.line(now), soft_wrap=True)

    def line(self, now: float) -> RenderableType:
        """What is going on: phase, how far, tokens/s, batch and KV cache, median latencies, what the devices do."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        elapsed, part = now - self._since, self._parts[self._now]
        folder = part.trace / ("measure" if self._phase == "measure" else "warmup")
        reading = read(folder) if self._phase in ("measure", "warmup") else None
        if reading is None:
            words = EMPTYING if self._phase == "close" and self._now + 1 < len(self._parts) else WORDS[self._phase]
            return "   ".join([f"{words}   {elapsed:.0f} s", *device_words(self._devices)])
        self._history = [(t, n) for t, n in self._history if now - t <= RATE_WINDOW_S] + [(now, reading.tokens)]
        (t0, n0), (t1, n1) = self._history[0], self._history[-1]
        rate = (n1 - n0) / (t1 - t0) if t1 > t0 else None
        facts = [] if rate is None else [f"{rate:,.0f} tok/s"]
        facts += [] if reading.running is None else [f"batch {reading.running}"]
        facts += [f"waiting {reading.waiting}"] if reading.waiting else []
        facts += [] if reading.kv_usage is None else [f"KV {reading.kv_usage:.0%}"]
        if self._phase == "measure":
            told = zip(("TTFT", "ITL"), latencies(folder), strict=True)
            facts += [f"{name} {seconds(value)}" for name, value in told if value is not None]
        facts += device_words(self._devices)
        if self._phase != "measure":
            return "   ".join([f"{WORDS[self._phase]}   {elapsed:.0f} s", *round_words(self._round), *facts])
        if part.duration_s is not None:
            share, progress = elapsed / part.duration_s, f"{elapsed:.0f}/{part.duration_s:.0f} s"
        else:
            share, progress = reading.tokens / part.tokens, f"{reading.finished}/{part.requests} requests"
            progress += f", {elapsed:.0f} s"
            progress += f", about {(part.tokens - reading.tokens) / rate:.0f} s left" if rate else ""
        if self._live is None:
            return "   ".join([WORDS[self._phase], progress, *facts])
        grid = Table.grid(padding=(0, 2))
        grid.add_row(WORDS[self._phase], ProgressBar(total=1.0, completed=min(share, 1.0), width=BAR), progress)
        return Group(grid, *lines_of(facts, self._console.width))
