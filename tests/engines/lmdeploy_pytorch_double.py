"""A double of LMDeploy 0.18's PyTorch engine: an asyncio loop that prefills or decodes, and answers later.

As engine_loop.py: `_make_infer_outputs` is called with `model_inputs` for a prefill and None for a decode, a prompt
longer than a step has iterations without outputs, and a session keeps its cache until it is ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


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


@dataclass(eq=False)
class Sequence:
    session_id: int
    prompt: int
    asked: int
    computed: int = 0
    num_new_tokens: int = 0

    @property
    def generated_ids(self) -> np.ndarray:
        return np.arange(1000, 1000 + self.num_new_tokens)


@dataclass
class Engine:
    engine_config: Any
    fails_after: int = -1  # iterations until the loop raises
    evicts_at: int = -1  # iteration before which the first running request loses its cache
    iterations: int = 0
    sessions: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.engine_config
        self.req_manager, self.max_session_len = self, config.session_len
        self._engine_loop: Any = None
        self._loop_task: Any = None
        self.model_config = SimpleNamespace(dtype="torch." + config.dtype, quant_config=SimpleNamespace())
        self.cache_config = SimpleNamespace(
            max_prefill_token_num=config.max_prefill_token_num, num_gpu_blocks=config.num_gpu_blocks or 101,
            num_reserved_gpu_blocks=1, block_size=64, enable_prefix_caching=config.enable_prefix_caching,
        )  # fmt: skip
        self.scheduler_config = SimpleNamespace(max_batches=config.max_batch_size)
        self.backend_config = SimpleNamespace(eager_mode=config.eager_mode)
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []

    def build_sender(self) -> Any:
        return self

    def start_loop(self) -> None:
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._loop_task = asyncio.get_event_loop().create_task(self._main())

    def close(self) -> None:
        self._loop_task.cancel()

    def send_async(self, kind: str, data: Any) -> None:
        self.batched_send_async([kind], [data])

    def batched_send_async(self, kinds: list[str], data: list[Any]) -> None:
        self._requests.put_nowait(list(zip(kinds, data, strict=True)))

    def get_schedule_metrics(self) -> Any:
        used = len(self.sessions) / 8
        return SimpleNamespace(active_seqs=len(self._running), waiting_seqs=len(self._waiting), cache_usage=used)

    async def _main(self) -> None:
        self._engine_loop = SimpleNamespace(_make_infer_outputs=self._outputs)
        while True:
            while not self._requests.empty() or not (self._waiting or self._running):
                for kind, data in await self._requests.get():
                    self._handle(kind, data)
            if self.iterations == self.fails_after:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if self.iterations == self.evicts_at:
                lost = self._running.pop(0)
                lost.computed = 0
                self._waiting.insert(0, lost)
            running, inputs = self._schedule()
            await asyncio.sleep(0)  # the device is at work
            self.iterations += 1
            self._engine_loop._make_infer_outputs(object(), running=running, model_inputs=inputs, delta=None)

    def _handle(self, kind: str, data: Any) -> None:
        if kind == "add":
            self.sessions[data["session_id"]] = None
        elif kind == "end":
            del self.sessions[data["session_id"]]
        else:
            assert data["session_id"] in self.sessions
            asked = data["sampling_param"].max_new_tokens
            self._waiting.append(Sequence(data["session_id"], len(data["token_ids"]), asked))

    def _schedule(self) -> tuple[list[Sequence], Any]:
        budget, batch, total = self.engine_config.max_prefill_token_num, [], 0
        if not self._waiting:
            return list(self._running), None
        long = self._waiting[0]
        left = long.prompt + long.num_new_tokens - long.computed
        if left > budget:
            long.computed += budget
            return [long], prefill(budget, is_chunk=True)
        while self._waiting and total + (left := self._left(self._waiting[0])) <= budget:
            batch.append(self._waiting.pop(0))
            total += left
        self._running += batch
        return batch, prefill(total, is_chunk=bool(batch[0].computed), is_last_chunk=bool(batch[0].computed))

    @staticmethod
    def _left(sequence: Sequence) -> int:
        return sequence.prompt + sequence.num_new_tokens - sequence.computed

    def _outputs(self, batched_outputs: Any, running: Any, model_inputs: Any, delta: Any) -> dict[int, Any]:
        if model_inputs is not None and model_inputs.is_chunk and not model_inputs.is_last_chunk:
            return {}
        outputs = {}
        for sequence in running:
            sequence.num_new_tokens += 1
            sequence.computed = sequence.prompt + sequence.num_new_tokens - 1
            finish = sequence.num_new_tokens == sequence.asked
            outputs[sequence.session_id] = SimpleNamespace(token_ids=sequence.generated_ids, finish=finish)
            if finish:
                self._running.remove(sequence)
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
    found["lmdeploy.pytorch.messages"].__dict__.update(SamplingParam=sampling)
    return found
