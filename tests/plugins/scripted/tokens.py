"""What requests give: token ids, accepted drafts and block hashes, each a function of the prompt and the position."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Tokens = Sequence[int] | npt.NDArray[np.int32]

IDS, DRAFTS = 0, 1  # streams of draws


def output_ids(prompt: Tokens, count: int, vocab_size: int) -> list[int]:
    """The token ids that follow a prompt, [count]."""
    return (_draws(prompt, count, IDS) % np.uint64(vocab_size)).tolist()


def accepted_runs(prompt: Tokens, count: int, acceptance: float) -> list[int]:
    """For every output token, how many tokens from it on are accepted in a row where they are drafted, [count]."""
    drawn = (_draws(prompt, count, DRAFTS) >> np.uint64(11)) * 2.0**-53
    runs, run = [0] * count, 0
    for i, accepted in reversed(list(enumerate((drawn < acceptance).tolist()))):
        runs[i] = run = run + 1 if accepted else 0
    return runs


def block_hashes(prompt: Tokens, ids: Tokens, block_tokens: int) -> list[int]:
    """A hash of each whole block of prompt and output; equal where all tokens up to the block's end are. They hold in
    this process only."""
    tokens = np.concatenate((prompt, ids)).astype("<i4").tobytes()
    size, hashes = 4 * block_tokens, [0]
    for end in range(size, len(tokens) + 1, size):
        hashes.append(hash((hashes[-1], tokens[end - size : end])))
    return hashes[1:]


def _draws(prompt: Tokens, count: int, stream: int) -> npt.NDArray[np.uint64]:
    """64 random bits a position, uint64 [count]: SplitMix64 (Steele, Lea and Flood 2014), seeded by the prompt."""
    seed = zlib.crc32(np.asarray(prompt, dtype="<i4").tobytes())
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64((seed << 32) + (stream << 31))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
