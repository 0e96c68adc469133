"""How far the requests came that did not finish: the worker writes that only into the token records."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.chunks import chunks
from innerloop.harness.analysis.latency import finished


def filled(requests: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """`requests` with `output_tokens` and `last_token_ns` of every unfinished one taken from `tokens`; a new table.

    `requests` is of dtype REQUEST, `tokens` of dtype TOKEN in order of time.
    """
    out = np.array(requests)
    open_ = ~finished(requests)
    if not open_.any() or len(tokens) == 0:
        return out
    received = np.zeros(len(requests))
    for part in chunks(tokens):
        number = part["request"]
        there = (number >= 0) & (number < len(open_))  # a broken trace may name requests that are not there
        rows = part[there & open_[np.where(there, number, 0)]]
        received += np.bincount(rows["request"], rows["count"], minlength=len(requests))
        some = rows[rows["count"] > 0]
        out["last_token_ns"][some["request"]] = some["time_ns"]  # the latest of a request's arrivals stays
    out["output_tokens"][open_] = received.astype(np.int32)[open_]
    return out
