"""Latencies of each class of requests in a mix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.latency import finished, first_tokens, since_due, tpot_ns
from innerloop.harness.analysis.summary import summary
from innerloop.harness.schema.load import ClassLatency


def by_class(
    requests: np.ndarray, tokens: np.ndarray, names: Sequence[str], end_ns: int
) -> tuple[ClassLatency, ...] | None:
    """One for each of `names`, in their order; None where there are none.

    `requests` and `tokens` are of dtype REQUEST and TOKEN; what had not ended was last seen at `end_ns`.
    """
    if not names:
        return None
    first = first_tokens(requests, tokens)
    order = np.argsort(requests["due_ns"], kind="stable")
    requests, first = requests[order], first[order]
    return tuple(
        _latency(name, requests[its], first[its], end_ns)
        for name, its in ((name, requests["request_class"] == k) for k, name in enumerate(names))
    )


def _latency(name: str, requests: np.ndarray, first: np.ndarray, end_ns: int) -> ClassLatency:
    due = requests[requests["due_ns"] >= 0]
    return ClassLatency(
        name=name,
        requests=len(due),
        finished=int(finished(due).sum()),
        ttft=since_due(due, due["first_token_ns"], due["first_token_ns"] >= 0, end_ns),
        tpot=summary(tpot_ns(requests, first), NS, bounds=True),
        e2e=since_due(due, due["last_token_ns"], finished(due), end_ns),
    )
