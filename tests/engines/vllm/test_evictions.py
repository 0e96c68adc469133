"""Blocks that vLLM's prefix cache gives up, counted on a pool that works as its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from innerloop.engines.vllm.evictions import Evictions


class BlockPool:
    """Allocates from the front and forgets what a block held, as vllm/v1/core/block_pool.py does."""

    def __init__(self, blocks: list[str | None], enable_caching: bool = True) -> None:
        self.enable_caching, self.free = enable_caching, blocks

    def get_new_blocks(self, count: int) -> None:
        for _ in range(count):
            self._maybe_evict_cached_block(self.free.pop(0))

    def _maybe_evict_cached_block(self, block: str | None) -> bool:
        return block is not None


def scheduler(pool: Any) -> Any:
    return SimpleNamespace(kv_cache_manager=SimpleNamespace(block_pool=pool))


def test_only_blocks_that_held_a_prefix_are_counted() -> None:
    pool = BlockPool([None, "prefix", "prefix", None])
    found = Evictions(scheduler(pool))
    assert found.count == 0
    pool.get_new_blocks(2)
    assert found.count == 1
    pool.get_new_blocks(2)
    assert found.count == 2


def test_without_a_prefix_cache_or_a_pool_that_tells_the_count_is_missing() -> None:
    assert Evictions(scheduler(BlockPool([], enable_caching=False))).count is None
    assert Evictions(scheduler(object())).count is None
    assert Evictions(object()).count is None
