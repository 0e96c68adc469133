"""Prefix caches: the hit share that there could be, and the one that there was, over time."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.columns import known, total
from innerloop.harness.analysis.series import BINS, spread_by_bin


def theoretical(shared: np.ndarray, prompts: np.ndarray, block_tokens: int | None = None) -> float | None:
    """The hit share of an infinite prefix cache, 0 to 1; None without prompts.

    `shared`, `prompts` int [n]: how many of its first prompt tokens an earlier request had, and its prompt tokens. With
    `block_tokens` as of an engine that keeps whole blocks only, and computes at least a prompt's last token.
    """
    whole = int(prompts.sum(dtype=np.int64))
    return int(hit_tokens(shared, prompts, block_tokens).sum()) / whole if whole else None


def hit_tokens(shared: np.ndarray, prompts: np.ndarray, block_tokens: int | None = None) -> np.ndarray:
    """Prompt tokens that an infinite cache has, int64 [n]."""
    if block_tokens is None:
        return np.minimum(shared, prompts).astype(np.int64)
    return np.minimum(shared, prompts - 1).astype(np.int64) // block_tokens * block_tokens


def recomputed(steps: np.ndarray, requests: np.ndarray) -> int | None:
    """Prompt positions computed beyond those that no cache had: again, after preemptions. None where the engine does
    not report prefill or cached tokens, or a request had not finished its prompt.

    `steps` and `requests` are of dtype STEP and REQUEST.
    """
    prefill, cached = total(steps["prefill_tokens"]), total(steps["cached_tokens"])
    sent = requests[requests["submitted_ns"] >= 0]
    if prefill is None or cached is None or (sent["first_token_ns"] < 0).any():
        return None
    return max(prefill + cached - int(sent["prompt_tokens"].sum(dtype=np.int64)), 0)


def hit_share_over_time(
    steps: np.ndarray, start_ns: int, end_ns: int, bins: int = BINS
) -> tuple[float | None, ...] | None:
    """Cached / (cached + computed) prompt positions in each of `bins` equal parts of the window; None in a part without
    any, and as a whole where the engine does not report them."""
    if end_ns <= start_ns or not len(steps):
        return None
    if not (known(steps["cached_tokens"]).all() and known(steps["prefill_tokens"]).all()):
        return None
    cached, computed = (
        spread_by_bin(steps, steps[name], start_ns, end_ns, bins) for name in ("cached_tokens", "prefill_tokens")
    )
    return tuple(float(c / (c + p)) if c + p > 1e-9 else None for c, p in zip(cached, computed, strict=True))
