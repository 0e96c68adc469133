"""What each step computed: how many positions of which kind, and over how much context they attended.

Decode is exact: the token records say which of its tokens each request got in which step. Prefill is attributed
(see `prefill_work`), since engines report only how many prompt positions a step computed, not whose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.walk import Jobs, Walk

SLIVER = 1e-3  # of a position: what rounding leaves between a step's end and a prompt's


@dataclass(frozen=True)
class Work:
    """Per step, float64 [steps]: positions computed, and pairs (a position, a position that it attends to, itself
    included). NaN where the engine does not report the step's prefill.

    kv_read: tokens of context that lay in the KV cache before the step and were read: once for each decode position,
        once for all positions of a prompt in the step, and, in a step with drafts, once for each request that decodes.
    outputs: positions whose logits were needed: one for each token that came out.
    unattributed: prefill positions of the whole run that no request could be found for; their context counts as 0.
    """

    decode: np.ndarray
    decode_context: np.ndarray  # prompt + generated so far, summed over the requests that decode
    prefill: np.ndarray
    prefill_context: np.ndarray
    kv_read: np.ndarray
    outputs: np.ndarray
    unattributed: float

    @property
    def positions(self) -> np.ndarray:
        return self.decode + self.prefill

    @property
    def pairs(self) -> np.ndarray:
        return self.decode_context + self.prefill_context


def work(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> Work:
    """`steps`, `tokens` and `requests` are of dtype STEP, TOKEN and REQUEST. benchmarks/analysis.py times it."""
    outputs, decode, decode_context, decode_read = (np.zeros(len(steps)) for _ in range(4))
    drafted = steps["drafted_tokens"] > 0
    walk = Walk(steps, tokens, requests)
    for part in walk:
        fed, context = part.fed, part.prompt + np.maximum(part.before, 1)
        each = fed * ((fed - 1) / 2 + context)
        together = drafted[part.step] & (fed > 0)
        add_by_step(outputs, part.step, part.count)
        add_by_step(decode, part.step, fed)
        add_by_step(decode_context, part.step, each)
        add_by_step(decode_read, part.step, np.where(together, context - 1, each - fed))
    prefill, prefill_context, prefill_read, unattributed = prefill_work(steps, walk.jobs())
    return Work(
        decode=decode,
        decode_context=decode_context,
        prefill=prefill,
        prefill_context=prefill_context,
        kv_read=decode_read + prefill_read,
        outputs=outputs,
        unattributed=unattributed,
    )


def add_by_step(column: np.ndarray, step: np.ndarray, amounts: np.ndarray) -> None:
    """Adds to a column, float64 [steps], what belongs to each step; whole numbers and halves, so that it does not
    matter where a part ends."""
    if len(step):
        first, last = int(step.min()), int(step.max())
        column[first : last + 1] += np.bincount(step - first, amounts, minlength=last + 1 - first)


def first_steps(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> np.ndarray | None:
    """The step in which each request's prompt was begun, int64 [requests], -1 where none was; None where the engine
    does not report its steps' prefill."""
    if len(steps) == 0 or not known(steps["prefill_tokens"]).all():
        return None
    jobs = jobs_of(steps, tokens, requests)
    parts = pieces(steps, jobs)
    out = np.full(len(requests), len(steps), dtype=np.int64)
    np.minimum.at(out, jobs.request[parts.job], parts.step)
    out[out == len(steps)] = -1
    return out


def waited_from_ns(requests: np.ndarray, end_ns: int) -> np.ndarray:
    """When each request was due, or submitted where it was due at no time: int64 ns [requests], `end_ns` at most."""
    due, submitted = requests["due_ns"], requests["submitted_ns"]
    return np.minimum(np.where(due >= 0, due, submitted), end_ns)


def begun_ns(steps: np.ndarray, requests: np.ndarray, end_ns: int, known_in: np.ndarray | None) -> np.ndarray:
    """When each request's prompt was begun, int64 ns [requests], by `known_in`, its `first_steps`: never before it was
    due nor after its first token, `end_ns` where neither had come. Where no step says it, its first token."""
    due, first = waited_from_ns(requests, end_ns), requests["first_token_ns"]
    first = np.where(first >= 0, first, end_ns)
    begun = first
    if known_in is not None:
        begun = np.where(known_in >= 0, steps["start_ns"][np.maximum(known_in, 0)], end_ns)
    return np.clip(begun, due, np.maximum(first, due))


def jobs_of(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> Jobs:
    """The prompts of a run."""
    walk = Walk(steps, tokens, requests)
    for _ in walk:
        pass
    return walk.jobs()


@dataclass(frozen=True)
class Pieces:
    """Parts of prompts, one a step and prompt, in order of both; [pieces] each.

    sizes: positions, float64. start: where in its prompt it begins, float64. left_over: positions without a prompt.
    """

    step: np.ndarray
    job: np.ndarray
    sizes: np.ndarray
    start: np.ndarray
    left_over: float


def prefill_work(steps: np.ndarray, jobs: Jobs) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(positions, pairs, context tokens read from the cache), float64 [steps] each, and the positions left over.

    Steps whose prefill is not reported are NaN.
    """
    parts = pieces(steps, jobs)
    sizes, start = parts.sizes, parts.start
    pairs = np.bincount(parts.step, sizes * start + sizes * (sizes + 1) / 2, minlength=len(steps))
    read = np.bincount(parts.step, start, minlength=len(steps))
    reported = steps["prefill_tokens"]
    out = [np.where(known(reported), column, np.nan) for column in (reported.astype(np.float64), pairs, read)]
    return out[0], out[1], out[2], parts.left_over


def pieces(steps: np.ndarray, jobs: Jobs) -> Pieces:
    """Which prompts the steps' reported prefill positions belong to.

    The rule: prompts take their positions out of the steps' reported ones in the order of their first tokens, each
    from its beginning on. A prompt that was finished by a step although fewer positions had been computed by then was
    partly found in a prefix cache: what is missing is taken off the beginnings of the prompts that the step finished,
    in proportion to their lengths.
    """
    reported = steps["prefill_tokens"]
    supply = np.where(known(reported), reported, 0).astype(np.float64)
    cached = from_cache(supply, jobs, len(steps))
    need = jobs.positions - cached
    ends = np.cumsum(need)
    made = np.cumsum(supply)
    total = made[-1] if len(made) else 0.0
    cuts = np.sort(np.concatenate((made, ends[ends <= total])))  # twice the same: a piece of size 0, left out below
    cuts = cuts[cuts > 0]
    sizes = np.diff(np.concatenate(([0.0], cuts)))
    middles = cuts - sizes / 2
    step, job = np.searchsorted(made, middles), np.searchsorted(ends, middles)
    owned = (job < len(ends)) & (sizes > SLIVER)
    step, job, sizes, cuts = step[owned], job[owned], sizes[owned], cuts[owned]
    start = cached[job] + (cuts - sizes) - (ends - need)[job]  # where in its prompt a piece begins
    return Pieces(step, job, sizes, start, float(total - sizes.sum()))


def from_cache(supply: np.ndarray, jobs: Jobs, steps: int) -> np.ndarray:
    """Positions of each prompt that were not computed but found, float64 [jobs]; see `prefill_work` for the rule."""
    found = np.zeros(len(jobs.step))
    finishing = jobs.step < steps
    if not finishing.any():
        return found
    demand = np.bincount(jobs.step[finishing], jobs.positions[finishing], minlength=steps)
    surplus = np.cumsum(supply) - np.cumsum(demand)
    closing = demand > 0
    lowest = np.minimum.accumulate(np.minimum(np.where(closing, surplus, np.inf), 0.0))
    missing = -np.diff(np.concatenate(([0.0], lowest)))  # by how much each step pushed the deficit further down
    share = np.divide(missing, demand, out=np.zeros(steps), where=demand > 0)
    found[finishing] = jobs.positions[finishing] * share[jobs.step[finishing]]
    return found
