"""A double of LMDeploy 0.18's PyTorch engine: an asyncio loop that prefills or decodes, one batch ahead of the tokens.

As engine_loop.py: the next batch is chosen and sent before the outputs of the one on the device are known, so a request
that ends stays in one more decode batch, stopped, and a token in flight is dropped where its request loses its cache
meanwhile. `_make_infer_outputs` is called with `model_inputs` for a prefill and None for a decode, a prompt longer than
a step has iterations without outputs, and a session keeps its cache until it is ended. The main task only waits for the
tasks that it started, and releases the executor when it ends. As engine.py: the longest sequence leaves a block free.
As prefill_scheduler.py and trie.py: what a prompt finds in the prefix cache is known from its admission
(`finalize_match`) until it loses its cache, and then anew.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

BLOCK = 64


@dataclass
class PytorchEngineConfig:
    dtype: str = "auto"
    tp: int = 1
    session_len: int | None = None
    max_batch_size: int = 8
    cache_max_entry_count: float = 0.8
    max_prefill_token_num: int = 16
    num_gpu_blocks: int = 0
    enable_prefix_caching: bool = False
    eager_mode: bool = False
    quant_policy: int = 0


class MessageStatus(enum.Enum):
    WAITING = enum.auto()
    READY = enum.auto()
    RUNNING = enum.auto()
    STOPPED = enum.auto()


@dataclass(eq=False)
class Sequence:
    session_id: int
    prompt: int
    asked: int
    status: MessageStatus = MessageStatus.WAITING
    computed: int = 0
    num_new_tokens: int = 0
    cached_tokens: int = 0
    admitted: bool = False  # since it last lost its cache

    @property
    def generated_ids(self) -> np.ndarray:
        return np.arange(1000, 1000 + self.num_new_tokens)

    @property
    def left(self) -> int:
        return self.prompt + self.num_new_tokens - self.computed


@dataclass
class Engine:
    engine_config: Any
    fails_after: int = -1  # iterations until the loop raises
    evicts_at: tuple[int, ...] = ()  # in which choices of a batch, from 1, the first running request loses its cache
    shared: int = 0  # positions that every prompt but the first finds in the prefix cache
    lacks: str = ""  # a part that this version does not have
    iterations: int = 0  # those that ended, also of requests that had all stopped
    released: bool = False
    sessions: dict[int, Any] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)  # sessions that have been

    def __post_init__(self) -> None:
        config, blocks = self.engine_config, self.engine_config.num_gpu_blocks or 101
        self.req_manager, self.max_session_len = self, min((blocks - 1) * BLOCK - BLOCK, config.session_len)
        self.scheduler = SimpleNamespace(block_trie=SimpleNamespace(finalize_match=self._finalize_match))
        self._has_cached = False
        if self.lacks:
            del self.scheduler.block_trie
        self._engine_loop: Any = None
        self._loop_task: Any = None
        self.model_config = SimpleNamespace(dtype="torch." + config.dtype, quant_config=SimpleNamespace())
        self.cache_config = SimpleNamespace(
            max_prefill_token_num=config.max_prefill_token_num, num_gpu_blocks=blocks,
            num_reserved_gpu_blocks=1, block_size=BLOCK, enable_prefix_caching=config.enable_prefix_caching,
        )  # fmt: skip
        self.scheduler_config = SimpleNamespace(max_batches=config.max_batch_size)
        self.backend_config = SimpleNamespace(eager_mode=config.eager_mode)
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []  # of the last decode batch, and who was prefilled since
        self._choices = 0

    def build_sender(self) -> Any:
        return self

    def start_loop(self) -> None:
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._runnable = asyncio.Event()
        self._loop_task = asyncio.get_event_loop().create_task(self._main())

    def close(self) -> None:
        if self._loop_task is None:
            self.released = True
        else:
            self._loop_task.cancel()

    def send_async(self, kind: str, data: Any) -> None:
        self.batched_send_async([kind], [data])

    def batched_send_async(self, kinds: list[str], data: list[Any]) -> None:
        self._requests.put_nowait(list(zip(kinds, data, strict=True)))

    def get_schedule_metrics(self) -> Any:
        running = [s for s in self._running if s.status is MessageStatus.RUNNING]
        ready = [s for s in self._running if s.status is MessageStatus.READY]
        return SimpleNamespace(
            active_seqs=len(running), waiting_seqs=len(self._waiting) + len(ready), cache_usage=len(self.sessions) / 8
        )

    async def _main(self) -> None:
        self._engine_loop = SimpleNamespace(_make_infer_outputs=self._outputs)
        tasks = [asyncio.get_event_loop().create_task(c) for c in (self._preprocess(), self._main_loop())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.released = True

    async def _preprocess(self) -> None:
        while True:
            for kind, data in await self._requests.get():
                self._handle(kind, data)
            if self._waiting:
                self._runnable.set()

    def _handle(self, kind: str, data: Any) -> None:
        if kind == "add":
            assert data["session_id"] not in self.known, "a session's id is used again"
            self.known.add(data["session_id"])
            self.sessions[data["session_id"]] = None
        elif kind == "end":
            del self.sessions[data["session_id"]]
        else:
            assert data["session_id"] in self.sessions
            prompt, asked = len(data["token_ids"]), data["sampling_param"].max_new_tokens
            self._waiting.append(Sequence(data["session_id"], prompt, min(asked, self.max_session_len - prompt)))

    async def _main_loop(self) -> None:
        chosen = None
        while True:
            if chosen is None:
                if not self._waiting:
                    self._runnable.clear()
                    await self._runnable.wait()
                chosen = self._choose()
                continue
            running, inputs = chosen
            for sequence in running:
                if sequence.status is MessageStatus.READY:
                    sequence.status = MessageStatus.RUNNING
            chosen = self._choose()
            await asyncio.sleep(0)  # the device is at work
            if self.iterations == self.fails_after:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            self.iterations += 1
            self._engine_loop._make_infer_outputs(object(), running=running, model_inputs=inputs, delta=None)

    def _choose(self) -> tuple[list[Sequence], Any] | None:
        self._choices += 1
        self._running = [s for s in self._running if s.status in (MessageStatus.RUNNING, MessageStatus.READY)]
        if self._waiting and len(self._running) < self.engine_config.max_batch_size:
            return self._prefill()
        if self._choices in self.evicts_at:
            lost = self._running.pop(0)
            lost.status, lost.computed, lost.cached_tokens, lost.admitted = MessageStatus.WAITING, 0, 0, False
            self._waiting.insert(0, lost)
        return (list(self._running), None) if self._running else None

    def _prefill(self) -> tuple[list[Sequence], Any]:
        budget, total = self.engine_config.max_prefill_token_num, 0
        batch: list[Sequence] = []
        long = self._waiting[0]
        if self._match(long).left > budget:
            self._admit(long)
            long.computed += budget
            return [long], prefill(budget, is_chunk=True)
        free = self.engine_config.max_batch_size - len(self._running)
        while self._waiting and len(batch) < free and total + self._match(self._waiting[0]).left <= budget:
            total += self._waiting[0].left
            self._admit(self._waiting[0])
            batch.append(self._waiting.pop(0))
            batch[-1].status = MessageStatus.READY
        self._running += batch
        return batch, prefill(total, is_chunk=bool(batch[0].computed), is_last_chunk=bool(batch[0].computed))

    def _match(self, sequence: Sequence) -> Sequence:
        if self.engine_config.enable_prefix_caching and not sequence.admitted:
            sequence.computed = self.shared if self._has_cached else 0
        return sequence

    def _admit(self, sequence: Sequence) -> None:
        if self.engine_config.enable_prefix_caching and not sequence.admitted:
            self.scheduler.block_trie.finalize_match(sequence)
            self._has_cached = True
        sequence.admitted = True

    @staticmethod
    def _finalize_match(sequence: Sequence) -> None:
        sequence.cached_tokens = sequence.computed

    def _outputs(self, batched_outputs: Any, running: Any, model_inputs: Any, delta: Any) -> dict[int, Any]:
        if model_inputs is not None and model_inputs.is_chunk and not model_inputs.is_last_chunk:
            return {}
        outputs = {}
        for sequence in running:
            if sequence.status is not MessageStatus.RUNNING:
                continue
            sequence.num_new_tokens += 1
            sequence.computed = sequence.prompt + sequence.num_new_tokens - 1
            finish = sequence.num_new_tokens == sequence.asked
            outputs[sequence.session_id] = SimpleNamespace(token_ids=sequence.generated_ids, finish=finish)
            if finish:
                sequence.status = MessageStatus.STOPPED
        return outputs


def prefill(positions: int, is_chunk: bool = False, is_last_chunk: bool = False) -> Any:
    ids = SimpleNamespace(numel=lambda: positions)
    return SimpleNamespace(input_ids=ids, is_decoding=False, is_chunk=is_chunk, is_last_chunk=is_last_chunk)


def modules(made: list[Engine], **faults: Any) -> dict[str, ModuleType]:
    """`lmdeploy` and what the adapter imports of it; engines that are made are put into `made`."""

    def from_pretrained(path: str, engine_config: Any, trust_remote_code: bool) -> Engine:
        made.append(Engine(engine_config, **faults))
        return made[-1]

    names = ["lmdeploy", "lmdeploy.messages", "lmdeploy.pytorch", "lmdeploy.pytorch.engine"]
    names += ["lmdeploy.pytorch.engine.request", "lmdeploy.pytorch.messages"]
    found = {name: ModuleType(name) for name in names}
    found["lmdeploy"].__dict__.update(__version__="0.18.0", PytorchEngineConfig=PytorchEngineConfig)
    found["lmdeploy.messages"].__dict__.update(GenerationConfig=SimpleNamespace)
    found["lmdeploy.pytorch.engine"].__dict__.update(Engine=SimpleNamespace(from_pretrained=from_pretrained))
    kinds = SimpleNamespace(ADD_SESSION="add", ADD_MESSAGE="message", END_SESSION="end")
    found["lmdeploy.pytorch.engine.request"].__dict__.update(RequestType=kinds)
    sampling = SimpleNamespace(from_gen_config=lambda gen_config: gen_config)
    found["lmdeploy.pytorch.messages"].__dict__.update(SamplingParam=sampling, MessageStatus=MessageStatus)
    return found
