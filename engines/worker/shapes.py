"""What a round of warm-up leaves out and a window brings: small batches, prompts beside what runs, long contexts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from innerloop.engines.worker.work import Work

TAPER_STEPS = 256  # over so many at most the requests of a taper end
JOINING = 8  # requests of a taper that join what runs
SHORT_PROMPT, SHORT_OUTPUT = 16, 4
SPARE_TOKENS = 64  # that a long prompt stays below the window's longest context: engines round up to pages


def longest_context(work: Work) -> int:
    """The most tokens of one request, prompt and output."""
    return int((work.prompt_lens + work.output_lens).max(initial=1))


def taper(work: Work, longest: int) -> Work:
    """The requests with outputs of 1, 2, 3 and so on, so that the batch shrinks by one request after the other; where
    there are more than TAPER_STEPS, by some at a time. Prompts are cut to SHORT_PROMPT, since only the batch counts.
    The last requests keep theirs, have SHORT_OUTPUT and join what runs: each when one of the others has ended, evenly
    over the taper. None gets longer than `longest` tokens, prompt and output."""
    n = len(work.output_lens)
    alone = n - joining(n)
    lens = work.prompt_lens.copy()
    lens[:alone] = np.minimum(lens[:alone], SHORT_PROMPT)
    outputs = np.full(n, SHORT_OUTPUT)
    outputs[:alone] = 1 + np.arange(alone) * min(alone, TAPER_STEPS) // max(alone, 1)
    followed = np.arange(1, n - alone + 1) * alone // (n - alone + 1)
    due, following = np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int32)
    due[alone:] = -1
    following[followed] = np.arange(alone, n)
    kept = [work.prompt_tokens[start : start + size] for start, size in zip(work.prompt_offsets, lens, strict=False)]
    return replace(
        work,
        prompt_tokens=np.concatenate(kept),
        prompt_offsets=np.concatenate([[0], np.cumsum(lens)]).astype(np.int64),
        output_lens=np.minimum(outputs, np.maximum(longest - lens, 1)).astype(np.int32),
        due_ns=due,
        next_request=following,
    )


def joining(requests: int) -> int:
    """How many requests of a taper of so many join the others while they run."""
    return min(JOINING, requests // 3)


def long_contexts(work: Work, window: Work, most_prompt: int) -> Work:
    """As many requests as `work` has, with prompts as long as whole requests of the window, the longest first, and
    SHORT_OUTPUT tokens of output. A prompt has `most_prompt` tokens at most, or as many as the window's longest."""
    n = len(work.output_lens)
    contexts = np.sort(window.prompt_lens + window.output_lens)[::-1]
    chosen = contexts[np.arange(n) * len(contexts) // n]
    most = max(most_prompt, int(window.prompt_lens.max()))
    lens = np.clip(chosen - SHORT_OUTPUT - SPARE_TOKENS, 1, most)
    offsets = np.concatenate([[0], np.cumsum(lens)]).astype(np.int64)
    return replace(
        work,
        prompt_tokens=np.resize(work.prompt_tokens, int(offsets[-1])),
        prompt_offsets=offsets,
        output_lens=np.full(n, SHORT_OUTPUT, dtype=np.int32),
    )


def first_requests(work: Work, count: int) -> Work:
    """The first `count` requests, none of which follows another."""
    offsets = work.prompt_offsets[: count + 1]
    return replace(
        work,
        prompt_tokens=work.prompt_tokens[: offsets[-1]],
        prompt_offsets=offsets,
        output_lens=work.output_lens[:count],
        due_ns=work.due_ns[:count],
        next_request=work.next_request[:count],
        user=work.user[:count],
    )
