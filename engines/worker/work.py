"""A workload as the worker has it: arrays, of which a request is made when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from innerloop.engines.contract import Request
from innerloop.engines.worker.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Work:
    """A request is due at `due_ns` after the window opens, or, where that is -1, `rest_ns` after the request that names
    it in `next_request` has its last token. `duration_ns` -1 runs until all are finished.

    A request with `history_lens` > 0 goes on with its predecessor's conversation: its prompt is that one's prompt and
    output, so many tokens, and then its own. One that would be due at its `until_ns` or later is not sent. `spread`
    numbers the requests that are due over a mean residence.
    """

    prompt_tokens: np.ndarray  # int32 [total]
    prompt_offsets: np.ndarray  # int64 [n + 1]
    output_lens: np.ndarray  # int32 [n]
    due_ns: np.ndarray  # int64 [n]
    next_request: np.ndarray  # int32 [n]
    user: np.ndarray  # int32 [n]
    rest_ns: int | np.ndarray  # int64 [n]
    duration_ns: int
    history_lens: np.ndarray | None = None  # int32 [n]
    until_ns: np.ndarray | None = None  # int64 [n], -1: never
    spread: np.ndarray | None = None  # int32 [n], -1: at due_ns
    class_of: np.ndarray | None = None  # int32 [n]

    @classmethod
    def load(cls, path: str | Path) -> Work:
        with np.load(path, allow_pickle=False) as f:
            arrays = {k: f[k] for k in cls.__slots__ if k in f.files}
        rest = arrays["rest_ns"] if arrays["rest_ns"].ndim else int(arrays["rest_ns"])
        return cls(**{**arrays, "rest_ns": rest, "duration_ns": int(arrays["duration_ns"])})

    @property
    def prompt_lens(self) -> np.ndarray:
        """Prompt tokens of each request, with the conversation before its own, int64 [n]."""
        own = np.diff(self.prompt_offsets)
        return own if self.history_lens is None else own + self.history_lens

    def request(self, index: int, request_id: int, conversation: Sequence[int] = ()) -> Request:
        a, b = self.prompt_offsets[index], self.prompt_offsets[index + 1]
        own = self.prompt_tokens[a:b].tolist()
        return Request(request_id, [*conversation, *own] if conversation else own, int(self.output_lens[index]))

    def recorder(self, folder: Path, keep_ids: bool = False, first_id: int = 0) -> Recorder:
        lens = self.prompt_lens.astype(np.int32)
        made = Recorder(folder, lens, self.output_lens, self.user, keep_ids, first_id)
        if self.class_of is not None:
            made.classify(self.class_of)
        return made

    def spread_over(self, residence_ns: int) -> Work:
        """The same with the requests that `spread` numbers evenly over so many ns from the window's start."""
        if self.spread is None:
            return self
        users = int(self.spread.max()) + 1
        numbers = self.spread.astype(np.int64)  # times of ns do not fit into 32 bits
        return replace(self, due_ns=np.where(numbers >= 0, numbers * residence_ns // users, self.due_ns))

    def first_turns(self) -> Work:
        """The requests that begin a conversation, all due at once, each for one token: for a cache to know them."""
        rows = np.arange(len(self.output_lens)) if self.history_lens is None else np.flatnonzero(self.history_lens == 0)
        ids, n = self.prompt_tokens, len(rows)
        if n < len(self.output_lens):
            ids = np.concatenate([ids[self.prompt_offsets[row] : self.prompt_offsets[row + 1]] for row in rows])
        return Work(
            prompt_tokens=ids,
            prompt_offsets=np.concatenate([[0], np.cumsum(np.diff(self.prompt_offsets)[rows])]).astype(np.int64),
            output_lens=np.ones(n, dtype=np.int32),
            due_ns=np.zeros(n, dtype=np.int64),
            next_request=np.full(n, -1, dtype=np.int32),
            user=np.full(n, -1, dtype=np.int32),
            rest_ns=0,
            duration_ns=-1,
        )
