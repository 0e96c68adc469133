"""The token records as arrivals: the gap before each, and how many tokens a request's first one brought."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Gaps:
    """Of every arrival but each request's first, in order of time, int [gaps] each.

    arrived_ns: when. gap_ns: since the request's arrival before. count: the tokens that it brought.
    """

    arrived_ns: np.ndarray
    gap_ns: np.ndarray
    count: np.ndarray

    @property
    def itl_ns(self) -> np.ndarray:
        """Inter-token latency, int64 [tokens]: an arrival of k tokens makes k gaps, each a k-th of its own, so that
        neither a burst's tokens after the first look free nor its first one slow."""
        if len(self.count) == 0 or int(self.count.max()) == 1:
            return self.gap_ns
        return np.repeat(self.gap_ns // self.count, self.count)

    def within(self, start_ns: int, end_ns: int) -> Gaps:
        """Those that arrived in (start_ns, end_ns]."""
        inside = (self.arrived_ns > start_ns) & (self.arrived_ns <= end_ns)
        return self if inside.all() else Gaps(self.arrived_ns[inside], self.gap_ns[inside], self.count[inside])


def arrival_gaps(time_ns: np.ndarray, request: np.ndarray, count: np.ndarray) -> Gaps:
    """`time_ns` int64, `request` and `count` int32, [arrivals] each, in order of time. Arrivals of nothing are none."""
    if len(count) and int(count.min()) < 1:
        some = count > 0
        time_ns, request, count = time_ns[some], request[some], count[some]
    n = len(time_ns)
    bits = n.bit_length()  # a request's number above, the arrival's position below: one sort groups, stably
    key = request.astype(np.int64)
    key <<= bits
    key |= np.arange(n)
    key.sort()
    order = key & ((1 << bits) - 1)
    key >>= bits
    same = key[1:] == key[:-1]
    del key
    gap = np.full(n, -1, dtype=np.int64)
    gap[order[1:][same]] = np.diff(time_ns[order])[same]
    later = gap >= 0
    return Gaps(time_ns[later], gap[later], count[later])


def first_counts(request: np.ndarray, count: np.ndarray, requests: int) -> np.ndarray:
    """The tokens of each request's first arrival, int64 [requests], 0 where there was none.

    `request` and `count` are int32 [arrivals], in order of time.
    """
    out = np.zeros(requests, dtype=np.int64)
    some = (count > 0) & (request >= 0) & (request < requests)
    if not some.all():
        request, count = request[some], count[some]
    out[request[::-1]] = count[::-1]  # where a number comes twice, the last one written stays
    return out
