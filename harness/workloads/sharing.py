"""What prompts have in common with earlier ones: the hit share that a prefix cache could have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from innerloop.harness.workloads import draws
from innerloop.harness.workloads.content import Pieces


def shared_lens(pieces: Pieces, order: draws.Ints, history_lens: npt.NDArray[np.int32] | None) -> npt.NDArray[np.int32]:
    """How many of its first prompt tokens an earlier request had, int32 [n].

    `order` int64 [n] are the requests, earliest first. A request that goes on with a conversation shares all of it but
    the last token, whose keys and values nobody has computed yet.
    """
    shared = _of_pieces(pieces, order)
    if history_lens is not None:
        shared = np.where(history_lens > 0, history_lens.astype(np.int64) - 1, shared)
    return shared.astype(np.int32)


def _of_pieces(pieces: Pieces, order: draws.Ints) -> draws.Ints:
    """The longest common beginning of each request's pieces with those of any earlier one, int64 [n].

    Level by level: requests whose pieces were equal so far and whose next one has the same key are a group; in it each
    shares as much of that piece as the longest of those before it has.
    """
    shared = np.zeros(pieces.requests, dtype=np.int64)
    counts, level = np.diff(pieces.offsets), 0
    rows = order[counts[order] > 0]  # that share everything so far, earliest first
    chain = np.zeros(len(rows), dtype=np.uint64)
    while len(rows):
        place = pieces.offsets[rows] + level
        lens, group = pieces.lens[place], _mixed(chain, pieces.keys[place])
        shared[rows] += np.minimum(_longest_before(group, lens), lens)
        level += 1
        go_on = counts[rows] > level
        rows, chain = rows[go_on], _mixed(group, lens.astype(np.uint64))[go_on]
        if len(rows) and not _repeats(chain):
            break
    return shared


def _longest_before(group: draws.Words, lens: draws.Ints) -> draws.Ints:
    """The largest of the lengths before each in its group, 0 for the first one; all [n], earliest first."""
    by_group = np.argsort(group, kind="stable")
    sorted_group = group[by_group]
    first = np.ones(len(group), dtype=bool)
    first[1:] = sorted_group[1:] != sorted_group[:-1]
    rank = np.cumsum(first) - 1
    # a running maximum that begins anew in each group: a group's numbers are above all of the group before
    running = np.maximum.accumulate((rank.astype(np.int64) << 32) + lens[by_group])
    before = np.zeros(len(group), dtype=np.int64)
    before[1:] = running[:-1] & 0xFFFFFFFF
    before[first] = 0
    out = np.empty(len(group), dtype=np.int64)
    out[by_group] = before
    return out


def _mixed(chain: draws.Words, value: draws.Words) -> draws.Words:
    """64 bits that stand for both."""
    return draws.words(chain ^ value * np.uint64(0xD6E8FEB86659FD93), np.zeros(1, dtype=np.int64))


def _repeats(values: draws.Words) -> bool:
    ordered = np.sort(values)
    return bool((ordered[1:] == ordered[:-1]).any())
