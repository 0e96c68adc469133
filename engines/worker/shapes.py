"""What a round of warm-up leaves out and a window brings: small batches, prompts beside what runs, long contexts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from innerloop.engines.worker.loop import Work

TAPER_STEPS = 256  # over so many at most the requests of a taper end
LONG_OUTPUT = 4
SPARE_TOKENS = 64  # that a long prompt stays below the window's longest context: engines round up to pages


def prompt_lens(work: Work) -> np.ndarray:
    """Prompt tokens of each request, int64 [n]."""
    return np.diff(work.prompt_offsets)


def longest_context(work: Work) -> int:
    """The most tokens of one request, prompt and output."""
    return int((prompt_lens(work) + work.output_lens).max(initial=1))


def taper(work: Work, longest: int) -> Work:
    """The requests with outputs of 1, 2, 3 and so on, so that the batch shrinks by one request after the other; where
    there are more than TAPER_STEPS, by some at a time. None gets longer than `longest` tokens, prompt and output."""
    n = len(work.output_lens)
    outputs = 1 + np.arange(n) * min(n, TAPER_STEPS) // max(n, 1)
    room = np.maximum(longest - prompt_lens(work), 1)
    return replace(work, output_lens=np.minimum(outputs, room).astype(np.int32))


def trickle(work: Work, step_ns: int) -> Work:
    """The last third of the requests due one after the other, `step_ns` apart, while the others run."""
    n = len(work.output_lens)
    late = n // 3
    due = np.concatenate([np.zeros(n - late), np.arange(1, late + 1) * step_ns])
    return replace(work, due_ns=due.astype(np.int64))


def long_contexts(work: Work, window: Work, most_prompt: int) -> Work:
    """As many requests as `work` has, with prompts as long as whole requests of the window, the longest first, and
    LONG_OUTPUT tokens of output. A prompt has `most_prompt` tokens at most, or as many as the window's longest."""
    n = len(work.output_lens)
    contexts = np.sort(prompt_lens(window) + window.output_lens)[::-1]
    chosen = contexts[np.arange(n) * len(contexts) // n]
    most = max(most_prompt, int(prompt_lens(window).max()))
    lens = np.clip(chosen - LONG_OUTPUT - SPARE_TOKENS, 1, most)
    offsets = np.concatenate([[0], np.cumsum(lens)]).astype(np.int64)
    return replace(
        work,
        prompt_tokens=np.resize(work.prompt_tokens, int(offsets[-1])),
        prompt_offsets=offsets,
        output_lens=np.full(n, LONG_OUTPUT, dtype=np.int32),
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
