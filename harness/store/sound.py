"""Whether a run's records can be worked with at all. What is merely odd in them is for analysis.checks to say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from innerloop.engines.worker.trace import STATES
from innerloop.harness.analysis.chunks import added, least_and_most

LATEST_NS = 1 << 62  # so that the difference of two times still is a number
MOST_USERS = 1 << 20
MOST_TOKENS, MOST_A_RECORD = 1 << 26, 64  # of either, the larger: a run has as many tokens as may be looked at singly


def unsound(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> str | None:
    """What no run can have recorded, None where there is nothing; tables of dtype STEP, TOKEN and REQUEST."""
    return next(_faults(steps, tokens, requests), None)


def _faults(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> Iterator[str]:
    for name, table in (("steps", steps), ("tokens", tokens), ("requests", requests)):
        for column in table.dtype.names or ():
            if column.endswith("_ns") and len(table) and not _within(table[column], -LATEST_NS, LATEST_NS):
                yield f"table {name}: a time of more than a hundred years in {column}"
    if not _within(requests["state"], 0, len(STATES) - 1):
        yield "table requests: unknown state"
    if not _within(requests["user"], -1, max(MOST_USERS, len(requests))):
        yield "table requests: unknown user"
    for column in ("prompt_tokens", "asked_tokens"):
        if not _within(requests[column], 0, np.iinfo(np.int32).max):
            yield f"table requests: negative number of {column}"
    if not _within(tokens["count"], 0, np.iinfo(np.int32).max):
        yield "table tokens: negative number of tokens"
    if added(tokens["count"]) > max(MOST_TOKENS, MOST_A_RECORD * len(tokens)):
        yield f"table tokens: more tokens than its {len(tokens)} arrivals can account for"


def _within(values: np.ndarray, least: int, most: int) -> bool:
    bounds = least_and_most(values)
    return bounds is None or (bounds[0] >= least and bounds[1] <= most)
