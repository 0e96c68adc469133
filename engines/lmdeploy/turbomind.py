"""LMDeploy's TurboMind: requests go to its threads, and its signals, sorted by iteration, come back as steps."""

from __future__ import annotations

import queue
import time
from typing import Any, NamedTuple

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.support.waiting import seconds_left

FINISH = 7  # of the status codes in TurboMind's engine/request.h; 0 is "goes on"
STRAGGLER_S = 0.002  # for the rest of an iteration's signals, which the signal thread runs one after the other


class InFlight:
    """A request in flight: where its token ids appear, how many of them have been reported, and the number of the
    last iteration that it took part in."""

    __slots__ = ("handle", "id", "ids", "iteration", "reported", "state")

    def __init__(self, request: int, prompt_tokens: int, handle: Any) -> None:
        self.id, self.reported, self.iteration, self.handle = request, prompt_tokens, 0, handle
        self.ids = self.state = None  # type: Any


class Signal(NamedTuple):
    """A request's part in one iteration. `state` is None where it came before the request's submission returned."""

    time_ns: int
    request: InFlight
    state: Any


class TurboMindSession(Session):
    """A step is one iteration of TurboMind: the signals up to the first request that signals again.

    An iteration signals each of its requests once (engine.cc, `Update`), and the signals of one come before those of
    the next (gateway.cc: one buffer, one thread), so a request's second signal opens the next iteration. Who took part
    in the last iteration and goes on is waited for: a queue that is read faster than the signal thread fills it does
    not split a step. Only a request that lost its cache stays away; the step then ends with the next iteration's first
    signal, or after STRAGGLER_S. An iteration that only computes part of a prompt signals nothing: it is no step, and
    its time is the next one's.

    The state of a request is taken in its signal, in the engine's own signal thread: TurboMind signals a request again
    only when its last state was taken (request.cc, `UpdateState`), and would merge what a slow reader leaves there.

    `scheduler_tick` cannot be the key. The engine thread raises it right after it has scheduled an iteration
    (engine.cc:840), and signals the tokens at the end of that pass (:867), where with `async_` they are the batch's of
    the pass before; the signals are run by another thread (gateway.cc:99), which first waits for Python's lock, while
    the engine goes on to the next pass and raises the tick again. A signal that reads it finds the number of its own
    pass or of a later one, and not all signals of an iteration find the same. (Lines of commit 1263d5cd88, which is
    0.16.0; of 0.18.0 there is a binary only. A later engine.cc, with `MakeRequestSignal`, signals and counts alike.)
    Running requests and the cache's use are what the scheduler has last published, so they too may be an iteration
    ahead of the tokens.

    What it publishes leaves out the requests behind a full batch, which stay in the gateway's queue (engine.cc:794),
    and those that the iteration has finished (:865, after `Update`). So who signals counts as running, and who is in
    flight and not active as waiting.
    """

    unreported = (
        "prefill_tokens", "decode_tokens", "cached_tokens", "drafted_tokens", "accepted_tokens", "preempted",
        "schedule_ns", "prepare_ns", "execute_ns", "wait_ns", "sample_ns", "update_ns",
    )  # fmt: skip
    notes = ("TurboMind runs its own loop; a step lasts from one iteration's tokens to the next's",)

    @classmethod
    def open(cls, checkpoint: str, config: Any, trust_remote_code: bool) -> TurboMindSession:
        import lmdeploy.turbomind

        if not lmdeploy.turbomind.is_available():
            raise RuntimeError(f"TurboMind's extension did not load: {lmdeploy.turbomind._import_error}")
        from lmdeploy.turbomind import TurboMind

        engine = TurboMind.from_pretrained(checkpoint, engine_config=config, trust_remote_code=trust_remote_code)
        try:
            return cls(engine)
        except BaseException:
            engine.close()
            raise

    def __init__(self, engine: Any) -> None:
        """Takes charge of a `TurboMind`."""
        from lmdeploy.messages import GenerationConfig
        from lmdeploy.turbomind import turbomind

        self._engine, self._boundary, self._make_generation = engine, turbomind, GenerationConfig
        self._template = engine.create_instance()  # makes inputs and generation settings; runs no request itself
        self._signals: queue.SimpleQueue[Signal] = queue.SimpleQueue()
        self._lookahead: Signal | None = None  # the first one of the next iteration
        self._iterations = 0
        self._expected: set[InFlight] = set()  # took part in the last iteration and go on
        self._in_flight: set[InFlight] = set()
        self._unsignalled = 0  # of those in flight, the ones without a signal yet
        self._since = 0  # when the engine got to work: the last iteration's end, or the first request after a rest
        self._step_entry_ns: int | None = None  # when the first step after the latest submission began

    def prepare(self, request: Request) -> tuple[InFlight, tuple[Any, ...]]:
        """The engine's request and the arguments of its `forward`, as `TurboMindInstance.async_stream_infer` makes
        them."""
        boundary, template = self._boundary, self._template
        settings = self._make_generation(
            max_new_tokens=request.output_tokens, ignore_eos=True, top_k=1, top_p=1.0, temperature=1.0
        )
        generation = template._get_generation_config(settings)
        arrays, tokens = template.prepare_inputs(input_ids=request.prompt, gen_config=settings)
        inputs = boundary._np_dict_to_tm_dict(arrays)
        session = boundary._tm.SessionParam(id=request.id, step=0)
        made = InFlight(request.id, tokens, self._engine.model_comm.create_request())
        return made, (inputs, None, session, generation, True, False, self._signal(made))

    def submit(self, prepared: tuple[InFlight, tuple[Any, ...]]) -> None:
        request, arguments = prepared
        if not self._in_flight:
            self._since = time.monotonic_ns()
        # A signal may come before `forward` returns: it is looked at in `step`, when the request is complete.
        outputs, request.state, _ = request.handle.forward(*arguments)
        request.ids = self._boundary._tm_dict_to_torch_dict(outputs)["output_ids"].numpy()
        self._in_flight.add(request)
        self._unsignalled += 1
        self._step_entry_ns = None

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if self._step_entry_ns is None:
            self._step_entry_ns = time.monotonic_ns()
        signals = self._iteration(until_ns)
        if not signals:
            return Nothing.TIMED_OUT
        tokens, finished = [], []
        for _, request, read in signals:
            state = request.state.consume() if read is None else read
            if state.status not in (0, FINISH):
                raise RuntimeError(f"TurboMind ended request {request.id} with {self._meaning(state.status)}")
            if state.seq_len > request.reported:
                tokens.append((request.id, request.ids[request.reported : state.seq_len].tolist()))
                request.reported = state.seq_len
            if state.status == FINISH:
                finished.append(request.id)
                self._in_flight.discard(request)
            else:
                self._expected.add(request)
        if not tokens and not finished:
            return Nothing.FLUSHED
        # Tokens that were there before their request was submitted, as the caller sees it, count from here.
        start, self._since = self._since, max(signals[-1].time_ns, self._step_entry_ns)
        begun = time.monotonic_ns()
        metrics = self._engine.get_schedule_metrics()
        return StepReport(
            start_ns=min(start, self._since),
            end_ns=self._since,
            tokens=tokens,
            finished=finished,
            running=max(metrics.active_seqs, len(signals)),
            waiting=self._waiting(metrics),
            kv_usage=metrics.cache_usage,
            observer_ns=time.monotonic_ns() - begun,
        )

    def has_work(self) -> bool:
        return bool(self._in_flight)

    def close(self) -> None:
        for request in self._in_flight:
            request.handle.cancel()
        self._in_flight.clear()
        self._engine.close()

    def effective(self) -> dict[str, Any]:
        config = self._engine.engine_config
        return {
            "dtype": config.dtype,
            "quantization": None if config.model_format in (None, "hf") else config.model_format,
            "tensor_parallel": config.tp,
            "context_length": self._engine.session_len,
            "max_batch_size": config.max_batch_size,
            "max_tokens_per_step": most_positions(config, self._engine.session_len),
            "kv_cache_tokens": None,  # a share of the memory, which it does not tell in tokens
            "kv_cache_dtype": config.dtype if not config.quant_policy else f"int{int(config.quant_policy)}",
            "kv_block_tokens": config.cache_block_seq_len,
            "prefix_caching": config.enable_prefix_caching,
            "chunked_prefill": True,
            "cuda_graphs": False,
            "async_scheduling": bool(config.async_),
            "attention_backend": "turbomind",
        }

    def _signal(self, request: InFlight) -> Any:
        """What the engine's signal thread calls: as little as can be, since it waits for nothing else."""
        put, clock = self._signals.put, time.monotonic_ns

        def signal() -> None:
            now, state = clock(), request.state
            put(Signal(now, request, None if state is None else state.consume()))

        return signal

    def _iteration(self, until_ns: int | None) -> list[Signal]:
        """The signals of one iteration, in order; empty where none came in time."""
        signal, self._lookahead = self._lookahead or self._next(seconds_left(until_ns)), None
        if signal is None:
            return []
        self._iterations += 1
        expected, self._expected = self._expected, set()
        signals = []
        while signal is not None:
            if signal.request.iteration == self._iterations:
                self._lookahead = signal
                break
            if not signal.request.iteration:
                self._unsignalled -= 1
            signal.request.iteration = self._iterations
            expected.discard(signal.request)
            signals.append(signal)
            signal = self._next(STRAGGLER_S if expected else 0.0)  # also past until_ns: half an iteration is no step
        return signals

    def _waiting(self, metrics: Any) -> int:
        """An end that the engine knows and whose signal has not been read yet is no request that waits."""
        left = len(self._in_flight) - metrics.active_seqs
        return max(min(left, metrics.waiting_seqs + self._unsignalled), 0)

    def _next(self, wait_s: float) -> Signal | None:
        try:
            return self._signals.get(timeout=wait_s) if wait_s else self._signals.get_nowait()
        except queue.Empty:
            return None

    def _meaning(self, status: int) -> str:
        known = self._template.errcode_map.get(status)
        return f"status {status}" if known is None else f"{known.name} (status {status})"


def most_positions(config: Any, session_len: int) -> int:
    """The input positions of one iteration at most.

    Besides max_prefill_token_num and a position for every running request (turbomind.cc:173), the requests that an
    iteration prefills may have contexts of max_context_token_num together, parts that are computed already and those
    that it leaves for later included (models/llama/context_token_resource.h). LMDeploy's Python does not set that;
    TurboMind then takes session_len, and that squared where it is no more than max_batch_size (turbomind.cc:121).
    """
    contexts = session_len if session_len > config.max_batch_size else session_len**2
    return min(config.max_prefill_token_num + config.max_batch_size, contexts + config.max_batch_size - 1)
