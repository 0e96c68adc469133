"""Linear least squares that says how sure it is, and what it could not tell apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from innerloop.harness.analysis.distributions import t_quantile

LEAST_PER_COLUMN = 5  # rows a column; with fewer a fit describes noise
SAME = 1e-6  # a column whose part that no other explains is smaller than this, relatively, is not fitted
TOGETHER = 0.9  # correlation above which two columns' costs are told apart badly


@dataclass(frozen=True)
class Fit:
    """y = fixed + sum(cost x column), in the units of y.

    costs: name -> (estimate, standard error, lower and upper end of the 95 % interval); `fixed` is one of them.
    r2: share of y's variance explained. rmse: the usual distance of a row from the line. rows: how many.
    dropped: name -> why a column could not be fitted. together: (name, name, correlation) of columns that rise and fall
    so much together that only the sum of their costs is known well. reason: why nothing was fitted; then all else is
    empty.
    """

    costs: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    r2: float | None = None
    rmse: float | None = None
    rows: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    together: list[tuple[str, str, float]] = field(default_factory=list)
    reason: str | None = None

    def expected(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the fit gives for rows with these columns, float64 [rows]."""
        count = len(next(iter(columns.values())))
        out = np.full(count, self.costs["fixed"][0])
        for name, column in columns.items():
            if name in self.costs:
                out += self.costs[name][0] * column
        return out


def least_squares(columns: Mapping[str, np.ndarray], y: np.ndarray) -> Fit:
    """Fits y (float64 [rows]) by a constant and the columns (float64 [rows] each).

    Standard errors are White's (HC1), which allow for a scatter that grows with the step; like all such errors they
    take rows to be independent of each other, which steps of a run are not quite. A column that never changes, or that
    the others before it explain, is dropped and named.
    """
    rows = len(y)
    if rows < LEAST_PER_COLUMN * 2:
        return Fit(rows=rows, reason=f"{rows} steps are too few for a fit")
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
        costs[name] = (value, error, value - spread * error, value + spread * error)
    total = float(((y - y.mean()) ** 2).sum())
    squares = float((rest**2).sum())
    return Fit(
        costs=costs,
        r2=1 - squares / total if total > 0 else None,
        rmse=float(np.sqrt(squares / freedom)),
        rows=rows,
        dropped=dropped,
        together=correlated({name: column for name, column in kept.items() if name != "fixed"}),
    )


def correlated(columns: Mapping[str, np.ndarray]) -> list[tuple[str, str, float]]:
    """The pairs of columns whose correlation is beyond `TOGETHER`, either way."""
    if len(columns) < 2:
        return []
    found = np.corrcoef(np.stack(list(columns.values())))
    pairs = itertools.combinations(enumerate(columns), 2)
    return [(a, b, float(found[i, j])) for (i, a), (j, b) in pairs if abs(found[i, j]) > TOGETHER]


def explained(column: np.ndarray, kept: Mapping[str, np.ndarray]) -> str | None:
    """Why a column tells nothing that those before it don't; None if it does."""
    if np.ptp(column) == 0:
        return f"it is {column[0]:g} in every step"
    basis = np.column_stack([one / (np.abs(one).max() or 1.0) for one in kept.values()])
    solution = np.linalg.lstsq(basis, column, rcond=None)[0]
    rest = column - basis @ solution
    if np.sqrt((rest**2).mean()) < SAME * np.sqrt(((column - column.mean()) ** 2).mean()):
        others = [name for name in kept if name != "fixed"]
        return f"it rises and falls exactly with {' and '.join(others)}"
    return None
