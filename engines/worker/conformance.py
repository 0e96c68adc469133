"""`innerloop check-engine`, the worker's side: tiny workloads through the real loop, and every report looked at.

One process runs one scenario of one loaded engine and tells on the control channel what it checked and what is wrong.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.engines.adapters import load_adapter
from innerloop.engines.contract import Load, Nothing, Request, Session
from innerloop.engines.support.children import follow_parent
from innerloop.engines.support.refusals import refuse_reserved
from innerloop.engines.worker.control import Control, opened
from innerloop.engines.worker.garbage import frozen, importing
from innerloop.engines.worker.inspection import Inspected, complaints_about_info
from innerloop.engines.worker.loop import drain, drive
from innerloop.engines.worker.work import Work

MS = 1_000_000
LENGTHS = ((9, 7), (33, 1), (5, 12), (17, 3), (1, 5), (48, 9))  # (prompt, output) tokens


class Scenario:
    """What a check works with: the inspected session, a folder for traces, ids and prompts that are used once."""

    def __init__(self, session: Inspected, load: Load, folder: Path) -> None:
        self.session, self.load, self._folder = session, load, folder
        self._first_id = 0
        self._vocabulary = int(load.config.get("vocab_size", 256))
        self.outputs: list[list[int]] = []  # of `burst`

    def work(self, lengths: Any = LENGTHS, due_ns: Any = None, seed: int = 0) -> Work:
        n, prompts = len(lengths), [prompt for prompt, _ in lengths]
        ids = np.random.default_rng(seed).integers(3, self._vocabulary, sum(prompts))
        return Work(
            prompt_tokens=ids.astype(np.int32),
            prompt_offsets=np.cumsum([0, *prompts], dtype=np.int64),
            output_lens=np.array([output for _, output in lengths], dtype=np.int32),
            due_ns=np.array([0] * n if due_ns is None else due_ns, dtype=np.int64),
            next_request=np.full(n, -1, dtype=np.int32),
            user=np.full(n, -1, dtype=np.int32),
            rest_ns=0,
            duration_ns=-1,
        )

    def run(self, name: str, work: Work) -> list[list[int]]:
        """Drives the workload, its trace going into the folder NAME; returns each request's output."""
        first_id, self._first_id = self._first_id, self._first_id + len(work.output_lens)
        self.session.expect(first_id, len(work.output_lens))
        recorder = work.recorder(self._folder / name, keep_ids=True, first_id=first_id)
        try:
            drive(self.session, work, recorder, first_id)
            drain(self.session, recorder)
        finally:
            recorder.close()
        with np.load(self._folder / name / "output_ids.npz", allow_pickle=False) as kept:
            return [part.tolist() for part in np.split(kept["ids"], kept["offsets"][1:-1])]

    def requests(self, count: int, prompt: int, output: int) -> list[Request]:
        """Requests that are not driven by the loop."""
        first_id, self._first_id = self._first_id, self._first_id + count
        self.session.expect(first_id, count)
        return [Request(first_id + number, [7] * prompt, output) for number in range(count)]


# ---------------------------------------------------------------- the checks: each returns what is wrong


def burst(scenario: Scenario) -> list[str]:
    """Requests that are due together get exactly their tokens."""
    scenario.outputs = scenario.run("burst", scenario.work())
    return []


def repeated(scenario: Scenario) -> list[str]:
    """The requests of `burst` get the same tokens again."""
    again = scenario.run("repeated", scenario.work())
    wrong = [index for index, (a, b) in enumerate(zip(scenario.outputs, again, strict=True)) if a != b]
    return [f"the same requests returned different tokens the second time: {wrong}"] if wrong else []


def joining(scenario: Scenario) -> list[str]:
    """Requests that become due while others run, and after a rest."""
    due = [0, 0, 2 * MS, 4 * MS, 6 * MS, 150 * MS]
    scenario.run("joining", scenario.work(due_ns=due, seed=2))
    return []


def waiting(scenario: Scenario) -> list[str]:
    """A step that has nothing to do comes back by `until_ns`."""
    session = scenario.session
    [request] = scenario.requests(1, prompt=4, output=2)
    session.submit(session.prepare(request))
    while session.has_work():
        session.step(time.monotonic_ns() + 50 * MS)
    report = session.step(time.monotonic_ns() + 20 * MS)
    return [] if isinstance(report, Nothing) else ["a step without requests reported a batch"]


def prefix_cache(scenario: Scenario) -> list[str]:
    """`cached_tokens` of a prompt that was there before, and after `reset_caches`."""
    session = scenario.session
    if not session.info.effective.get("prefix_caching") or "cached_tokens" in session.info.unreported:
        return []
    work, wrong = scenario.work(lengths=((300, 2),), seed=3), []
    scenario.run("cold", work)
    before = session.cached_tokens
    scenario.run("warm", work)
    if session.cached_tokens == before:
        wrong.append("the same prompt of 300 tokens was sent twice with prefix_caching, but cached_tokens is 0")
    if session.reset_caches():
        before = session.cached_tokens
        scenario.run("reset", work)
        if session.cached_tokens != before:
            wrong.append("after reset_caches() a prompt was still in the prefix cache")
    return wrong


def full_cache(scenario: Scenario) -> list[str]:
    """More requests than the KV cache holds: whatever is preempted is computed again, and every token comes once."""
    scenario.run("full", scenario.work(lengths=((40, 100),) * 8, seed=4))
    return []


def cut_short(scenario: Scenario) -> list[str]:
    """Leaves requests running, for `close`."""
    session = scenario.session
    for request in scenario.requests(2, prompt=8, output=200):
        session.submit(session.prepare(request))
    for _ in range(3):
        session.step(time.monotonic_ns() + 50 * MS)
    return []


SCENARIOS: dict[str, tuple[Callable[[Scenario], list[str]], ...]] = {
    "plain": (burst, repeated, joining, waiting, prefix_cache),
    "tight": (full_cache,),
    "cut": (cut_short,),
}


def main(job_path: str, channel: str) -> None:
    """Runs a scenario and exits: 0 also where something is wrong, 1 where the engine or the adapter failed."""
    follow_parent()
    control = Control(opened(channel))
    job = json.loads(Path(job_path).read_text())
    control.send("started", pid=os.getpid())
    code, session = 0, None
    try:
        adapter, load = load_adapter(job["engine"], job.get("plugin")), Load(**job["load"])
        refuse_reserved(adapter, load)
        control.send("checking", name="open")
        with importing():
            adapter.imports(load)
        session = adapter.open(load)
        report(control, "open", complaints_about_info(session, adapter, load))
        check(session, load, job, control)
    except BaseException as error:
        code = 1
        traceback.print_exc()
        control.send("error", message=f"{type(error).__name__}: {error}", traceback=[])
    code = close(session, control) or code
    control.send("done")
    sys.stdout.flush()
    os._exit(code)


def check(session: Session, load: Load, job: dict[str, Any], control: Control) -> None:
    scenario = Scenario(Inspected(session, load), load, Path(job["trace"]))
    for one in SCENARIOS[job["scenario"]]:
        control.send("checking", name=one.__name__)
        report(control, one.__name__, [*one(scenario), *scenario.session.take_complaints()])


def close(session: Session | None, control: Control) -> int:
    """Closes the session; what it leaves behind is found by the guard."""
    if session is None:
        return 0
    control.send("checking", name="close")
    try:
        with frozen():
            session.close()
    except Exception as error:
        traceback.print_exc()
        control.send("error", message=f"close() raised {type(error).__name__}: {error}", traceback=[])
        return 1
    report(control, "close", [])
    return 0


def report(control: Control, name: str, wrong: list[str]) -> None:
    control.send("checked", name=name, wrong=wrong)
