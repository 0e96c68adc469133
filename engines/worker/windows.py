"""The measured windows of one loaded engine: each is warmed up, opens on empty caches and has a trace of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.engines.contract import Session
from innerloop.engines.worker.compilations import Compilations
from innerloop.engines.worker.control import Control
from innerloop.engines.worker.garbage import Pauses, settle_garbage
from innerloop.engines.worker.loop import drain, drive
from innerloop.engines.worker.recorder import Recorder
from innerloop.engines.worker.shapes import longest_context
from innerloop.engines.worker.warmup import SHAPES, Plan, Rule, run_part, warm_up
from innerloop.engines.worker.work import Work

if TYPE_CHECKING:
    from innerloop.engines.profiling import Pass

Memory = Callable[[str], int | None]  # bytes of this process by a field of /proc/self/status


class Windows:
    """A loaded engine and what its windows have had it do so far.

    most_prompt: the longest prompt that a warm-up may make up. resident: this process's memory.
    """

    def __init__(self, session: Session, control: Control, most_prompt: int, resident: Memory) -> None:
        self._session, self._control = session, control
        self._most_prompt, self._resident = most_prompt, resident
        self._next_id = 0  # the request ids below it are taken
        self._batch = self._context = 0  # the most requests of a warm-up, and the longest context of a window
        self._last: Recorder | None = None

    def measure(self, job: Mapping[str, Any], memory: Mapping[str, int | None], profiling: Pass | None = None) -> None:
        """Warms up, empties the caches and measures the job's requests; in a profiling pass the window ends early.

        memory: bytes that were taken before.
        """
        session, control = self._session, self._control
        trace, work = Path(job["trace"]), Work.load(job["workload"])
        rounds, rule = Work.load(job["warmup"]["workload"]), Rule(**job["warmup"]["rule"])
        plan = Plan(rounds, work, rule, self._most_prompt, self._next_id)
        warmed = warm_up(
            session,
            plan,
            trace / "warmup",
            compare=profiling is None,
            shapes=self._new_shapes(rounds, work),
            tell=lambda round_: control.send("round", round=round_),
        )
        taken = {**memory, "after_warmup": self._resident("VmRSS")}
        first_id, warm = plan.end, job.get("caches") == "warm"
        reset = False if warm else reset_caches(session)
        if warm:
            first_id = prime(session, work, trace / "prime", first_id)
        residence_s = warmed.residence_s(float(work.output_lens.mean()))
        work = work.spread_over(round(residence_s * 1e9))
        recorder = work.recorder(trace / "measure", job["keep_token_ids"], first_id)
        control.send(
            "phase",
            phase="measure",
            warmup=warmed.account,
            warmup_shapes=warmed.shapes,
            step_pairs=warmed.pairs,
            clock_ns_per_call=clock_cost_ns(),
            caches_reset=reset,
            spread_over_s=None if work.spread is None else residence_s,
        )
        cpu, pauses, compilations = 0.0, Pauses(recorder.paused), Compilations()
        evicted = session.evicted_blocks()

        def ready() -> None:
            nonlocal cpu
            compilations.start()
            settle_garbage()
            pauses.start()
            cpu = time.process_time()

        def window() -> None:
            try:
                drive(session, work, recorder, first_id, ready)
            finally:
                pauses.stop()

        if profiling is None:
            window()
        else:
            profiling.drive(session, window)
        cpu_s = time.process_time() - cpu
        taken |= {"after_measure": self._resident("VmRSS"), "peak": self._resident("VmHWM")}
        made = None if session.info.effective.get("process_hops") else compilations.stop() or None
        after = session.evicted_blocks()
        control.send(
            "phase",
            phase="close",
            memory_bytes=taken,
            process_cpu_s=cpu_s,
            compiled_in_window=made,
            evicted_blocks=None if evicted is None or after is None else after - evicted,
            interruptions=[
                *(["garbage", at_ns, spent_ns] for spent_ns, at_ns in pauses.longest),
                *(["capture", at_ns, None] for at_ns in compilations.captured_ns),
            ],
        )
        recorder.close()
        if profiling is None and work.duration_ns < 0:  # else requests were cut
            drain(session, recorder)
        self._next_id = first_id + len(work.output_lens)
        self._last = recorder

    def clear(self) -> None:
        """Lets the engine finish what the end of the last window cut, so that the next one finds it without work."""
        while self._session.has_work():
            self._session.step(None)
            if self._last is not None:
                self._last.heartbeat(time.monotonic_ns())

    def _new_shapes(self, rounds: Work, work: Work) -> tuple[str, ...]:
        """The shapes that no window before has had the engine run: it needs none of the others again."""
        batch, context = len(rounds.output_lens), longest_context(work)
        new = {"taper": batch > self._batch, "long": context > self._context}
        self._batch, self._context = max(batch, self._batch), max(context, self._context)
        return tuple(name for name in SHAPES if new[name])


def prime(session: Session, work: Work, folder: Path, first_id: int) -> int:
    """Runs every prompt of the window that begins a conversation, for one token, so that a prefix cache knows it;
    returns the first id that is free."""
    first = work.first_turns()
    recorder = first.recorder(folder, first_id=first_id)
    try:
        run_part(session, first, recorder, first_id)
    finally:
        recorder.close()
        shutil.rmtree(folder, ignore_errors=True)
    return first_id + len(first.output_lens)


def reset_caches(session: Session) -> bool | None:
    """Whether the prefix cache was emptied before the window; None where the engine has none."""
    return session.reset_caches() if session.info.effective.get("prefix_caching") else None


def clock_cost_ns(calls: int = 10_000) -> float:
    """Nanoseconds that one `time.monotonic_ns` call takes here."""
    clock = time.monotonic_ns
    begun = clock()
    for _ in range(calls):
        clock()
    return (clock() - begun) / calls
