"""Blocks of a prefix cache that vLLM gives up for new ones."""

from __future__ import annotations

from typing import Any


class Evictions:
    """Counts them from here on, on this scheduler only; nothing where prefixes are not cached.

    `BlockPool._maybe_evict_cached_block` (vllm/v1/core/block_pool.py, 0.26 to 0.33) is called for each block that is
    allocated, and says whether it held a prefix. Emptying the whole cache does not call it.
    """

    def __init__(self, scheduler: Any) -> None:
        pool = getattr(getattr(scheduler, "kv_cache_manager", None), "block_pool", None)
        evict = getattr(pool, "_maybe_evict_cached_block", None)
        self.count: int | None = None
        if evict is None or not getattr(pool, "enable_caching", False):
            return
        self.count = 0

        def counted(block: Any) -> bool:
            gone = bool(evict(block))
            if gone:
                self.count = (self.count or 0) + 1
            return gone

        pool._maybe_evict_cached_block = counted  # type: ignore[union-attr]
