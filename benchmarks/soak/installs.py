"""Installations that get one signal each: the harness, or uv, at a random moment; real uv, tiny wheels."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import psutil

from benchmarks.soak.kills import SIGNALS, before_anything
from benchmarks.soak.left import MARK, left_of, new_mark
from benchmarks.soak.tally import Tally
from innerloop.harness.profiles.engines import EngineProfile
from tests.harness.process import toys
from tests.real import ROOT, variables

PACKAGES = 40  # so that an installation takes a moment
LONGEST_S = 1.5
END_S = 60.0
CREATE = """
import sys
from innerloop.harness import environments
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.profiles.engines import EngineProfile

def work():
    environments.create(EngineProfile.model_validate_json(sys.argv[1]), "cpu")
    return 0

leave(as_command(work))
"""


class Installs:
    """`room` holds the wheels, and a cache for each of those that go on at once."""

    def __init__(self, room: Path, tally: Tally, at_once: int) -> None:
        self.room, self.tally, self.at_once = room, tally, at_once
        names = ["toy", *(f"toy-{k}" for k in range(PACKAGES))]
        wheels = [toys.wheel(room / "wheels", name) for name in names]
        lines = (f"{name}==1.0 --hash=sha256:{toys.sha256(path)}\n" for name, path in zip(names, wheels, strict=True))
        (room / "toy-cpu.txt").write_text("".join(lines))
        self.engine: EngineProfile = toys.engine(room / "toy-cpu.txt")
        self._places: SimpleQueue[Path] = SimpleQueue()
        for place in (room / f"cache-{k}" for k in range(at_once)):
            (place / "tmp").mkdir(parents=True)
            self._places.put(place)

    def carry_out(self, kills: int, seed: int, note: Callable[[int], None]) -> None:
        draw = random.Random(seed)
        plan = [
            (draw.choice(("harness", "installer")), draw.choice(SIGNALS), draw.uniform(0, LONGEST_S))
            for _ in range(kills)
        ]
        with ThreadPoolExecutor(self.at_once) as pool:
            for done, _ in enumerate(pool.map(lambda one: self._one(*one), plan), 1):
                note(done)
        for place in sorted(self.room.glob("cache-*")):
            self._look_into(place)

    def _variables(self, place: Path, mark: str) -> dict[str, str]:
        kept = {k: v for k, v in variables().items() if not k.startswith(("PIP_", "UV_"))}
        sources = {"PIP_FIND_LINKS": str(self.room / "wheels"), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
        own = {"INNERLOOP_HOME": str(place / "home"), "UV_CACHE_DIR": str(place / "uv"), "UV_NO_CONFIG": "1"}
        return {**kept, **sources, **own, "TMPDIR": str(place / "tmp"), MARK: mark}

    def _start(self, place: Path, mark: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CREATE, self.engine.model_dump_json()],
            cwd=ROOT,
            env=self._variables(place, mark),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def _one(self, who: str, sent: signal.Signals, after_s: float) -> None:
        place = self._places.get()
        try:
            self._kill(place, who, sent, after_s)
        finally:
            self._places.put(place)

    def _kill(self, place: Path, who: str, sent: signal.Signals, after_s: float) -> None:
        environments = place / "home" / "environments"
        for whole in environments.glob("toy-*"):
            with suppress(OSError):
                (whole / ".complete").unlink()  # so that it is made again
        mark = new_mark()
        process = self._start(place, mark)
        reached = send(process, who, sent, after_s)
        where = f"{who} {sent.name} after {after_s:.2f} s"
        try:
            _, said = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.tally.find("installations that did not end", where)
            process.kill()
            _, said = process.communicate()
        self.tally.see(f"installing, {who if reached else 'nobody'} {sent.name}: exit {process.returncode}")
        if ("Traceback" in said and not before_anything(said)) or process.returncode == 1:
            self.tally.find("tracebacks", where, said.strip()[-3000:])
        if left := left_of(mark):
            self.tally.find("orphans", where, str(left))

    def _look_into(self, place: Path) -> None:
        """The next installation is not kept waiting and makes a whole one, beside which nothing is left."""
        process = self._start(place, "last")
        try:
            _, said = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.tally.find("stuck locks", place.name)
            process.kill()
            return
        if process.returncode != 0:
            self.tally.find("installations that are refused afterwards", place.name, said[-300:])
        root = place / "home" / "environments"
        whole = [one for one in root.iterdir() if not one.name.endswith(".lock")]
        if len(whole) != 1 or not (whole[0] / ".complete").exists():
            self.tally.find("half-made environments", place.name, str(whole))
        for left in (place / "tmp").iterdir():
            self.tally.find("leftovers", place.name, str(left))


def send(process: subprocess.Popen[str], who: str, sent: signal.Signals, after_s: float) -> bool:
    """After a while, or as soon as there is an installer after that; False if it was over before."""
    time.sleep(after_s)
    while process.poll() is None:
        with suppress(psutil.Error):
            harness = psutil.Process(process.pid)
            found = [harness] if who == "harness" else harness.children()
            if found:
                found[0].send_signal(sent)
                return True
        time.sleep(0.003)
    return False
