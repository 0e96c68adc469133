"""The steady window: the part of a run in which the load neither rose nor fell, by a rule for each kind of load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.drift import in_system
from innerloop.harness.analysis.latency import finished
from innerloop.harness.analysis.stationarity import settled_from

Kind = Literal["offline", "closed", "open"]
Rule = Literal["full_batch", "after_last_user", "mser5"]
Missing = Literal[
    "no_steps", "no_requests", "batch_unknown", "too_few_requests", "no_residence", "never_settled", "too_short"
]

LEAST_S = 1.0
LEAST_STEPS = 10
MOMENTS = 1000  # of the requests in the system, of which five make one of MSER-5's means


@dataclass(frozen=True, slots=True)
class Span:
    """(start_ns, end_ns]: a step or an arrival belongs to it if it ends inside. Without one, `missing` says why.

    rule: full_batch is ML.ENERGY's, from when B requests had their first token until all but B had it, B being the
    largest batch. after_last_user: from the last user's arrival and a median residence until one leaves. mser5: of the
    requests in the system, until the last arrival.
    """

    rule: Rule
    start_ns: int | None = None
    end_ns: int | None = None
    missing: Missing | None = None


def kind_of(requests: np.ndarray) -> Kind:
    """What kind of load the requests (dtype REQUEST) were: closed where they have users, offline where all were due at
    once."""
    if len(requests) and (requests["user"] >= 0).all():
        return "closed"
    due = requests["due_ns"][requests["due_ns"] >= 0]
    return "offline" if len(due) == 0 or due.min() == due.max() else "open"


def steady_span(
    steps: np.ndarray, requests: np.ndarray, start_ns: int, end_ns: int, max_batch_size: int | None
) -> Span:
    """The steady part of the window [start_ns, end_ns]. `steps`, `requests` are of dtype STEP and REQUEST.

    `max_batch_size` is the engine's limit; where it is not known, the largest batch of the run stands for it.
    """
    kind = kind_of(requests)
    if kind == "closed":
        found = _closed(steps, requests, end_ns)
    elif kind == "open":
        found = _open(requests, start_ns)
    else:
        found = _offline(requests, max_batch_size or int(steps["running"].max(initial=-1)))
    if found.start_ns is None or found.end_ns is None:
        return found
    ends = steps["end_ns"]
    inside = int(((ends > found.start_ns) & (ends <= found.end_ns)).sum())
    if (found.end_ns - found.start_ns) * NS < LEAST_S or inside < LEAST_STEPS:
        return Span(found.rule, missing="too_short" if len(steps) else "no_steps")
    return found


def _offline(requests: np.ndarray, batch: int) -> Span:
    if batch <= 0:
        return Span("full_batch", missing="batch_unknown")
    first = np.sort(requests["first_token_ns"][requests["first_token_ns"] >= 0])
    if len(requests) <= 2 * batch or len(first) < len(requests) - batch:
        return Span("full_batch", missing="too_few_requests")
    return Span("full_batch", int(first[batch - 1]), int(first[len(requests) - batch - 1]))


def _closed(steps: np.ndarray, requests: np.ndarray, end_ns: int) -> Span:
    done, arrived = finished(requests), first_due_ns(requests)
    if not done.any() or not len(arrived):
        return Span("after_last_user", missing="no_residence")
    due, last = requests["due_ns"], requests["last_token_ns"]
    residence = np.median((last - due)[done])
    start_ns = int(arrived.max() + residence)
    gone = left_ns(steps, requests)
    closes = [end_ns, out_of_requests_ns(requests) or end_ns, *gone[gone > start_ns].tolist()]
    return Span("after_last_user", start_ns, min(closes))


def first_due_ns(requests: np.ndarray) -> np.ndarray:
    """When each user of a closed loop came, int64 [users that came]."""
    sent = requests[requests["due_ns"] >= 0]
    first = np.full(int(requests["user"].max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, sent["user"], sent["due_ns"])
    return first[first < np.iinfo(np.int64).max]


def left_ns(steps: np.ndarray, requests: np.ndarray) -> np.ndarray:
    """When each user that left a closed loop had its last token, int64 [users that left].

    It has requests left and did not send the next one, after the rest that all users take, before the last step began.
    Where rests differ, as in sessions, nobody is known to have left.
    """
    sent = requests[requests["due_ns"] >= 0]
    sent = sent[np.lexsort((sent["due_ns"], sent["user"]))]
    user, due, last = sent["user"], sent["due_ns"], sent["last_token_ns"]
    again = user[1:] == user[:-1]
    rests = (due[1:] - last[:-1])[again]
    if len(steps) == 0 or len(rests) == 0 or rests.min() != rests.max():
        return np.empty(0, dtype=np.int64)
    newest = sent[np.append(~again, True)]
    more = np.isin(newest["user"], requests["user"][requests["due_ns"] < 0])
    idle = more & finished(newest) & (newest["last_token_ns"] + rests[0] < steps["start_ns"][-1])
    return np.asarray(newest["last_token_ns"][idle])


def out_of_requests_ns(requests: np.ndarray) -> int | None:
    """When the first user of a closed loop had all requests finished; None if none had."""
    never = np.iinfo(np.int64).max
    ends = np.full(int(requests["user"].max()) + 1, -1, dtype=np.int64)
    np.maximum.at(ends, requests["user"], np.where(finished(requests), requests["last_token_ns"], never))
    first = int(ends[ends >= 0].min())
    return None if first == never else first


def _open(requests: np.ndarray, start_ns: int) -> Span:
    last_ns = int(requests["due_ns"].max())
    if last_ns <= start_ns:
        return Span("mser5", missing="no_requests")
    edges = np.linspace(start_ns, last_ns, MOMENTS + 1)
    done = finished(requests)
    at = settled_from(in_system(requests["due_ns"], np.where(done, requests["last_token_ns"], -1), edges))
    if at is None:
        return Span("mser5", missing="never_settled")
    return Span("mser5", int(edges[at]), last_ns)
