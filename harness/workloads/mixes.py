"""Lengths and content of requests that are drawn: their classes, their groups, and the pieces of their prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from innerloop.harness.profiles import Seeds, WorkloadProfile
from innerloop.harness.profiles.lengths import Prompt
from innerloop.harness.workloads import draws, lengths
from innerloop.harness.workloads.content import Pieces, of_parts

PREFIX, OWN, HASHED, GROUPS = 0, 1, 2, 3  # parts of the content stream; those of further classes' groups follow


def classes_of(workload: WorkloadProfile, count: int, seed: int) -> draws.Ints:
    """Which class each request, or each session, is of: int64 [count]. `seed` is that of lengths."""
    weights = np.array([one.weight for one in workload.mix])
    if len(weights) < 2:
        return np.zeros(count, dtype=np.int64)
    drawn = draws.uniform(draws.words(draws.key(seed, draws.MIX), np.arange(count, dtype=np.int64)))
    return np.searchsorted(np.cumsum(weights)[:-1] / weights.sum(), drawn, side="right").astype(np.int64)


def lengths_of(
    workload: WorkloadProfile, class_of: draws.Ints, seeds: Seeds, folder: Path | None = None
) -> tuple[draws.Ints, draws.Ints]:
    """Tokens of each request's own prompt and of its output, int64 [n] each.

    Raises:
        Refused: a lengths file that cannot be used.
    """
    count = len(class_of)
    prompts, outputs = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    for k, one in enumerate(workload.mix):
        its, part, prompt, output = class_of == k, k * lengths.PARTS, one.prompt.tokens, one.output.tokens
        prompts[its] = lengths.draw(prompt, count, seeds.lengths, part + lengths.PROMPT, folder, output)[its]
        outputs[its] = lengths.draw(output, count, seeds.lengths, part + lengths.OUTPUT, folder, prompt)[its]
    return prompts, outputs


def prompts_of(
    workload: WorkloadProfile, own: draws.Ints, class_of: draws.Ints, seed: int, stream: int = draws.CONTENT
) -> Pieces:
    """What every prompt is made of: what it shares and its own tokens. `seed` is that of content."""
    count = len(own)
    index = np.arange(count, dtype=np.int64)
    keys, first = np.empty(count, dtype=np.uint64), np.zeros(count, dtype=np.int64)
    rest = own.copy()
    for k, one in enumerate(workload.mix):
        its = class_of == k
        keys[its], first[its] = _shared(one.prompt, own, draws.key(seed, stream, GROUPS + k), seed, stream)[:, its]
        if one.prompt.prefix is not None and one.prompt.prefix.hit_share is not None:
            rest[its] -= first[its]
    return of_parts([(keys, first), (draws.words(draws.key(seed, stream, OWN), index), rest)])


def _shared(prompt: Prompt, own: draws.Ints, group_key: draws.Words, seed: int, stream: int) -> draws.Words:
    """The key and the length of what each request's prompt shares, uint64 [2, n]."""
    count, prefix = len(own), prompt.prefix
    if prefix is None:
        key = draws.key(seed, stream, PREFIX)
        return np.stack([np.full(count, key[0]), np.full(count, prompt.shared_prefix_tokens, dtype=np.uint64)])
    chance = np.cumsum(np.arange(1, prefix.groups + 1, dtype=np.float64) ** -prefix.zipf)
    index = np.arange(count, dtype=np.int64)
    drawn = draws.uniform(draws.words(group_key ^ np.uint64(1), index))
    group = np.minimum(np.searchsorted(chance / chance[-1], drawn, side="right"), prefix.groups - 1)
    if prefix.hit_share is None:
        size = np.full(count, prefix.tokens, dtype=np.int64)
    else:
        size = np.minimum(np.rint(own * prefix.hit_share).astype(np.int64), own - 1)
    return np.stack([draws.words(group_key, group.astype(np.int64)), size.astype(np.uint64)])


def longest_prefix(prompt: Prompt) -> int:
    """Tokens in front of a prompt's own."""
    return prompt.shared_prefix_tokens + ((prompt.prefix.tokens or 0) if prompt.prefix is not None else 0)
