"""A double of what LMDeploy's Python sees of TurboMind 0.18: an engine thread, and a thread that runs its signals.

As engine.cc, gateway.cc and request.cc: a pass of the engine schedules, raises the tick, computes, and hands its
signals on, all in one go; the other thread runs them one after the other while the engine goes on. A signal puts a
request's newest state in place of the one before, and calls back only where that one has been taken. A signal may come
before `forward` returns. A pass takes no more requests from the gateway than the batch has room for; the metrics, which
a pass publishes when its requests that ended are gone, do not count the ones that are left there.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.waiting import PATIENCE_S, until

FINISH, FAILED = 7, 5


@dataclass
class TurbomindEngineConfig:
    dtype: str = "auto"
    model_format: str | None = None
    tp: int = 1
    session_len: int | None = None
    max_batch_size: int = 128
    cache_max_entry_count: float = 0.8
    cache_block_seq_len: int = 64
    enable_prefix_caching: bool = False
    max_prefill_token_num: int = 8192
    quant_policy: int = 0
    async_: int = 1


class State:
    def __init__(self) -> None:
        self._newest: Any = None
        self._lock = threading.Lock()

    def exchange(self, newest: Any) -> Any:
        with self._lock:
            old, self._newest = self._newest, newest
            return old

    def consume(self) -> Any:
        return self.exchange(None)


@dataclass(eq=False)
class Running:
    number: int
    prompt: int
    asked: int
    ids: np.ndarray
    state: State
    signal: Any
    made: int = 0

    def update(self, status: int, seq_len: int) -> None:
        if self.state.exchange(SimpleNamespace(status=status, seq_len=seq_len)) is None:
            self.signal()


@dataclass
class Faults:
    """What goes otherwise than one round of signals an iteration, each read before the next.

    together: iterations whose signals run in one go. straddles: the signal thread rests in the middle of each
    iteration's, until the engine is in the next pass. begins_with: requests that the first pass waits for. no_room:
    `create_request` fails. swapped_out: (request, first, last) pass in which it has no place, the last of them not
    before somebody was told that it waits. early: the first token comes before `forward` returns. fails, short: the
    request that fails, or ends a token short. in_step: a pass begins only when `go_on` was called for it. Requests by
    the order of submission.
    """

    together: int = 1
    straddles: bool = False
    begins_with: int = 1
    no_room: bool = False
    swapped_out: tuple[int, int, int] | None = None
    early: bool = False
    fails: int | None = None
    short: int | None = None
    in_step: bool = False
    extension: Exception | None = None  # why the compiled part did not load


@dataclass
class TurboMind:
    """The engine: every iteration gives each running request a token. `ticks`: what a signal of each iteration would
    have read as the scheduler's tick."""

    engine_config: Any
    faults: Faults = field(default_factory=Faults)
    iterations: int = 0
    tick: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.session_len, self.model_comm = self.engine_config.session_len, self
        self._queued: list[Running] = []  # in the gateway
        self._running: list[Running] = []
        self._lock, self._count = threading.Condition(), itertools.count()
        self._handed: queue.SimpleQueue[list[tuple[int, Any]]] = queue.SimpleQueue()
        self.cancelled = 0
        self._told, self._called_for = threading.Event(), threading.Semaphore(0)
        self.ticks: dict[int, set[int]] = {}
        threading.Thread(target=self._run, daemon=True).start()
        threading.Thread(target=self._run_signals, daemon=True).start()

    def create_instance(self) -> Any:
        return SimpleNamespace(
            _get_generation_config=lambda cfg: cfg,
            prepare_inputs=lambda input_ids, gen_config: ({"input_ids": input_ids}, len(input_ids)),
            errcode_map={FAILED: SimpleNamespace(name="INTERNAL_ENGINE_ERROR")},
        )

    def create_request(self) -> Any:
        if self.faults.no_room:
            raise RuntimeError("no room for a request")
        return SimpleNamespace(forward=self._forward, cancel=self._cancel)

    def get_schedule_metrics(self) -> Any:
        with self._lock:
            waiting = sum(1 for r in self._running if self._out(r))
            if waiting:
                self._told.set()
            return SimpleNamespace(active_seqs=len(self._running) - waiting, waiting_seqs=waiting, cache_usage=0.25)

    def go_on(self) -> None:
        self._called_for.release()

    def close(self) -> None:
        with self._lock:
            self.closed = True
            self._lock.notify()
        self._told.set()
        self.go_on()

    def _cancel(self) -> None:
        self.cancelled += 1

    def _forward(self, inputs, mm_inputs, session, gen_cfg, stream_output, enable_metrics, cb) -> Any:
        assert gen_cfg.ignore_eos
        assert (gen_cfg.top_k, session.step, stream_output) == (1, 0, True)
        number, prompt = next(self._count), len(inputs["input_ids"])
        ids = np.zeros(self.session_len + 1, dtype=np.int32)
        ids[:prompt] = inputs["input_ids"]
        asked = min(gen_cfg.max_new_tokens, self.session_len - prompt) - (number == self.faults.short)
        running = Running(number, prompt, asked, ids, State(), cb)
        if number == self.faults.fails:
            running.asked = -1
        with self._lock:
            if self.faults.early:
                running.update(*self._advance(running))
            if running.made != running.asked:
                self._queued.append(running)
            self._lock.notify()
        return {"output_ids": SimpleNamespace(numpy=lambda: ids)}, running.state, None

    def _advance(self, r: Running) -> tuple[int, int]:
        if r.asked < 0:
            return FAILED, 0
        r.ids[r.prompt + r.made] = 1000 + r.made
        r.made += 1
        return (FINISH if r.made == r.asked else 0), r.prompt + r.made

    def _run(self) -> None:
        signals: list[tuple[int, Any]] = []
        with self._lock:
            self._lock.wait_for(lambda: len(self._queued) >= self.faults.begins_with or self.closed)
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._running or self._queued or self.closed)
            if self.faults.in_step:
                self._called_for.acquire()
            if self.faults.swapped_out is not None and self.iterations == self.faults.swapped_out[2]:
                assert self._told.wait(PATIENCE_S)
            with self._lock:
                if self.closed:
                    return
                free = self.engine_config.max_batch_size - len(self._running)
                self._running += self._queued[:free]
                del self._queued[:free]
                self.tick += 1
            time.sleep(0.003)
            with self._lock:
                self.iterations += 1
                for running in [r for r in self._running if not self._out(r)]:
                    update = self._advance(running)
                    signals.append((self.iterations, lambda r=running, u=update: r.update(*u)))
                    if running.asked in (running.made, -1):
                        self._running.remove(running)
                last = not self._running and not self._queued
            if last or self.iterations % self.faults.together == 0:
                self._handed.put(signals)
                signals = []

    def _out(self, running: Running) -> bool:
        out = self.faults.swapped_out
        return out is not None and running.number == out[0] and out[1] <= self.iterations <= out[2]

    def _run_signals(self) -> None:
        while not self.closed:
            try:
                signals = self._handed.get(timeout=0.1)
            except queue.Empty:
                continue
            for place, (iteration, signal) in enumerate(signals):
                if self.faults.straddles and place == len(signals) // 2:
                    time.sleep(0.001)
                    self._until_the_pass_after(iteration)
                self.ticks.setdefault(iteration, set()).add(self.tick)
                signal()

    def _until_the_pass_after(self, iteration: int) -> None:
        """Returns once the engine is in it, or rests."""
        until(lambda: self.tick > iteration or not (self._running or self._queued))


def modules(faults: Faults, made: list[TurboMind]) -> dict[str, ModuleType]:
    """`lmdeploy` and what the adapter imports of it; engines that are made are put into `made`."""

    def from_pretrained(path: str, engine_config: Any, trust_remote_code: bool) -> TurboMind:
        made.append(TurboMind(engine_config, faults))
        return made[-1]

    names = ("lmdeploy", "lmdeploy.messages", "lmdeploy.turbomind", "lmdeploy.turbomind.turbomind")
    found = {name: ModuleType(name) for name in names}
    found["lmdeploy"].__dict__.update(
        __version__="0.18.0", TurbomindEngineConfig=TurbomindEngineConfig, turbomind=found["lmdeploy.turbomind"]
    )
    found["lmdeploy.messages"].__dict__.update(GenerationConfig=SimpleNamespace)
    found["lmdeploy.turbomind"].__dict__.update(
        TurboMind=SimpleNamespace(from_pretrained=from_pretrained),
        turbomind=found["lmdeploy.turbomind.turbomind"],
        is_available=lambda: faults.extension is None,
        _import_error=faults.extension,
    )
    found["lmdeploy.turbomind.turbomind"].__dict__.update(
        _tm=SimpleNamespace(SessionParam=SimpleNamespace),
        _np_dict_to_tm_dict=lambda inputs: inputs,
        _tm_dict_to_torch_dict=lambda outputs: outputs,
    )
    return found
