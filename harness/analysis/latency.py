"""What a request's sender sees: TTFT, TPOT, ITL and end to end, in nanoseconds (int64 arrays).

Every latency counts from when the request was due, not from when it could be sent: queueing belongs to it.
"""

from __future__ import annotations

import numpy as np

from innerloop.engines.worker.trace import STATES
from innerloop.harness.analysis.arrivals import Gaps, arrival_gaps, first_counts
from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.lag import avoidable_lag_ns, send_lag_ns
from innerloop.harness.analysis.summary import durations, summary
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.window import Latency

FINISHED = STATES.index("finished")


def finished(requests: np.ndarray) -> np.ndarray:
    """Which requests (dtype REQUEST) have all their tokens: bool [requests]."""
    return (requests["state"] == FINISHED) & (requests["last_token_ns"] >= 0)


def ttft_ns(requests: np.ndarray) -> np.ndarray:
    """Time to first token: first token - due, of every request that has a first token, finished or cut."""
    first, due = requests["first_token_ns"], requests["due_ns"]
    return (first - due)[(first >= 0) & (due >= 0)]


def e2e_ns(requests: np.ndarray) -> np.ndarray:
    """End to end: last token - due, of finished requests."""
    last, due = requests["last_token_ns"], requests["due_ns"]
    return (last - due)[finished(requests) & (due >= 0)]


def tpot_ns(requests: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Time per output token after the first arrival: (last - first) / (tokens - first), of finished requests that have
    tokens after it. `first`, int [requests], is how many tokens came in each request's first arrival."""
    some = finished(requests) & (requests["output_tokens"] > np.maximum(first, 1))
    rows, first = requests[some], np.maximum(first[some], 1)
    begin, end, tokens = rows["first_token_ns"], rows["last_token_ns"], rows["output_tokens"]
    return (end - begin) / (tokens - first)


def gaps_of(tokens: np.ndarray) -> Gaps:
    """The gaps between arrivals, of records of dtype TOKEN in order of time."""
    return arrival_gaps(tokens["time_ns"], tokens["request"], tokens["count"])


def first_tokens(requests: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The tokens of each request's first arrival, int64 [requests]."""
    return first_counts(tokens["request"], tokens["count"], len(requests))


def latency_s(steps: np.ndarray, requests: np.ndarray, first: np.ndarray, gaps: Gaps, end_ns: int) -> Latency:
    """All latencies as summaries, with intervals. `steps` and `requests` are of dtype STEP and REQUEST, `first` is
    `first_tokens` of these requests; what had not ended was last seen at `end_ns`."""
    order = np.argsort(requests["due_ns"], kind="stable")
    requests, first = requests[order], first[order]
    due = requests[requests["due_ns"] >= 0]
    itl_ns = gaps.itl_ns
    itl = summary(itl_ns, NS, bounds=True)
    return Latency(
        ttft=since_due(due, due["first_token_ns"], due["first_token_ns"] >= 0, end_ns),
        tpot=summary(tpot_ns(requests, first), NS, bounds=True),
        itl=itl,
        e2e=since_due(due, due["last_token_ns"], finished(due), end_ns),
        arrival_gap=itl if itl_ns is gaps.gap_ns else summary(gaps.gap_ns, NS, bounds=True),
        send_lag=summary(send_lag_ns(requests), NS),
        avoidable_lag=summary(avoidable_lag_ns(steps, requests), NS),
    )


def since_due(due: np.ndarray, moment_ns: np.ndarray, ended: np.ndarray, end_ns: int) -> Summary:
    """From being due until `moment_ns`, of requests (dtype REQUEST) in order of due times; what had not `ended` was
    last seen at `end_ns`."""
    since = due["due_ns"]
    until = np.where(ended, moment_ns, np.maximum(end_ns, since))
    return durations(until - since, ended, NS)
