"""Prompts as pieces, and their token ids. Equal pieces are equal content, in every process and for every engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import number
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.workloads import draws

MAX_PROMPT_TOKENS = 2**30  # 4 GiB of ids
BLOCK_TOKENS = 2**16  # ids drawn at a time, so that what is worked with stays in a core's cache


@dataclass(frozen=True, eq=False)
class Pieces:
    """What prompts are made of: request i's pieces are offsets[i] to offsets[i + 1].

    Id j of a piece depends on (key, j) alone, so that the shorter of two pieces with one key is how the longer begins.
    keys uint64 [pieces], lens int64 [pieces], 1 or more each; offsets int64 [n + 1].
    """

    keys: draws.Words
    lens: draws.Ints
    offsets: draws.Ints

    @property
    def requests(self) -> int:
        return len(self.offsets) - 1

    @property
    def prompt_lens(self) -> draws.Ints:
        """Tokens of each request's pieces, int64 [n]."""
        return np.diff(self.token_offsets[self.offsets])

    @property
    def token_offsets(self) -> draws.Ints:
        """Where each piece begins in all ids, int64 [pieces + 1]."""
        return np.concatenate([[0], np.cumsum(self.lens)]).astype(np.int64)

    def chosen(self, rows: draws.Ints) -> Pieces:
        """The pieces of some requests, in the order of `rows`."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts) + np.repeat(self.offsets[:-1][rows], counts)
        return Pieces(self.keys[place], self.lens[place], offsets)


def of_parts(parts: list[tuple[draws.Words, draws.Ints]]) -> Pieces:
    """Pieces of n requests from columns of (keys, lens), [n] each, in their order; a length of 0 is no piece."""
    keys: draws.Words = np.stack([keys for keys, _ in parts], axis=1)
    lens: draws.Ints = np.stack([lens for _, lens in parts], axis=1)
    there = lens > 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64)
    return Pieces(keys[there], lens[there].astype(np.int64), offsets)


def token_ids(pieces: Pieces, model: ModelProfile) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Prompt ids of all requests, int32 [total], and their offsets, int64 [n + 1]; ids are uniform over the vocabulary
    without the special ones.

    Raises:
        Refused: more ids than fit into memory.
    """
    begins = pieces.token_offsets
    total = int(begins[-1])
    check_total(total)
    special = [*model.ends, *([] if model.bos_token_id is None else [model.bos_token_id])]
    plain = np.setdiff1d(np.arange(model.vocab_size, dtype=np.int32), special)
    ids = np.empty(total, dtype=np.int32)
    first, count = 0, len(pieces.lens)
    while first < count:
        last = max(first + 1, int(np.searchsorted(begins, begins[first] + BLOCK_TOKENS, side="right")) - 1)
        for begin in range(int(begins[first]), int(begins[last]), BLOCK_TOKENS):  # a piece may be longer than a block
            end = min(begin + BLOCK_TOKENS, int(begins[last]))
            place = np.arange(begin, end, dtype=np.int64)
            if last == first + 1:
                keys, place = pieces.keys[first], place - begins[first]
            else:
                keys = np.repeat(pieces.keys[first:last], pieces.lens[first:last])
                place -= np.repeat(begins[first:last], pieces.lens[first:last])
            ids[begin:end] = plain[draws.below(draws.words(keys, place), len(plain))]
        first = last
    return ids, begins[pieces.offsets]


def check_total(tokens: int) -> None:
    """Raises: Refused: that many prompt tokens do not fit into memory."""
    if tokens > MAX_PROMPT_TOKENS:
        raise Refused(f"the prompts have {number(tokens)} tokens in total; the limit is {number(MAX_PROMPT_TOKENS)}")
