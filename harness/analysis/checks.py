"""Does the trace add up? What is counted twice, in two places, must agree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.analysis.chunks import added, chunks, least_and_most
from innerloop.harness.analysis.columns import total
from innerloop.harness.analysis.latency import finished
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.schema.reasons import Check


def checks(
    steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray, *, complete: bool = True, prefix_caching: bool = False
) -> tuple[Check, ...]:
    """Everything that does not add up; nothing is a sound trace.

    `steps`, `tokens` and `requests` are of dtype STEP, TOKEN and REQUEST. `complete` is False for a trace that ended
    in the middle (a killed worker): its three tables may end at different steps, so their sums are not compared.
    """
    found = [*_requests(requests), *_times(steps, tokens, requests)]
    if complete:
        found += [*_output_sums(steps, tokens, requests), *_position_sums(steps, requests, prefix_caching)]
    return tuple(found)


def _requests(requests: np.ndarray) -> Iterator[Check]:
    rows = np.flatnonzero(finished(requests) & (requests["output_tokens"] != requests["asked_tokens"]))
    if len(rows):
        first = requests[rows[0]]
        yield Check(
            "request_tokens",
            f"{len(rows)} finished requests have the wrong number of tokens; the first is request {rows[0]}: "
            f"requested {first['asked_tokens']}, got {first['output_tokens']}",
        )


def _times(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> Iterator[Check]:
    wall = wall_ns(steps)
    if (wall < 0).any():
        yield Check("step_times", f"{int((wall < 0).sum())} steps end before they start")
    for name in ("start_ns", "end_ns"):
        if (back := _backward(steps[name])) is not None:
            yield Check("step_times", f"step {back} has an earlier {name} than the step before it")
    for phase in PHASES:
        over = int(((steps[f"{phase}_ns"] > wall) & (wall >= 0)).sum())
        if over:
            yield Check("phase_times", f"{phase} takes longer than the whole step in {over} steps")
    if (back := _backward(tokens["time_ns"])) is not None:
        yield Check("token_times", f"token record {back} is earlier than the record before it")
    order = ("due_ns", "submitted_ns", "first_token_ns", "last_token_ns")
    for earlier, later in pairwise(order):
        before, after = requests[earlier], requests[later]
        wrong = (after >= 0) & (after < before)
        if wrong.any():
            yield Check("request_times", f"{int(wrong.sum())} requests have {later} before {earlier}")


def _backward(times: np.ndarray) -> int | None:
    """The first index whose time is before the one at the index before it."""
    begin, last = 0, None
    for part in chunks(times):
        if last is not None and part[0] < last:
            return begin
        wrong = part[1:] < part[:-1]
        if wrong.any():
            return begin + int(wrong.argmax()) + 1
        begin, last = begin + len(part), part[-1]
    return None


def _output_sums(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> Iterator[Check]:
    sums = {
        "tokens": added(tokens["count"]),
        "steps": int(steps["output_tokens"].sum(dtype=np.int64)),
        "requests": int(requests["output_tokens"].sum(dtype=np.int64)),
    }
    if len(set(sums.values())) > 1:
        yield Check("output_sums", "output tokens differ: " + ", ".join(f"{n} in {name}" for name, n in sums.items()))
        return
    bounds = least_and_most(tokens["request"])
    if bounds is not None and (bounds[0] < 0 or bounds[1] >= len(requests)):
        yield Check("token_requests", f"token records name requests outside the range 0 to {len(requests) - 1}")
        return
    received = np.zeros(len(requests))
    for part in chunks(tokens):
        received += np.bincount(part["request"], part["count"], minlength=len(requests))
    wrong = received != requests["output_tokens"]
    if wrong.any():
        yield Check(
            "token_requests", f"{int(wrong.sum())} requests have different token counts in tokens and in requests"
        )


def _position_sums(steps: np.ndarray, requests: np.ndarray, prefix_caching: bool) -> Iterator[Check]:
    """Input positions, where the engine reports them and no request was cut.

    A preemption makes an engine compute positions again (more prefill) and may turn the newest token's decode into
    prefill (one decode less); a prefix cache leaves positions out (less prefill); a drafted token that is accepted
    follows without a decode position of its own.
    """
    prefill, decode = total(steps["prefill_tokens"]), total(steps["decode_tokens"])
    sent = requests[requests["submitted_ns"] >= 0]
    if not finished(sent).all():
        return
    preempted = total(steps["preempted"])
    prompts = int(sent["prompt_tokens"].sum(dtype=np.int64))
    after_first = int(np.maximum(sent["output_tokens"] - 1, 0).sum(dtype=np.int64))
    drafted, accepted = total(steps["drafted_tokens"]), total(steps["accepted_tokens"])
    if preempted is None and prefill == prompts:
        preempted = 0
    after = f" after {preempted} preemptions" if preempted else ""
    if prefill is not None and ((prefill < prompts and not prefix_caching) or (prefill > prompts and preempted == 0)):
        yield Check(
            "prefill_sum",
            f"the steps computed {prefill} prompt positions{after}, but the prompts have {prompts} tokens",
        )
    most = after_first - (accepted or 0)
    least = 0 if drafted and accepted is None else most - (preempted or 0)  # any of them may have been drafted
    if decode is not None and preempted is not None and not least <= decode <= most:
        yield Check(
            "decode_sum",
            f"the steps computed {decode} decode positions{after}, but {most} tokens were generated after "
            "the first ones",
        )
