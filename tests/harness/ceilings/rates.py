"""What a device was measured to do, as `engines.ceilings` gives it."""

from __future__ import annotations

from innerloop.harness.ceilings.model import MatrixRate, MemoryRate


def memory(read: float = 40e9, copy: float = 38e9) -> MemoryRate:
    return {
        "copy_bytes_per_s": copy,
        "read_bytes_per_s": read,
        "copy_median_bytes_per_s": copy,
        "read_median_bytes_per_s": read,
        "repeats": 20,
        "array_bytes": 1 << 29,
        "cache_bytes": 1 << 25,
    }


def rate(ops: float | None, size: int = 1024) -> MatrixRate:
    return {
        "ops_per_s": ops,
        "median_ops_per_s": ops,
        "size": size,
        "reason": None if ops else "no",
        "how": "mm",
    }
