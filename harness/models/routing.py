"""How often a layer's routers choose each expert, and the routers that choose so.

A router's logits of a normalised position are close to normal and independent, each with the deviation of its row. Of
many experts those above a threshold are taken, so that an expert with deviation d is chosen with probability
Q(threshold / d): the deviations that give a share p are proportional to 1 / Q^-1(p). Of few experts the threshold
varies; what the shares then are is counted on simulated positions, and the deviations are corrected by it.
"""

from __future__ import annotations

import functools
from statistics import NormalDist

import numpy as np

MOST = 0.45  # of the positions; a row of any deviation gives a positive logit, and is chosen, for half of them
POSITIONS = 20_000  # simulated at a time
ROUNDS = 8
LEAST = 1e-6


@functools.lru_cache(maxsize=16)
def _shares(experts: int, taken: int, zipf: float) -> tuple[float, ...]:
    wanted = np.arange(1.0, experts + 1) ** -zipf
    most = max(MOST, taken / experts)
    found = np.full(experts, taken / experts)
    free = np.ones(experts, bool)
    while True:
        found[free] = wanted[free] / wanted[free].sum() * (taken - most * (~free).sum())
        over = free & (found > most * (1 + 1e-9))
        if not over.any():
            return tuple(found.tolist())
        found[over], free = most, free & ~over


def shares(experts: int, taken: int, zipf: float) -> np.ndarray:
    """The share of positions that each expert is meant to be chosen for, most popular first; float64 [experts].

    They are proportional to rank^-zipf and sum to `taken`; none is above 45 % (or taken / experts, if that is more):
    what is cut goes to the others.
    """
    return np.array(_shares(experts, taken, zipf))


@functools.lru_cache(maxsize=16)
def _deviations(meant: tuple[float, ...]) -> tuple[float, ...]:
    aim = np.array(meant)
    if np.ptp(aim) == 0:
        return (1.0,) * len(aim)
    seeking = aim.copy()
    for _ in range(ROUNDS):
        rows = _rows(seeking)
        seeking = np.clip(seeking * aim / np.maximum(simulated(rows, round(aim.sum())), LEAST), LEAST, 0.499)
    return tuple(_rows(seeking).tolist())


def deviations(meant: np.ndarray) -> np.ndarray:
    """The rows' deviations, relative to their root mean square, that give such shares; float64 [experts]."""
    return np.array(_deviations(tuple(meant.tolist())))


def _rows(share: np.ndarray) -> np.ndarray:
    rows = 1 / np.array([-NormalDist().inv_cdf(p) for p in share.tolist()])
    return rows / np.sqrt(np.mean(rows**2))


def simulated(rows: np.ndarray, taken: int) -> np.ndarray:
    """The share of simulated positions that experts with rows of such deviations are chosen for; float64 [experts]."""
    logits = np.random.default_rng(0).standard_normal((POSITIONS, len(rows))) * rows
    chosen = np.argpartition(-logits, taken - 1, axis=1)[:, :taken]
    return np.bincount(chosen.ravel(), minlength=len(rows)) / POSITIONS
