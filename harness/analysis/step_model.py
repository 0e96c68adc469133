"""The time of a run's steps as a line in what was in them, to say what a step that it never ran would take there.

    time = fixed + a x prefill positions + b x decode positions + c x tokens of context

Least squares over steps, weighted for errors that grow with the time: a step's noise is a share of it; steps that lie
far off the line (another process had the core) count less (Huber 1964).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.compositions import GROWTH, Run

TERMS = ("fixed", *GROWTH)
LEAST_STEPS = 30
REACH = 4.0  # times the largest prefill, decode or context of a run: a step beyond is not told
ROUNDS = 5
FAR = 2.0  # standard deviations from the line; Huber (1964) has 1.345
LARGEST_ERROR = 0.5  # standard error of a step's predicted time, as a share of it
LARGEST_BIAS = 0.1  # by which the line may miss a kind of the run's own steps, as a share of their time
SURE = 3.0  # standard errors by which it must miss them
SMALL = 0.05  # a kind of steps with less of the run's time is not looked at
FLOOR = 0.1  # of the mean time: no step counts as quicker when weights are made
NULL = 1e-10  # of the largest variance: what varies less in a run's steps does not vary
LOST = 1e-3  # share of a composition that may lie where the run's steps do not vary


@dataclass(frozen=True)
class Line:
    """Seconds by TERMS, float64 [4] each: the whole, and each part of a step by its name (NaN where a step does not
    report it)."""

    whole: np.ndarray
    parts: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Moments:
    """What the line of a run, or of a part of it, is made of, by segment of its time: weighted sums of squares of the
    terms, float64 [segments, 4, 4], and of their products with the time and its parts, float64 [segments, 4] each."""

    squares: np.ndarray
    whole: np.ndarray
    parts: Mapping[str, np.ndarray]

    def line(self, without: int | None = None) -> Line:
        """Through all segments, or all but one."""
        used = np.ones(len(self.squares))
        if without is not None:
            used[without] = 0
        inverse = inverted(np.tensordot(used, self.squares, 1))
        return Line(inverse @ (used @ self.whole), {name: inverse @ (used @ part) for name, part in self.parts.items()})


@dataclass(frozen=True)
class Reach:
    """Of which steps a run's line says something. covariance: of the line's terms, float64 [4, 4]; varied: the
    directions in which the steps vary, orthonormal in terms divided by `scale`, float64 [directions, 4]."""

    line: Line
    largest: np.ndarray
    covariance: np.ndarray
    scale: np.ndarray
    varied: np.ndarray

    def tells(self, terms: np.ndarray) -> np.ndarray:
        """Whether such steps are not far beyond all that the run had and their time is known well enough, bool
        [steps]. terms: float64 [steps, 4], 1 and the positions."""
        known = np.isfinite(terms).all(axis=1)
        at = np.nan_to_num(terms)
        within = (at[:, 1:] <= REACH * self.largest).all(axis=1)
        scaled = at / self.scale
        lost = np.linalg.norm(scaled - scaled @ self.varied.T @ self.varied, axis=1)
        error = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", at, self.covariance, at), 0.0))
        time = at @ self.line.whole
        sure = (time > 0) & (error <= LARGEST_ERROR * time)
        return known & within & sure & (lost <= LOST * np.linalg.norm(scaled, axis=1))


def terms_of(positions: Mapping[str, np.ndarray]) -> np.ndarray:
    """1, prefill, decode and context of steps or bins, float64 [n, 4]; NaN where they are not known."""
    columns = [positions[name] for name in GROWTH]
    return np.column_stack([np.ones(len(columns[0])), *columns])


def moments(run: Run, segments: int = 1) -> tuple[Moments, Reach] | None:
    """None where fewer than LEAST_STEPS steps report what was in them, or their line misses a kind of them."""
    terms = terms_of({name: getattr(run, name) for name in GROWTH})
    rows = np.flatnonzero(np.isfinite(terms).all(axis=1))
    if len(rows) < LEAST_STEPS:
        return None
    x, time = terms[rows], run.seconds[rows]
    scale = np.maximum(np.abs(x).max(axis=0), 1e-30)
    floor = FLOOR * float(time.mean())
    weight = 1 / np.maximum(time, floor) ** 2
    for _ in range(ROUNDS):  # then by the times that this found, and less for what lies far off
        used = weight
        squares = (x * used[:, None]).T @ x
        fitted = x @ (inverted(squares) @ ((x * used[:, None]).T @ time))
        size = np.maximum(fitted, floor)
        off = np.abs(time - fitted) / size
        usual = 1.4826 * float(np.median(off))  # a standard deviation, where the noise is normal
        weight = np.minimum(FAR * usual / np.maximum(off, 1e-30), 1.0) / size**2 if usual > 0 else 1 / size**2
    if not _describes(x, time, fitted):
        return None
    segment = rows * segments // len(terms)
    weighted = x * used[:, None]

    def products(values: np.ndarray) -> np.ndarray:
        return np.column_stack([np.bincount(segment, weighted[:, k] * values, segments) for k in range(len(TERMS))])

    found = Moments(
        squares=np.stack([products(x[:, k]) for k in range(len(TERMS))], axis=2),
        whole=products(time),
        parts={name: products(values[rows]) for name, values in run.parts.items()},
    )
    lengths, axes = np.linalg.eigh(squares / np.outer(scale, scale))
    left = used @ (time - fitted) ** 2 / max(len(rows) - len(TERMS), 1)
    varied = axes.T[lengths > NULL * lengths[-1]]
    return found, Reach(found.line(), x[:, 1:].max(axis=0), float(left) * inverted(squares), scale, varied)


def inverted(squares: np.ndarray) -> np.ndarray:
    """The pseudoinverse of a matrix of sums of squares, made of terms of about one size. A term that no step has (no
    prefill where the one segment that had it is left out) costs nothing."""
    scale = np.sqrt(np.diag(squares))
    scale = np.where(scale > 0, scale, 1.0)
    return np.asarray(np.linalg.pinv(squares / np.outer(scale, scale), NULL, hermitian=True) / np.outer(scale, scale))


def _describes(x: np.ndarray, time: np.ndarray, fitted: np.ndarray) -> bool:
    """Whether the line hits the mean time of each kind of steps, as far as their noise shows: of those without and with
    prefill, small and large ones."""
    with_prefill = x[:, 1] > 0
    for kind, size in ((~with_prefill, x[:, 2]), (with_prefill, x[:, 1])):
        rows = np.flatnonzero(kind)
        rows = rows[np.argsort(size[rows], kind="stable")]
        middle = int(np.searchsorted(np.cumsum(time[rows]), time[rows].sum() / 2)) + 1
        for half in (rows[:middle], rows[middle:]):
            spent, missed = float(time[half].sum()), time[half] - fitted[half]
            bias, error = abs(float(missed.sum())), math.sqrt(float(missed @ missed))
            if spent > SMALL * float(time.sum()) and bias > max(LARGEST_BIAS * spent, SURE * error):
                return False
    return True
