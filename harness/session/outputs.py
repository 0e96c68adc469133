"""What requests were given in a verification, and which of them are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from innerloop.harness.analysis.verification import Scored
from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.workloads import Workload

if TYPE_CHECKING:
    from innerloop.harness.session.reference import Scores


@dataclass(frozen=True)
class Outputs:
    """What requests were given: ids int32 [total] and, where the engine says them, their log-probabilities; offsets
    int64 [requests + 1]."""

    ids: np.ndarray
    offsets: np.ndarray
    logs: np.ndarray | None

    def of(self, index: int) -> slice:
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))


def read_outputs(path: Path) -> Outputs:
    """
    Raises:
        InnerloopError: it is not there, or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            logs = kept["log_probabilities"].astype(np.float64) if "log_probabilities" in kept else None
            return Outputs(kept["ids"], kept["offsets"], logs)
    except (OSError, ValueError, KeyError) as error:
        raise InnerloopError(f"the tokens in {path} cannot be read: {error}") from None


def put_together(
    outputs: Outputs, rows: Sequence[tuple[int, slice, int]], begins: np.ndarray, scores: Scores
) -> Scored:
    """The rows of one way: (request, where its tokens lie in `outputs`, its sequence); begins: of each sequence's
    scores."""
    empty = np.empty(0, dtype=np.int64)
    lengths = [there.stop - there.start for _, there, _ in rows]
    mine = np.concatenate([empty, *(np.arange(there.start, there.stop) for _, there, _ in rows)])
    at = np.concatenate([empty, *(np.arange(begins[one], begins[one + 1]) for _, _, one in rows)])
    return Scored(
        request=np.repeat(np.array([request for request, _, _ in rows], dtype=np.int32), lengths),
        position=np.concatenate([empty, *map(np.arange, lengths)]),
        ids=outputs.ids[mine],
        own=None if outputs.logs is None else outputs.logs[mine],
        token=scores.token[at],
        top=scores.top[at],
        top_id=scores.top_id[at],
        rough=scores.rough[at],
        rough_top_id=scores.rough_top_id[at],
    )


def spread(indices: np.ndarray, sizes: np.ndarray, most: int, count: int | None = None) -> np.ndarray:
    """As many of the indices as have `most` in all (sizes: of every request) and are at most `count`, evenly spread;
    the first at least."""
    fewer = -(-len(indices) // (count or len(indices)))
    while True:
        found = indices[::fewer]
        if len(found) == 1 or sizes[found].sum() <= most:
            return found
        fewer += 1


def one_by_one(work: Workload, indices: np.ndarray) -> Workload:
    """These requests for one user, who sends each when the one before has finished."""
    lengths = work.prompt_lens[indices]
    n = len(indices)
    parts = [work.prompt_tokens[work.prompt_offsets[i] : work.prompt_offsets[i + 1]] for i in indices.tolist()]
    return Workload(
        prompt_tokens=np.concatenate(parts),
        prompt_offsets=np.cumsum([0, *lengths.tolist()], dtype=np.int64),
        output_lens=work.output_lens[indices],
        due_ns=np.array([0, *[-1] * (n - 1)], dtype=np.int64),
        next_request=np.array([*range(1, n), -1], dtype=np.int32),
        user=np.zeros(n, dtype=np.int32),
        rest_ns=np.array(0, dtype=np.int64),
        duration_ns=np.array(-1, dtype=np.int64),
    )
