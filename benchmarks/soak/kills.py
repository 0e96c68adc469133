"""Runs that get one signal each at a random moment."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import psutil

from benchmarks.soak.left import MARK, left_of, marked, new_mark, shared_memory_of
from benchmarks.soak.tally import Tally
from innerloop.harness.show import main as show
from innerloop.harness.store.alive import QUIET_S
from tests.real import ROOT, command, guards, variables

SCRIPTED = str(ROOT / "tests" / "plugins" / "scripted")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
WHO = ("harness", "guard", "second guard", "worker")
# The moment is a random time after something has appeared: seconds at most, and how often it is chosen.
MOMENTS: dict[str, tuple[str | None, float, int]] = {
    "start": (None, 1.5, 3),
    "preparing": (".claim", 0.5, 1),
    "starting the worker": ("job.json", 0.8, 2),
    "warming up": ("trace/warmup/steps.bin", 0.3, 1),
    "measuring": ("trace/measure/steps.bin", 1.5, 4),
    "putting away": ("steps.parquet", 0.15, 2),
    "reporting": ("result.json", 0.1, 1),
}
END_S = 600.0  # on a busy machine a real engine needs minutes
REMOVED = 0.25  # of the runs begin without a checkpoint in their cache
LOAD = """\
prompt: {tokens: 16}
output: {tokens: 100}
load: {kind: offline, requests: 160}
warmup: {requests: 2, output_tokens: 4, max_rounds: 1}
"""
SLOW = ("--set", "max_batch_size=8", "--engine-arg", "step_us=600", "--engine-arg", "fault=children")


@dataclass(frozen=True, slots=True)
class Kill:
    """One run and its signal. cold: its cache has no checkpoint."""

    number: int
    engine: str
    who: str
    sent: signal.Signals
    moment: str
    after_s: float
    cold: bool


def planned(kills: int, seed: int, engines: Sequence[str]) -> list[Kill]:
    """The same for the same seed, however many go on at once."""
    draw = random.Random(seed)
    names, weights = list(MOMENTS), [often for *_, often in MOMENTS.values()]
    out = []
    for number in range(kills):
        moment = draw.choices(names, weights)[0]
        after_s = draw.uniform(0, MOMENTS[moment][1])
        who, sent, cold = draw.choice(WHO), draw.choice(SIGNALS), draw.random() < REMOVED
        out.append(Kill(number, engines[number % len(engines)], who, sent, moment, after_s, cold))
    return out


class Kills:
    """`room` holds a folder for each run, and for each of those that go on at once a cache and a TMPDIR."""

    def __init__(self, room: Path, tally: Tally, at_once: int) -> None:
        self.room, self.tally, self.at_once = room, tally, at_once
        self.processes: set[int] = set()  # of all runs, when they got their signal
        (room / "load.yaml").write_text(LOAD)
        self._begun_s = time.time()
        self._places: SimpleQueue[Path] = SimpleQueue()
        for place in (room / f"place-{k}" for k in range(at_once)):
            (place / "tmp").mkdir(parents=True)
            self._places.put(place)

    def carry_out(self, plan: Sequence[Kill], note: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(self.at_once) as pool:
            for done, _ in enumerate(pool.map(self._one, plan), 1):
                note(done)
        time.sleep(QUIET_S + 1)  # none can pass for a run that goes on
        for kill in plan:
            self._look(self.room / f"run-{kill.number}", kill)
        for name in shared_memory_of(self.processes, self._begun_s):
            self.tally.find("shared memory", name)
        for place in sorted(self.room.glob("place-*")):
            self._look_into(place, plan[0].engine if plan else SCRIPTED)

    def _arguments(self, engine: str, folder: Path) -> list[str]:
        fixed = ("--engine", engine, "--workload", self.room / "load.yaml", "--out", folder, "--ceilings", "off")
        return command(*fixed, *(SLOW if engine == SCRIPTED else ()))

    def _variables(self, place: Path, mark: str) -> dict[str, str]:
        own = {"INNERLOOP_HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), MARK: mark}
        return variables(**own)

    def _one(self, kill: Kill) -> None:
        place = self._places.get()
        try:
            self._kill(kill, place)
        finally:
            self._places.put(place)

    def _kill(self, kill: Kill, place: Path) -> None:
        folder, mark = self.room / f"run-{kill.number}", new_mark()
        if kill.cold:
            shutil.rmtree(place / "home" / "checkpoints", ignore_errors=True)
        process = subprocess.Popen(
            self._arguments(kill.engine, folder),
            cwd=self.room,
            env=self._variables(place, mark),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        reached = self._send(process, kill, folder, mark)
        try:
            _, said = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.tally.find("runs that did not end", kill)
            process.kill()
            _, said = process.communicate()
        who = kill.who if reached else "nobody"
        self.tally.see(f"{who} {kill.sent.name}: exit {process.returncode}")
        self.tally.see(f"sent while {kill.moment}" if reached else "sent when it was over")
        if "Traceback" in said and not before_anything(said):
            self.tally.find("tracebacks", kill, said.strip()[-3000:])
        if process.returncode == 1:
            self.tally.find("exit code 1", kill, said.strip()[-3000:])
        if left := left_of(mark):
            self.tally.find("orphans", kill, str(left))

    def _send(self, process: subprocess.Popen[str], kill: Kill, folder: Path, mark: str) -> bool:
        """Waits for the moment, and for whom the signal is for; False if the run was over before."""
        sign = MOMENTS[kill.moment][0]
        if sign is not None and not until(process, lambda: (folder / sign).exists()):
            return False
        time.sleep(kill.after_s)
        found: list[psutil.Process] = []
        while process.poll() is None and not found:
            with suppress(psutil.Error):
                found = whom(psutil.Process(process.pid), kill.who)
            if not found:
                time.sleep(0.005)
        self.processes.update(marked(mark))
        for one in found:
            with suppress(psutil.Error):
                one.send_signal(kill.sent)
                return True
        return False

    def _look(self, folder: Path, kill: Kill) -> None:
        """The result of every folder can be shown, or it is said in one line why there is none."""
        if not folder.exists():
            self.tally.see("no folder yet")
            return
        out, err, code = io.StringIO(), io.StringIO(), -1
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = show([str(folder), "--json"])
            if code == 0:
                self.tally.see(f"shown as {json.loads(out.getvalue())['status']}")
            elif code == 2 and not (folder / "job.json").exists():
                self.tally.see("without a job: refused")
            else:
                self.tally.find("unreadable results", kill, err.getvalue().strip()[-300:])
        except Exception as error:
            self.tally.find("unreadable results", kill, repr(error))
        for left in (path for path in folder.rglob(".*") if code == 0):
            self.tally.find("partial files", kill, left.name)
        shutil.rmtree(folder)

    def _look_into(self, place: Path, engine: str) -> None:
        """A run in the same cache is not kept waiting, and then nothing half-made is left in it or in TMPDIR."""
        folder = place / "last"
        words = self._arguments(engine, folder)
        own = self._variables(place, "last")
        try:
            done = subprocess.run(words, cwd=self.room, env=own, capture_output=True, text=True, timeout=END_S)
            if done.returncode != 0:
                self.tally.find("runs that are refused afterwards", place.name, done.stderr[-300:])
        except subprocess.TimeoutExpired:
            self.tally.find("stuck locks", place.name)
        for left in (*(place / "tmp").iterdir(), *place.glob("home/**/.*.partial")):
            if not left.name.startswith("torchinductor_"):  # torch's own cache, by the user's name
                self.tally.find("leftovers", place.name, str(left))


def whom(harness: psutil.Process, who: str) -> list[psutil.Process]:
    if who == "harness":
        return [harness]
    if who.endswith("guard"):
        return guards(harness.pid)[WHO.index(who) - 1 :]
    return [below for guard in guards(harness.pid)[1:] for below in guard.children()][:1]


def until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> bool:
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.003)
    return False


def before_anything(said: str) -> bool:
    """Whether a traceback is Python's own, of a signal in its start, before one line of ours was run."""
    return "KeyboardInterrupt" in said and f'File "{os.path.join(ROOT, "")}' not in said
