"""What each step computed: how many positions of which kind, and over how much context they attended.

Decode is exact: the token records say which of its tokens each request got in which step. Prefill is attributed
(see `prefill_work`), since engines report only how many prompt positions a step computed, not whose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.latency import finished

SLIVER = 1e-3  # of a position: what rounding leaves between a step's end and a prompt's


@dataclass(frozen=True)
class Work:
    """Per step, float64 [steps]: positions computed, and pairs (a position, a position that it attends to, itself
    included). NaN where the engine does not report the step's prefill.

    kv_read: tokens of context that lay in the KV cache before the step and were read, once for each request.
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


@dataclass(frozen=True)
class Jobs:
    """Prompts to be computed, in the order in which they were finished; [jobs] each.

    step: the step that gave the token behind it, or the number of steps where none came. positions: how many it takes.
    request: whose.
    """

    step: np.ndarray
    positions: np.ndarray
    request: np.ndarray


def work(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> Work:
    """`steps`, `tokens` and `requests` are of dtype STEP, TOKEN and REQUEST. benchmarks/analysis.py times it."""
    count = len(steps)
    tokens = sane(tokens, count, len(requests))
    step, request, prompt, before = arrivals(tokens, requests)
    outputs = np.bincount(step, tokens["count"], minlength=count)
    fed = tokens["count"].astype(np.float64)
    fed -= before == 0  # a prompt's first token comes out of it; each later one is a position fed back
    decode = np.bincount(step, fed, minlength=count)
    decode_context = np.bincount(step, fed * ((fed - 1) / 2 + prompt + np.maximum(before, 1)), minlength=count)
    jobs = prefill_jobs(steps, requests, step, request, prompt, before)
    prefill, prefill_context, prefill_read, unattributed = prefill_work(steps, jobs)
    return Work(
        decode=decode,
        decode_context=decode_context,
        prefill=prefill,
        prefill_context=prefill_context,
        kv_read=decode_context - decode + prefill_read,
        outputs=outputs,
        unattributed=unattributed,
    )


def sane(tokens: np.ndarray, steps: int, requests: int) -> np.ndarray:
    """The records that name a step and a request that are there and bring something; a broken trace has others."""
    if len(tokens) == 0:
        return tokens
    good = (tokens["step"] >= 0) & (tokens["step"] < steps) & (tokens["count"] > 0)
    good &= (tokens["request"] >= 0) & (tokens["request"] < requests)
    return tokens if good.all() else tokens[good]


def first_steps(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> np.ndarray | None:
    """The step in which each request's prompt was begun, int64 [requests], -1 where none was; None where the engine
    does not report its steps' prefill."""
    if len(steps) == 0 or not known(steps["prefill_tokens"]).all():
        return None
    jobs = prefill_jobs(steps, requests, *arrivals(sane(tokens, len(steps), len(requests)), requests))
    parts = pieces(steps, jobs)
    out = np.full(len(requests), len(steps), dtype=np.int64)
    np.minimum.at(out, jobs.request[parts.job], parts.step)
    out[out == len(steps)] = -1
    return out


def arrivals(tokens: np.ndarray, requests: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(step, request, its prompt's tokens, the tokens it had before), int64 [arrivals] each."""
    step, request = tokens["step"].astype(np.int64), tokens["request"].astype(np.int64)
    before = before_each(request, tokens["count"])
    return step, request, requests["prompt_tokens"].astype(np.int64)[request], before


def before_each(request: np.ndarray, count: np.ndarray) -> np.ndarray:
    """How many tokens each arrival's request had before it, int64 [arrivals]; arrivals are in order of time."""
    n = len(request)
    if n == 0:
        return np.empty(0, dtype=np.int64)
    order = by_request(request)
    grouped = request[order]
    opens = np.flatnonzero(np.concatenate(([True], grouped[1:] != grouped[:-1])))
    grouped = count[order]
    before = np.cumsum(grouped, dtype=np.int64)
    before -= grouped
    before -= np.repeat(before[opens], np.diff(np.append(opens, n)))  # in place: these arrays are the longest there are
    out = np.empty(n, dtype=np.int64)
    out[order] = before
    return out


def by_request(request: np.ndarray) -> np.ndarray:
    """The order that groups arrivals by request and keeps their order within each; int64 [arrivals]."""
    n = len(request)
    bits = max(n.bit_length(), 1)  # a request's number above, the arrival's position below: one sort of plain integers
    key = request.astype(np.int64) << bits
    key |= np.arange(n)
    key.sort()
    return key & ((1 << bits) - 1)


def prefill_jobs(
    steps: np.ndarray,
    requests: np.ndarray,
    step: np.ndarray,
    request: np.ndarray,
    prompt: np.ndarray,
    before: np.ndarray,
) -> Jobs:
    """Every prompt that was computed, in the order of the tokens that came out behind them.

    A request that went without tokens for some steps in which something was preempted is taken to have been preempted:
    its prompt and what it had generated, but for the newest token, were computed again before its next token. Requests
    that never got a token stand at the end, in the order of their submission.
    """
    done = np.flatnonzero(before == 0)
    at, size, whose = step[done], prompt[done], request[done]
    thrown = np.cumsum(np.where(known(steps["preempted"]), steps["preempted"], 0), dtype=np.int64)
    if len(thrown) and thrown[-1] > 0:
        order = by_request(request)
        previous, this = order[:-1], order[1:]
        again = (request[previous] == request[this]) & (step[this] > step[previous] + 1)
        again &= thrown[step[this]] > thrown[step[previous]]
        resumed = this[again]
        done = np.concatenate((done, resumed))
        at = np.concatenate((at, step[resumed]))
        size = np.concatenate((size, prompt[resumed] + before[resumed] - 1))
        whose = np.concatenate((whose, request[resumed]))
        order = np.argsort(done, kind="stable")  # arrivals are in order of time
        at, size, whose = at[order], size[order], whose[order]
    waiting = np.flatnonzero((requests["first_token_ns"] < 0) & (requests["submitted_ns"] >= 0) & ~finished(requests))
    waiting = waiting[np.argsort(requests["submitted_ns"][waiting], kind="stable")]
    left = requests["prompt_tokens"][waiting].astype(np.int64)
    return Jobs(
        step=np.concatenate((at, np.full(len(left), len(steps)))),
        positions=np.concatenate((size, left)),
        request=np.concatenate((whose, waiting)),
    )


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
