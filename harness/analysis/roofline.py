"""How far steps are from the machine's limit: the least time in which their bytes and operations can pass.

The roofline model (Williams, Waterman, Patterson: "Roofline", CACM 52(4), 2009): a step takes at least
max(bytes / memory bandwidth, operations / matrix rate), its floor. Both ceilings are measured ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.context import Work, work
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.schema.window import Steady

KINDS = ("all", "decode_only", "with_prefill", "steady")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model's steps move and compute, of all devices together.

    layers_bytes: what every step reads: the layers' matrices at their stored size, and the norms.
    lm_head_bytes: read by a step that gives a token. embedding_bytes: a row of the table, for each position.
    kv_bytes: keys and values of one token, written once a position and read for each token of context.
    linear_ops, lm_head_ops: operations of the layers' matrices a position, of the lm_head a token that comes out: 2 a
    parameter, one multiplication and one addition (Kaplan et al., arXiv 2001.08361, section 2.1).
    attention_ops: operations for each pair of a position and a position that it attends to: 2 head_dim for the score
    and 2 head_dim for the weighted sum, for each head and layer.
    dtype: number format of the attention and the lm_head; linear_dtype: that in which the layers' matrices are
    multiplied.
    """

    layers_bytes: float
    lm_head_bytes: float
    embedding_bytes: float
    kv_bytes: float
    linear_ops: float
    lm_head_ops: float
    attention_ops: float
    dtype: str
    linear_dtype: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and operations a second of all devices together."""

    bytes_per_s: float
    ops_per_s: float  # in Cost.dtype
    linear_ops_per_s: float  # in Cost.linear_dtype


@dataclass(frozen=True)
class Floors:
    """Per step, float64 [steps]: bytes, operations, and the seconds that either takes at least. NaN: not reported."""

    bytes: np.ndarray
    ops: np.ndarray
    memory_s: np.ndarray
    matrix_s: np.ndarray

    @property
    def floor_s(self) -> np.ndarray:
        return np.maximum(self.memory_s, self.matrix_s)


def floors(done: Work, cost: Cost, limits: Limits) -> Floors:
    """What each step had to move and compute, and the least time for it."""
    positions, outputs = done.positions, done.outputs
    moved = (
        np.where(positions > 0, cost.layers_bytes, 0.0)
        + np.where(outputs > 0, cost.lm_head_bytes, 0.0)
        + cost.embedding_bytes * positions
        + cost.kv_bytes * (positions + done.kv_read)
    )
    linear = cost.linear_ops * positions
    other = cost.lm_head_ops * outputs + cost.attention_ops * done.pairs
    unknown = np.isnan(positions)
    return Floors(
        bytes=np.where(unknown, np.nan, moved),
        ops=linear + other,
        memory_s=np.where(unknown, np.nan, moved / limits.bytes_per_s),
        matrix_s=linear / limits.linear_ops_per_s + other / limits.ops_per_s,
    )


def roofline(
    steps: np.ndarray,
    tokens: np.ndarray,
    requests: np.ndarray,
    cost: Cost,
    limits: Limits,
    steady: Steady | None = None,
) -> dict[str, Any]:
    """The run's figures, each over the wall time of the steps of a kind: {"all", "decode_only", "with_prefill",
    "steady"}, None where a run has no such steps. See docs/metrics.md; `reason` says why there are none at all."""
    if len(steps) == 0:
        return none("no step was recorded")
    prefill = steps["prefill_tokens"]
    unknown = int((prefill < 0).sum())
    if unknown:
        which = "any step" if unknown == len(steps) else f"{unknown} of {len(steps)} steps"
        return none(f"the engine does not report how many prompt positions were computed in {which}")
    done = work(steps, tokens, requests)
    of = floors(done, cost, limits)
    wall_s = wall_ns(steps) * NS
    kinds = kinds_of(steps, steady)
    floor_s = float(of.floor_s.sum())
    outputs = float(done.outputs.sum())
    return {
        "reason": None,
        "bound_s": floor_s,
        "bound_share": {kind: _share(of.floor_s, wall_s, rows) for kind, rows in kinds.items()},
        "mbu": {kind: _share(of.memory_s, wall_s, rows) for kind, rows in kinds.items()},
        "mfu": {kind: _share(of.matrix_s, wall_s, rows) for kind, rows in kinds.items()},
        "memory_bound_share": {
            kind: _share(np.where(of.memory_s >= of.matrix_s, of.floor_s, 0.0), of.floor_s, rows)
            for kind, rows in kinds.items()
        },
        "output_tokens_per_s_at_bound": outputs / floor_s if floor_s > 0 else None,
        "bytes": float(of.bytes.sum()),
        "operations": float(of.ops.sum()),
        "per_step": {kind: _per_step(of, done, rows) for kind, rows in kinds.items()},
        "unattributed_prefill_positions": round(done.unattributed),
        "cost": asdict(cost),
        "total_peaks": asdict(limits),
    }


def none(reason: str) -> dict[str, Any]:
    """The section of a run that has no such figures."""
    names = (
        *("bound_s", "bound_share", "mbu", "mfu", "memory_bound_share", "output_tokens_per_s_at_bound", "bytes"),
        *("operations", "per_step", "unattributed_prefill_positions", "cost", "total_peaks"),
    )
    return {"reason": reason, **dict.fromkeys(names)}


def kinds_of(steps: np.ndarray, steady: Steady | None) -> dict[str, np.ndarray]:
    """Which steps are of each kind, bool [steps] each."""
    prefill = steps["prefill_tokens"]
    inside = np.zeros(len(steps), dtype=bool)
    if steady is not None and steady.reason is None:
        inside = (steps["start_ns"] >= steady.start_ns) & (steps["end_ns"] <= steady.end_ns)
    return {
        "all": np.ones(len(steps), dtype=bool),
        "decode_only": prefill == 0,
        "with_prefill": prefill > 0,
        "steady": inside,
    }


def _share(part: np.ndarray, whole: np.ndarray, rows: np.ndarray) -> float | None:
    total = float(whole[rows].sum())
    return float(part[rows].sum()) / total if total > 0 else None


def _per_step(of: Floors, done: Work, rows: np.ndarray) -> dict[str, float] | None:
    """Means over the steps of a kind."""
    if not rows.any():
        return None
    columns = {
        "bytes": of.bytes,
        "operations": of.ops,
        "bound_s": of.floor_s,
        "prefill_positions": done.prefill,
        "decode_positions": done.decode,
        "context_tokens": done.kv_read,
    }
    return {name: float(column[rows].mean()) for name, column in columns.items()}
