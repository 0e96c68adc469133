"""How far steps are from what the machine can do at most: the least time in which their bytes and operations can pass.

The roofline model (Williams, Waterman, Patterson: "Roofline", CACM 52(4), 2009): a step takes at least
max(bytes / memory bandwidth, operations / matrix rate), its bound. Both peaks are measured; the makers' stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.context import Work, work
from innerloop.harness.analysis.sight import Seen, seen
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.schema.roofline import Cost, MeanStep, MeanSteps, OfSteps, Peaks, Roofline, Routed
from innerloop.harness.schema.window import Steady


@dataclass(frozen=True, slots=True)
class Bounds:
    """Per step, float64 [steps]: bytes, operations, and the seconds that either takes at least. NaN: not reported."""

    bytes: np.ndarray
    ops: np.ndarray
    memory_s: np.ndarray
    matrix_s: np.ndarray

    @property
    def bound_s(self) -> np.ndarray:
        return np.maximum(self.memory_s, self.matrix_s)


def bounds(done: Work, cost: Cost, peaks: Peaks, windows: Mapping[int, Seen] | None = None) -> Bounds:
    """What each step had to move and compute, and the least time for it. `windows`: what the layers with a window saw,
    for each window of the cost.

    Keys and values of a token are written once and read for each later position that sees it. An operation is a
    multiplication or an addition: 2 a parameter and position (Kaplan et al., arXiv 2001.08361, section 2.1); attention
    has 2 head_dim for the score and 2 head_dim for the weighted sum, for each head, layer and pair of positions. Of the
    routed experts a step reads those that one of its positions takes.
    """
    positions, outputs = done.positions, done.outputs
    moved = (
        np.where(positions > 0, cost.layers_bytes, 0.0)
        + np.where(outputs > 0, cost.lm_head_bytes, 0.0)
        + cost.embedding_bytes * positions
        + cost.kv_bytes * (positions + done.kv_read)
    )
    linear = cost.linear_ops * positions
    other = cost.lm_head_ops * outputs + cost.attention_ops * done.pairs
    if cost.routed is not None:
        moved = moved + cost.routed.bytes * experts_touched(positions, cost.routed)
    for some in cost.windowed:
        saw = (windows or {})[some.window]
        moved = moved - some.kv_bytes * (done.kv_read - saw.kv_read)
        other = other - some.attention_ops * (done.pairs - saw.pairs)
    if cost.decode_attention_ops is not None:
        other = other + (cost.decode_attention_ops - cost.attention_ops) * done.decode_context
    unknown = np.isnan(positions)
    return Bounds(
        bytes=np.where(unknown, np.nan, moved),
        ops=linear + other,
        memory_s=np.where(unknown, np.nan, moved / peaks.bytes_per_s),
        matrix_s=linear / peaks.linear_ops_per_s + other / peaks.ops_per_s,
    )


def experts_touched(positions: np.ndarray, routed: Routed) -> np.ndarray:
    """The share of a layer's experts that at least one of so many positions takes, expected where positions choose
    independently: the mean of 1 - (1 - p) ^ positions over the experts' shares p, which are `taken / experts` where
    each is chosen equally often."""
    shares = [routed.taken / routed.experts] if routed.shares is None else routed.shares
    touched = [1.0 - (1.0 - share) ** positions for share in shares]
    return np.asarray(np.mean(touched, axis=0), dtype=np.float64)


def roofline(
    steps: np.ndarray,
    tokens: np.ndarray,
    requests: np.ndarray,
    cost: Cost,
    peaks: Peaks,
    steady: Steady | None = None,
    datasheet: Peaks | None = None,
) -> Roofline:
    """The run's figures, each over the wall time of the steps of a kind; `reason` says why there are none.

    `peaks` of the result, which says how the peaks were measured, is left None. `datasheet`: the makers' peaks; what is
    held against them is over all the time from the first step to the last, as published MFU (PaLM, arXiv 2204.02311,
    appendix B) and MBU are.
    """
    if len(steps) == 0:
        return Roofline(reason="no steps were recorded")
    unknown = int((steps["prefill_tokens"] < 0).sum())
    if unknown:
        which = "any step" if unknown == len(steps) else f"{unknown} of {len(steps)} steps"
        return Roofline(reason=f"the engine does not report the prompt positions computed in {which}")
    done = work(steps, tokens, requests)
    of = bounds(done, cost, peaks, seen(steps, tokens, requests, [one.window for one in cost.windowed]))
    wall_s = wall_ns(steps) * NS
    kinds = kinds_of(steps, steady)
    published = None if datasheet is None else bounds(done, cost, datasheet)
    span_s = float(steps["end_ns"].max() - steps["start_ns"].min()) * NS
    bound_s, outputs = float(of.bound_s.sum()), float(done.outputs.sum())
    bound_by_memory_s = np.where(of.memory_s >= of.matrix_s, of.bound_s, 0.0)
    return Roofline(
        reason=None,
        total_peaks=peaks,
        cost=cost,
        bound_s=bound_s,
        bound_share=_shares(of.bound_s, wall_s, kinds),
        mbu=_shares(of.memory_s, wall_s, kinds),
        mfu=_shares(of.matrix_s, wall_s, kinds),
        datasheet=datasheet,
        mbu_of_datasheet=None if published is None else float(published.memory_s.sum()) / span_s,
        mfu_of_datasheet=None if published is None else float(published.matrix_s.sum()) / span_s,
        memory_bound_share=_shares(bound_by_memory_s, of.bound_s, kinds),
        output_tokens_per_s_at_bound=outputs / bound_s if bound_s > 0 else None,
        bytes=float(of.bytes.sum()),
        operations=float(of.ops.sum()),
        per_step=MeanSteps(
            all=_mean_step(of, done, kinds["all"]),
            decode_only=_mean_step(of, done, kinds["decode_only"]),
            with_prefill=_mean_step(of, done, kinds["with_prefill"]),
            steady=_mean_step(of, done, kinds["steady"]),
        ),
        unattributed_prefill_positions=round(done.unattributed),
    )


def kinds_of(steps: np.ndarray, steady: Steady | None) -> dict[str, np.ndarray]:
    """Which steps are of each kind, bool [steps] each."""
    prefill = steps["prefill_tokens"]
    inside = np.zeros(len(steps), dtype=bool)
    if steady is not None and steady.reason is None:
        inside = (steps["end_ns"] > steady.start_ns) & (steps["end_ns"] <= steady.end_ns)
    return {
        "all": np.ones(len(steps), dtype=bool),
        "decode_only": prefill == 0,
        "with_prefill": prefill > 0,
        "steady": inside,
    }


def _shares(part: np.ndarray, whole: np.ndarray, kinds: Mapping[str, np.ndarray]) -> OfSteps:
    def share(rows: np.ndarray) -> float | None:
        total = float(whole[rows].sum())
        return float(part[rows].sum()) / total if total > 0 else None

    return OfSteps(
        all=share(kinds["all"]),
        decode_only=share(kinds["decode_only"]),
        with_prefill=share(kinds["with_prefill"]),
        steady=share(kinds["steady"]),
    )


def _mean_step(of: Bounds, done: Work, rows: np.ndarray) -> MeanStep | None:
    """Means over the steps of a kind; None where there are none."""
    if not rows.any():
        return None
    return MeanStep(
        bytes=float(of.bytes[rows].mean()),
        operations=float(of.ops[rows].mean()),
        bound_s=float(of.bound_s[rows].mean()),
        prefill_positions=float(done.prefill[rows].mean()),
        decode_positions=float(done.decode[rows].mean()),
        context_tokens=float(done.kv_read[rows].mean()),
    )
