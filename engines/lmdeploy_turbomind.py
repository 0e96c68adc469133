"""LMDeploy's TurboMind: requests go to its threads, and its signals, sorted by iteration, come back as steps."""

from __future__ import annotations

import itertools
import queue
import time
from typing import Any, ClassVar

from engines.base import Request, StepReport

FINISH = 7  # of the status codes in csrc's request.h; 0 is "goes on"
WAIT_S = 0.1  # how long a step waits for a signal before it gives the caller a look at the clock


class Flight:
    """A request under way: where its token ids appear, and how many of them have been reported."""

    __slots__ = ("handle", "ids", "index", "reported", "state")

    def __init__(self, index: int, prompt_tokens: int) -> None:
        self.index, self.reported = index, prompt_tokens
        self.handle = self.ids = self.state = None  # type: Any


class TurboMindLoop:
    """A step is one iteration of TurboMind: all signals up to the first request that signals again.

    The engine's signal thread only notes the time and the request; what has come of a request is read here. Two
    signals of one request that are read together are merged into one by the engine; the step then holds both tokens,
    and the counts stay right. Running and waiting requests and the cache's use are those that its scheduler has last
    published, which is at most one iteration ahead of the tokens.
    """

    cannot_report: ClassVar[tuple[str, ...]] = (
        "prefill_tokens", "decode_tokens", "preempted",
        "schedule_ns", "prepare_ns", "execute_ns", "wait_ns", "sample_ns", "update_ns",
    )  # fmt: skip
    notes: ClassVar[tuple[str, ...]] = (
        "TurboMind runs its own loop: a step lasts from the last iteration's tokens to this one's",
    )

    def __init__(self, checkpoint: str, config: Any, trust_remote_code: bool) -> None:
        import lmdeploy.turbomind
        from lmdeploy.messages import GenerationConfig

        if not lmdeploy.turbomind.is_available():
            raise RuntimeError(f"TurboMind's extension did not load: {lmdeploy.turbomind._import_error}")
        from lmdeploy.turbomind import TurboMind, turbomind

        self._engine = TurboMind.from_pretrained(checkpoint, engine_config=config, trust_remote_code=trust_remote_code)
        self._boundary, self._make_generation = turbomind, GenerationConfig
        self._template = self._engine.create_instance()  # makes inputs and generation settings; runs no request itself
        self._sessions = itertools.count(1)
        self._signals: queue.SimpleQueue[tuple[int, Flight]] = queue.SimpleQueue()
        self._held: tuple[int, Flight] | None = None  # the first signal of the next iteration
        self._flying: set[Flight] = set()
        self._since = 0  # when the engine got to work: the last iteration's end, or the first request after a rest
        self._entered: int | None = None  # when the first step after the latest submission began

    def submit(self, request: Request) -> None:
        boundary, template = self._boundary, self._template
        settings = self._make_generation(
            max_new_tokens=request.output_tokens, ignore_eos=True, top_k=1, top_p=1.0, temperature=1.0
        )
        generation = template._get_generation_config(settings)
        inputs, tokens = template.prepare_inputs(input_ids=request.prompt, gen_config=settings)
        flight = Flight(request.index, tokens)
        if not self._flying:
            self._since = time.monotonic_ns()
        self._flying.add(flight)
        flight.handle = self._engine.model_comm.create_request()
        session = boundary._tm.SessionParam(id=next(self._sessions), step=0)
        # A signal may come before `forward` returns: it is looked at in `step`, when the flight is complete.
        outputs, flight.state, _ = flight.handle.forward(
            boundary._np_dict_to_tm_dict(inputs), None, session, generation, True, False, self._signal(flight)
        )
        flight.ids = boundary._tm_dict_to_torch_dict(outputs)["output_ids"].numpy()
        self._entered = None

    def step(self) -> StepReport | None:
        if self._entered is None:
            self._entered = time.monotonic_ns()
        signals = self._iteration()
        tokens, finished = [], []
        for _, flight in signals:
            state = flight.state.consume()
            if state is None:  # read with the signal before
                continue
            if state.status not in (0, FINISH):
                raise RuntimeError(f"TurboMind ended request {flight.index} with {self._meaning(state.status)}")
            if state.seq_len > flight.reported:
                tokens.append((flight.index, flight.ids[flight.reported : state.seq_len].tolist()))
                flight.reported = state.seq_len
            if state.status == FINISH:
                finished.append(flight.index)
                self._flying.discard(flight)
        if not tokens and not finished:
            return None
        # Tokens that were there before their request was submitted, as the caller sees it, count from here.
        start, self._since = self._since, max(signals[-1][0], self._entered)
        metrics = self._engine.get_schedule_metrics()
        return StepReport(
            start_ns=min(start, self._since),
            end_ns=self._since,
            tokens=tokens,
            finished=finished,
            running=metrics.active_seqs,
            waiting=metrics.waiting_seqs,
            kv_usage=metrics.cache_usage,
        )

    def has_work(self) -> bool:
        return bool(self._flying)

    def close(self) -> None:
        for flight in self._flying:
            flight.handle.cancel()
        self._flying.clear()
        self._engine.close()

    def effective(self) -> dict[str, Any]:
        config = self._engine.engine_config
        return {
            "dtype": config.dtype,
            "quantization": None if config.model_format in (None, "hf") else config.model_format,
            "tensor_parallel": config.tp,
            "context_length": self._engine.session_len,
            "max_batch_size": config.max_batch_size,
            "max_tokens_per_step": config.max_prefill_token_num + config.max_batch_size,
            "kv_cache_tokens": None,  # a share of the memory, which it does not tell in tokens
            "kv_cache_dtype": config.dtype if not config.quant_policy else f"int{int(config.quant_policy)}",
            "kv_block_tokens": config.cache_block_seq_len,
            "prefix_caching": config.enable_prefix_caching,
            "chunked_prefill": True,
            "cuda_graphs": False,
            "async_scheduling": bool(config.async_),
            "attention_backend": "turbomind",
        }

    def _signal(self, flight: Flight) -> Any:
        """What the engine's signal thread calls: as little as can be, since it waits for nothing else."""
        put, clock = self._signals.put, time.monotonic_ns

        def signal() -> None:
            put((clock(), flight))

        return signal

    def _iteration(self) -> list[tuple[int, Flight]]:
        """The signals of one iteration, in order; empty after WAIT_S without one.

        An iteration signals each of its requests once, all in one go: a request's second signal opens the next.
        """
        first, self._held = self._held, None
        try:
            if first is None:
                first = self._signals.get(timeout=WAIT_S)
            signals, seen = [first], {first[1]}
            while True:
                signal = self._signals.get_nowait()
                if signal[1] in seen:
                    self._held = signal
                    return signals
                signals.append(signal)
                seen.add(signal[1])
        except queue.Empty:
            return [] if first is None else signals

    def _meaning(self, status: int) -> str:
        known = self._template.errcode_map.get(status)
        return f"status {status}" if known is None else f"{known.name} (status {status})"
