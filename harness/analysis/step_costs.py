"""What steps cost: their time against what was in them, and the host's phases against the requests that run."""

from __future__ import annotations

import numpy as np

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.context import Work
from innerloop.harness.analysis.fit import expected, least_squares, not_fitted
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.schema.investigation import Bin, FittedCosts, PhaseCost

BINS = 8
HOST = tuple(phase for phase in PHASES if phase not in ("execute", "wait"))


def columns_of(done: Work) -> dict[str, np.ndarray]:
    """What a step's time is explained by, float64 [steps] each: tokens of prefill, of decode and of context."""
    return {"prefill_token": done.prefill, "decode_token": done.decode, "context_token": done.kv_read}


def fits(steps: np.ndarray, done: Work) -> dict[str, FittedCosts]:
    """Wall time in seconds by fixed cost and costs a token: of the steps that only decode, and of those that prefill.

    A context token is one that lay in the KV cache and was read; `Work` says how they are counted.
    """
    wall_s = wall_ns(steps) * NS
    columns = columns_of(done)
    if len(steps) == 0 or np.isnan(done.prefill).any():
        why = "no steps were recorded" if len(steps) == 0 else "the engine does not report prefill per step"
        return {kind: not_fitted(why) for kind in ("decode_only", "with_prefill")}
    pure = done.prefill == 0
    decode = {name: columns[name][pure] for name in ("decode_token", "context_token")}
    mixed = {name: column[~pure] for name, column in columns.items()}
    return {"decode_only": least_squares(decode, wall_s[pure]), "with_prefill": least_squares(mixed, wall_s[~pure])}


def expected_s(fits: dict[str, FittedCosts], done: Work) -> np.ndarray:
    """The wall time that the fits give for every step, float64 [steps]; NaN where nothing was fitted."""
    out = np.full(len(done.prefill), np.nan)
    columns = columns_of(done)
    kinds = (("decode_only", done.prefill == 0), ("with_prefill", done.prefill > 0))
    for kind, rows in kinds:
        if fits[kind].reason is None and rows.any():
            out[rows] = expected(fits[kind], {name: column[rows] for name, column in columns.items()})
    return out


def host_costs(steps: np.ndarray) -> dict[str, PhaseCost]:
    """The phases that the host spends, against the requests that run: a line over `running`, and medians in bins.

    Phases and batches that the engine does not report are left out.
    """
    out: dict[str, PhaseCost] = {}
    for phase in HOST:
        rows = steps[known(steps[f"{phase}_ns"]) & known(steps["running"])]
        if len(rows):
            seconds, running = rows[f"{phase}_ns"] * NS, rows["running"].astype(np.float64)
            out[phase] = PhaseCost(least_squares({"running": running}, seconds), binned(running, seconds))
    return out


def binned(running: np.ndarray, seconds: np.ndarray) -> tuple[Bin, ...]:
    """Medians of `seconds` in up to 8 bins of `running` with about as many steps each, the fewest requests first."""
    edges = np.unique(np.quantile(running, np.linspace(0, 1, BINS + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0]])
    bins = []
    for place in range(len(edges) - 1):
        low, high, last = edges[place], edges[place + 1], place == len(edges) - 2
        rows = (running >= low) & ((running <= high) if last else (running < high))
        if rows.any():
            inside = running[rows]
            median_s = float(np.median(seconds[rows]))
            bins.append(Bin(int(inside.min()), int(inside.max()), steps=int(rows.sum()), median_s=median_s))
    return tuple(bins)
