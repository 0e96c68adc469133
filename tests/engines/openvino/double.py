"""A double of `openvino_genai`: a pipeline that computes whole prompts, then a token for each request in each step."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

BLOCKS = 64


class GenerationStatus(enum.Enum):
    RUNNING = 0
    FINISHED = 1
    IGNORED = 2


class Handle:
    """A request's; `left` tokens are still to come, the numbers 100, 101, ..."""

    def __init__(self, prompt: int, config: Any) -> None:
        self.prompt, self.left, self.made, self.cancelled = prompt, config.max_new_tokens, 0, False
        self._unread: list[int] = []

    def generate(self) -> None:
        self._unread.append(100 + self.made)
        self.made, self.left = self.made + 1, self.left - 1

    @property
    def blocks(self) -> int:
        return -(-(self.prompt + self.made) // 32)  # once its newest token is computed

    def can_read(self) -> bool:
        return bool(self._unread)

    def read(self) -> dict[int, Any]:
        ids, self._unread = self._unread, []
        return {0: SimpleNamespace(generated_ids=ids)}

    def get_status(self) -> GenerationStatus:
        return GenerationStatus.RUNNING if self.left else GenerationStatus.FINISHED

    def cancel(self) -> None:
        self.cancelled = True


class Pipeline:
    """`skip`: the number of a step in which the last request gets nothing; `full_at`: one that computes nothing."""

    def __init__(self, skip: int | None = None, full_at: int | None = None) -> None:
        self.handles: list[Handle] = []
        self.added: list[int] = []  # ids
        self.configs: list[Any] = []
        self.steps, self.widest = 0, 0
        self._skip, self._full_at = skip, full_at
        self._told = SimpleNamespace(requests=0, scheduled_requests=0, cache_usage=0.0)

    def add_request(self, request: int, ids: Any, config: Any) -> Handle:
        self.handles.append(Handle(ids.shape[1], config))
        self.added.append(request)
        self.configs.append(config)
        return self.handles[-1]

    def step(self) -> None:
        self.handles = [handle for handle in self.handles if not handle.cancelled]
        chosen = self.handles[:-1] if self.steps == self._skip else self.handles
        chosen = [] if self.steps == self._full_at else chosen
        used = sum(handle.blocks for handle in self.handles)
        self._told = SimpleNamespace(
            requests=len(self.handles), scheduled_requests=len(chosen), cache_usage=100 * used / BLOCKS
        )
        self.steps, self.widest = self.steps + 1, max(self.widest, len(chosen))
        for handle in chosen:
            handle.generate()
        self.handles = [handle for handle in self.handles if handle.left]

    def get_metrics(self) -> Any:
        return self._told
