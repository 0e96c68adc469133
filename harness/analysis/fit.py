"""Linear least squares that says how sure it is, and what it could not tell apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Literal

import numpy as np

from innerloop.harness.analysis.distributions import t_quantile
from innerloop.harness.schema.investigation import Cost, FittedCosts

LEAST_PER_COLUMN = 5  # rows a column; with fewer a fit describes noise
SAME = 1e-6  # a column whose part that no other explains is smaller than this, relatively, is not fitted
TOGETHER = 0.9  # correlation above which two columns' costs are told apart badly
ROUNDING = 1e-9  # rows that differ by less, relatively, are alike: a float64 of nanoseconds is rounded
LEAST_R2 = 0.3  # share of the variance that a line has to explain to describe its rows


def not_fitted(reason: str, rows: int = 0) -> FittedCosts:
    return FittedCosts(costs={}, r2=None, rmse=None, rows=rows, dropped={}, together=(), reason=reason, misfit=None)


def expected(fit: FittedCosts, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the fit gives for rows with these columns, float64 [rows]."""
    count = len(next(iter(columns.values())))
    out = np.full(count, fit.costs["fixed"].estimate)
    for name, column in columns.items():
        if name in fit.costs:
            out += fit.costs[name].estimate * column
    return out


def least_squares(columns: Mapping[str, np.ndarray], y: np.ndarray) -> FittedCosts:
    """Fits y (float64 [rows], seconds) by a constant, `fixed`, and the columns (float64 [rows] each).

    Standard errors are White's (HC1), which allow for a scatter that grows with the step; like all such errors they
    take rows to be independent of each other, which steps of a run are not quite. A column that never changes, or that
    the others before it explain, is dropped and named. `together` are the pairs of columns that rise and fall so much
    together that only the sum of their costs is known well.
    """
    rows = len(y)
    if rows < LEAST_PER_COLUMN * 2:
        return not_fitted("1 step is too few for a fit" if rows == 1 else f"{rows} steps are too few for a fit", rows)
    kept, dropped = {"fixed": np.ones(rows)}, {}
    for name, column in columns.items():
        column = column.astype(np.float64)
        why = explained(column, kept)
        if why is None and rows < LEAST_PER_COLUMN * (len(kept) + 1):
            why = f"{rows} steps are too few"
        if why is None:
            kept[name] = column
        else:
            dropped[name] = why
    scale = {name: float(np.abs(column).max()) or 1.0 for name, column in kept.items()}
    matrix = np.column_stack([column / scale[name] for name, column in kept.items()])
    inverse = np.linalg.pinv(matrix.T @ matrix)
    estimate = inverse @ (matrix.T @ y)
    rest = y - matrix @ estimate
    freedom = rows - len(kept)
    scores = matrix * rest[:, None]
    errors = np.sqrt(np.diag(inverse @ (scores.T @ scores) @ inverse) * rows / freedom)
    spread = t_quantile(0.975, freedom)
    costs = {}
    for place, name in enumerate(kept):
        value, error = float(estimate[place] / scale[name]), float(errors[place] / scale[name])
        costs[name] = Cost(estimate=value, error=error, low=value - spread * error, high=value + spread * error)
    total = float(((y - y.mean()) ** 2).sum())
    squares = float((rest**2).sum())
    varies = total > rows * (ROUNDING * float(np.abs(y).max())) ** 2
    r2 = 1 - squares / total if varies else None
    return FittedCosts(
        costs=costs,
        r2=r2,
        rmse=float(np.sqrt(squares / freedom)),
        rows=rows,
        dropped=dropped,
        together=correlated({name: column for name, column in kept.items() if name != "fixed"}),
        reason=None,
        misfit=misfit(costs, r2),
    )


def misfit(costs: Mapping[str, Cost], r2: float | None) -> Literal["negative_cost", "low_r2"] | None:
    """Why a line does not describe its rows: nothing costs less than no time, and a line explains what it describes.

    Where nothing varies (r2 is None), the constant describes all.
    """
    if r2 is None:
        return None
    if any(cost.high < 0 for cost in costs.values()):
        return "negative_cost"
    return "low_r2" if r2 < LEAST_R2 else None


def correlated(columns: Mapping[str, np.ndarray]) -> tuple[tuple[str, str, float], ...]:
    """The pairs of columns whose correlation is beyond `TOGETHER`, either way."""
    if len(columns) < 2:
        return ()
    matrix = np.corrcoef(np.stack(list(columns.values())))
    pairs = itertools.combinations(enumerate(columns), 2)
    return tuple((a, b, float(matrix[i, j])) for (i, a), (j, b) in pairs if abs(matrix[i, j]) > TOGETHER)


def explained(column: np.ndarray, kept: Mapping[str, np.ndarray]) -> str | None:
    """Why a column tells nothing that those before it don't; None if it does."""
    if np.ptp(column) == 0:
        return f"it is {column[0]:g} in every step"
    basis = np.column_stack([one / (np.abs(one).max() or 1.0) for one in kept.values()])
    solution = np.linalg.lstsq(basis, column, rcond=None)[0]
    rest = column - basis @ solution
    if np.sqrt((rest**2).mean()) < SAME * np.sqrt(((column - column.mean()) ** 2).mean()):
        others = [name for name in kept if name != "fixed"]
        return f"it is exactly collinear with {' and '.join(others)}"
    return None
