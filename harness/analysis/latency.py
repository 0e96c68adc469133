"""What a request's sender sees: TTFT, TPOT, ITL and end to end, in nanoseconds (int64 arrays).

Every latency counts from when the request was due, not from when it could be sent: queueing belongs to it.
"""

from __future__ import annotations

import numpy as np

from innerloop.engines.worker.trace import STATES
from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.summary import summary
from innerloop.harness.schema.window import Latency

FINISHED = STATES.index("finished")


def finished(requests: np.ndarray) -> np.ndarray:
    """Which requests (dtype REQUEST) have all their tokens: bool [requests]."""
    return (requests["state"] == FINISHED) & (requests["last_token_ns"] >= 0)


def ttft_ns(requests: np.ndarray) -> np.ndarray:
    """Time to first token: first token - due, of every request that has a first token, finished or cut."""
    have = (requests["first_token_ns"] >= 0) & (requests["due_ns"] >= 0)
    return (requests["first_token_ns"] - requests["due_ns"])[have]


def e2e_ns(requests: np.ndarray) -> np.ndarray:
    """End to end: last token - due, of finished requests."""
    return (requests["last_token_ns"] - requests["due_ns"])[finished(requests) & (requests["due_ns"] >= 0)]


def tpot_ns(requests: np.ndarray) -> np.ndarray:
    """Time per output token after the first: (last - first) / (tokens - 1), of finished requests with two or more."""
    rows = requests[finished(requests) & (requests["output_tokens"] > 1)]
    return (rows["last_token_ns"] - rows["first_token_ns"]) / (rows["output_tokens"] - 1)


def itl_ns(time_ns: np.ndarray, request: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Inter-token latency: the gaps between a request's arrivals, over all requests, grouped by request.

    `time_ns` int64, `request` and `count` int32, all of shape [arrivals] and in order of time. An arrival of k tokens
    makes k gaps, each a k-th of the time since the request's previous arrival, so that neither a burst's tokens after
    the first look free nor its first one slow. The first arrival has no gap, however many tokens it brings.
    """
    if len(count) and int(count.min()) < 1:
        some = count > 0
        time_ns, request, count = time_ns[some], request[some], count[some]
    n = len(time_ns)
    if n < 2:
        return np.empty(0, dtype=np.int64)
    bits = n.bit_length()  # a request's number above, the arrival's position below: one sort groups, stably
    key = request.astype(np.int64)
    key <<= bits
    key |= np.arange(n)
    key.sort()
    order = key & ((1 << bits) - 1)
    key >>= bits
    same = key[1:] == key[:-1]
    del key
    gaps = np.diff(time_ns[order])[same]
    if int(count.max()) == 1:
        return gaps
    counts = count[order][1:][same]
    return np.repeat(gaps // counts, counts)


def latency_s(requests: np.ndarray, tokens: np.ndarray) -> Latency:
    """The four latencies as summaries. `requests` is of dtype REQUEST, `tokens` of dtype TOKEN."""
    time_ns = np.ascontiguousarray(tokens["time_ns"])
    return Latency(
        ttft=summary(ttft_ns(requests), NS),
        tpot=summary(tpot_ns(requests), NS),
        itl=summary(itl_ns(time_ns, tokens["request"], tokens["count"]), NS),
        e2e=summary(e2e_ns(requests), NS),
    )
