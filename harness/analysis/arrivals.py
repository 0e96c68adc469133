"""The token records as arrivals: the gap before each, and how many tokens a request's first one brought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis import chunks
from innerloop.harness.analysis.chunks import added, least_and_most, scratch
from innerloop.harness.analysis.order import by_request, opening


@dataclass(frozen=True, slots=True)
class Gaps:
    """Of every arrival but each request's first, in order of time, int [gaps] each.

    arrived_ns: when. gap_ns: since the request's arrival before. count: the tokens that it brought. in_order: none
    arrived before the one before it, as far as that was looked at.
    """

    arrived_ns: np.ndarray
    gap_ns: np.ndarray
    count: np.ndarray
    in_order: bool = False

    @property
    def itl_ns(self) -> np.ndarray:
        """Inter-token latency, int64 [tokens]: an arrival of k tokens makes k gaps, each a k-th of its own, so that
        neither a burst's tokens after the first look free nor its first one slow."""
        bounds = least_and_most(self.count)
        if bounds is None or bounds[1] == 1:
            return self.gap_ns
        out, end = scratch(self.gap_ns, added(self.count), np.int64), 0
        for gap, count in zip(chunks.chunks(self.gap_ns), chunks.chunks(self.count), strict=True):
            each = np.repeat(gap // count, count)
            out[end : end + len(each)] = each
            end += len(each)
        return out

    def within(self, start_ns: int, end_ns: int) -> Gaps:
        """Those that arrived in (start_ns, end_ns]."""
        if self.in_order:
            first, end = np.searchsorted(self.arrived_ns, (start_ns, end_ns), side="right").tolist()
            rows: np.ndarray | slice = slice(first, end)
        else:
            rows = (self.arrived_ns > start_ns) & (self.arrived_ns <= end_ns)
            if rows.all():
                return self
        return Gaps(self.arrived_ns[rows], self.gap_ns[rows], self.count[rows], self.in_order)


def arrival_gaps(time_ns: np.ndarray, request: np.ndarray, count: np.ndarray) -> Gaps:
    """`time_ns` int64, `request` and `count` int32, [arrivals] each, in order of time. Arrivals of nothing are none."""
    columns = [chunks.chunks(column) for column in (time_ns, request, count)]
    parts = _parts(zip(*columns, strict=True))
    if len(time_ns) <= chunks.CHUNK:
        nothing = np.empty(0, dtype=np.int64)
        return next(parts, Gaps(nothing, nothing, nothing))
    rows = len(time_ns)
    arrived, gaps = scratch(time_ns, rows, np.int64), scratch(time_ns, rows, np.int64)
    counts, end, in_order, latest = np.ones(1, dtype=np.int32), 0, True, -1
    for part in parts:
        if not len(part.count):
            continue
        if counts.shape == (1,) and int(part.count.max()) > 1:  # until then all of them are one
            counts = scratch(time_ns, rows, np.int32)
            counts[:end] = 1
        place = slice(end, end + len(part.count))
        arrived[place], gaps[place] = part.arrived_ns, part.gap_ns
        if counts.shape != (1,):
            counts[place] = part.count
        in_order = in_order and latest <= int(part.arrived_ns[0]) and bool((np.diff(part.arrived_ns) >= 0).all())
        latest, end = int(part.arrived_ns[-1]), place.stop
        for written in (arrived, gaps, counts):
            chunks.give_back(written)
    every = np.broadcast_to(counts, (end,)) if counts.shape == (1,) else counts[:end]
    return Gaps(arrived[:end], gaps[:end], every, in_order)


def _parts(columns: Iterator[tuple[np.ndarray, ...]]) -> Iterator[Gaps]:
    """The gaps of each part; the time of the last arrival of every request is kept from one to the next."""
    known, last = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)  # requests in order, and that time
    for time_ns, request, count in columns:
        if len(count) and int(count.min()) < 1:
            some = count > 0
            time_ns, request, count = time_ns[some], request[some], count[some]
        order = by_request(request)
        grouped, time = request[order].astype(np.int64), time_ns[order]
        opens = opening(grouped)
        between = np.concatenate(([-1], np.diff(time))) if len(time) else np.empty(0, dtype=np.int64)
        between[opens] = -1
        if len(known) and len(opens):
            place = np.minimum(np.searchsorted(known, grouped[opens]), len(known) - 1)
            there = known[place] == grouped[opens]
            between[opens[there]] = time[opens[there]] - last[place[there]]
        gap = np.empty(len(order), dtype=np.int64)
        gap[order] = between
        later = gap >= 0
        yield Gaps(time_ns[later], gap[later], count[later])
        closes = np.append(opens[1:], len(order))[: len(opens)] - 1
        ids, times = np.concatenate((known, grouped[closes])), np.concatenate((last, time[closes]))
        latest = np.argsort(ids, kind="stable")
        ends = np.append(opening(ids[latest])[1:], len(ids))[: len(ids)] - 1
        known, last = ids[latest][ends], times[latest][ends]


def first_counts(request: np.ndarray, count: np.ndarray, requests: int) -> np.ndarray:
    """The tokens of each request's first arrival, int64 [requests], 0 where there was none.

    `request` and `count` are int32 [arrivals], in order of time.
    """
    out = np.zeros(requests, dtype=np.int64)
    for whose, tokens in zip(chunks.chunks(request), chunks.chunks(count), strict=True):
        some = (tokens > 0) & (whose >= 0) & (whose < requests)
        if not some.all():
            whose, tokens = whose[some], tokens[some]
        fresh = out[whose] == 0
        if not fresh.all():
            whose, tokens = whose[fresh], tokens[fresh]
        out[whose[::-1]] = tokens[::-1]  # where a number comes twice, the last one written stays
    return out
