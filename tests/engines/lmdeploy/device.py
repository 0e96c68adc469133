"""A played device below LMDeploy's real PyTorch engine: an executor whose "model" adds up what its KV cache holds.

The engine's loop, scheduler, inputs maker, sequences and messages are LMDeploy's own; what runs elsewhere on a GPU is
here. As model_agent/agent.py: forward passes run in the order in which they were sent, the running batch lives on the
device, a pass names by index who stays in it, and a prefill's requests join it. The cache is read and written by the
block tables that come with a pass, so that a wrong block, a wrong position or a wrong request gives wrong tokens.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lmdeploy.pytorch.engine.executor.base import ExecutorBase, _WorkerCachePlanSizes
from lmdeploy.pytorch.engine.model_agent import BatchedOutputs

VOCABULARY = 997
MEMORY = 1 << 30  # bytes, of which a block of the cache takes:
BLOCK_BYTES = 1 << 20


def next_token(context: Any) -> int:
    """The token that follows a context, wherever it is computed."""
    return (7 * int(sum(context)) + len(context)) % VOCABULARY


def continuation(prompt: list[int], tokens: int) -> list[int]:
    """What a request of that prompt must get."""
    context = list(prompt)
    for _ in range(tokens):
        context.append(next_token(context))
    return context[len(prompt) :]


@dataclass
class Slot:
    """A place in the running batch: positions in the cache, the newest token, how many tokens may still come."""

    length: int
    token: int
    left: int


class PlayedExecutor(ExecutorBase):
    """In the place of LMDeploy's `UniExecutor`."""

    yields = random.Random(0)  # how often the engine's other tasks get a turn before a pass's outputs are there
    fails_at: int | None = None  # the pass whose outputs are an error
    made: list[PlayedExecutor] = []

    def __init__(self, *, device_type: str, **configs: Any) -> None:
        from lmdeploy.pytorch.config import DistConfig

        super().__init__(dist_config=DistConfig(), device_type="cpu", **configs)
        self.sent: list[dict[str, Any]] = []  # of each pass: kind, and (first position, positions) of each request
        self.released = False
        self._batch: list[Slot] = []
        self._outputs: deque[BatchedOutputs] = deque()
        self._taken = 0
        self._stopped = asyncio.Event()
        self.made.append(self)

    def build_model(self) -> None: ...
    def build_graph_runner(self) -> None: ...
    def warmup(self) -> None: ...
    def set_cache_config(self, *configs: Any) -> None: ...
    def set_model_config(self, *configs: Any) -> None: ...
    def start(self, forward_event: Any) -> None: ...

    def get_input_processor(self) -> None:
        return None

    def gather_free_mem(self) -> list[int]:
        return [MEMORY]

    def _prepare_worker_cache_plans(self, *configs: Any) -> list[Any]:
        return [_WorkerCachePlanSizes(BLOCK_BYTES)]

    def build_cache_engine(self) -> None:
        cache = self.cache_config
        self._cache = np.full((cache.num_gpu_blocks, cache.block_size), -1, dtype=np.int64)

    async def wait_tasks(self) -> None:
        await self._stopped.wait()

    def stop(self) -> None:
        self._stopped.set()

    def release(self) -> None:
        self.released = True

    async def forward_async(self, inputs: dict[str, Any]) -> None:
        """Runs a pass; its outputs are fetched later."""
        if inputs["delta"] is not None:
            self._batch = [self._batch[index] for index in inputs["delta"].indice_cpu]
        if inputs["inputs"] is None:
            stepped = self._decode(inputs["delta"].block_offsets.numpy())
        else:
            stepped = self._prefill(inputs["inputs"], inputs["stopping_criteria"].num_appendable_ids.tolist())
        tokens, stopped = [slot.token for slot in stepped], [slot.left <= 0 for slot in stepped]
        self._outputs.append(
            BatchedOutputs(
                next_token_ids=torch.tensor(tokens)[:, None], stopped=torch.tensor(stopped), new_token_timestamp=0
            )
        )
        await asyncio.sleep(0)

    async def get_output_async(self) -> BatchedOutputs:
        for _ in range(self.yields.randrange(4)):
            await asyncio.sleep(0)
        if self._taken == self.fails_at:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self._taken += 1
        return self._outputs.popleft()

    def _prefill(self, inputs: Any, left: list[int]) -> list[Slot]:
        lengths, before = inputs.seq_length.tolist(), inputs.history_lengths.tolist()
        tables, ids = inputs.block_offsets.numpy(), inputs.input_ids.numpy()[0]
        partial = inputs.is_chunk and not inputs.is_last_chunk
        self.sent.append({"kind": "chunk" if partial else "prefill", "rows": list(zip(before, lengths, strict=True))})
        made, begin = [], 0
        for row, (first, count) in enumerate(zip(before, lengths, strict=True)):
            self._write(tables[row], first, ids[begin : begin + count])
            begin += count
            token = next_token(self._read(tables[row], first + count))
            made.append(Slot(first + count, token, left[row] - 1))
        if not partial:
            self._batch += made
        return made

    def _decode(self, tables: np.ndarray) -> list[Slot]:
        self.sent.append({"kind": "decode", "rows": [(slot.length, 1) for slot in self._batch]})
        for slot, table in zip(self._batch, tables, strict=True):
            self._write(table, slot.length, np.array([slot.token]))
            slot.length += 1
            slot.token = next_token(self._read(table, slot.length))
            slot.left -= 1
        return self._batch

    def _write(self, table: np.ndarray, first: int, ids: np.ndarray) -> None:
        positions, size = np.arange(first, first + len(ids)), self._cache.shape[1]
        self._cache[table[positions // size], positions % size] = ids

    def _read(self, table: np.ndarray, length: int) -> np.ndarray:
        return self._cache[table[: -(-length // self._cache.shape[1])]].reshape(-1)[:length]
