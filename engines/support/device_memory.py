"""A share of a device's memory, for engines that take one of what the weights leave free."""

from __future__ import annotations

import math
from pathlib import Path

from innerloop.engines.contract import Load, UnsupportedSetting


def device_memory() -> tuple[int, int]:
    """(free, total) bytes of the current device before anything is loaded."""
    import torch

    return torch.cuda.mem_get_info()


def free_share(load: Load, free: int, total: int) -> float:
    """The share of the memory that the weights leave free which, with the weights, fills `kv_memory_fraction` of it.

    Raises:
        UnsupportedSetting: of what the weights leave free, the cache would get less than a ten-thousandth.
    """
    fraction = load.settings["kv_memory_fraction"]
    stored = sum(path.stat().st_size for path in Path(load.checkpoint).glob("*.safetensors"))
    left = free - stored // load.settings["tensor_parallel"]
    unused = total * (1.0 - fraction)
    share = math.floor((1.0 - unused / left) * 10_000) / 10_000 if left > 0 else 0.0
    if share <= 0.0:
        raise UnsupportedSetting(f"kv_memory_fraction={fraction}: the weights leave no memory for the KV cache")
    return share
