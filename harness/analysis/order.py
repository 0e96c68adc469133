"""Arrivals grouped by their request."""

from __future__ import annotations

import numpy as np


def by_request(request: np.ndarray) -> np.ndarray:
    """The order that groups arrivals by request and keeps their order within each; int64 [arrivals]."""
    n = len(request)
    bits = max(n.bit_length(), 1)  # a request's number above, the arrival's position below: one sort of plain integers
    key = request.astype(np.int64) << bits
    key |= np.arange(n)
    key.sort()
    return key & ((1 << bits) - 1)


def opening(grouped: np.ndarray) -> np.ndarray:
    """Where each group of equal neighbours begins."""
    return np.flatnonzero(np.concatenate(([True], grouped[1:] != grouped[:-1]))) if len(grouped) else np.empty(0, int)
