"""How late the loop sends what falls due while the engine is idle, on each way of waiting.

    python -m benchmarks.send_lag

Requests fall due at odd moments and end at once, so that each is sent by a loop that had nothing to do: the lag,
submitted - due, is the harness's own. `core` sleeps, `http` waits in a selector, `async` in an event loop (a request is
held back there, else nothing would be waited for). Printed are its median, p99 and most. p99 is to be below 0.2 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from innerloop.engines.contract import EngineInfo, Nothing, Request, Session, StepReport
from innerloop.engines.http.client import HttpClient
from innerloop.engines.http.protocols import COMPLETIONS, Wire
from innerloop.engines.vllm.async_ import AsyncSession, event_loop
from innerloop.engines.worker import trace
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.work import Work


class Instant(Session):
    """Ends a request in the step after its submission. The first request stays open, so that `wait` is waited in."""

    info = EngineInfo("1")

    def __init__(self, wait: Callable[[int | None], object] | None) -> None:
        self._wait, self._held = wait, wait is not None
        self._open: list[int] = []

    def submit(self, prepared: Request) -> None:
        if self._held:
            self._held = False
        else:
            self._open.append(prepared.id)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if not self._open:
            assert self._wait is not None
            self._wait(until_ns)
            return Nothing.TIMED_OUT
        ids, self._open = self._open, []
        now = time.monotonic_ns()
        return StepReport(now, now, [(each, [1]) for each in ids], ids)

    def has_work(self) -> bool:
        return True

    def close(self) -> None:
        pass


def in_selector() -> Session:
    return HttpClient(("127.0.0.1", 1), Wire(COMPLETIONS, "none"))


def in_event_loop() -> Session:
    class Silent:
        async def generate(self, *_: Any) -> Any:
            await asyncio.Event().wait()
            yield SimpleNamespace()

        def shutdown(self) -> None:
            pass

    session = AsyncSession(Silent(), event_loop(), lambda n: n, list)
    session.submit(session.prepare(Request(0, [1], 1)))
    return session


def lags_us(waiting: Session | None, requests: int) -> np.ndarray:
    due = np.cumsum(np.random.default_rng(0).integers(2_000_000, 9_000_000, requests))
    work = Work(
        prompt_tokens=np.ones(requests, np.int32),
        prompt_offsets=np.arange(requests + 1, dtype=np.int64),
        output_lens=np.ones(requests, np.int32),
        due_ns=np.array([0, *due[:-1]], dtype=np.int64),
        next_request=np.full(requests, -1, np.int32),
        user=np.full(requests, -1, np.int32),
        rest_ns=0,
        duration_ns=int(due[-1]),
    )
    with tempfile.TemporaryDirectory() as folder:
        recorder = work.recorder(Path(folder) / "trace")
        drive(Instant(waiting.step if waiting else None), work, recorder)
        recorder.close()
        if waiting is not None:
            waiting.close()
        sent = trace.records(Path(folder) / "trace", "requests")[1:]
        submitted_ns, due_ns = sent["submitted_ns"], sent["due_ns"]
        return (submitted_ns - due_ns) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    count = parser.parse_args().requests
    for name, waiting in (("core", None), ("http", in_selector()), ("async", in_event_loop())):
        p50, p99, most = np.percentile(lags_us(waiting, count), (50, 99, 100))
        print(f"{name:<6} median {p50:6.1f} us   p99 {p99:6.1f} us   most {most:7.1f} us")


if __name__ == "__main__":
    main()
