"""Prompts as pieces, and their token ids. Equal pieces are equal content, in every process and for every engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from innerloop.harness.analysis.chunks import tick
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import number
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.workloads import draws

MAX_PROMPT_TOKENS = 2**30  # 4 GiB of ids
LONG_TOKENS = 2**25  # more take longer than a moment
BLOCK_TOKENS = 2**15  # ids drawn at a time, so that what is worked with stays in a core's cache


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
        return np.diff(self.prompt_offsets)

    @property
    def prompt_offsets(self) -> draws.Ints:
        """Where each request's prompt begins in all ids, int64 [n + 1]."""
        return self.token_offsets[self.offsets]

    @cached_property
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


@dataclass(frozen=True, eq=False)
class PromptIds:
    """Prompt ids of all requests, uniform over the ids `plain`, drawn whenever they are looked at, so that a load of
    any size takes little memory. As int32 [total] to `len`, slices and numpy.
    """

    pieces: Pieces
    plain: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return int(self.pieces.token_offsets[-1])

    def __getitem__(self, which: slice) -> npt.NDArray[np.int32]:
        begin, end, step = which.indices(len(self))
        if step != 1:
            raise ValueError("ids are drawn in their order")
        parts = [self._block(at, min(at + BLOCK_TOKENS, end)) for at in range(begin, end, BLOCK_TOKENS)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or np.int32, copy=False)

    def blocks(self) -> Iterator[npt.NDArray[np.int32]]:
        """All ids, at most BLOCK_TOKENS at a time."""
        for at in range(0, len(self), BLOCK_TOKENS):
            yield self._block(at, min(at + BLOCK_TOKENS, len(self)))
            if len(self) > LONG_TOKENS:
                tick()

    def _block(self, begin: int, end: int) -> npt.NDArray[np.int32]:
        begins = self.pieces.token_offsets
        first, last = int(np.searchsorted(begins, begin, side="right")) - 1, int(np.searchsorted(begins, end))
        keys, place = self.pieces.keys[first:last], np.arange(begin, end, dtype=np.int64)
        if last == first + 1:
            place -= begins[first]
        else:
            edges = np.clip(begins[first : last + 1], begin, end)
            counts = edges[1:] - edges[:-1]
            keys = np.repeat(keys, counts)
            place -= np.repeat(begins[first:last], counts)
        return self.plain.take(draws.below(draws.words(keys, place), len(self.plain)))


def prompt_ids(pieces: Pieces, model: ModelProfile) -> PromptIds:
    """The ids of prompts: uniform over the vocabulary without the special ones.

    Raises:
        Refused: more ids than an engine's process could hold.
    """
    check_total(int(pieces.token_offsets[-1]))
    special = [*model.ends, *([] if model.bos_token_id is None else [model.bos_token_id])]
    return PromptIds(pieces, np.setdiff1d(np.arange(model.vocab_size, dtype=np.int32), special))


def check_total(tokens: int) -> None:
    """Raises: Refused: that many prompt tokens do not fit into memory."""
    if tokens > MAX_PROMPT_TOKENS:
        raise Refused(f"the prompts have {number(tokens)} tokens in total; the limit is {number(MAX_PROMPT_TOKENS)}")
